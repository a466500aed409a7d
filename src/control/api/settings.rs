//! Settings: what is set and by whom, how two times or two releases differ, and what is staged.

use serde::{Deserialize, Serialize};

use crate::model::release::Release;
use crate::model::setting::Said;
use crate::model::{Class, DeploymentId, Migration, Report, SlotName, StrategyName, Timestamp};

use super::Accepted;

/// Query of `GET /v1/apps/APP/settings`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingsQuery {
    /// Show values of the environment too; only for those who may operate.
    #[serde(default)]
    pub reveal: bool,
}

/// A setting in the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// "soak.time", "env.LOG_LEVEL", "unit.web@.instances".
    pub key: String,
    /// As TOML says it; not there where it is hidden.
    pub value: Option<String>,
    /// From when on a change of it holds.
    pub class: Class,
    /// Where it was said.
    #[serde(flatten)]
    pub origin: Origin,
}

/// Where a value was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "origin", rename_all = "kebab-case")]
pub enum Origin {
    /// Nowhere: slotd's own.
    Default,
    /// `[defaults]` of slotd.toml.
    Daemon,
    /// In the app's file.
    File {
        /// Its path.
        file: String,
        /// From 1.
        line: usize,
    },
    /// By a verb.
    Verb {
        /// Who, when and why, as far as that is known.
        said: Option<Said>,
    },
}

/// `POST /v1/apps/APP/settings`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetRequest {
    /// Which.
    pub key: String,
    /// What holds from now on; without it what the app's file says.
    #[serde(default)]
    pub value: Option<String>,
    /// Kept with it, and with the deployment that it brings about.
    #[serde(default)]
    pub message: Option<String>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAnswer {
    /// Which.
    pub key: String,
    /// Whether it wasn't so before.
    pub changed: bool,
    /// From when on it holds.
    pub class: Class,
    /// The deployment that brings it, or what was staged, about.
    pub deployment: Option<DeploymentId>,
    /// Whether it waits for `deploy-staged`.
    pub staged: bool,
}

/// Something that waits to be deployed, in `GET /v1/apps/APP/staged`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// Counts up from 1, and is kept as long as it waits.
    pub id: u64,
    /// Since when.
    pub at: Timestamp,
    /// Who brought or set it: a name, or the file.
    pub by: String,
    /// What they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What.
    #[serde(flatten)]
    pub what: StagedWhat,
}

/// What waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum StagedWhat {
    /// A release above the mark.
    Release {
        /// Its slot.
        slot: SlotName,
    },
    /// A setting that isn't as what is live has it.
    Setting(Change),
}

impl StagedWhat {
    /// Whether it waits for a step of its own, and goes live with nothing else.
    pub fn is_apart(&self) -> bool {
        matches!(self, StagedWhat::Setting(change) if change.class == Class::OwnStep)
    }

    /// Whether it is the setting of this key.
    pub fn is_setting(&self, key: &str) -> bool {
        matches!(self, StagedWhat::Setting(change) if change.key == key)
    }
}

/// A setting that two sides have otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// "env.LOG_LEVEL".
    pub key: String,
    /// What the first has; not there where it has nothing, or where it is hidden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What the second has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Whether both are hidden.
    #[serde(default)]
    pub hidden: bool,
    /// From when on a change holds.
    pub class: Class,
}

/// `POST /v1/apps/APP/deploy-staged` and `…/redeploy`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedeployRequest {
    /// Another strategy than the app's, for this deployment alone.
    #[serde(default)]
    pub strategy: Option<StrategyName>,
    /// Another word for what the release does to the data than its own.
    #[serde(default)]
    pub migration: Option<Migration>,
    /// Kept with the deployment.
    #[serde(default)]
    pub message: Option<String>,
    /// Nothing of the apps that it depends on is deployed before; they have to be up. `redeploy` brings up nothing in
    /// any case.
    #[serde(default)]
    pub without_dependencies: bool,
    /// Users come by the way that is set from then on; `redeploy` only.
    #[serde(default)]
    pub route: bool,
}

/// The answer to `deploy-staged`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployedStaged {
    /// What was staged.
    pub staged: Vec<Staged>,
    /// The deployment that brings it live.
    #[serde(flatten)]
    pub accepted: Accepted,
    /// How that ended; `slotctl` adds it where it has waited for the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Box<Report>>,
}

/// Query of `GET /v1/apps/APP/diff`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffQuery {
    /// A slot; without one what is live against what is set.
    #[serde(default)]
    pub from: Option<SlotName>,
    /// The other slot.
    #[serde(default)]
    pub to: Option<SlotName>,
    /// The changes in text files too.
    #[serde(default)]
    pub text: bool,
    /// Show values of the environment too; only for those who may operate.
    #[serde(default)]
    pub reveal: bool,
}

/// How two sides differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The first: what is live, unless said.
    pub from: SlotName,
    /// The second; what is set, if none.
    pub to: Option<SlotName>,
    /// Settings, by key.
    pub settings: Vec<Change>,
    /// Files; none where it is about what is set.
    pub files: Vec<FileChange>,
    /// What the releases say of themselves, where that differs.
    pub releases: Option<Box<(Release, Release)>>,
    /// Unit files that aren't as they were when it went live, or as systemd has read them.
    pub units: Vec<UnitChange>,
}

/// A file that two trees have otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Below the tree.
    pub path: String,
    /// How.
    pub how: How,
    /// Bytes before.
    pub from: Option<u64>,
    /// Bytes after.
    pub to: Option<u64>,
    /// The lines that differ, in unified form, where they were asked for and are text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// How a file differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Removed,
    /// Other bytes, or another target of a link.
    Changed,
    /// The same bytes with another mode, or something of another type.
    Mode,
}

/// A unit whose files changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitChange {
    /// The template.
    pub unit: String,
    /// Its files aren't those of when the slot went live.
    pub changed: bool,
    /// systemd hasn't read them yet: `systemctl daemon-reload`.
    pub need_reload: bool,
}
