//! `settings.toml`: what operators chose by verbs. It lies with the app's state and goes over the app's file, which stays
//! the administrator's.
//!
//! What can be chosen is written and read as in that file, by the same rules: which words a key takes is said in one place.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::model::setting::Said;
use crate::model::{Code, Fault, Template};

use super::app::{AppSettings, Strategy};
use super::app_file::parse_app;
use super::daemon::Defaults;
use super::keys::{ENV, Entry, entries};

/// What the file says before its tables.
const HEAD: &str = "# Written by slotctl. It goes over the app's file in /etc/slotd/apps; a line that is removed here holds no more.\n";

/// The keys that `set` takes, beside those of `[env]`.
pub const KEYS: [&str; 5] = ["deploy", "strategy", "retention.keep", "retention.max_age", "retention.max_bytes"];

/// The settings that a verb can change.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Chosen {
    /// Those of [`KEYS`] and `[env]`, as the app's file would have them.
    #[serde(flatten)]
    settings: Table,
    /// How many instances of a unit there are, by `scale`.
    #[serde(default)]
    pub instances: BTreeMap<Template, u32>,
    /// Who said each, when and why, by its key.
    #[serde(default)]
    said: BTreeMap<String, Said>,
}

impl Chosen {
    /// What the file says; nothing where it isn't there.
    ///
    /// # Errors
    ///
    /// `config.invalid`: it can't be read, or says what can't be. Then the app's file alone holds.
    pub fn read(path: &Path) -> Result<Chosen, Fault> {
        let wrong = |why: String| Fault::new(Code::ConfigInvalid, format!("{}: {why}", path.display()));
        let chosen: Chosen = match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|error| wrong(error.message().to_owned()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Chosen::default()),
            Err(error) => return Err(wrong(error.to_string())),
        };
        chosen.parsed().map(|_| chosen).map_err(|fault| wrong(fault.message))
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

    /// Chooses `value` for `key`, or nothing: then the app's file holds again. Returns whether that is a change.
    ///
    /// # Errors
    ///
    /// `request.invalid`: the key can't be chosen, or doesn't take that value; the message says what it takes.
    pub fn set(&mut self, key: &str, value: Option<&str>, said: Said) -> Result<bool, Fault> {
        let env = key.strip_prefix(ENV);
        if env.is_none() && !KEYS.contains(&key) {
            let message = format!("{key} can't be set by a verb; those that can: {}, env.NAME", KEYS.join(", "));
            return Err(Fault::new(Code::RequestInvalid, message));
        }
        let before = self.clone();
        let (section, name) = key.split_once('.').map_or((None, key), |(section, name)| (Some(section), name));
        let table = match section {
            None => &mut self.settings,
            Some(section) => {
                let place = self.settings.entry(section).or_insert_with(|| Value::Table(Table::new()));
                place.as_table_mut().ok_or_else(|| Fault::new(Code::ConfigInvalid, format!("{section} is no table")))?
            }
        };
        match value {
            // Numbers stand without quotes where the file has them so.
            Some(text) => match text.parse::<i64>() {
                Ok(number) if section == Some("retention") => table.insert(name.to_owned(), Value::Integer(number)),
                _ => table.insert(name.to_owned(), Value::String(text.to_owned())),
            },
            None => table.remove(name),
        };
        self.settings.retain(|_, value| value.as_table().is_none_or(|table| !table.is_empty()));
        if let Err(fault) = self.parsed() {
            *self = before;
            return Err(fault);
        }
        if self.settings == before.settings {
            return Ok(false);
        }
        match value {
            Some(_) => self.said.insert(key.to_owned(), said),
            None => self.said.remove(key),
        };
        Ok(true)
    }

    /// Who chose `key`.
    pub fn said(&self, key: &str) -> Option<&Said> {
        self.said.get(key)
    }

    /// Notes who chose how many instances there are.
    pub fn note(&mut self, unit: &Template, said: Said) {
        self.said.insert(format!("unit.{unit}.instances"), said);
    }

    /// Puts it over an app's settings. What is said of a unit that the app no longer has says nothing.
    pub fn over(&self, settings: &mut AppSettings) {
        for unit in &mut settings.units {
            if let Some(instances) = self.instances.get(&unit.name) {
                unit.instances = *instances;
                settings.origins.by_verb(&format!("unit.{}.instances", unit.name));
            }
        }
        // What can't be parsed was never taken.
        let Ok(parsed) = self.parsed() else { return };
        for Entry { key, .. } in entries(&parsed).into_iter().filter(|entry| self.has(&entry.key)) {
            match key.as_str() {
                "deploy" => settings.deploy = parsed.deploy,
                "strategy" if settings.strategy.name == parsed.strategy.name => {}
                // Numbers of another strategy are none of this one.
                "strategy" => settings.strategy = Strategy::named(parsed.strategy.name),
                "retention.keep" => settings.retention.keep = parsed.retention.keep,
                "retention.max_age" => settings.retention.max_age = parsed.retention.max_age,
                "retention.max_bytes" => settings.retention.max_bytes = parsed.retention.max_bytes,
                _ => {}
            }
            settings.origins.by_verb(&key);
        }
        settings.env.extend(parsed.env);
    }

    fn has(&self, key: &str) -> bool {
        match key.split_once('.') {
            None => self.settings.contains_key(key),
            Some((section, name)) => {
                self.settings.get(section).and_then(Value::as_table).is_some_and(|table| table.contains_key(name))
            }
        }
    }

    /// The settings of an app whose file says this and no more.
    fn parsed(&self) -> Result<AppSettings, Fault> {
        let invalid = |message: String| Fault::new(Code::RequestInvalid, message);
        let (app, unit) = ("app".parse(), "app@".parse::<Template>());
        let (Ok(app), Ok(unit)) = (app, unit) else { return Err(invalid("no name".to_owned())) };
        // Only the route can do what a strategy wants or not, and it is asked once both are there.
        let mut table = self.settings.clone();
        table.insert("route".to_owned(), Value::Table(Table::from_iter([("kind".to_owned(), "none".into())])));
        let named = Table::from_iter([("name".to_owned(), unit.as_str().into())]);
        table.insert("unit".to_owned(), Value::Array(vec![Value::Table(named)]));
        let text = toml::to_string(&table).map_err(|error| invalid(error.to_string()))?;
        parse_app(&app, Path::new("settings.toml"), &text, &Defaults::default()).map_err(|errors| {
            let said = |error: &super::ConfigError| {
                error.help.iter().fold(error.message.clone(), |message, help| format!("{message}; {help}"))
            };
            invalid(errors.iter().map(said).collect::<Vec<_>>().join("; "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::app::DeployMode;
    use crate::config::origins::Origin;
    use crate::model::{StrategyName, Timestamp};

    fn said() -> Said {
        Said { by: "ann".to_owned(), at: Timestamp::from_unix_millis(0), message: Some("quieter".to_owned()) }
    }

    fn settings(text: &str) -> AppSettings {
        let name = "web".parse().expect("name");
        parse_app(&name, Path::new("web.toml"), text, &Default::default()).expect("settings")
    }

    #[test]
    fn what_was_chosen_goes_over_the_file_and_what_is_broken_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("settings.toml");
        assert_eq!(Chosen::read(&path), Ok(Chosen::default()));
        let template = |name: &str| name.parse::<Template>().expect("template");
        let mut chosen =
            Chosen { instances: [(template("web@"), 4), (template("gone@"), 2)].into(), ..Default::default() };
        for (key, value) in [
            ("deploy", "manual"),
            ("strategy", "blue-green"),
            ("retention.keep", "3"),
            ("retention.max_age", "30d"),
            ("env.LOG_LEVEL", "debug"),
            ("env.N", "7"),
        ] {
            assert_eq!(chosen.set(key, Some(value), said()), Ok(true), "{key}");
        }
        assert_eq!(chosen.set("env.N", Some("7"), said()), Ok(false));
        std::fs::write(&path, chosen.text().expect("text")).expect("written");
        assert_eq!(Chosen::read(&path), Ok(chosen.clone()));

        let mut settings = settings(
            "[[unit]]\nname = \"web@\"\n[[unit]]\nname = \"worker@\"\ninstances = 3\n[env]\nLOG_LEVEL = \"info\"\nB = \"1\"\n",
        );
        chosen.over(&mut settings);
        assert_eq!(settings.units.iter().map(|unit| unit.instances).collect::<Vec<_>>(), [4, 3]);
        assert_eq!((settings.deploy, settings.strategy.name), (DeployMode::Manual, StrategyName::BlueGreen));
        assert_eq!(
            (settings.retention.keep, settings.retention.max_age.map(|age| age.as_secs())),
            (3, Some(2_592_000))
        );
        let env: Vec<_> = settings.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(env, ["B=1", "LOG_LEVEL=debug", "N=7"]);
        assert_eq!(settings.origins.get("env.LOG_LEVEL"), Some(&Origin::Verb));
        assert_eq!(settings.origins.get("env.B"), Some(&Origin::File("web.toml".into(), 8)));

        assert_eq!(chosen.set("env.N", None, said()), Ok(true));
        assert!(chosen.said("env.N").is_none() && chosen.said("deploy").is_some());

        for text in ["[instances]\n\"web@\" = -1\n", "deploy = \"never\"\n"] {
            std::fs::write(&path, text).expect("written");
            let fault = Chosen::read(&path).expect_err("what can't be");
            assert!(fault.code == Code::ConfigInvalid && fault.message.contains("settings.toml"), "{fault:?}");
        }
    }

    #[test]
    fn a_value_that_the_key_does_not_take_changes_nothing() {
        let mut chosen = Chosen::default();
        for (key, value, part) in [
            ("deploy", "never", "`deploy` is \"automatic\" or \"manual\""),
            ("retention.keep", "many", "`keep` must be a whole number"),
            ("retention.max_age", "12m", "is no age"),
            ("env.PORT", "80", "PORT is set by slotd or systemd"),
            ("env.A", "x\ny", "line break"),
            ("route.kind", "none", "route.kind can't be set by a verb; those that can: deploy, strategy"),
        ] {
            let fault = chosen.set(key, Some(value), said()).expect_err(key);
            assert!(fault.code == Code::RequestInvalid && fault.message.contains(part), "{key}: {}", fault.message);
        }
        assert_eq!(chosen, Chosen::default());
    }
}
