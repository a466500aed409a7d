//! What happens, as it is told: the stream, and what is remembered of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::slot::Phase;
use crate::model::{AppName, AppState, DeploymentId, Fault, Report, SlotName, State, Timestamp, UnitName};

/// An event of `GET /v1/events?after=N` and `GET /v1/deployments/ID/events`, one JSON object a line.
///
/// A stream of one deployment begins with its report as it stands, and ends with the one that says how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up by one from 1 while the daemon runs: a gap says that events were missed.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// The app.
    pub app: AppName,
    /// What.
    #[serde(flatten)]
    pub what: EventKind,
}

/// Query of `GET /v1/events`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// The last number that the caller saw: what is still kept of the later ones comes first. From now on
    /// unless said.
    #[serde(default)]
    pub after: Option<u64>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// A deployment went on or ended: its report as it stands now.
    Deployment {
        /// The report.
        report: Box<Report>,
    },
    /// A phase of a deployment began, or ended.
    Phase {
        /// The deployment.
        deployment: DeploymentId,
        /// The slot that it is to bring live.
        slot: SlotName,
        /// The phase.
        phase: State,
        /// When it began.
        began: Timestamp,
        /// When it ended; not there as it begins.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ended: Option<Timestamp>,
        /// Why it failed, if it did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<Box<Fault>>,
    },
    /// A release is being read, checked and unpacked; it ends with `ready` or `refused`.
    Processing {
        /// The file.
        file: String,
    },
    /// A release is being built; it ends with `ready` or `refused`.
    Building {
        /// The slot that it is to become.
        slot: SlotName,
        /// The unit that builds it.
        unit: UnitName,
    },
    /// A release became a slot.
    Ready {
        /// The slot.
        slot: SlotName,
    },
    /// A release was refused.
    Refused {
        /// The file.
        file: String,
        /// In which phase.
        phase: Phase,
        /// Why.
        fault: Box<Fault>,
    },
    /// A unit runs that is none of the live slot's, though nothing is under way.
    Stray {
        /// Which.
        unit: UnitName,
    },
    /// An operator changed something that no deployment tells of.
    Operator {
        /// What: "pin", "prune" …
        verb: String,
        /// Who.
        by: String,
        /// Of which slot, if of one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slot: Option<SlotName>,
        /// Why, in their words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// The app's state changed.
    App {
        /// The state.
        #[serde(flatten)]
        state: AppState,
    },
}

/// Query of `GET /v1/apps/APP/events?limit=N`, which answers with past events, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PastQuery {
    /// How many at most; 20 unless said.
    #[serde(default)]
    pub limit: Option<u32>,
}

/// Something that happened, as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastEvent {
    /// When.
    pub at: Timestamp,
    /// In which deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// A stable word: "deployment.proving", "release.ready", "operator.pin".
    pub kind: String,
    /// A sentence for people.
    pub message: String,
}

impl EventKind {
    /// Its stable word.
    pub fn word(&self) -> String {
        match self {
            EventKind::Deployment { report } => match &report.ended {
                Some(ended) => format!("deployment.{}", ended.outcome),
                None => format!("deployment.{}", report.state),
            },
            EventKind::Phase { phase, .. } => format!("deployment.{phase}"),
            EventKind::Processing { .. } => "release.processing".to_owned(),
            EventKind::Building { .. } => "release.building".to_owned(),
            EventKind::Ready { .. } => "release.ready".to_owned(),
            EventKind::Refused { .. } => "release.refused".to_owned(),
            EventKind::Stray { .. } => "unit.stray".to_owned(),
            EventKind::Operator { verb, .. } => format!("operator.{}", verb.replace(' ', "-")),
            EventKind::App { state } => format!("app.{}", state.word()),
        }
    }

    /// The deployment that it is about, if one.
    pub fn deployment(&self) -> Option<&DeploymentId> {
        match self {
            EventKind::Deployment { report } => Some(&report.id),
            EventKind::Phase { deployment, .. } => Some(deployment),
            _ => None,
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventKind::Deployment { report } => match &report.ended {
                Some(ended) => {
                    let cause = ended.fault.as_ref().map(|fault| format!(": {fault}")).unwrap_or_default();
                    write!(f, "{} to {} ended: {}{cause}", report.id, report.to, ended.outcome)
                }
                None => write!(f, "{} to {} is {}", report.id, report.to, report.state),
            },
            EventKind::Phase { slot, phase, ended: None, .. } => write!(f, "{slot}: {phase} begins"),
            EventKind::Phase { slot, phase, began, ended: Some(ended), fault, .. } => {
                let took = began.until(*ended).as_secs_f64();
                match fault {
                    Some(fault) => write!(f, "{slot}: {phase} failed after {took:.3} s: {fault}"),
                    None => write!(f, "{slot}: {phase} ended after {took:.3} s"),
                }
            }
            EventKind::Processing { file } => write!(f, "{file} is checked and unpacked"),
            EventKind::Building { slot, unit } => write!(f, "{slot} is built by {unit}"),
            EventKind::Ready { slot } => write!(f, "{slot} is ready"),
            EventKind::Refused { file, fault, .. } => write!(f, "{file} is refused: {fault}"),
            EventKind::Stray { unit } => {
                write!(f, "{unit} runs though it is none of the live slot's and nothing is under way: it is stopped")
            }
            EventKind::Operator { verb, by, slot, message } => {
                let slot = slot.as_ref().map(|slot| format!(" {slot}")).unwrap_or_default();
                let message = message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
                write!(f, "{verb}{slot} by {by}{message}")
            }
            EventKind::App { state: AppState::Degraded { fault } } => write!(f, "the app is degraded: {fault}"),
            EventKind::App { state } => write!(f, "the app is {}", state.word()),
        }
    }
}
