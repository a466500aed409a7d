//! polkit's rules, as text: whether one of them speaks of a unit.
//!
//! A rule is a program, and what it answers isn't computed here. One that names a unit is taken to allow it, also where
//! it does so in a comment: that is how a rule that allows by some wider pattern can be told from one that was forgotten.

use std::io;
use std::path::{Path, PathBuf};

/// Where rules lie, strongest first (polkit(8)).
const FOLDERS: [&str; 4] =
    ["etc/polkit-1/rules.d", "run/polkit-1/rules.d", "usr/local/share/polkit-1/rules.d", "usr/share/polkit-1/rules.d"];

/// The folders of polkit's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolkitRules {
    folders: Vec<PathBuf>,
}

/// A folder or file that can't be read: the first is often closed to everybody but root and polkit.
#[derive(Debug, thiserror::Error)]
#[error("can't read {}: {cause}", .path.display())]
pub struct PolkitRulesError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub cause: io::Error,
}

impl PolkitRules {
    /// polkit's, below `root` (`/` on a live host).
    pub fn below(root: &Path) -> Self {
        PolkitRules { folders: FOLDERS.iter().map(|folder| root.join(folder)).collect() }
    }

    /// Whether a rule names `unit`: a template with its `@` ("web-check@"), another unit with or without ".service".
    pub fn name(&self, unit: &str) -> Result<bool, PolkitRulesError> {
        let stem = unit.strip_suffix(".service").unwrap_or(unit);
        for folder in &self.folders {
            for path in rules_in(folder)? {
                let text = std::fs::read(&path).map_err(|cause| PolkitRulesError { path, cause })?;
                // Of a pattern `web-check\.daily` means what it says.
                if names(&String::from_utf8_lossy(&text).replace('\\', ""), stem) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

fn rules_in(folder: &Path) -> Result<Vec<PathBuf>, PolkitRulesError> {
    let failed = |cause| PolkitRulesError { path: folder.to_owned(), cause };
    let listed = match std::fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(cause) => return Err(failed(cause)),
    };
    let mut rules = Vec::new();
    for entry in listed {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|end| end == "rules") {
            rules.push(path);
        }
    }
    Ok(rules)
}

/// Whether `stem` stands in `text`, and not as a part of a longer name.
fn names(text: &str, stem: &str) -> bool {
    let part_of_a_name = |c: char| c.is_ascii_alphanumeric() || "-_:".contains(c);
    text.match_indices(stem).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + stem.len()..]);
        // What follows the `@` of a template is its instance, or a pattern for it.
        let ends = stem.ends_with('@') || !after.starts_with(|c| part_of_a_name(c) || c == '@');
        ends && !before.ends_with(|c| part_of_a_name(c) || c == '@')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_names_a_unit_and_no_other() {
        let root = tempfile::tempdir().expect("a folder");
        let rules = PolkitRules::below(root.path());
        assert!(!rules.name("web-check@").expect("no folder is no rule"));
        let folder = root.path().join("usr/share/polkit-1/rules.d");
        std::fs::create_dir_all(&folder).expect("made");
        std::fs::write(folder.join("web-check@.txt"), "web-check@ web-look").expect("written");
        assert!(!rules.name("web-check@").expect("readable"), "no rule");
        let text = r#"if (/^(web-check@[A-Za-z0-9][A-Za-z0-9@._-]*|web\.daily)\.service$/.test(unit)) // web-look"#;
        std::fs::write(folder.join("60-web.rules"), text).expect("written");
        for (unit, named) in [
            ("web-check@", true),
            ("web.daily.service", true),
            ("web-look.service", true),
            ("web-check.service", false),
            ("check@", false),
            ("web-check@other.service", false),
            ("web.dail.service", false),
        ] {
            assert_eq!(rules.name(unit).expect("readable"), named, "{unit}");
        }
    }
}
