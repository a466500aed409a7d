//! `activate --at`: an operator's word for a time to come, in `scheduled.json`.
//!
//! There is one place. Its deployment has the id that was told from the first; at its time, by the wall clock, it takes the
//! place of the queue like any other word of an operator. If slotd was down then, or the app frozen, it begins later, and
//! says so. What can't be at that time is refused then, and told like any end.

use std::time::Duration;

use crate::control::api::{Accepted, ActivateRequest, ApiError, WaitingItem};
use crate::control::service::Caller;
use crate::model::deployment::{Blame, Ended, Kind, Otherwise};
use crate::model::{Code, DeploymentId, Fault, Outcome, Report, State, Timestamp};
use crate::units::UnitControl;

use super::ahead::Ahead;
use super::app::App;
use super::deploy::{Wanted, Word, new_report};
use super::freeze::refusal;
use super::queue::ended;
use super::turn::{Turn, TurnFile};

/// How much later than wanted one may begin without being told to be late.
const LATE: Duration = Duration::from_secs(5);

/// What is wanted at a time to come.
pub(super) struct Scheduled {
    /// Its time is in there; and its end, if it was refused at that time.
    pub(super) report: Report,
    /// Also if it is quarantined by then, or the app frozen.
    pub(super) force: bool,
    /// What goes ahead of it then.
    pub(super) ahead: Ahead,
}

impl Scheduled {
    /// Its time, unless that has come to nothing.
    fn time(&self) -> Option<Timestamp> {
        self.report.scheduled.filter(|_| self.report.ended.is_none())
    }
}

impl<U: UnitControl> App<U> {
    /// Takes the word; whether the slot can be made live at all is known.
    pub(super) fn schedule(
        &mut self,
        request: ActivateRequest,
        at: Timestamp,
        caller: &Caller,
    ) -> Result<Accepted, ApiError> {
        let ActivateRequest { slot, message, force, strategy, migration, without_dependencies, .. } = request;
        let ahead = if without_dependencies { Ahead::Nothing } else { Ahead::Staged };
        if at <= Timestamp::now() {
            return Err(ApiError::new(Code::RequestInvalid, format!("{} is over already", at.to_the_second())));
        }
        if let Some((id, time)) = self.waits_for_its_time() {
            let message = format!("{id} is scheduled already, for {}", time.to_the_second());
            return Err(ApiError::new(Code::RequestBusy, message).next(format!("slotctl cancel {}", self.name())));
        }
        if let Some(freeze) = self.ground.store.frozen().filter(|freeze| !force && freeze.holds(at)) {
            return Err(refusal(self.name(), &freeze, None));
        }
        self.ground.plan(Otherwise { strategy, migration }, Kind::Deploy, &slot)?;
        let id = self.next_id();
        let report = new_report(id.clone(), Kind::Deploy, slot.clone(), &caller.name, message);
        let report = Report { strategy, migration, scheduled: Some(at), ..report };
        let written = self.schedule_file().write(&Turn::scheduled(&report, ahead, force));
        written.map_err(|error| error.fault())?;
        tracing::info!(
            SLOTD_APP = self.name(),
            SLOTD_DEPLOYMENT = id.to_string(),
            "{id} to {slot} is scheduled by {} for {}",
            caller.name,
            at.to_the_second()
        );
        self.tell(&report);
        self.scheduled = Some(Scheduled { report, force, ahead });
        self.share_wanted();
        Ok(Accepted::Scheduled { id, to: slot, at })
    }

    /// Takes the word back; `None` if there is none.
    pub(super) fn unschedule(&mut self, caller: &Caller) -> Option<Result<Accepted, ApiError>> {
        let scheduled = self.scheduled.take_if(|scheduled| scheduled.time().is_some())?;
        let (id, to) = (scheduled.report.id.clone(), scheduled.report.to.clone());
        let fault = Fault::new(Code::Cancelled, format!("cancelled by {} before its time", caller.name));
        let over = ended(Outcome::Cancelled, fault, Blame::Operator);
        Some(match self.end_scheduled(scheduled.report.clone(), over) {
            Ok(_) => Ok(Accepted::Cancelled { id, to, again: None }),
            Err(fault) => {
                self.scheduled = Some(scheduled);
                Err(fault.into())
            }
        })
    }

    /// Lets what is scheduled take its turn, if its time has come and nothing keeps it.
    pub(super) fn take_due(&mut self) {
        if !self.is_due() {
            return;
        }
        let Some(Scheduled { report, force, ahead }) = self.scheduled.take() else { return };
        let now = Timestamp::now();
        let report = Report { queued: now, ..report };
        if let Err(error) = self.can_begin(&report, force) {
            let (next, id) = (error.next.clone(), report.id.clone());
            tracing::error!(SLOTD_APP = self.name(), SLOTD_DEPLOYMENT = id.to_string(), "{id} is refused: {error}");
            let outcome = if error.fault.code == Code::Superseded { Outcome::Superseded } else { Outcome::Failed };
            let over = Ended { next, ..ended(outcome, *error.fault, Blame::Operator) };
            match self.end_scheduled(report, over) {
                Ok(report) => self.scheduled = Some(Scheduled { report, force, ahead }),
                Err(fault) => tracing::error!(SLOTD_APP = self.name(), "{id} is tried at the next start: {fault}"),
            }
            self.choose();
            return;
        }
        let late = report.scheduled.map(|at| at.until(now)).filter(|late| *late > LATE);
        if let Some(late) = late {
            tracing::warn!(
                SLOTD_APP = self.name(),
                SLOTD_DEPLOYMENT = report.id.to_string(),
                "{} begins {} late",
                report.id,
                humantime::format_duration(Duration::from_secs(late.as_secs()))
            );
        }
        let id = report.id.clone();
        self.queue(Wanted { report, word: Word::Operators, ahead });
        if self.unkept.is_none() {
            self.forget_schedule(&id);
        }
    }

    /// Whether what is scheduled takes its turn now. While an operator's word waits, or the app is frozen, has no settings
    /// or can't be brought in order, it doesn't yet.
    pub(super) fn is_due(&self) -> bool {
        let Some(scheduled) = &self.scheduled else { return false };
        let has_come = scheduled.time().is_some_and(|time| time <= Timestamp::now());
        let taken = self.queued.as_ref().is_some_and(|wanted| wanted.word == Word::Operators);
        let kept = self.orphaned || taken || self.barred().is_some();
        has_come && !kept && (scheduled.force || self.ground.store.frozen().is_none())
    }

    /// Whether a word for now would be heard.
    fn can_begin(&self, report: &Report, force: bool) -> Result<(), ApiError> {
        self.check_target(&report.to, force)?;
        if self.ground.current().as_ref() == Some(&report.to) {
            return Err(ApiError::new(Code::Superseded, format!("{} was live already", report.to)));
        }
        self.check_pause()?;
        let otherwise = Otherwise { strategy: report.strategy, migration: report.migration };
        self.ground.plan(otherwise, Kind::Deploy, &report.to)?;
        Ok(())
    }

    /// Takes up what was scheduled when slotd ended. `known` are the deployments that have an intent.
    pub(super) async fn take_up_scheduled(&mut self, known: &[DeploymentId]) {
        let file = self.schedule_file();
        if let Err(error) = file.refill() {
            tracing::warn!(SLOTD_APP = self.name(), "no room is kept for what is scheduled: {error}");
        }
        let turn = match file.read() {
            Ok(Some(turn)) => turn,
            Ok(None) => return,
            Err(error) => {
                let told = format!("what is scheduled can't be read, and doesn't begin: {}", error.fault().message);
                tracing::error!(SLOTD_APP = self.name(), "{told}");
                self.unread = Some(Fault::new(error.fault().code, told));
                return;
            }
        };
        let Turn { report, force, ahead, .. } = turn;
        let id = report.id.clone();
        self.number = self.number.max(id.number);
        let history = self.ground.shared.history.clone();
        if report.ended.is_some() {
            // A kill just after its end leaves the history without it.
            let _ = history.record(&report).await;
        }
        let past = history.deployment(&id).await.ok().flatten();
        let begun = known.contains(&id) || self.kept.as_ref() == Some(&id);
        if report.ended.is_none() && (begun || past.is_some_and(|past| past.ended.is_some())) {
            self.forget_schedule(&id);
            return;
        }
        self.scheduled = Some(Scheduled { report, force, ahead });
    }

    /// What is wanted, and when, if its time hasn't led to anything yet.
    fn waits_for_its_time(&self) -> Option<(&DeploymentId, Timestamp)> {
        let scheduled = self.scheduled.as_ref()?;
        Some((&scheduled.report.id, scheduled.time()?))
    }

    /// The next time of the calendar at which something is to be looked at.
    pub(super) fn alarm(&self) -> Option<Timestamp> {
        let thaw = self.frozen.as_ref().and_then(|freeze| freeze.until);
        // What is due and doesn't begin waits for something else.
        let due = self.waits_for_its_time().map(|(_, time)| time).filter(|time| *time > Timestamp::now());
        thaw.into_iter().chain(due).min()
    }

    /// What is scheduled, as people see it: what waits for its time; or what was refused at it, until something else ends.
    pub(super) fn shown_schedule(&self) -> Option<Report> {
        let report = &self.scheduled.as_ref()?.report;
        let end = |report: &Report| report.ended.as_ref().map(|ended| ended.at);
        let shown = match report.ended.as_ref() {
            None => true,
            Some(ended) if ended.outcome == Outcome::Failed => self.last.as_ref().and_then(end) <= Some(ended.at),
            Some(_) => false,
        };
        shown.then(|| report.clone())
    }

    pub(super) fn waiting_schedule(&self) -> Option<WaitingItem> {
        let (id, time) = self.waits_for_its_time()?;
        let report = &self.scheduled.as_ref()?.report;
        let (app, time_text) = (self.name(), time.to_the_second());
        let reason = match (&self.frozen, time > Timestamp::now()) {
            (_, true) => format!("{id}, by {}, begins at {time_text}, unless `slotctl cancel {app}`", report.by),
            (Some(freeze), false) => format!("{id}, by {}, was due at {time_text}; the app is {freeze}", report.by),
            (None, false) => format!("{id}, by {}, was due at {time_text}, and waits for its turn", report.by),
        };
        Some(WaitingItem { what: report.to.to_string(), reason })
    }

    /// Ends what is scheduled without having begun, durably.
    fn end_scheduled(&mut self, report: Report, ended: Ended) -> Result<Report, Fault> {
        let report = Report { state: State::Done, ended: Some(ended), ..report };
        self.schedule_file().write(&Turn::over(&report, false)).map_err(|error| error.fault())?;
        self.record_ended(&report);
        self.share_wanted();
        Ok(report)
    }

    fn forget_schedule(&self, id: &DeploymentId) {
        let file = self.schedule_file();
        if let Err(error) = file.clear().and_then(|()| file.refill()) {
            // It is known at the next start that it has begun.
            tracing::warn!(SLOTD_APP = self.name(), "the schedule of {id} stays: {}", error.fault());
        }
    }

    fn schedule_file(&self) -> TurnFile {
        TurnFile::scheduled(self.ground.store.layout())
    }
}
