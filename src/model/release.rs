//! What a release says of itself: `.slotd/release.toml` inside the artifact.
//!
//! Data only, and it can only narrow what the host allows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::evidence::cut;

/// Where the release file lies in a tree.
pub const RELEASE_FILE: &str = ".slotd/release.toml";

/// Largest release file, in bytes.
pub const MAX_RELEASE_FILE_BYTES: u64 = 64 * 1024;

/// Most bytes of a release's notes that lists and the history show; `inspect` shows all of them.
pub const SHOWN_NOTES_BYTES: usize = 1024;

/// The release file. All of it is optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct Release {
    /// The version; must agree with the one in the artifact's name where both are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<super::version::Version>,
    /// The commit that it was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The branch that it was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Who or what built it: a name, a job's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builder: Option<String>,
    /// Where to read about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What is new, in the author's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// What it does to the data that it shares with other releases.
    #[serde(default)]
    pub migration: Migration,
    /// The path of the HTTP probes for this release; a path only, so never another host or port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_path: Option<String>,
}

/// Where a release comes from, in its own words: what lists and the history show of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The commit that it was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Who or what built it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builder: Option<String>,
    /// What is new; the beginning of it, where it is long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
}

impl Release {
    /// What lists show of it.
    pub fn provenance(&self) -> Provenance {
        Provenance {
            commit: self.commit.clone(),
            branch: self.branch.clone(),
            builder: self.builder.clone(),
            notes: self.notes.as_ref().map(|notes| cut(notes, SHOWN_NOTES_BYTES)),
        }
    }
}

/// What a release does to shared data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Migration {
    /// Nothing.
    #[default]
    None,
    /// Older releases go on working.
    Compatible,
    /// Older releases don't.
    Breaking,
}

/// Not a word for a migration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no migration: none, compatible or breaking")]
pub struct NoMigration(String);

impl Migration {
    /// All of them.
    pub const ALL: [Migration; 3] = [Migration::None, Migration::Compatible, Migration::Breaking];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Migration::None => "none",
            Migration::Compatible => "compatible",
            Migration::Breaking => "breaking",
        }
    }

    /// Whether there is nothing to tell.
    pub fn is_none(&self) -> bool {
        *self == Migration::None
    }
}

impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Migration {
    type Err = NoMigration;

    fn from_str(text: &str) -> Result<Self, NoMigration> {
        Migration::ALL.into_iter().find(|it| it.as_str() == text).ok_or_else(|| NoMigration(text.to_owned()))
    }
}
