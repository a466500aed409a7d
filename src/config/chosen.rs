//! `settings.toml`: what operators chose by verbs. It lies with the app's state and goes over the app's file, which stays
//! the administrator's.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::model::{Code, Fault, Template};

use super::app::AppSettings;

/// What the file says before its tables.
const HEAD: &str = "# Written by slotctl. It goes over the app's file in /etc/slotd/apps; a line that is removed here holds no more.\n";

/// The settings that a verb can change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// How many instances of a unit there are, by `scale`.
    #[serde(default)]
    pub instances: BTreeMap<Template, u32>,
}

impl Chosen {
    /// What the file says; nothing where it isn't there.
    ///
    /// # Errors
    ///
    /// `config.invalid`: it can't be read. Then the app's file alone holds.
    pub fn read(path: &Path) -> Result<Chosen, Fault> {
        let wrong = |why: String| Fault::new(Code::ConfigInvalid, format!("{}: {why}", path.display()));
        match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|error| wrong(error.message().to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Chosen::default()),
            Err(error) => Err(wrong(error.to_string())),
        }
    }

    /// The file's text.
    ///
    /// # Errors
    ///
    /// A fault of slotd: it can't be written as TOML.
    pub fn text(&self) -> Result<String, Fault> {
        let tables = toml::to_string(self).map_err(|error| Fault::new(Code::Internal, error.to_string()))?;
        Ok(format!("{HEAD}{tables}"))
    }

    /// Puts it over an app's settings. What is said of a unit that the app no longer has says nothing.
    pub fn over(&self, settings: &mut AppSettings) {
        for unit in &mut settings.units {
            if let Some(instances) = self.instances.get(&unit.name) {
                unit.instances = *instances;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_chosen_goes_over_the_file_and_what_is_broken_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("settings.toml");
        assert_eq!(Chosen::read(&path), Ok(Chosen::default()));
        let template = |name: &str| name.parse::<Template>().expect("template");
        let chosen = Chosen { instances: [(template("web@"), 4), (template("gone@"), 2)].into() };
        std::fs::write(&path, chosen.text().expect("text")).expect("written");
        assert_eq!(Chosen::read(&path), Ok(chosen.clone()));

        let text = "[[unit]]\nname = \"web@\"\n[[unit]]\nname = \"worker@\"\ninstances = 3\n";
        let name = "web".parse().expect("name");
        let mut settings =
            crate::config::parse_app(&name, Path::new("web.toml"), text, &Default::default()).expect("settings");
        chosen.over(&mut settings);
        assert_eq!(settings.units.iter().map(|unit| unit.instances).collect::<Vec<_>>(), [4, 3]);

        std::fs::write(&path, "[instances]\n\"web@\" = -1\n").expect("written");
        let fault = Chosen::read(&path).expect_err("a negative number");
        assert!(fault.code == Code::ConfigInvalid && fault.message.contains("settings.toml"), "{fault:?}");
    }
}
