//! What an app's task answers: the verbs of operators.

use std::time::Duration;

use crate::config::keys;
use crate::control::api::{Accepted, ActivateRequest, ApiError, RollbackRequest};
use crate::control::service::Caller;
use crate::deployment::facts::Plan;
use crate::deployment::{Refused, Said};
use crate::model::deployment::{Blame, Ended, Kind, Otherwise, Reroute, Say};
use crate::model::{self, Code, Fault, Outcome, Report, SlotName, State, StrategyName, Timestamp};
use crate::units::UnitControl;

use super::ahead::Ahead;
use super::app::{App, Work};
use super::ask::{Answer, Ask};
use super::deploy::{Wanted, Word, new_report};
use super::intake::{Job, Source};
use super::intake_queue::{Bearer, Intake};
use super::orphan::settings_are_gone;
use super::queue::ended;
use super::verbs::Verb;

/// How long systemd may take to tell the units' limits before a rollback is accepted without its bound.
const BOUND_PATIENCE: Duration = Duration::from_secs(2);

impl<U: UnitControl> App<U> {
    pub(super) async fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::View(answer) => {
                let _ = answer.send(self.view());
            }
            Ask::Upload(path, query, caller, answer) => {
                if let Err(error) = self.check_upload(query.strategy) {
                    let _ = crate::durable::remove_file(&path);
                    let _ = answer.send(Err(error));
                    return;
                }
                let otherwise = Otherwise { strategy: query.strategy, migration: query.migration };
                let ahead = if query.without_dependencies { Ahead::Nothing } else { Ahead::Staged };
                let job = Job {
                    source: Source::Upload(path),
                    file: query.file,
                    version: query.version,
                    sha256: query.sha256,
                    by: caller.name,
                    message: query.message,
                };
                self.intake.push_back(Intake { job, from: Bearer::Caller(answer, otherwise, ahead) });
            }
            Ask::Activate(request, caller, answer) => {
                let result = self.activate(request, &caller).await;
                let _ = answer.send(result);
            }
            Ask::Rollback(request, caller, answer) => match self.undoable(request.to.as_ref()) {
                Some(to) => self.say((Say::Cancel, request.message), caller, answer, Some(to)),
                None => {
                    let result = self.rollback(request, &caller).await;
                    let _ = answer.send(result);
                }
            },
            Ask::GoesNext(answer) => {
                // One that can't be told isn't brought up either.
                let _ = answer.send(self.goes_next().unwrap_or_default());
            }
            Ask::Scale(request, caller, answer) => {
                let result = self.scale(request, &caller).await;
                let _ = answer.send(result);
            }
            Ask::Say(Say::Cancel, message, caller, answer) => self.cancel(message, caller, answer),
            Ask::Say(say, message, caller, answer) => self.say((say, message), caller, answer, None),
            Ask::Retry(request, caller, answer) => {
                let result = self.try_again(request, &caller).await;
                let _ = answer.send(result);
            }
            Ask::Prune { query, caller, answer } => self.prune(query, &caller, answer),
            Ask::Pin(request, caller, answer) => {
                let _ = answer.send(self.pin(request, &caller));
            }
            Ask::Unpin(request, caller, answer) => {
                let _ = answer.send(self.unpin(request, &caller));
            }
            Ask::Clear(slot, message, caller, answer) => {
                let _ = answer.send(self.clear(&slot, message, &caller));
            }
            Ask::Freeze(request, caller, answer) => {
                let _ = answer.send(self.freeze(request, &caller));
            }
            Ask::Unfreeze(caller, answer) => {
                let _ = answer.send(self.unfreeze(&caller));
            }
            // It is done before anything begins.
            Ask::Look => {}
            Ask::Staged(answer) => {
                self.look_at_build().await;
                let _ = answer.send(self.staged().map_err(Into::into));
            }
            Ask::Prepare(..) | Ask::DeployStaged(..) | Ask::GoAhead(..) => self.asked_once_built(ask).await,
            Ask::Redeploy(request, caller, answer) => {
                let result = self.redeploy(request, &caller).await;
                let _ = answer.send(result);
            }
            Ask::Set(request, caller, answer) => {
                let result = self.set_key(request, &caller).await;
                let _ = answer.send(result);
            }
            Ask::Settings { file, settings, rescan } => self.set(file, settings, rescan),
            Ask::Orphan => self.orphan(),
        }
    }

    async fn activate(&mut self, request: ActivateRequest, caller: &Caller) -> Result<Accepted, ApiError> {
        self.check_target(&request.slot, request.force)?;
        if let Some(at) = request.at {
            if request.plan.is_some() {
                let message = "a plan is carried out as it stands now: it can't be bound to a time to come";
                return Err(ApiError::new(Code::RequestInvalid, message));
            }
            return self.schedule(request, at, caller);
        }
        let ActivateRequest { slot, message, force, strategy, migration, without_dependencies, plan, at: _ } = request;
        if self.ground.current().as_ref() == Some(&slot) && !self.is_deploying() {
            return Ok(Accepted::Unchanged { current: slot });
        }
        self.check_pause()?;
        if !force {
            self.check_freeze(Some(&slot))?;
        }
        self.admit(Verb::Activate)?;
        self.check_plan(plan.as_deref(), &slot, Otherwise { strategy, migration }).await?;
        let ahead = if without_dependencies { Ahead::Nothing } else { Ahead::Staged };
        self.accept(Kind::Deploy, slot, caller, message, Otherwise { strategy, migration }, ahead).await
    }

    pub(super) async fn rollback(&mut self, request: RollbackRequest, caller: &Caller) -> Result<Accepted, ApiError> {
        let links = self.ground.store.links().map_err(|error| error.fault())?;
        let current = links.current.slot().cloned();
        let target = match request.to {
            Some(slot) => slot,
            None => links.fallback.slot().cloned().ok_or_else(|| {
                ApiError::new(Code::NothingToGoBackTo, format!("{} has no fallback", self.name())).next(format!(
                    "slotctl list {}; slotctl rollback {} --to VERSION",
                    self.name(),
                    self.name()
                ))
            })?,
        };
        if current.is_none() {
            return Err(ApiError::new(Code::NothingToGoBackTo, format!("nothing of {} is live", self.name())));
        }
        self.check_target(&target, request.force)?;
        if current.as_ref() == Some(&target) && !self.is_deploying() {
            return Ok(Accepted::Unchanged { current: target });
        }
        self.check_pause()?;
        self.admit(Verb::Rollback)?;
        self.accept(Kind::Rollback, target, caller, request.message, Otherwise::default(), Ahead::Nothing).await
    }

    /// Refuses what needs the app to itself while something is under way.
    pub(super) fn admit(&self, verb: Verb) -> Result<(), ApiError> {
        if verb.needs_rest() { self.check_idle() } else { Ok(()) }
    }

    /// Whether an artifact can be taken in at all: nobody is left waiting for one that can't.
    fn check_upload(&self, strategy: Option<StrategyName>) -> Result<(), ApiError> {
        self.check_settings()?;
        Plan::check(&self.ground.settings, strategy)?;
        self.barred().map_or(Ok(()), |fault| Err(fault.clone().into()))
    }

    pub(super) fn check_settings(&self) -> Result<(), ApiError> {
        if self.orphaned { Err(settings_are_gone(self.name())) } else { Ok(()) }
    }

    /// Whether `slot` can be made live at all.
    pub(super) fn check_target(&self, slot: &SlotName, force: bool) -> Result<(), ApiError> {
        self.check_settings()?;
        let entry = self.ground.store.slot(slot).ok_or_else(|| {
            ApiError::new(Code::UnknownSlot, format!("{} has no slot {slot}", self.name()))
                .next(format!("slotctl list {}", self.name()))
        })?;
        self.ground.store.record(slot).map_err(|error| error.fault())?;
        match entry.quarantine {
            Some(quarantine) if !force => Err(ApiError::new(
                Code::ReleaseQuarantined,
                format!("{slot} is quarantined since {}: {}", quarantine.at, quarantine.fault),
            )
            .next(format!(
                "slotctl why {}; slotctl activate {} {slot} --force",
                quarantine.deployment,
                self.name()
            ))),
            _ if force => Ok(()),
            _ => self.check_data(slot),
        }
    }

    /// Whether the data still has a form that `slot` knows.
    fn check_data(&self, slot: &SlotName) -> Result<(), ApiError> {
        let order = self.ground.settings.versions;
        let Some(broken) = self.ground.store.barred_by(slot, order).map_err(|error| error.fault())? else {
            return Ok(());
        };
        let message = format!(
            "the data has had the form of {} since {} ({}), which {slot} doesn't know",
            broken.slot, broken.at, broken.deployment
        );
        let next = format!("restore the data, then slotctl activate {} {slot} --force", self.name());
        Err(ApiError::new(Code::ReleaseBarred, message).next(next))
    }

    pub(super) async fn accept(
        &mut self,
        kind: Kind,
        slot: SlotName,
        caller: &Caller,
        message: Option<String>,
        otherwise: Otherwise,
        ahead: Ahead,
    ) -> Result<Accepted, ApiError> {
        // What can't be is said now, and not by a deployment that fails at once.
        self.ground.plan(otherwise, kind, &slot)?;
        self.accept_by(kind, slot, (caller, message), otherwise, ahead, None).await
    }

    /// The same, where users come another way by it.
    pub(super) async fn accept_by(
        &mut self,
        kind: Kind,
        slot: SlotName,
        (caller, message): (&Caller, Option<String>),
        otherwise: Otherwise,
        ahead: Ahead,
        reroute: Option<Reroute>,
    ) -> Result<Accepted, ApiError> {
        let bound = match kind {
            Kind::Deploy => None,
            Kind::Rollback => tokio::time::timeout(BOUND_PATIENCE, self.bound(&slot)).await.ok().flatten(),
        };
        let id = self.next_id();
        let Otherwise { strategy, migration } = otherwise;
        let report = new_report(id.clone(), kind, slot, &caller.name, message);
        let report = Report { strategy, migration, reroute, ..report };
        self.queue(Wanted { report, word: Word::Operators, ahead });
        Ok(Accepted::Deployment { id, kind, bound, dependencies: Vec::new() })
    }

    /// The longest that going back to `slot` may take, by the units' own limits; `None` if one has no limit, or systemd
    /// doesn't tell.
    async fn bound(&self, slot: &SlotName) -> Option<String> {
        let units = &self.ground.shared.units;
        let (mut stop, mut start) = (Duration::ZERO, Duration::ZERO);
        for unit in self.ground.side(&self.ground.current()?).ok()?.unit_names() {
            stop += units.status(&unit).await.ok()?.stop_limit?;
        }
        for unit in self.ground.side(slot).ok()?.unit_names() {
            start += units.status(&unit).await.ok()?.start_limit?;
        }
        let prove = self.ground.settings.proof.deadline;
        let text = humantime::format_duration;
        Some(format!(
            "{}: stop {}, start {}, answer {}",
            text(stop + start + prove),
            text(stop),
            text(start),
            text(prove)
        ))
    }

    fn cancel(&mut self, message: Option<String>, caller: Caller, answer: Answer<Accepted>) {
        let waits = self.queued.take().map(|wanted| wanted.report);
        let is_due = self.retry_at.is_some() && !matches!(self.work, Work::Deploying(_));
        if let Some(report) = waits.or_else(|| is_due.then(|| self.next_try()).flatten()) {
            let _ = answer.send(self.cancel_unbegun(report, message, &caller));
            return;
        }
        let is_deploying = matches!(self.work, Work::Deploying(_));
        if let Some(result) = (!is_deploying).then(|| self.unschedule(&caller)).flatten() {
            let _ = answer.send(result);
            return;
        }
        let because = message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
        let answer = match is_deploying {
            true => answer,
            false => match self.cancel_intake(&format!("{}{because}", caller.name), answer) {
                Ok(()) => return,
                Err(answer) => answer,
            },
        };
        self.say((Say::Cancel, message), caller, answer, None);
    }

    /// The slot that serves again if the deployment under way is undone, where its own slot is live already and that way
    /// back is the one that is wanted: to whoever goes back, what is only watched is live.
    fn undoable(&self, wanted: Option<&SlotName>) -> Option<SlotName> {
        let Work::Deploying(running) = &self.work else { return None };
        let report = running.shown.borrow().clone()?;
        let live = self.ground.current().as_ref() == Some(&report.to) && report.state != State::Reverting;
        let from = report.from.filter(|from| live && wanted.is_none_or(|wanted| wanted == from))?;
        // What waits would go live next, over whatever is undone: that has to be cancelled first.
        self.queued.is_none().then_some(from)
    }

    /// Passes a word on to the deployment under way. `back`: it was asked for that slot.
    fn say(
        &mut self,
        (say, message): (Say, Option<String>),
        caller: Caller,
        answer: Answer<Accepted>,
        back: Option<SlotName>,
    ) {
        let app = self.name();
        let Work::Deploying(running) = &self.work else {
            let error = match say {
                Say::Cancel => format!("no deployment of {app} is under way, waits, is tried again or scheduled"),
                Say::Promote | Say::Confirm => format!("no deployment of {app} is under way"),
            };
            let error = ApiError::new(Code::UnknownDeployment, error);
            let _ = answer.send(Err(error.next(format!("slotctl history {app}"))));
            return;
        };
        let (id, words) = (running.id.clone(), running.words.clone());
        let kind = running.shown.borrow().as_ref().map_or(Kind::Deploy, |report| report.kind);
        tokio::spawn(async move {
            let (told, heard) = tokio::sync::oneshot::channel();
            let sent = words.send(Said { say, by: caller.name, message, answer: told }).await;
            let result = match (sent, heard.await) {
                (Ok(()), Ok(Ok(()))) => Ok(match back {
                    Some(to) => Accepted::Undone { id, to },
                    None => Accepted::Deployment { id, kind, bound: None, dependencies: Vec::new() },
                }),
                (Ok(()), Ok(Err(refused))) => {
                    let error = ApiError::new(Refused::code(say), format!("{say} isn't heard by {id}: {refused}"));
                    Err(error.next(format!("slotctl status {}", id.app)))
                }
                _ => Err(ApiError::new(Code::UnknownDeployment, format!("{id} has ended meanwhile"))),
            };
            let _ = answer.send(result);
        });
    }

    /// Ends what waits for its turn, or the next try of what failed; it doesn't come back by itself, over a restart of
    /// slotd neither.
    fn cancel_unbegun(
        &mut self,
        mut report: Report,
        message: Option<String>,
        caller: &Caller,
    ) -> Result<Accepted, ApiError> {
        let (id, to) = (report.id.clone(), report.to.clone());
        let before = self.last.as_ref().filter(|_| report.attempt > 1).map(|last| last.id.clone());
        let by = caller.name.clone();
        report.said.push(model::deployment::Said { say: Say::Cancel, by, at: Timestamp::now(), message });
        self.retry_at = None;
        self.turn_down(&to);
        let (when, next) = match &before {
            Some(before) => (
                format!("before it was tried again, after {before} had failed"),
                Some(format!("slotctl why {before}; slotctl activate {} {to}", self.name())),
            ),
            None => ("before it began".to_owned(), None),
        };
        let fault = Fault::new(Code::Cancelled, format!("cancelled by {} {when}", caller.name));
        let ended = Ended { next, ..ended(Outcome::Cancelled, fault, Blame::Operator) };
        let report = self.end_unbegun(report, ended, before.is_some());
        if before.is_some() {
            // What is asked whether to try again is this, not what failed.
            self.last = Some(report);
        }
        match &self.unkept {
            Some(fault) => Err(fault.clone().into()),
            None => Ok(Accepted::Cancelled { id, to, again: before }),
        }
    }

    /// An operator cancelled `slot` before it was tried: it would be the next choice again, so the mark is raised to it,
    /// as if it had been.
    fn turn_down(&self, slot: &SlotName) {
        if !matches!(self.next_by_itself(), Ok(Some(chosen)) if chosen == *slot) {
            return;
        }
        self.pass_over(slot);
    }

    /// What is set, and `slot`, won't be chosen by itself.
    pub(super) fn pass_over(&self, slot: &SlotName) {
        let (order, inputs) = (self.ground.settings.versions, keys::inputs(&self.ground.settings));
        if let Err(error) = self.ground.store.raise_mark(&slot.version, order, Some(&inputs)) {
            tracing::warn!(SLOTD_APP = self.name(), "{slot} is cancelled and may be chosen again: {}", error.fault());
        }
    }
}
