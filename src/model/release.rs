//! What a release says of itself: `.slotd/release.toml` inside the artifact.
//!
//! Data only, and it can only narrow what the host allows.

use serde::{Deserialize, Serialize};

/// Where the release file lies in a tree.
pub const RELEASE_FILE: &str = ".slotd/release.toml";

/// Largest release file, in bytes.
pub const MAX_RELEASE_FILE_BYTES: u64 = 64 * 1024;

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
