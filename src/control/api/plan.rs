//! What a deployment would do, in answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Change;
use crate::model::deployment::Reroute;
use crate::model::time::duration_text;
use crate::model::{AppName, Code, Dependency, HookPoint, Migration, SlotName, StrategyName, Template, UnitName};

/// Query of `GET /v1/apps/APP/plan/SLOT`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanQuery {
    /// Another strategy than the app's.
    #[serde(default)]
    pub strategy: Option<StrategyName>,
    /// Another word for what it does to the data than its release's.
    #[serde(default)]
    pub migration: Option<Migration>,
}

/// What a deployment would do: `GET /v1/apps/APP/plan/SLOT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The app.
    pub app: AppName,
    /// The live slot.
    pub from: Option<SlotName>,
    /// The candidate.
    pub to: SlotName,
    /// How it would move.
    pub strategy: StrategyName,
    /// Its units, with the two numbers of each.
    pub units: Vec<PlannedUnit>,
    /// How users reach the app.
    pub route: String,
    /// What that route gives.
    pub contract: PlannedContract,
    /// What would be done, batch by batch; none where it is refused.
    pub batches: Vec<PlannedBatch>,
    /// After how many batches it would wait for `promote`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_after: Option<u64>,
    /// The share of users, in per cent, that the new instances would have while it waits there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// What it would do to the data.
    #[serde(default, skip_serializing_if = "Migration::is_none")]
    pub migration: Migration,
    /// What would be run for the candidate, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<PlannedHook>,
    /// Whether the switch would wait for `promote`.
    pub by_hand: bool,
    /// For how long the new slot would be watched after the switch.
    #[serde(with = "duration_text")]
    pub soak: Duration,
    /// Whether it would go back then unless `confirm` comes.
    pub confirm: bool,
    /// The apps that have to be up, in the order in which they come up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<Dependency>,
    /// What else would come of it.
    #[serde(default)]
    pub foreseen: Foreseen,
    /// Users come another way by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reroute: Option<PlannedReroute>,
    /// Why it can't be; none if it can.
    pub refusals: Vec<PlannedRefusal>,
}

/// Another way for users, in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedReroute {
    /// From which to which, in words.
    #[serde(flatten)]
    pub way: Reroute,
    /// The address that leads to the app from the switch on, where it isn't the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins: Option<String>,
    /// The address that leads to it no more once all is over; where slotd can't end it, it is the administrator's to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<String>,
    /// Whether slotd ends it.
    pub is_ended: bool,
    /// Whether users would find nobody for a time.
    pub gap: Gap,
}

/// Whether users would find nobody for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gap {
    /// No: both ways lead to whoever serves.
    None,
    /// As in any deployment by its strategy, old instances stop before new ones start.
    Restart,
    /// From the stop of the app, which has to rest, to the end.
    Rest,
}

/// What else would come of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreseen {
    /// Whether anything would: what is live may be just that already.
    pub change: bool,
    /// Where the strategy was said.
    pub because: String,
    /// Files that differ from those of what is live.
    pub files: FileCounts,
    /// Settings that differ from those that what is live went by; values of the environment are hidden.
    pub settings: Vec<Change>,
    /// What systemd would run.
    pub runtime: Vec<Runtime>,
    /// What it takes, and what there is.
    pub resources: Resources,
    /// Slots that retention would let go afterwards.
    pub pruned: Vec<SlotName>,
    /// How long it took, and users waited, the last times; none if there were none.
    pub past: Option<Spell>,
    /// Names all that the plan is made of: `activate --plan TOKEN` refuses if any of it has moved.
    pub token: String,
}

/// How many files differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCounts {
    /// Only the candidate has them.
    pub added: u64,
    /// Only what is live has them.
    pub removed: u64,
    /// Other bytes or another mode.
    pub changed: u64,
}

/// What systemd would run of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// The template.
    pub unit: Template,
    /// How many of it.
    pub instances: u32,
    /// As whom; empty: as root.
    pub user: String,
    /// What it starts.
    pub command: Option<String>,
    /// The most bytes of memory; none: any number.
    pub memory_max: Option<u64>,
}

/// What it takes, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// What the live instances have now, which is needed once more where both slots run at once.
    pub memory: Option<u64>,
    /// What the host has left.
    pub memory_available: Option<u64>,
    /// What the state's file system has left.
    pub disk_free: Option<u64>,
}

/// What the last deployments took, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spell {
    /// How many.
    pub deployments: u64,
    /// The longest that users waited; the median of them.
    pub gap_ms: Option<u64>,
    /// The worst of them.
    pub worst_gap_ms: Option<u64>,
    /// From the first step to the end; the median of them.
    pub total_ms: Option<u64>,
}

/// A unit in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedUnit {
    /// The template.
    pub unit: Template,
    /// How many instances there would be: N.
    pub instances: u32,
    /// How many more may run meanwhile.
    pub max_surge: u32,
    /// How many fewer may be ready meanwhile.
    pub max_unavailable: u32,
}

/// A hook in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedHook {
    /// At which point.
    pub at: HookPoint,
    /// Its unit.
    pub unit: UnitName,
}

/// A batch in a plan. What is left of the old slot stops once users have moved and the new one has been watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedBatch {
    /// Old instances that stop first.
    pub stop_first: Vec<UnitName>,
    /// New instances that start and have to prove themselves.
    pub start: Vec<UnitName>,
    /// Old instances that stop then.
    pub stop_after: Vec<UnitName>,
}

/// What a route gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedContract {
    /// A candidate has no users before the switch.
    pub private: bool,
    /// The old slot can stay warm, so that going back is a switch.
    pub warm: bool,
    /// Each instance has a port of its own.
    pub own_ports: bool,
    /// The share of an instance can be set.
    pub weights: bool,
}

/// Why a plan can't be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedRefusal {
    /// Its stable name.
    pub code: Code,
    /// What can't be, and why.
    pub message: String,
    /// What would do.
    pub fix: String,
}
