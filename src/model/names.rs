//! Names: apps, slots, instances, unit templates, and the unit of an instance.
//!
//! A slot is named after its version. In paths and unit names `@` opens what a version can't
//! contain: `@b` for `+`, `@t` for `~`, `@rN` for the N-th redeployment of the same release, and, in
//! an instance, `@K` for K from 2 on. So `1.4.2+git5`, redeployed, third instance, is the unit
//! `web@1.4.2@bgit5@r2@3.service`, and neither systemd nor a path needs another escape.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::version::Version;

/// The longest app name, in bytes.
pub const MAX_APP_BYTES: usize = 32;

/// What is wrong with a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not `[a-z][a-z0-9-]{0,31}`.
    #[error("{0:?} is no app name (a lower-case letter, then at most 31 of a-z, 0-9 and -)")]
    App(String),
    /// Not a slot's name.
    #[error("{0:?} is no slot name (a version, then @rN for a redeployment)")]
    Slot(String),
    /// Not an instance's name.
    #[error("{0:?} is no instance name (a slot, then @K for K from 2 on)")]
    Instance(String),
    /// Not a template unit's prefix.
    #[error("{0:?} is no unit template (a name that ends in @, as \"web@\")")]
    Template(String),
}

/// An app: `[a-z][a-z0-9-]{0,31}`, the stem of its settings file.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppName(String);

/// A slot: a version, and how many times the same release was deployed anew.
///
/// Displayed as `1.4.2+git5@r2`; [`SlotName::encoded`] is the form of paths and units. Both parse.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SlotName {
    /// The release's version.
    pub version: Version,
    /// 1 for the first deployment of the release; from 2 on it shows in the name.
    pub redeployment: u32,
}

/// One running unit of a slot; `number` counts from 1.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceName {
    /// The slot it runs.
    pub slot: SlotName,
    /// From 1; 1 doesn't show in the name.
    pub number: u32,
}

/// A template unit's prefix with its `@`: `web@` for `web@.service`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template(String);

/// A full unit name, such as `web@1.4.2.service` or `web.socket`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnitName(String);

impl AppName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The version-neutral unit that starts whatever `current` names: `web.service`.
    pub fn gate_unit(&self) -> UnitName {
        UnitName(format!("{}.service", self.0))
    }

    /// The socket unit of a socket route: `web.socket`.
    pub fn socket_unit(&self) -> UnitName {
        UnitName(format!("{}.socket", self.0))
    }
}

impl SlotName {
    /// The slot of a release's first deployment.
    pub fn first(version: Version) -> Self {
        SlotName { version, redeployment: 1 }
    }

    /// The form of paths and unit names.
    pub fn encoded(&self) -> String {
        let version = self.version.as_str().replace('+', "@b").replace('~', "@t");
        match self.redeployment {
            1 => version,
            n => format!("{version}@r{n}"),
        }
    }

    /// Its `number`-th instance.
    pub fn instance(&self, number: u32) -> InstanceName {
        InstanceName { slot: self.clone(), number }
    }

    /// Its instances 1 to `count`.
    pub fn instances(&self, count: u32) -> Vec<InstanceName> {
        (1..=count).map(|number| self.instance(number)).collect()
    }
}

impl InstanceName {
    /// The form of paths and unit names, which a template reads as `%i`.
    pub fn encoded(&self) -> String {
        match self.number {
            1 => self.slot.encoded(),
            k => format!("{}@{k}", self.slot.encoded()),
        }
    }
}

impl Template {
    /// The prefix with its `@`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The unit file: `web@.service`.
    pub fn unit_file(&self) -> UnitName {
        UnitName(format!("{}.service", self.0))
    }

    /// The unit that runs `instance`.
    pub fn unit(&self, instance: &InstanceName) -> UnitName {
        UnitName(format!("{}{}.service", self.0, instance.encoded()))
    }

    /// The instance that `unit` runs, if it is one of this template.
    pub fn instance_of(&self, unit: &UnitName) -> Option<InstanceName> {
        unit.0.strip_prefix(&self.0)?.strip_suffix(".service")?.parse().ok()
    }
}

impl UnitName {
    /// Takes a unit's name as systemd gave it.
    pub fn new(name: impl Into<String>) -> Self {
        UnitName(name.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the instance: `web@` of `web@1.4.2.service`; the whole name where there is none.
    pub fn prefix(&self) -> &str {
        self.0.find('@').map_or(&self.0, |at| &self.0[..=at])
    }
}

impl FromStr for AppName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let good = text.len() <= MAX_APP_BYTES
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if good { Ok(AppName(text.to_owned())) } else { Err(NameError::App(text.to_owned())) }
    }
}

impl FromStr for InstanceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = || NameError::Instance(text.to_owned());
        let mut parts = text.split('@');
        let mut version = parts.next().unwrap_or_default().to_owned();
        let (mut redeployment, mut number) = (1, 1);
        for part in parts {
            // The escapes belong to the version: none may follow @rN or @K, nor @rN follow @K.
            match (part.split_at_checked(1).ok_or_else(bad)?, redeployment, number) {
                (("b", rest), 1, 1) => version = version + "+" + rest,
                (("t", rest), 1, 1) => version = version + "~" + rest,
                (("r", digits), 1, 1) => redeployment = count_from_two(digits).ok_or_else(bad)?,
                (_, _, 1) => number = count_from_two(part).ok_or_else(bad)?,
                _ => return Err(bad()),
            }
        }
        let version = version.parse().map_err(|_| bad())?;
        Ok(InstanceName { slot: SlotName { version, redeployment }, number })
    }
}

/// A number from 2 on in its one spelling: no sign, no leading zero.
fn count_from_two(digits: &str) -> Option<u32> {
    let number: u32 = digits.parse().ok()?;
    (number >= 2 && number.to_string() == digits).then_some(number)
}

impl FromStr for SlotName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.parse::<InstanceName>() {
            Ok(InstanceName { slot, number: 1 }) => Ok(slot),
            _ => Err(NameError::Slot(text.to_owned())),
        }
    }
}

impl FromStr for Template {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let stem = text.strip_suffix('@').unwrap_or_default();
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if !stem.is_empty() && stem.len() <= 64 && stem.chars().all(known) {
            Ok(Template(text.to_owned()))
        } else {
            Err(NameError::Template(text.to_owned()))
        }
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.redeployment {
            1 => write!(f, "{}", self.version),
            n => write!(f, "{}@r{n}", self.version),
        }
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            1 => write!(f, "{}", self.slot),
            k => write!(f, "{}@{k}", self.slot),
        }
    }
}

/// Text that displays as it is stored.
macro_rules! displayed {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
displayed!(AppName, Template, UnitName);

/// Debug as Display, and through a string in JSON.
macro_rules! textual {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.to_string()
            }
        }
    )*};
}
textual!(AppName, SlotName, InstanceName, Template);

impl fmt::Debug for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_instance_needs_no_escaping_in_units() {
        let slot = SlotName { version: "1.4.2+git5".parse().expect("version"), redeployment: 2 };
        let template: Template = "web@".parse().expect("template");
        let unit = template.unit(&slot.instance(3));
        assert_eq!(unit.as_str(), "web@1.4.2@bgit5@r2@3.service");
        assert_eq!(template.instance_of(&unit), Some(slot.instance(3)));
        assert_eq!(slot.to_string(), "1.4.2+git5@r2");
    }

    #[test]
    fn names_that_are_none() {
        for bad in ["1@", "1@x", "1@r1", "1@r02", "1@1", "1@2@3", "1@2@r2", "1@r2@b5", "@2", "1@0", "1@+2"] {
            assert!(bad.parse::<InstanceName>().is_err(), "{bad}");
        }
        assert!("1@2".parse::<SlotName>().is_err());
        for bad in ["", "Web", "-web", "1web", "we/b", "web@", &"a".repeat(33)] {
            assert!(bad.parse::<AppName>().is_err(), "{bad}");
        }
        for bad in ["web", "@", "we b@", "web@@", "../web@", "web@1"] {
            assert!(bad.parse::<Template>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back(version in "[A-Za-z0-9][A-Za-z0-9._+~-]{0,12}", r in 1u32..9, k in 1u32..9) {
            let slot = SlotName { version: version.parse().expect("version"), redeployment: r };
            let instance = slot.instance(k);
            prop_assert_eq!(instance.encoded().parse::<InstanceName>(), Ok(instance.clone()));
            prop_assert_eq!(instance.to_string().parse::<InstanceName>(), Ok(instance.clone()));
            prop_assert!(!instance.encoded().contains(['+', '~', '/', ':']));
        }
    }
}
