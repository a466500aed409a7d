//! Where each value of an app's settings was said.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::app::AppSettings;
use super::daemon::Defaults;
use super::keys::{self, Entry};

/// The places at which keys were said; what isn't among them is slotd's own default. Where something was said is no part of
/// what it says: all are equal.
#[derive(Debug, Clone, Default)]
pub struct Origins(BTreeMap<String, Origin>);

/// One place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Origin {
    /// The app's file.
    File(PathBuf, usize),
    /// `[defaults]` of slotd.toml.
    Defaults,
    /// `slotctl set` or `scale`.
    Verb,
}

impl PartialEq for Origins {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Origins {
    /// Those of a file whose keys stand in these lines, and of what `[defaults]` says.
    pub(super) fn of(
        file: &Path,
        lines: &BTreeMap<String, usize>,
        settings: &AppSettings,
        defaults: &Defaults,
    ) -> Self {
        let mut origins = BTreeMap::new();
        let differ = defaulted(settings, defaults);
        for Entry { key, .. } in keys::entries(settings) {
            // What is shown in one line has the place of its section.
            let section = if key == "outside.probe" { "outside" } else { key.as_str() };
            if let Some(line) = lines.get(section) {
                origins.insert(key, Origin::File(file.to_owned(), *line));
            } else if differ.contains(&key) {
                origins.insert(key, Origin::Defaults);
            }
        }
        Origins(origins)
    }

    /// Notes that a verb said it.
    pub(super) fn by_verb(&mut self, key: &str) {
        self.0.insert(key.to_owned(), Origin::Verb);
    }

    /// Where `key` was said; `None`: nowhere, slotd's own default holds.
    pub fn get(&self, key: &str) -> Option<&Origin> {
        self.0.get(key)
    }
}

/// The keys for which `[defaults]` says something else than slotd itself.
fn defaulted(settings: &AppSettings, defaults: &Defaults) -> Vec<String> {
    let with = |defaults: &Defaults| {
        keys::entries(&AppSettings {
            retention: defaults.retention,
            proof: defaults.proof,
            crash_loop: defaults.crash_loop,
            limits: defaults.limits,
            ..settings.clone()
        })
    };
    let own = with(&Defaults::default());
    with(defaults).into_iter().filter(|entry| !own.contains(entry)).map(|entry| entry.key).collect()
}
