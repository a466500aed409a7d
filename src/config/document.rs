//! A settings file as a parsed document whose every value knows its place.
//!
//! Reading a value names its key as known; what nobody asked for at the end is an unknown key. An error doesn't
//! end the reading: the person who repairs the file sees all of them at once. This is why it isn't serde's
//! derive that reads, which stops at the first.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::text;
use crate::model::retention::{MAX_DAYS, age_of_days, parse_age};

/// A span of bytes in the file.
pub(super) type Place = Range<usize>;

/// The file that is read, and what was found wrong with it.
pub(super) struct Document<'a> {
    file: &'a Path,
    pub(super) text: &'a str,
    errors: RefCell<Vec<ConfigError>>,
}

/// A table of the document.
pub(super) struct Section<'a> {
    pub(super) document: &'a Document<'a>,
    /// "[proof]", or empty for the top.
    name: String,
    place: Place,
    pub(super) table: &'a DeTable<'a>,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Document<'a> {
    /// Reads `text` with `read`, which gets the topmost section; its value counts only if nothing was wrong.
    pub(super) fn read<T>(
        file: &Path,
        text: &str,
        read: impl FnOnce(&Section<'_>) -> Option<T>,
    ) -> Result<T, Vec<ConfigError>> {
        let document = Document { file, text, errors: RefCell::default() };
        let (root, broken) = DeTable::parse_recoverable(text);
        if !broken.is_empty() {
            // What a broken document seems to say isn't worth a second list of errors.
            for error in broken {
                document.error(error.span().unwrap_or(text.len()..text.len()), error.message(), None);
            }
            return Err(document.into_errors());
        }
        let top = Section {
            document: &document,
            name: String::new(),
            place: 0..0,
            table: root.get_ref(),
            known: RefCell::default(),
        };
        let value = read(&top);
        top.finish();
        drop(top);
        match (value, document.into_errors()) {
            (Some(value), errors) if errors.is_empty() => Ok(value),
            (_, errors) => Err(errors),
        }
    }

    fn error(&self, place: Place, message: impl Into<String>, help: Option<String>) {
        let error = ConfigError::at(self.file, self.text, place, message, help);
        self.errors.borrow_mut().push(error);
    }

    /// In the order of the file, for that is how it is repaired.
    fn into_errors(self) -> Vec<ConfigError> {
        let mut errors = self.errors.into_inner();
        errors.sort_by_key(|error| (error.line, error.column));
        errors
    }
}

impl<'a> Section<'a> {
    /// The file.
    pub(super) fn file(&self) -> &'a Path {
        self.document.file
    }

    /// Where it stands: its header.
    pub(super) fn place(&self) -> Place {
        self.place.clone()
    }

    /// Notes an error.
    pub(super) fn error(&self, place: Place, message: impl Into<String>, help: impl Into<Option<String>>) {
        self.document.error(place, message, help.into());
    }

    /// Where the value of `key` stands, or else the section.
    pub(super) fn place_of(&self, key: &str) -> Place {
        self.table.get(key).map_or(self.place(), Spanned::span)
    }

    /// Whether it says anything about `key`.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.value(key).is_some()
    }

    /// Refuses `key`, which means something, but not to this version.
    pub(super) fn later(&self, key: &'static str, instead: &str) {
        if let Some((name, _)) = self.table.iter().find(|(name, _)| name.get_ref() == key) {
            self.known.borrow_mut().push(key);
            let message = format!("`{key}` is not supported by this version of slotd");
            self.error(name.span(), message, Some(instead.to_owned()));
        }
    }

    /// A text.
    pub(super) fn text(&self, key: &'static str) -> Option<Spanned<String>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Spanned::new(value.span(), text.as_ref().to_owned())),
            other => self.wrong(value.span(), key, "text in quotes", other),
        }
    }

    /// A text that must be there.
    pub(super) fn required_text(&self, key: &'static str, help: &str) -> Option<Spanned<String>> {
        if !self.has(key) {
            let message = format!("`{key}` is missing{}", self.within());
            self.error(self.place(), message, Some(help.to_owned()));
        }
        self.text(key)
    }

    /// A text that `parse` takes.
    pub(super) fn parsed<T, E: ToString>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(key)?;
        match parse(text.get_ref()) {
            Ok(value) => Some(value),
            Err(error) => {
                self.error(text.span(), error.to_string(), None);
                None
            }
        }
    }

    /// One of some words. Those of `later` mean something, but not to this version: it says so instead of doing
    /// something else.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, choices: &[(&str, T)], later: &[&str]) -> Option<T> {
        let text = self.text(key)?;
        let found = choices.iter().find(|(word, _)| word == text.get_ref()).map(|(_, value)| *value);
        let words: Vec<String> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
        if later.contains(&text.get_ref().as_str()) {
            let message = format!("`{key}` = {:?} is not supported by this version of slotd", text.get_ref());
            self.error(text.span(), message, Some(format!("supported: {}", words.join(", "))));
        } else if found.is_none() {
            let message = format!("`{key}` is {}, not {:?}", words.join(" or "), text.get_ref());
            let near = text::nearest(text.get_ref(), choices.iter().map(|(word, _)| *word));
            self.error(text.span(), message, near.map(|word| format!("did you mean {word:?}?")));
        }
        found
    }

    /// Several of a few words, each once; one alone may stand without brackets.
    pub(super) fn choices<T: Copy + PartialEq>(&self, key: &'static str, choices: &[(&str, T)]) -> Option<Vec<T>> {
        let value = self.value(key)?;
        let DeValue::Array(list) = value.get_ref() else { return self.choice(key, choices, &[]).map(|it| vec![it]) };
        let mut chosen = Vec::new();
        for item in list {
            let DeValue::String(text) = item.get_ref() else {
                return self.wrong(item.span(), key, "a list of texts in quotes", item.get_ref());
            };
            let found = choices.iter().find(|(word, _)| *word == text.as_ref()).map(|(_, value)| *value);
            match found {
                Some(found) if chosen.contains(&found) => {
                    self.error(item.span(), format!("`{key}` has {text:?} twice"), None);
                }
                Some(found) => chosen.push(found),
                None => {
                    let words: Vec<String> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
                    let near = text::nearest(text, choices.iter().map(|(word, _)| *word));
                    let message = format!("`{key}` has {}, not {text:?}", words.join(" or "));
                    self.error(item.span(), message, near.map(|word| format!("did you mean {word:?}?")));
                }
            }
        }
        Some(chosen)
    }

    /// A list of texts; what in it is none is told, and left out.
    pub(super) fn list(&self, key: &'static str) -> Option<Vec<Spanned<String>>> {
        let value = self.value(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            return self.wrong(value.span(), key, "a list of texts in quotes", value.get_ref());
        };
        let text = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
            DeValue::String(text) => Some(Spanned::new(item.span(), text.as_ref().to_owned())),
            other => self.wrong(item.span(), key, "a list of texts in quotes", other),
        };
        Some(items.iter().filter_map(text).collect())
    }

    /// true or false.
    pub(super) fn flag(&self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            other => self.wrong(value.span(), key, "true or false", other),
        }
    }

    /// A whole number within `range`.
    pub(super) fn number(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.value(key)?;
        self.number_in(key, value, range)
    }

    /// One whole number, or a list of them.
    pub(super) fn numbers(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<Vec<u64>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Array(list) => list.iter().map(|item| self.number_in(key, item, range.clone())).collect(),
            _ => self.number_in(key, value, range).map(|number| vec![number]),
        }
    }

    /// A duration written as text, within `range`.
    pub(super) fn duration(&self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let text = self.text(key)?;
        match humantime::parse_duration(text.get_ref()) {
            Ok(duration) if range.contains(&duration) => Some(duration),
            Ok(_) => {
                let (low, high) =
                    (humantime::format_duration(*range.start()), humantime::format_duration(*range.end()));
                self.error(text.span(), format!("`{key}` must lie between {low} and {high}"), None);
                None
            }
            Err(error) => {
                let message = format!("{:?} is no duration: {error}", text.get_ref());
                self.error(text.span(), message, Some(format!("write it like `{key} = \"500ms\"` or \"2m 30s\"")));
                None
            }
        }
    }

    /// Bytes, as text ("2GiB") or as a number; at least 1.
    pub(super) fn size(&self, key: &'static str) -> Option<u64> {
        let value = self.value(key)?;
        let bytes = match value.get_ref() {
            DeValue::String(text) => text::size(text),
            DeValue::Integer(_) => return self.number_in(key, value, 1..=u64::MAX),
            other => return self.wrong(value.span(), key, "a size", other),
        };
        if bytes.is_none_or(|bytes| bytes == 0) {
            let help = format!("write it like `{key} = \"2GiB\"`; the units are B, KiB, MiB, GiB, TiB");
            self.error(value.span(), format!("{} is no size", self.raw(value)), Some(help));
        }
        bytes.filter(|bytes| *bytes > 0)
    }

    /// An age: days as a number, or text ("1w", "forever"); the inner `None` is for ever.
    pub(super) fn age(&self, key: &'static str) -> Option<Option<Duration>> {
        let value = self.value(key)?;
        let age = match value.get_ref() {
            DeValue::String(text) => parse_age(text),
            DeValue::Integer(_) => age_of_days(self.number_in(key, value, 0..=MAX_DAYS)?),
            other => return self.wrong(value.span(), key, "an age", other),
        };
        match age {
            Ok(age) => Some(age),
            Err(error) => {
                self.error(value.span(), error.to_string(), None);
                None
            }
        }
    }

    /// A section below this one; `None` if it isn't there.
    pub(super) fn section(&self, key: &'static str) -> Option<Section<'a>> {
        let value = self.value(key)?;
        let name = match self.name.strip_suffix(']') {
            Some(outer) => format!("{outer}.{key}]"),
            None => format!("[{key}]"),
        };
        self.section_in(key, value, name)
    }

    /// The sections of a list (`[[unit]]`), in their order.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let DeValue::Array(list) = value.get_ref() else {
            self.error(value.span(), format!("`{key}` is a list of sections"), Some(format!("write [[{key}]]")));
            return Vec::new();
        };
        list.iter().filter_map(|item| self.section_in(key, item, format!("[[{key}]]"))).collect()
    }

    /// Key and text of all entries of a section whose keys are the user's own.
    pub(super) fn texts(&self) -> Vec<(Spanned<String>, Spanned<String>)> {
        let entry = |(name, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
            let name = Spanned::new(name.span(), name.get_ref().to_string());
            match value.get_ref() {
                DeValue::String(text) => Some((name, Spanned::new(value.span(), text.as_ref().to_owned()))),
                other => self.wrong(value.span(), name.get_ref(), "text in quotes", other),
            }
        };
        self.table.iter().filter_map(entry).collect()
    }

    /// Complains of what nobody asked for. To be called when all keys were read.
    pub(super) fn finish(&self) {
        let known = self.known.borrow();
        for (name, _) in self.table.iter().filter(|(name, _)| !known.contains(&name.get_ref().as_ref())) {
            let help = match text::nearest(name.get_ref(), known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are {}", known.join(", ")),
            };
            self.error(name.span(), format!("unknown key `{}`{}", name.get_ref(), self.within()), Some(help));
        }
    }

    fn value(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        if !self.known.borrow().contains(&key) {
            self.known.borrow_mut().push(key);
        }
        self.table.get(key)
    }

    fn section_in(&self, key: &str, value: &'a Spanned<DeValue<'a>>, name: String) -> Option<Section<'a>> {
        match value.get_ref() {
            DeValue::Table(table) => {
                Some(Section { document: self.document, name, place: value.span(), table, known: RefCell::default() })
            }
            other => self.wrong(value.span(), key, "a section", other),
        }
    }

    fn number_in(&self, key: &str, value: &Spanned<DeValue<'_>>, range: RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(number) = value.get_ref() else {
            return self.wrong(value.span(), key, "a whole number", value.get_ref());
        };
        let parsed = i128::from_str_radix(number.as_str(), number.radix()).ok();
        let found = parsed.and_then(|number| u64::try_from(number).ok()).filter(|number| range.contains(number));
        if found.is_none() {
            let bounds = match *range.end() {
                u64::MAX => format!("at least {}", range.start()),
                end => format!("between {} and {end}", range.start()),
            };
            self.error(value.span(), format!("`{key}` must be {bounds}"), None);
        }
        found
    }

    fn wrong<T>(&self, place: Place, key: &str, expected: &str, found: &DeValue<'_>) -> Option<T> {
        let found = match found {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a section",
        };
        self.error(place, format!("`{key}` must be {expected}, not {found}"), None);
        None
    }

    /// The value as it stands in the file.
    fn raw(&self, value: &Spanned<DeValue<'_>>) -> &'a str {
        self.document.text.get(value.span()).unwrap_or_default()
    }

    fn within(&self) -> String {
        if self.name.is_empty() { String::new() } else { format!(" in {}", self.name) }
    }
}
