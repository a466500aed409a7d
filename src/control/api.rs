//! What goes over the control socket: requests and answers. The command line uses the same types.

use serde::{Deserialize, Serialize};

use crate::model::deployment::Report;
use crate::model::evidence::Fault;
use crate::model::release::Provenance;
use crate::model::slot::{Pin, Quarantine, SlotRecord, SlotState, UnitCount};
use crate::model::{
    AppName, AppState, Code, DeploymentId, Digest, Freeze, Migration, SlotName, StrategyName, Timestamp, UnitName,
    Version,
};

mod accepted;
mod events;
mod freezes;
mod orders;
mod pins;
mod plan;
mod settings;
mod words;

pub use accepted::Accepted;
pub use events::{Event, EventKind, EventsQuery, PastEvent, PastQuery};
pub use freezes::{FreezeRequest, Frozen};
pub use orders::{ActivateRequest, RollbackRequest, ScaleRequest};
pub use pins::{PinRequest, Pinned, UnpinRequest};
pub use plan::{
    FileCounts, Foreseen, Gap, PlanQuery, Planned, PlannedBatch, PlannedContract, PlannedHook, PlannedRefusal,
    PlannedReroute, PlannedUnit, Resources, Runtime, Spell,
};
pub use settings::{
    Change, DeployedStaged, DiffQuery, Difference, FileChange, How, Origin, RedeployRequest, SetAnswer, SetRequest,
    Setting, SettingsQuery, Staged, StagedWhat, UnitChange,
};
pub use words::{MessageQuery, PruneQuery, RetryRequest, SayRequest};

/// An error answer: the fault, and the next command where there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{fault}")]
pub struct ApiError {
    /// What and why.
    pub fault: Box<Fault>,
    /// What a person can do next, as a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl ApiError {
    /// A refusal without a next command.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Fault::new(code, message).into()
    }

    /// The same refusal, with the command that a person can try next.
    #[must_use]
    pub fn next(mut self, command: impl Into<String>) -> Self {
        self.next = Some(command.into());
        self
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        ApiError { fault: Box::new(fault), next: None }
    }
}

/// The daemon: `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// slotd's version.
    pub version: String,
    /// Since when it runs.
    pub since: Timestamp,
    /// What is wrong with slotd itself: a broken app file, a history that can't be written.
    pub health: Vec<Fault>,
    /// What keeps all apps from going forward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Freeze>,
    /// The apps, by name.
    pub apps: Vec<AppStatus>,
}

/// An app: `GET /v1/apps/APP`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStatus {
    /// Its name.
    pub app: AppName,
    /// How it does.
    #[serde(flatten)]
    pub state: AppState,
    /// The live slot.
    pub current: Option<SlotName>,
    /// The one to go back to.
    pub fallback: Option<SlotName>,
    /// "automatic" or "manual".
    pub deploy: String,
    /// "stop-start".
    pub strategy: String,
    /// Why nothing goes live by itself, if somebody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Pin>,
    /// What keeps it from going forward, its own freeze or that of all apps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Freeze>,
    /// What is wanted at a time to come; or was refused at its time, until something else ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<Report>,
    /// The live slot's units, as systemd has them: "web@1.4.2.service active/running".
    pub units: Vec<String>,
    /// The deployment under way, if one is.
    pub deployment: Option<Report>,
    /// The one that ended last.
    pub last: Option<Report>,
    /// What waits: files in the inbox and queued deployments, each with its reason.
    pub waiting: Vec<WaitingItem>,
    /// Files in the inbox that were refused.
    pub refused: Vec<RefusedItem>,
    /// What an operator should know: "accepts unsigned artifacts", "members of slotd-deploy can deploy".
    pub notes: Vec<String>,
}

/// Something that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingItem {
    /// A file or a version.
    pub what: String,
    /// For what.
    pub reason: String,
}

/// A refused file that stays in the inbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedItem {
    /// Its name.
    pub file: String,
    /// Why.
    pub fault: Fault,
}

/// A slot in `GET /v1/apps/APP/slots`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotInfo {
    /// Its name.
    pub slot: SlotName,
    /// Its state.
    #[serde(flatten)]
    pub state: SlotState,
    /// Whether `fallback` names it.
    pub fallback: bool,
    /// Who wants it kept, if somebody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Pin>,
    /// Why it doesn't go live yet, if it would by itself or by somebody's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
    /// The slot whose breaking migration bars it, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barred: Option<SlotName>,
    /// The packed bytes.
    pub artifact: Option<Digest>,
    /// When it was published or refused.
    pub created: Timestamp,
    /// Bytes of its artifact.
    pub bytes: u64,
    /// Who brought it.
    pub by: String,
    /// The message that came with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where the release comes from.
    #[serde(flatten)]
    pub release: Provenance,
}

/// `GET /v1/apps/APP/slots/SLOT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotDetail {
    /// The line of the list.
    pub info: SlotInfo,
    /// The record; not there for a release that was refused.
    pub record: Option<SlotRecord>,
    /// The units that run it.
    pub units: Vec<UnitCount>,
    /// Its quarantine, if it is.
    pub quarantine: Option<Quarantine>,
    /// Files and bytes of its tree.
    pub files: Option<u64>,
    /// Where the tree lies.
    pub tree_path: Option<String>,
}

/// `GET /v1/apps/APP/slots/SLOT/build`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildLog {
    /// The slot, or what is to become one.
    pub slot: SlotName,
    /// The unit that builds it now, whose journal has what it says; `None`: the build is over.
    pub running: Option<UnitName>,
    /// What the build said, a line each, with times.
    pub log: Option<String>,
}

/// Query of `POST /v1/apps/APP/artifacts?file=…`, whose body is the artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UploadQuery {
    /// The file's name, for its ending and, without `version`, its version.
    pub file: String,
    /// The version, where the name doesn't tell.
    #[serde(default)]
    pub version: Option<Version>,
    /// Kept with the slot and the deployment.
    #[serde(default)]
    pub message: Option<String>,
    /// The digest that the bytes must have.
    #[serde(default)]
    pub sha256: Option<Digest>,
    /// Another strategy than the app's, for the deployment that brings it live.
    #[serde(default)]
    pub strategy: Option<StrategyName>,
    /// Another word for what it does to the data than its release's, for that deployment.
    #[serde(default)]
    pub migration: Option<Migration>,
    /// Nothing of the apps that it depends on is deployed before; they have to be up.
    #[serde(default)]
    pub without_dependencies: bool,
}

/// The answer to an upload, once the slot is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uploaded {
    /// The slot.
    pub slot: SlotName,
    /// Whether it was there already with the same bytes.
    pub known: bool,
    /// The deployment that brings it live, if one does.
    pub deployment: Option<DeploymentId>,
    /// Why none does: "1.4.2 is below the mark 2.0.0". Neither this nor a deployment: it is live already.
    pub not_live: Option<String>,
    /// What brings it live then, as a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The answer to `POST /v1/apps/APP/prune?dry_run=BOOL`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// Every slot with what becomes of it, and why.
    pub slots: Vec<PruneItem>,
    /// What couldn't be removed.
    pub warnings: Vec<String>,
}

/// A slot in the answer to `prune`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneItem {
    /// The slot.
    pub slot: SlotName,
    /// Whether it stays.
    pub kept: bool,
    /// Why: "current", "pinned", "one of the 5 newest", "beyond the 5 newest".
    pub reason: String,
}

/// A quarantined slot in `GET /v1/apps/APP/quarantine`; `DELETE /v1/apps/APP/quarantine/SLOT` lifts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineItem {
    /// The slot.
    pub slot: SlotName,
    /// Why and since when.
    pub quarantine: Quarantine,
}

/// Query of `GET /v1/apps/APP/deployments?limit=N`, which answers with reports, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    /// How many at most; 20 unless said.
    #[serde(default)]
    pub limit: Option<u32>,
}

/// Query of `GET /v1/deployments/ID?wait=DURATION`, which answers with a report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitQuery {
    /// For how long the answer may wait for the deployment's end ("30s"); it doesn't unless said.
    #[serde(default)]
    pub wait: Option<String>,
}

/// Query of `GET /v1/apps/APP/units?slot=SLOT`, which answers with names and shell patterns of units.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitsQuery {
    /// Of which slot; the live one's, and the app's own units, unless said.
    #[serde(default)]
    pub slot: Option<SlotName>,
}
