//! The daemon's settings after validation.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::model::Retention;
use crate::model::layout::{DEFAULT_RUN_DIR, DEFAULT_STATE_DIR};
use crate::model::time::duration_text;

use super::app::{CrashLoop, Limits, Proof};

/// Where the daemon's settings file lies unless the command line says otherwise.
pub const DEFAULT_DAEMON_FILE: &str = "/etc/slotd/slotd.toml";

/// Where the apps' files lie unless the settings say otherwise.
pub const DEFAULT_APPS_DIR: &str = "/etc/slotd/apps";

/// `/etc/slotd/slotd.toml`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DaemonSettings {
    /// As whom slotd runs.
    pub profile: Profile,
    /// Slots, trees and inboxes.
    pub state_dir: PathBuf,
    /// Runtime marks.
    pub run_dir: PathBuf,
    /// The control socket; `slotd.sock` in `run_dir` unless given.
    pub socket: PathBuf,
    /// One file an app.
    pub apps_dir: PathBuf,
    /// The history's file; `history.db` in `state_dir` unless given.
    pub history: PathBuf,
    /// How many deployments of each app the history keeps, and how many events of all.
    pub history_keeps: HistoryKeeps,
    /// Who may do what.
    pub access: Access,
    /// From which level on it logs.
    pub log: LogLevel,
    /// How often the inboxes are read though nothing was heard.
    #[serde(with = "duration_text")]
    pub rescan: Duration,
    /// How much is done at a time, over all apps.
    pub at_once: AtOnce,
    /// What apps get where they say nothing.
    pub defaults: Defaults,
}

/// How many artifacts are in hand at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AtOnce {
    /// Copied, checked, unpacked.
    pub intakes: u32,
    /// Built.
    pub builds: u32,
}

/// What the history keeps; the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HistoryKeeps {
    /// Deployments of each app.
    pub deployments: u32,
    /// Events of all.
    pub events: u32,
}

/// As whom slotd runs; `check` holds units to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// As user `slotd`, by polkit's leave.
    User,
    /// As root, for hosts without polkit.
    Root,
}

/// Which groups may use the control socket; root and slotd's own user always may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Access {
    /// May look.
    pub read_group: String,
    /// May deploy, roll back and cancel, and look.
    pub operate_group: String,
}

/// From which level on slotd logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what needs a hand.
    Error,
    /// And what should be looked at.
    Warn,
    /// And each deployment's steps.
    Info,
    /// And what they consist of.
    Debug,
    /// And everything else.
    Trace,
}

/// What apps get where their own file says nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Defaults {
    /// `[defaults.retention]`.
    pub retention: Retention,
    /// `[defaults.proof]`.
    pub proof: Proof,
    /// `[defaults] crash_loop`.
    pub crash_loop: CrashLoop,
    /// `[defaults.limits]`.
    pub limits: Limits,
}

impl LogLevel {
    /// The word, as filters of logs take it.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

impl Default for Access {
    fn default() -> Self {
        Access { read_group: "slotd-read".into(), operate_group: "slotd-deploy".into() }
    }
}

impl Default for DaemonSettings {
    fn default() -> Self {
        let (state, run) = (PathBuf::from(DEFAULT_STATE_DIR), PathBuf::from(DEFAULT_RUN_DIR));
        DaemonSettings {
            profile: Profile::User,
            socket: run.join("slotd.sock"),
            history: state.join("history.db"),
            history_keeps: HistoryKeeps { deployments: 1000, events: 10_000 },
            state_dir: state,
            run_dir: run,
            apps_dir: DEFAULT_APPS_DIR.into(),
            access: Access::default(),
            log: LogLevel::Info,
            rescan: Duration::from_secs(60),
            at_once: AtOnce::default(),
            defaults: Defaults::default(),
        }
    }
}

impl Default for AtOnce {
    fn default() -> Self {
        AtOnce { intakes: 2, builds: 2 }
    }
}
