//! Settings as people speak of them: by a key, with a time from when on a change of it holds.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::names::Template;
use super::slot::UnitCount;
use super::time::Timestamp;

/// From when on a changed value holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// As soon as it is read.
    AtOnce,
    /// A deployment goes by what it finds at its beginning.
    NextDeployment,
    /// A slot has its own; a changed one makes another slot of the same files.
    NewSlot,
    /// A build goes by it; a changed one makes another slot, whose files are built anew of the same artifact.
    NewTree,
    /// Only on an operator's word: users come another way by it.
    OwnStep,
}

/// What a slot has of the settings for good.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// `[env]`.
    pub env: BTreeMap<String, String>,
    /// The units that run it, in the order of starting.
    pub units: Vec<UnitCount>,
    /// What builds its tree, if anything does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildInputs>,
}

/// What the settings say of a build. The text of its unit is systemd's to say, and counts when something is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildInputs {
    /// The template of its unit.
    pub unit: Template,
    /// `[build.env]`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// Who chose a setting by a verb.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// `slots/NAME/used.json`: what the deployment that brought the slot live last went by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Every setting by its key, as TOML says it.
    pub settings: BTreeMap<String, String>,
    /// The digest of the files of each unit: its own and its drop-ins.
    #[serde(default)]
    pub units: BTreeMap<Template, Digest>,
}

impl Class {
    /// In words, as slotd-app(5) has them.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::AtOnce => "at once",
            Class::NextDeployment => "at the next deployment",
            Class::NewSlot => "in a new slot",
            Class::NewTree => "in a new tree",
            Class::OwnStep => "by a step of its own",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
