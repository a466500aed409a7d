//! Slots: what stands in `slot.json`, the marks beside it, and the states that follow from both.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::deployment::DeploymentId;
use super::digest::Digest;
use super::evidence::Fault;
use super::names::{AppName, SlotName, Template};
use super::release::Release;
use super::setting::{BuildInputs, Inputs};
use super::time::Timestamp;
use super::version::Version;

/// The format of `slot.json` that this version writes; another one is not read.
pub const SLOT_FORMAT: u32 = 1;

/// `slots/NAME/slot.json`: a slot that can be activated. Written once, before the slot is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRecord {
    /// [`SLOT_FORMAT`].
    pub format: u32,
    /// The app.
    pub app: AppName,
    /// The slot; the folder has the same name, encoded.
    pub slot: SlotName,
    /// Digest of the packed bytes: `artifacts/DIGEST`.
    pub artifact: Digest,
    /// Key of the tree: `trees/DIGEST`.
    pub tree: Digest,
    /// The units that run it, in the order of starting. The gate reads this.
    pub units: Vec<UnitCount>,
    /// What the release says of itself.
    pub release: Release,
    /// Where it came from.
    pub origin: Origin,
    /// The snapshot of the app's `[env]`.
    pub env: BTreeMap<String, String>,
    /// When it was published.
    pub created: Timestamp,
    /// Bytes of the tree's files; records of earlier versions don't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree_bytes: Option<u64>,
    /// What built the tree, if anything did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Built>,
}

/// What a tree was built by: with the artifact's digest, all that its key is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// What the settings said.
    #[serde(flatten)]
    pub inputs: BuildInputs,
    /// The digest of the files of the build's unit, its drop-ins included.
    pub text: Digest,
}

/// One unit of a slot: a template, and how many instances of it run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitCount {
    /// The template.
    pub name: Template,
    /// N.
    pub instances: u32,
}

/// Where a release came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The file's name as it was dropped or sent.
    pub file: String,
    /// Bytes of the packed artifact.
    pub bytes: u64,
    /// Who brought it: "inbox (uid 1000)", "ann".
    pub by: String,
    /// The message that came with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// `slots/NAME/failed.json`: a release that was refused before it became a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRecord {
    /// The version that the artifact claimed.
    pub version: Version,
    /// Which redeployment of it, where a slot that is there couldn't be built anew.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub redeployment: u32,
    /// The packed bytes' digest, where they were read to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Digest>,
    /// Where it came from.
    pub origin: Origin,
    /// In which phase it was refused.
    pub phase: Phase,
    /// Why.
    pub fault: Fault,
    /// When.
    pub at: Timestamp,
    /// What it would have got of the settings, where a slot that is there couldn't be built anew by them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Inputs>,
}

/// Not a redeployment.
fn first() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_first(redeployment: &u32) -> bool {
    *redeployment == 1
}

/// `slots/NAME/quarantine.json`: failed by its own fault, not tried again unless forced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// The deployment that failed.
    pub deployment: String,
    /// In which phase.
    pub phase: Phase,
    /// Why.
    pub fault: Fault,
    /// When.
    pub at: Timestamp,
}

/// `slots/NAME/left.json`: users left it, for another slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// When it was last live.
    pub at: Timestamp,
}

/// An entry of `breaks.json`: a breaking migration of the data that all slots share. Slots of lower versions are barred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Break {
    /// The slot that it came with.
    pub slot: SlotName,
    /// The deployment that brought it.
    pub deployment: DeploymentId,
    /// When.
    pub at: Timestamp,
}

/// `slots/NAME/pinned`: the slot is kept until it is unpinned. `pinned` beside the links: nothing goes live by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Who said so.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.message.as_ref().map(|message| format!(": {message}"));
        write!(f, "pinned by {}{}", self.by, message.unwrap_or_default())
    }
}

/// `mark.json`: the highest release ever live or tried, above which automatic mode goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// That release.
    pub highest: Version,
    /// What was set for its slots when something was deployed last: another setting than this is new, and goes live by
    /// itself where releases do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Inputs>,
}

impl SlotRecord {
    /// Takes out what only those may see who may operate.
    pub fn hide(&mut self) {
        self.env.clear();
        if let Some(built) = &mut self.build {
            built.inputs.env.clear();
        }
    }

    /// What it has of the settings.
    pub fn inputs(&self) -> Inputs {
        let build = self.build.as_ref().map(|built| built.inputs.clone());
        Inputs { env: self.env.clone(), units: self.units.clone(), build }
    }
}

/// A phase of a release's life in which it can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Reading, checking, unpacking.
    Processing,
    /// The build hook.
    Building,
    /// Starting the instances.
    Starting,
    /// Proving that they are ready.
    Proving,
    /// Moving users over.
    Switching,
    /// Watched after the switch.
    Soaking,
}

/// The state of a slot, as `list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum SlotState {
    /// Not complete, or queued.
    Waiting {
        /// For what.
        reason: String,
    },
    /// Being read, checked and unpacked.
    Processing,
    /// The build hook runs.
    Building,
    /// Can be activated.
    Ready,
    /// Live.
    Active,
    /// Refused or quarantined.
    Failed {
        /// Where.
        phase: Phase,
        /// Why.
        fault: Box<Fault>,
    },
}

impl SlotState {
    /// The one word.
    pub fn word(&self) -> &'static str {
        match self {
            SlotState::Waiting { .. } => "waiting",
            SlotState::Processing => "processing",
            SlotState::Building => "building",
            SlotState::Ready => "ready",
            SlotState::Active => "active",
            SlotState::Failed { .. } => "failed",
        }
    }
}
