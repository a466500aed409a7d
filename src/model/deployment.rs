//! Deployments as people and records see them: their states, results and steps.
//!
//! How one moves is the business of `crate::deployment`; here are only the words.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::code::Exit;
use super::dependency::Dependency;
use super::evidence::Fault;
use super::measured::Measured;
use super::names::{AppName, NameError, SlotName};
use super::release::{Migration, Provenance};
use super::strategy::StrategyName;
use super::time::{Timestamp, duration_text};

/// A deployment's id: the app and a number that counts up, `web-17`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeploymentId {
    /// The app.
    pub app: AppName,
    /// From 1.
    pub number: u64,
}

/// What a deployment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A release goes live.
    Deploy,
    /// An operator goes back.
    Rollback,
}

/// Where a deployment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waits for its turn.
    Queued,
    /// Announced; hold mark, gate, links, files checked.
    Preparing,
    /// The candidate's instances start.
    Starting,
    /// They are asked whether they are ready.
    Proving,
    /// The route moves, batch by batch, and in the end `current`.
    Switching,
    /// For an operator's `promote`.
    Waiting,
    /// Watched after the switch.
    Soaking,
    /// The old instances finish and stop.
    Draining,
    /// After it: links, hooks, marks.
    Post,
    /// On the way back.
    Reverting,
    /// Over; the result says how.
    Done,
}

/// What an operator may say to a deployment under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Say {
    /// Undo it.
    Cancel,
    /// Go on behind the canary, or with the switch.
    Promote,
    /// The new slot is good: it stays.
    Confirm,
}

/// How a deployment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The candidate is live.
    Done,
    /// Undone: the old slot serves as before.
    RolledBack,
    /// Refused before any effect, or nothing to go back to.
    Failed,
    /// Stopped by an operator.
    Cancelled,
    /// Something newer, or an operator's own change, took its place.
    Superseded,
    /// Needs a hand.
    Stuck,
}

/// Where the cause of a failure lies; it decides about quarantine and retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Blame {
    /// The release itself: quarantined.
    Release,
    /// What it runs in: tried again by itself.
    Environment,
    /// slotd or the host stopped in the middle: tried again by itself.
    Interruption,
    /// A person wanted it so: neither.
    Operator,
}

/// A step that a deployment has passed, or is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The state it belongs to.
    pub state: State,
    /// What is done: "start web@2.0.0.service".
    pub what: String,
    /// When it began.
    pub began: Timestamp,
    /// How long it took; not there while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

/// All that is known of one deployment: what the API, `why` and the history give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its id.
    pub id: DeploymentId,
    /// What it is for.
    pub kind: Kind,
    /// The slot that was live when it began.
    pub from: Option<SlotName>,
    /// The slot that it wants live.
    pub to: SlotName,
    /// Who asked: a user's name, or "automatic".
    pub by: String,
    /// Their message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where the release comes from.
    #[serde(flatten)]
    pub release: Provenance,
    /// What operators said to it, in the order of their words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub said: Vec<Said>,
    /// Which try this is, of the same release after faults of the environment; from 1.
    pub attempt: u32,
    /// When it was asked for.
    pub queued: Timestamp,
    /// The time that an operator wanted it for, if they did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<Timestamp>,
    /// Another strategy than the app's, for this deployment alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<StrategyName>,
    /// What it does to the data: by an operator's word, and from its begin on in any case, unless it is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<Migration>,
    /// The way by which users come changes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reroute: Option<Reroute>,
    /// The apps that it depends on, in the order in which they come up, as they were when it began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<Dependency>,
    /// Where it stands.
    pub state: State,
    /// What it waits for now, and until when at the longest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// The steps so far.
    pub steps: Vec<StepRecord>,
    /// What was measured so far.
    #[serde(default, skip_serializing_if = "Measured::is_empty")]
    pub measured: Measured,
    /// How it ended; there when `state` is `done`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// A change of the way by which users come, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reroute {
    /// By which they come before: "nftables, port 8080".
    pub from: String,
    /// By which they come afterwards.
    pub to: String,
}

impl fmt::Display for Reroute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in place of {}", self.to, self.from)
    }
}

/// What an operator said to a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The word.
    pub say: Say,
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What somebody wants otherwise than the app and its release say, for one deployment alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Otherwise {
    /// Another strategy.
    pub strategy: Option<StrategyName>,
    /// Another word for what it does to the data.
    pub migration: Option<Migration>,
}

/// What a deployment waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// "web@2.0.0.service to become ready".
    pub what: String,
    /// Since when.
    pub since: Timestamp,
    /// The longest that it will wait.
    #[serde(with = "duration_text")]
    pub at_most: Duration,
}

/// How a deployment ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The word.
    pub outcome: Outcome,
    /// The cause, for all but `done`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// The phase in which it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<State>,
    /// Where the cause lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blame: Option<Blame>,
    /// When.
    pub at: Timestamp,
    /// What a person can do next, as a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// What went wrong beside the cause, the way back included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl State {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Preparing => "preparing",
            State::Starting => "starting",
            State::Proving => "proving",
            State::Switching => "switching",
            State::Waiting => "waiting",
            State::Soaking => "soaking",
            State::Draining => "draining",
            State::Post => "post",
            State::Reverting => "reverting",
            State::Done => "done",
        }
    }
}

impl Outcome {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::RolledBack => "rolled-back",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "cancelled",
            Outcome::Superseded => "superseded",
            Outcome::Stuck => "stuck",
        }
    }

    /// The exit status of a command that waited for it.
    pub fn exit(self) -> Exit {
        match self {
            Outcome::Done => Exit::Ok,
            Outcome::RolledBack => Exit::RolledBack,
            Outcome::Failed => Exit::Failed,
            Outcome::Cancelled | Outcome::Superseded => Exit::Cancelled,
            Outcome::Stuck => Exit::Stuck,
        }
    }
}

impl Say {
    /// All of them.
    pub const ALL: [Say; 3] = [Say::Cancel, Say::Promote, Say::Confirm];

    /// The command.
    pub fn as_str(self) -> &'static str {
        match self {
            Say::Cancel => "cancel",
            Say::Promote => "promote",
            Say::Confirm => "confirm",
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.message.as_ref().map(|message| format!(": {message}"));
        write!(f, "{} by {}{}", self.say, self.by, message.unwrap_or_default())
    }
}

impl fmt::Display for Say {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.app, self.number)
    }
}

impl fmt::Debug for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DeploymentId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = || NameError::App(text.to_owned());
        let (app, number) = text.rsplit_once('-').ok_or_else(bad)?;
        Ok(DeploymentId { app: app.parse()?, number: number.parse().map_err(|_| bad())? })
    }
}

impl TryFrom<String> for DeploymentId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<DeploymentId> for String {
    fn from(id: DeploymentId) -> String {
        id.to_string()
    }
}
