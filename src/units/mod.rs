//! Units: what slotd asks of systemd. One trait, systemd over D-Bus behind it, and a scripted fake.
//!
//! Only `systemd` knows D-Bus; `journal` runs `journalctl`, and only when something went wrong.

#[cfg(test)]
pub mod fake;
mod journal;
pub mod systemd;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::model::evidence::{JournalLine, UnitSeen};
use crate::model::{Template, Timestamp, UnitName};

/// What slotd asks of the service manager.
///
/// Every call returns within its own deadline or with an error; none waits for ever.
pub trait UnitControl: Clone + Send + Sync + 'static {
    /// Starts `unit` and waits, for at most `at_most`, for this very job's result. A condition of the unit that says
    /// no is [`JobResult::Done`] to systemd: whether it runs is asked by [`UnitControl::status`]. It takes nobody's job
    /// away: where somebody's stop of it, or of what it needs, is queued it is [`UnitError::Conflict`].
    fn start(&self, unit: &UnitName, at_most: Duration) -> impl Future<Output = Result<JobResult, UnitError>> + Send;

    /// Stops `unit` and waits, for at most `at_most`, for this very job's result. A unit that doesn't run is `Done`. It
    /// takes the place of any other job: of a start that doesn't end, or of systemd's own restart.
    fn stop(&self, unit: &UnitName, at_most: Duration) -> impl Future<Output = Result<JobResult, UnitError>> + Send;

    /// Reloads `unit` where it is up, and else starts it, and waits, for at most `at_most`, for this very job's result. A
    /// reload that failed leaves the unit up ([`UnitStatus::reload_failed`]).
    fn reload(&self, unit: &UnitName, at_most: Duration) -> impl Future<Output = Result<JobResult, UnitError>> + Send;

    /// Forgets a failure, so that a unit can start again and leaves `--failed`. Not loaded is no error.
    fn reset_failed(&self, unit: &UnitName) -> impl Future<Output = Result<(), UnitError>> + Send;

    /// Sends `signal` to the main process of `unit`, and to no other of its processes. A unit without one is refused.
    fn kill(&self, unit: &UnitName, signal: Signal) -> impl Future<Output = Result<(), UnitError>> + Send;

    /// How `unit` stands now. A unit without a file is [`Load::NotFound`], not an error.
    fn status(&self, unit: &UnitName) -> impl Future<Output = Result<UnitStatus, UnitError>> + Send;

    /// The loaded units whose names match one of the shell patterns ("web@*.service"), whatever their state.
    fn list(&self, patterns: &[String]) -> impl Future<Output = Result<Vec<UnitName>, UnitError>> + Send;

    /// What ties `unit` to others, one step far. systemd knows the inverse of a bond for units that it has loaded, and those
    /// that are up are.
    fn bonds(&self, unit: &UnitName) -> impl Future<Output = Result<Bonds, UnitError>> + Send;

    /// Tells of changes of these units until it is dropped.
    fn watch(&self, units: &[UnitName]) -> impl Future<Output = Result<UnitWatch, UnitError>> + Send;

    /// Tells of each instance of these templates for which a job ended, whoever asked for it, until it is dropped.
    fn watch_jobs(&self, templates: &[Template]) -> impl Future<Output = Result<UnitWatch, UnitError>> + Send;

    /// The last `lines` lines that the run `invocation` wrote to the journal, oldest first; empty where it can't
    /// be read.
    fn journal(&self, invocation: &str, lines: usize) -> impl Future<Output = Vec<JournalLine>> + Send;

    /// The last `lines` lines of `unit`, and of systemd on it, since a time: systemd forgets which run a unit had that ended
    /// well. Oldest first; empty where the journal can't be read.
    fn journal_since(
        &self,
        unit: &UnitName,
        since: Timestamp,
        lines: usize,
    ) -> impl Future<Output = Vec<JournalLine>> + Send;
}

/// A watch on some units: a hint that one changed; what it changed to is asked by `status`.
#[derive(Debug)]
pub struct UnitWatch {
    changes: mpsc::Receiver<UnitName>,
}

impl UnitWatch {
    /// A watch and the end that feeds it. A full channel may drop hints: the receiver asks again anyway.
    pub fn channel() -> (mpsc::Sender<UnitName>, UnitWatch) {
        let (sender, changes) = mpsc::channel(64);
        (sender, UnitWatch { changes })
    }

    /// The next unit that changed. `None`: the watch is lost (the bus went away), watch again and ask `status`.
    pub async fn changed(&mut self) -> Option<UnitName> {
        self.changes.recv().await
    }
}

/// What ties a unit to others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bonds {
    /// The units that stop when it is stopped.
    pub stops: Vec<UnitName>,
    /// The units that start when it is started, or without which it doesn't.
    pub starts: Vec<UnitName>,
}

/// How a job ended, in systemd's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobResult {
    /// It did what was asked.
    Done,
    /// The unit failed.
    Failed,
    /// The job's own time-out.
    Timeout,
    /// Another job took its place, or somebody cancelled it.
    Canceled,
    /// A unit that it needs failed.
    Dependency,
    /// Nothing to do in this state, or a condition said no.
    Skipped,
    /// A word that this version doesn't know (assert, unsupported, once …).
    Other,
}

/// The signals that slotd sends to apps: what they mean is for the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
}

/// Whether systemd has the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Load {
    /// It has.
    Loaded,
    /// There is no such file.
    NotFound,
    /// Masked by the administrator.
    Masked,
    /// The file is there and wrong.
    Error(String),
}

/// systemd's ActiveState.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Active {
    /// Runs.
    Active,
    /// On its way up, between two restarts included.
    Activating,
    /// On its way down.
    Deactivating,
    /// Doesn't run.
    Inactive,
    /// Doesn't run, and ended badly.
    Failed,
    /// Runs and reloads.
    Reloading,
}

/// How a unit stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitStatus {
    /// Whether systemd has it.
    pub load: Load,
    /// Whether it runs.
    pub active: Active,
    /// systemd's SubState.
    pub sub: String,
    /// systemd's Result; "success" where nothing went wrong.
    pub result: String,
    /// Whether its last reload failed, which a unit that is up shows nowhere else.
    pub reload_failed: bool,
    /// This run, or the last one, as long as systemd remembers it (a unit at rest without a fault it forgets): 32
    /// hexadecimal digits.
    pub invocation: Option<String>,
    /// The main process's end, for people: "exited with status 3", "killed by SIGKILL".
    pub exit: Option<String>,
    /// What the service says of itself by sd_notify's `STATUS=`, in this run; only services of which systemd takes
    /// notifications say something.
    pub said: Option<String>,
    /// NRestarts.
    pub restarts: u32,
    /// Whether a job is queued for it.
    pub job: bool,
    /// The limit on its start; `None` is none.
    pub start_limit: Option<Duration>,
    /// The limit on its stop; `None` is none.
    pub stop_limit: Option<Duration>,
    /// Whether it is done once it has started: a oneshot that doesn't stay active.
    pub runs_to_end: bool,
    /// Whether its file changed since systemd read it.
    pub need_reload: bool,
    /// As which user its processes run; empty: as root.
    pub user: String,
    /// Whether it has a network of its own, with nothing in it.
    pub private_network: bool,
    /// What it starts.
    pub command: Option<String>,
    /// The most bytes of memory that it may have; `None`: any number.
    pub memory_max: Option<u64>,
    /// The bytes that it has.
    pub memory: Option<u64>,
    /// Its file and those of its drop-ins, in the order in which they count.
    pub files: Vec<String>,
}

/// Why systemd didn't do, or say, what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// There is no such unit.
    #[error("{0} doesn't exist")]
    NotFound(UnitName),
    /// Masked.
    #[error("{0} is masked")]
    Masked(UnitName),
    /// polkit, or the bus policy, says no.
    #[error("slotd may not {verb} {unit}: {message}")]
    Denied {
        /// "start", "stop" …
        verb: &'static str,
        /// Which.
        unit: UnitName,
        /// systemd's words.
        message: String,
    },
    /// The job didn't end in time; it may still be queued.
    #[error("the {verb} job of {unit} didn't end within {}", humantime::format_duration(*.after))]
    Timeout {
        /// "start", "stop".
        verb: &'static str,
        /// Which.
        unit: UnitName,
        /// The deadline that passed.
        after: Duration,
    },
    /// A job is queued that goes the other way, for this unit or for one that it needs: somebody's stop, or a shutdown.
    #[error("systemd refuses to {verb} {unit} while another job is queued: {message}")]
    Conflict {
        /// "start", "stop" …
        verb: &'static str,
        /// Which.
        unit: UnitName,
        /// systemd's words, which name that job.
        message: String,
    },
    /// systemd won't, for a reason of its own: a wrong unit file, a transaction that can't be.
    #[error("systemd refuses to {verb} {unit}: {message}")]
    Refused {
        /// "start", "stop" …
        verb: &'static str,
        /// Which.
        unit: UnitName,
        /// systemd's words.
        message: String,
    },
    /// The bus went away, or answers nonsense.
    #[error("systemd doesn't answer on D-Bus: {0}")]
    Bus(String),
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Signal::Usr1 => "SIGUSR1",
            Signal::Usr2 => "SIGUSR2",
        })
    }
}

impl UnitStatus {
    /// Whether it serves.
    pub fn is_up(&self) -> bool {
        matches!(self.active, Active::Active | Active::Reloading)
    }

    /// Whether nothing of it runs nor is about to.
    pub fn is_down(&self) -> bool {
        matches!(self.active, Active::Inactive | Active::Failed) && !self.job
    }

    /// As evidence.
    pub fn seen(&self, unit: &UnitName) -> UnitSeen {
        let active = match self.active {
            Active::Active => "active",
            Active::Activating => "activating",
            Active::Deactivating => "deactivating",
            Active::Inactive => "inactive",
            Active::Failed => "failed",
            Active::Reloading => "reloading",
        };
        UnitSeen {
            unit: unit.clone(),
            state: format!("{active}/{}", self.sub),
            result: self.result.clone(),
            exit: self.exit.clone(),
            invocation: self.invocation.clone(),
            restarts: self.restarts,
        }
    }
}
