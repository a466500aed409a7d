//! The record of the one place of the queue, `queued.json`, and of what is wanted at a time to come, `scheduled.json`.
//!
//! Whoever was told a deployment's id may rely on it from then on, before it has an intent of its own: what waits is
//! taken up again at the next start, and what ended without having begun stays ended. What nobody was told of has no
//! record; the next start chooses anew.

use serde::{Deserialize, Serialize};

use crate::durable::{Ballast, DurableError, read_json};
use crate::model::{DeploymentId, Fault, Layout, Report};
use crate::points::{self, named};
use crate::slots::Marking;
use crate::units::UnitControl;

use super::ahead::Ahead;
use super::app::App;
use super::deploy::{Wanted, Word};

/// Room for a record and each of its spares: a message of the greatest length, each byte of it escaped, and the rest.
const TURN_BYTES: usize = 32 * 1024;

/// The format that this version writes; another one is not read.
const TURN_FORMAT: u32 = 1;

named! {
    /// What is done to the record of the queue; crash points too.
    Step {
        Queue = "queue",
    }
}

/// `queued.json`, `scheduled.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    format: u32,
    /// What waits; or how it ended, if it never began.
    pub report: Report,
    /// On whose word.
    pub word: Word,
    /// What goes ahead of it.
    #[serde(default)]
    pub ahead: Ahead,
    /// It ended after all others: it decides whether something is tried again.
    pub last: bool,
    /// Scheduled: also if it is quarantined at that time, or the app frozen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

impl Turn {
    /// One that waits.
    pub fn waiting(wanted: &Wanted) -> Turn {
        let Wanted { report, word, ahead } = wanted.clone();
        Turn { format: TURN_FORMAT, report, word, ahead, last: false, force: false }
    }

    /// One whose time is to come.
    pub fn scheduled(report: &Report, ahead: Ahead, force: bool) -> Turn {
        let (report, word) = (report.clone(), Word::Operators);
        Turn { format: TURN_FORMAT, report, word, ahead, last: false, force }
    }

    /// One that ended and never began.
    pub fn over(report: &Report, last: bool) -> Turn {
        let (report, word, ahead) = (report.clone(), Word::Nobodys, Ahead::Nothing);
        Turn { format: TURN_FORMAT, report, word, ahead, last, force: false }
    }
}

/// The file, with spares, so that going back needs no room on the disk.
#[derive(Debug, Clone)]
pub struct TurnFile {
    ballast: Ballast,
    path: std::path::PathBuf,
    point: &'static str,
}

impl TurnFile {
    /// The file of one app. Touches nothing yet.
    pub fn of(layout: &Layout) -> Self {
        TurnFile {
            ballast: Ballast::new(layout.queued(), TURN_BYTES),
            path: layout.queued(),
            point: Step::Queue.as_str(),
        }
    }

    /// That of what is scheduled.
    pub fn scheduled(layout: &Layout) -> Self {
        let path = layout.scheduled();
        TurnFile { ballast: Ballast::new(path.clone(), TURN_BYTES), path, point: Marking::Schedule.as_str() }
    }

    /// Sees to it that a record can be written on a full disk. That it can't is worth a warning.
    pub fn refill(&self) -> Result<(), DurableError> {
        self.ballast.refill()
    }

    /// What stands in it. One of another format is damaged to this version.
    pub fn read(&self) -> Result<Option<Turn>, DurableError> {
        match read_json::<Turn>(&self.path)? {
            Some(turn) if turn.format != TURN_FORMAT => {
                let why = format!("its format is {}, this slotd knows {TURN_FORMAT}", turn.format);
                let source = serde::de::Error::custom(why);
                Err(DurableError::Damaged { path: self.path.clone(), source })
            }
            turn => Ok(turn),
        }
    }

    /// Writes it, durably, over what was there.
    pub fn write(&self, turn: &Turn) -> Result<(), DurableError> {
        points::pass(points::Side::Before, self.point);
        self.ballast.write(turn)?;
        points::pass(points::Side::After, self.point);
        Ok(())
    }

    /// Takes it away, durably.
    pub fn clear(&self) -> Result<(), DurableError> {
        self.ballast.clear().map(drop)
    }
}

impl<U: UnitControl> App<U> {
    /// Somebody is told the id of what waits: from now on it is kept over a restart of slotd.
    pub(super) fn promise_queued(&mut self) {
        let Some(wanted) = self.queued.as_mut().filter(|wanted| wanted.word == Word::Nobodys) else { return };
        wanted.word = Word::Bringers;
        let turn = Turn::waiting(wanted);
        self.keep(&turn);
    }

    /// Writes the record of the queue. Where that fails the deployment goes on, and it is said what a restart would lose.
    pub(super) fn keep(&mut self, turn: &Turn) {
        let id = &turn.report.id;
        self.kept = Some(id.clone());
        self.unkept = TurnFile::of(self.ground.store.layout()).write(turn).err().map(|error| {
            let fault = error.fault();
            let lost = match turn.report.ended {
                Some(_) => "comes back",
                None => "is forgotten",
            };
            let told = format!("{id} {lost} if slotd is restarted now: {}", fault.message);
            tracing::error!(SLOTD_APP = self.name(), SLOTD_DEPLOYMENT = id.to_string(), "{told}");
            Fault::new(fault.code, told)
        });
    }

    /// `begun` has an intent of its own by now: what is kept of it, or of one before it, has no use any more.
    pub(super) fn unkeep(&mut self, begun: &DeploymentId) {
        if self.kept.as_ref().is_none_or(|kept| kept.number > begun.number) {
            return;
        }
        // What was scheduled waits under a number from before.
        if self.queued.as_ref().is_some_and(|wanted| self.kept.as_ref() == Some(&wanted.report.id)) {
            return;
        }
        self.unkept = None;
        let file = TurnFile::of(self.ground.store.layout());
        match file.clear().and_then(|()| file.refill()) {
            Ok(()) => self.kept = None,
            // It is known at the next start that it has begun.
            Err(error) => tracing::warn!(SLOTD_APP = self.name(), "the record of {begun} stays: {}", error.fault()),
        }
    }

    /// Takes up what waited when slotd ended. `known` are the deployments that have an intent.
    pub(super) async fn take_up(&mut self, known: &[DeploymentId]) {
        let begun = known.iter().map(|id| id.number).max().unwrap_or_default();
        let file = TurnFile::of(self.ground.store.layout());
        if let Err(error) = file.refill() {
            tracing::warn!(SLOTD_APP = self.name(), "no room is kept for the next word of an operator: {error}");
        }
        let turn = match file.read() {
            Ok(Some(turn)) => turn,
            Ok(None) => return,
            Err(error) => {
                let told =
                    format!("what waited for its turn can't be read and is forgotten: {}", error.fault().message);
                tracing::error!(SLOTD_APP = self.name(), "{told}");
                self.unkept = Some(Fault::new(error.fault().code, told));
                return;
            }
        };
        let Turn { report, word, ahead, last, .. } = turn;
        // Numbers begin in their order, but for those that had a time of their own.
        let is_past = |id: &DeploymentId| match report.scheduled {
            None => id.number <= begun,
            Some(_) => known.contains(id),
        };
        let id = report.id.clone();
        self.number = self.number.max(id.number);
        self.kept = Some(id.clone());
        let history = self.ground.shared.history.clone();
        if report.ended.is_some() {
            // A kill just after its end leaves the history without it.
            let _ = history.record(&report).await;
            if last && !is_past(&id) {
                self.last = Some(report);
            }
            return;
        }
        let past = history.deployment(&id).await.ok().flatten();
        if is_past(&id) || past.is_some_and(|past| past.ended.is_some()) {
            self.unkeep(&id);
            return;
        }
        tracing::info!(
            SLOTD_APP = self.name(),
            SLOTD_DEPLOYMENT = id.to_string(),
            "{id} to {}, which {} asked for, has waited over the restart",
            report.to,
            report.by
        );
        self.queued = Some(Wanted { report, word, ahead });
    }
}
