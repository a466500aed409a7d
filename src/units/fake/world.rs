//! How the units stand, and what becomes of them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::model::evidence::JournalLine;
use crate::model::{Template, Timestamp, UnitName};
use crate::units::{Active, Bonds, JobResult, Load, UnitError, UnitStatus};

use super::short;

#[derive(Default)]
pub(super) struct World {
    pub(super) units: BTreeMap<UnitName, Unit>,
    pub(super) journals: BTreeMap<String, Vec<JournalLine>>,
    pub(super) watches: Vec<(Vec<UnitName>, mpsc::Sender<UnitName>)>,
    pub(super) job_watches: Vec<(Vec<Template>, mpsc::Sender<UnitName>)>,
    pub(super) calls: Vec<String>,
    pub(super) runs: u64,
    /// Which unit goes down with which, and which needs which.
    pub(super) bonds: BTreeMap<UnitName, Bonds>,
    pub(super) bus_lost: bool,
}

pub(super) struct Unit {
    pub(super) status: UnitStatus,
    /// What the next starts do; without any left, a start succeeds.
    pub(super) starts: VecDeque<Start>,
    /// What the next stops do; without any left, a stop succeeds.
    pub(super) stops: VecDeque<Stop>,
    /// What it does with signals.
    pub(super) heeds: Heed,
    /// How the next reloads end; without any left, a reload succeeds.
    pub(super) reloads: VecDeque<JobResult>,
    /// What its next run writes.
    pub(super) writes: Vec<String>,
    /// What becomes of the next run that started well, and when.
    pub(super) fate: Option<(Duration, Fate)>,
}

pub(super) enum Start {
    Fails(JobResult, String),
    Hangs,
    Errs(UnitError),
    /// A oneshot that succeeds and is inactive again.
    Passes,
    /// It succeeds; meanwhile somebody has stopped this other unit.
    WhileStopped(UnitName),
    /// It fails; meanwhile somebody has stopped this other unit.
    FailsWhileStopped(UnitName, String),
}

pub(super) enum Stop {
    Hangs,
    Ends(JobResult),
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Heed {
    /// SIGUSR1 has it say "accepting", SIGUSR2 "quiet".
    Signals,
    /// Handled, and nothing follows.
    Nothing,
    /// It has no handlers.
    Dies,
}

#[derive(Clone)]
pub(super) enum Fate {
    /// Ends, and waits for systemd's restart.
    Dies(String),
    /// Ends and is up again in the same instant.
    Restarts(String),
}

impl World {
    /// The unit; a test that didn't script it is wrong.
    pub(super) fn unit(&mut self, name: &UnitName) -> &mut Unit {
        match self.units.get_mut(name) {
            Some(unit) => unit,
            None => panic!("{name} was not scripted; calls so far: {:?}", self.calls),
        }
    }

    pub(super) fn answers(&self) -> Result<(), UnitError> {
        match self.bus_lost {
            true => Err(UnitError::Bus("the fake bus is lost".to_owned())),
            false => Ok(()),
        }
    }

    pub(super) fn begin_run(&mut self, name: &UnitName) {
        self.runs += 1;
        let invocation = format!("{:032x}", self.runs);
        let unit = self.unit(name);
        unit.status.active = Active::Active;
        unit.status.sub = "running".to_owned();
        unit.status.result = "success".to_owned();
        unit.status.exit = None;
        unit.status.said = None;
        unit.status.invocation = Some(invocation.clone());
        let texts = std::mem::take(&mut unit.writes);
        let line =
            |text: String| JournalLine { at: Timestamp::from_unix_millis(0), priority: 6, source: short(name), text };
        self.journals.insert(invocation, texts.into_iter().map(line).collect());
        self.tell(name);
    }

    pub(super) fn end_run(&mut self, name: &UnitName, active: Active, sub: &str, result: &str, exit: Option<&str>) {
        let status = &mut self.unit(name).status;
        status.active = active;
        status.sub = sub.to_owned();
        status.result = result.to_owned();
        status.exit = exit.map(str::to_owned);
        if active == Active::Inactive && result == "success" {
            // systemd unloads what rests without a fault, and forgets its last run with it.
            (status.exit, status.invocation, status.restarts) = (None, None, 0);
        }
        self.tell(name);
    }

    /// What goes down with a unit goes down.
    pub(super) fn take_along(&mut self, name: &UnitName) {
        for unit in self.bonds.get(name).map(|bonds| bonds.stops.clone()).unwrap_or_default() {
            if self.unit(&unit).status.is_up() {
                self.end_run(&unit, Active::Inactive, "dead", "success", None);
                self.take_along(&unit);
            }
        }
    }

    pub(super) fn meet(&mut self, name: &UnitName, fate: Fate) {
        let (exit, up_again) = match &fate {
            Fate::Dies(exit) => (exit, false),
            Fate::Restarts(exit) => (exit, true),
        };
        let result = if exit.starts_with("killed") { "signal" } else { "exit-code" };
        self.end_run(name, Active::Activating, "auto-restart", result, Some(exit));
        if up_again {
            self.begin_run(name);
            self.unit(name).status.restarts += 1;
        }
    }

    /// Whether a stop of the unit is under way, which a start doesn't cancel.
    pub(super) fn is_stopping(&mut self, name: &UnitName) -> bool {
        let status = &self.unit(name).status;
        status.job && status.active == Active::Deactivating
    }

    /// Each change is the end of a job, too.
    pub(super) fn tell(&mut self, name: &UnitName) {
        self.job_watches.retain(|(templates, sender)| {
            if templates.iter().any(|template| template.as_str() == name.prefix()) {
                let _ = sender.try_send(name.clone());
            }
            !sender.is_closed()
        });
        self.watches.retain(|(units, sender)| {
            if units.contains(name) {
                let _ = sender.try_send(name.clone());
            }
            !sender.is_closed()
        });
    }
}

impl Unit {
    pub(super) fn inactive() -> Self {
        Unit {
            status: UnitStatus {
                load: Load::Loaded,
                active: Active::Inactive,
                sub: "dead".to_owned(),
                result: "success".to_owned(),
                reload_failed: false,
                invocation: None,
                exit: None,
                said: None,
                restarts: 0,
                job: false,
                start_limit: Some(Duration::from_secs(90)),
                stop_limit: Some(Duration::from_secs(30)),
                runs_to_end: true,
                need_reload: false,
                user: String::new(),
                private_network: false,
                command: None,
                memory_max: None,
                memory: None,
                files: Vec::new(),
            },
            starts: VecDeque::new(),
            stops: VecDeque::new(),
            heeds: Heed::Dies,
            reloads: VecDeque::new(),
            writes: Vec::new(),
            fate: None,
        }
    }
}
