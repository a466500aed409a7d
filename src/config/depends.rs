//! `depends_on`: the apps that have to be up for this one to run, and whether all files together make sense of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::app::AppSettings;
use super::document::{Place, Section};
use super::error::ConfigError;
use crate::model::AppName;

/// The key.
const KEY: &str = "depends_on";

/// Most apps that one app may name.
const MAX_NAMES: usize = 32;

/// A file that is right by itself.
pub(super) struct Alone {
    pub(super) file: PathBuf,
    pub(super) text: String,
    pub(super) app: AppSettings,
}

/// The names in an app's own file.
pub(super) fn read(top: &Section<'_>, own: &AppName) -> Vec<AppName> {
    let mut names: Vec<AppName> = Vec::new();
    let texts = top.list(KEY).unwrap_or_default();
    if let Some(surplus) = texts.get(MAX_NAMES) {
        top.error(surplus.span(), format!("an app depends on at most {MAX_NAMES} others by name"), None);
    }
    for text in texts {
        let place = text.span();
        match text.get_ref().parse::<AppName>() {
            Err(error) => top.error(place, error.to_string(), None),
            Ok(name) if name == *own => top.error(place, format!("{own} can't depend on itself"), None),
            Ok(name) if names.contains(&name) => top.error(place, format!("{name} stands here twice"), None),
            Ok(name) => names.push(name),
        }
    }
    names
}

/// What is wrong with each of these files beside the others: apps that aren't there, and circles. `known` are all apps
/// that have a file, a broken one too.
pub(super) fn wrong(files: &[Alone], known: &BTreeSet<AppName>) -> Vec<Vec<ConfigError>> {
    let by_name: BTreeMap<&AppName, &AppSettings> = files.iter().map(|file| (&file.app.name, &file.app)).collect();
    let of = |file: &Alone| {
        let mut errors = Vec::new();
        for name in &file.app.depends_on {
            if !known.contains(name) {
                let help = format!("the apps here are {}", list(known.iter().filter(|it| **it != file.app.name)));
                errors.push(at(file, name, format!("there is no app {name}"), Some(help)));
            } else if let Some(way) = way(&by_name, name, &file.app.name) {
                let circle = std::iter::once(&file.app.name).chain(way).map(AppName::as_str).collect::<Vec<_>>();
                let message = format!("{} depends on itself: {}", file.app.name, circle.join(" -> "));
                let help = "each of these names the next in its file: take one out".to_owned();
                errors.push(at(file, name, message, Some(help)));
            }
        }
        errors
    };
    files.iter().map(of).collect()
}

/// The apps from one to another, both included, by what they depend on; the shortest way.
fn way<'a>(apps: &BTreeMap<&'a AppName, &'a AppSettings>, from: &'a AppName, to: &AppName) -> Option<Vec<&'a AppName>> {
    let mut ways = std::collections::VecDeque::from([vec![from]]);
    let mut seen = BTreeSet::from([from]);
    while let Some(way) = ways.pop_front() {
        let last = *way.last()?;
        if last == to {
            return Some(way);
        }
        for next in apps.get(last).iter().flat_map(|app| &app.depends_on) {
            if seen.insert(next) {
                ways.push_back(way.iter().copied().chain([next]).collect());
            }
        }
    }
    None
}

fn at(file: &Alone, name: &AppName, message: String, help: Option<String>) -> ConfigError {
    ConfigError::at(&file.file, &file.text, place(&file.text, name), message, help)
}

/// Where a name stands in the list.
fn place(text: &str, name: &AppName) -> Place {
    let (root, _) = DeTable::parse_recoverable(text);
    let list = root.get_ref().iter().find(|(key, _)| key.get_ref() == KEY).map(|(_, value)| value);
    let Some(DeValue::Array(items)) = list.map(Spanned::get_ref) else { return 0..0 };
    let is_it = |item: &&Spanned<DeValue<'_>>| matches!(item.get_ref(), DeValue::String(it) if it == name.as_str());
    items.iter().find(is_it).map_or(0..0, Spanned::span)
}

fn list<'a>(names: impl Iterator<Item = &'a AppName>) -> String {
    names.map(AppName::as_str).collect::<Vec<_>>().join(", ")
}
