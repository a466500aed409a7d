//! Which deployment comes next: the release that is chosen, the one place of the queue, and what is tried again.

use std::path::PathBuf;

use tokio::time::Instant;

use crate::config::app::DeployMode;
use crate::control::api::ApiError;
use crate::model::deployment::{Blame, Ended, Kind, Otherwise};
use crate::model::{Code, Fault, Outcome, Report, SlotName, State, Timestamp};
use crate::slots::{Entry, Stored};
use crate::units::UnitControl;

use super::ahead::Ahead;
use super::app::{App, Work};
use super::choose::{self, NotLive, Ready, Rules};
use super::deploy::{Wanted, Word, new_report};
use super::retry::{self, Retry};
use super::turn::Turn;

/// The release that somebody brought, and what they said with it.
pub(super) struct Brought<'a> {
    pub(super) slot: &'a SlotName,
    pub(super) message: Option<String>,
    pub(super) otherwise: Otherwise,
    pub(super) ahead: Ahead,
}

impl<U: UnitControl> App<U> {
    /// Lets the highest ready release above the mark go live, if there is one; it waits where something is under way.
    pub(super) fn choose(&mut self) {
        self.choose_for("automatic", None);
    }

    /// The same, on the word of whoever brought the newest release.
    pub(super) fn choose_for(&mut self, by: &str, brought: Option<Brought<'_>>) {
        if self.is_due()
            || self.is_left_open()
            || self.queued.as_ref().is_some_and(|wanted| wanted.word == Word::Operators)
        {
            return;
        }
        self.build_what_is_set();
        let chosen = match self.next_by_itself() {
            Ok(Some(chosen)) => chosen,
            Ok(None) => return,
            Err(fault) => {
                tracing::error!(SLOTD_APP = self.name(), "no release can be chosen: {fault}");
                return;
            }
        };
        let busy_with = match &self.work {
            Work::Deploying(running) => running.slots.last() == Some(&chosen),
            Work::Nothing | Work::Pruning(..) | Work::Clearing(_) => false,
        };
        if busy_with || self.queued.as_ref().is_some_and(|wanted| wanted.report.to == chosen) {
            return;
        }
        let brought = brought.filter(|brought| brought.slot.version == chosen.version);
        if brought.is_none() && self.was_tried_last(&chosen) {
            return;
        }
        let id = self.next_id();
        let (by, message, otherwise, word, ahead) = match brought {
            Some(Brought { message, otherwise, ahead, .. }) => (by, message, otherwise, Word::Bringers, ahead),
            None => ("automatic", None, Otherwise::default(), Word::Nobodys, Ahead::UnderWay),
        };
        let Otherwise { strategy, migration } = otherwise;
        let report = Report { strategy, migration, ..new_report(id, Kind::Deploy, chosen, by, message) };
        self.queue(Wanted { report, word, ahead });
    }

    /// Whether the last deployment was that of `slot`, in vain. It may have ended before it raised the mark (a masked
    /// unit, a full disk); it comes again after its pause, not at once and for ever.
    fn was_tried_last(&self, slot: &SlotName) -> bool {
        let ended = self.last.as_ref().filter(|last| last.to == *slot).and_then(|last| last.ended.as_ref());
        ended.is_some_and(|ended| ended.outcome != Outcome::Done)
    }

    /// The release that goes live by itself, if one does.
    pub(super) fn automatic(&self) -> Result<Option<SlotName>, Fault> {
        if self.orphaned {
            return Ok(None);
        }
        self.with_rules(|ready, rules| choose::automatic(ready, rules).cloned())
    }

    pub(super) fn with_rules<T>(&self, look: impl FnOnce(&[Ready], &Rules<'_>) -> T) -> Result<T, Fault> {
        let ready = self.ready()?;
        let mark = self.ground.store.mark().map_err(|error| error.fault())?;
        let current = self.ground.current();
        let paused = self.pause_mark();
        let pinned = self.ground.store.pinned(None).map_err(|error| error.fault())?;
        let frozen = self.ground.store.frozen();
        let rules = Rules {
            deploy: self.ground.settings.deploy,
            order: self.ground.settings.versions,
            mark: mark.as_ref().map(|mark| &mark.highest),
            current: current.as_ref(),
            paused: paused.as_deref(),
            pinned: pinned.as_ref(),
            frozen: frozen.as_ref(),
        };
        Ok(look(&ready, &rules))
    }

    /// The mark that tells the app to rest, if it is there.
    pub(super) fn pause_mark(&self) -> Option<PathBuf> {
        Some(self.ground.store.layout().paused()).filter(|mark| mark.exists())
    }

    /// Looks whether the app is told to rest; what waited for the end of that goes on.
    pub(super) fn notice_pause(&mut self) {
        let now = self.pause_mark().is_some();
        let before = std::mem::replace(&mut self.paused, now);
        if before && !now {
            self.choose();
        }
    }

    /// Refuses while the app is told to rest.
    pub(super) fn check_pause(&self) -> Result<(), ApiError> {
        let Some(mark) = self.pause_mark() else { return Ok(()) };
        let (app, mark) = (self.name(), mark.display());
        Err(ApiError::new(Code::AppPaused, format!("{app} is paused: it is told to rest by {mark}"))
            .next(format!("rm {mark}; systemctl start {app}.service")))
    }

    /// The slots that could go live.
    fn ready(&self) -> Result<Vec<Ready>, Fault> {
        let slots = self.ground.store.slots().map_err(|error| error.fault())?;
        let ready = |entry: Entry| match entry.stored {
            Stored::Slot(_) => Some(Ready { slot: entry.name, quarantined: entry.quarantine.is_some() }),
            Stored::Refused(_) | Stored::Damaged(_) => None,
        };
        Ok(slots.into_iter().filter_map(ready).collect())
    }

    /// Puts a deployment in the one place of the queue; what was there is superseded.
    pub(super) fn queue(&mut self, wanted: Wanted) {
        self.retry_at = None;
        self.tell(&wanted.report);
        if let Some(Wanted { report, .. }) = self.queued.take() {
            self.supersede(report);
        }
        if wanted.word != Word::Nobodys {
            self.keep(&Turn::waiting(&wanted));
        }
        self.queued = Some(wanted);
        self.share_wanted();
    }

    /// Refuses while a deployment is under way or queued, or recovery has not come to an end, naming what is in the way.
    pub(super) fn check_idle(&self) -> Result<(), ApiError> {
        let in_the_way = match (&self.work, &self.queued, self.barred()) {
            (_, _, Some(fault)) => return Err(fault.clone().into()),
            (Work::Deploying(running), _, _) => running.id.clone(),
            (_, Some(wanted), _) => wanted.report.id.clone(),
            (Work::Nothing | Work::Pruning(..) | Work::Clearing(_), None, None) => return Ok(()),
        };
        Err(ApiError::new(Code::RequestBusy, format!("deployment {in_the_way} is in the way")).next(format!(
            "slotctl status {}; slotctl cancel {}",
            self.name(),
            self.name()
        )))
    }

    pub(super) fn is_deploying(&self) -> bool {
        matches!(self.work, Work::Deploying(_)) || self.queued.is_some()
    }

    pub(super) fn plan_retry(&mut self) {
        self.retry_at = None;
        let Some(last) = self.last.as_ref().filter(|_| !self.is_held()) else { return };
        match retry::plan(last, crate::model::Timestamp::now()) {
            Retry::Never => {}
            Retry::In(delay) => self.retry_at = Some(Instant::now() + delay),
            Retry::Exhausted => tracing::error!(
                SLOTD_APP = self.name(),
                "{} was tried {} times; it now waits for `slotctl activate {} {}`",
                last.to,
                last.attempt,
                self.name(),
                last.to
            ),
        }
    }

    /// The next try of what ended last.
    pub(super) fn next_try(&mut self) -> Option<Report> {
        let last = self.last.clone()?;
        let again = new_report(self.next_id(), last.kind, last.to, &last.by, last.message);
        let (attempt, strategy, migration) = (last.attempt + 1, last.strategy, last.migration);
        Some(Report { attempt, strategy, migration, reroute: last.reroute, ..again })
    }

    pub(super) fn retry(&mut self) {
        self.retry_at = None;
        let Some(last) = &self.last else { return };
        if self.is_held() {
            return;
        }
        let gone = self.ground.store.record(&last.to).is_err();
        // What is under way or queued comes first, and what comes of it decides; a prune is only waited for.
        if gone || self.orphaned || self.ground.current().as_ref() == Some(&last.to) || self.is_deploying() {
            return;
        }
        let Some(report) = self.next_try() else { return };
        self.tell(&report);
        let ahead = match report.kind {
            Kind::Deploy => Ahead::UnderWay,
            Kind::Rollback => Ahead::Nothing,
        };
        self.queued = Some(Wanted { report, word: Word::Nobodys, ahead });
    }

    /// A queued deployment whose place was taken.
    fn supersede(&mut self, report: Report) {
        let fault = Fault::new(Code::Superseded, "a newer release took its place in the queue");
        self.end_unbegun(report, ended(Outcome::Superseded, fault, Blame::Operator), false);
    }

    /// A deployment that couldn't even be announced.
    pub(super) fn refused_at_once(&mut self, report: Report, fault: Fault) {
        tracing::error!(
            SLOTD_APP = self.name(),
            SLOTD_DEPLOYMENT = report.id.to_string(),
            "{} is refused: {fault}",
            report.id
        );
        let ended = ended(Outcome::Failed, fault, Blame::Environment);
        self.last = Some(self.end_unbegun(report, ended, true));
        self.plan_retry();
    }

    /// Ends a deployment that never began, for people, the history and the next start; returns how it stands. `last`: it
    /// decides whether something is tried again.
    pub(super) fn end_unbegun(&mut self, report: Report, ended: Ended, last: bool) -> Report {
        let report = Report { state: State::Done, ended: Some(ended), ..report };
        if last || self.kept.as_ref() == Some(&report.id) {
            self.keep(&Turn::over(&report, last));
        }
        self.record_ended(&report);
        report
    }

    /// Tells people and the history of one that ended without having begun.
    pub(super) fn record_ended(&self, report: &Report) {
        self.note_end(report);
        self.tell(report);
        let (history, kept) = (self.ground.shared.history.clone(), report.clone());
        tokio::spawn(async move {
            if let Err(error) = history.record(&kept).await {
                tracing::warn!("the history lacks {}: {error}", kept.id);
            }
        });
    }

    /// What would go live by itself if the app weren't told to rest, or to stay on what is live, or frozen, or deployed by
    /// hand; and what keeps it.
    pub(super) fn held_choice(&self) -> Option<(SlotName, NotLive)> {
        let by_hand = self.ground.settings.deploy == DeployMode::Manual;
        if self.pause_mark().is_none() && !self.is_held() && !by_hand {
            return None;
        }
        let held = self.with_rules(|ready, rules| {
            let chosen = choose::automatic(ready, &rules.free())?;
            Some((chosen.clone(), choose::why_not(chosen, ready, rules)?))
        });
        held.ok()?
    }

    /// The slots that somebody has plans with: an open or queued deployment, the next try, what waits for the end of a
    /// freeze or for its time, an intake.
    pub(super) fn wanted_slots(&self) -> Vec<SlotName> {
        let running = match &self.work {
            Work::Deploying(running) => running.slots.clone(),
            Work::Nothing | Work::Pruning(..) | Work::Clearing(_) => Vec::new(),
        };
        let queued = self.queued.iter().map(|wanted| wanted.report.to.clone());
        let again = self.last.iter().filter(|_| self.retry_at.is_some()).map(|last| last.to.clone());
        let scheduled = self.scheduled.iter().filter(|it| it.report.ended.is_none()).map(|it| it.report.to.clone());
        let held = self.held_choice().map(|(slot, _)| slot);
        let coming = self.taking.iter().filter_map(|taking| taking.slot.clone());
        running.into_iter().chain(queued).chain(again).chain(scheduled).chain(held).chain(coming).collect()
    }
}

/// How a deployment ends that never began.
pub(super) fn ended(outcome: Outcome, fault: Fault, blame: Blame) -> Ended {
    let (at, phase) = (Timestamp::now(), Some(State::Queued));
    Ended { outcome, fault: Some(fault), phase, blame: Some(blame), at, next: None, warnings: Vec::new() }
}
