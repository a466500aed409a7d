//! What an app's task answers: the verbs of operators, and what follows from them.

use std::time::Duration;

use crate::config::app::{DeployMode, OnCrashLoop};
use crate::control::api::{
    Accepted, ActivateRequest, ApiError, EventKind, PruneItem, Pruned, RollbackRequest, Uploaded,
};
use crate::control::service::Caller;
use crate::deployment::{Verb, points};
use crate::model::deployment::{Blame, Ended, Kind};
use crate::model::{AppState, Code, Fault, Outcome, Report, SlotName, State, Timestamp};
use crate::slots::{Entry, KeepInputs, Published, SlotError, SlotStore, Stored, keep_set};
use crate::units::UnitControl;

use super::app::{App, Bearer, Intake, Work};
use super::ask::{Answer, Ask, View};
use super::choose::{self, Ready, Rules};
use super::deploy::{Wanted, new_report};
use super::intake::{Job, Source};

impl<U: UnitControl> App<U> {
    pub(super) async fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::View(answer) => {
                let _ = answer.send(self.view());
            }
            Ask::Upload(path, query, caller, answer) => {
                let job = Job {
                    source: Source::Upload(path),
                    file: query.file,
                    version: query.version,
                    sha256: query.sha256,
                    by: caller.name,
                    message: query.message,
                };
                self.intake.push_back(Intake { job, from: Bearer::Caller(answer) });
            }
            Ask::Activate(request, caller, answer) => {
                let result = self.activate(request, &caller).await;
                let _ = answer.send(result);
            }
            Ask::Rollback(request, caller, answer) => {
                let result = self.rollback(request, &caller).await;
                let _ = answer.send(result);
            }
            Ask::Cancel(caller, answer) => self.cancel(caller, answer),
            Ask::Prune { dry_run, caller, answer } => self.prune(dry_run, &caller, answer),
            Ask::Clear(slot, caller, answer) => {
                let _ = answer.send(self.clear(&slot, &caller));
            }
            Ask::Settings(settings) => self.set(settings),
            Ask::Orphan => self.orphaned = true,
        }
    }

    fn view(&self) -> View {
        let deployment = match &self.work {
            Work::Deploying(running) => running.shown.borrow().clone(),
            Work::Nothing | Work::Pruning(..) => self.queued.as_ref().map(|wanted| wanted.report.clone()),
        };
        View {
            settings: self.ground.settings.clone(),
            store: self.ground.store.clone(),
            orphaned: self.orphaned,
            deployment,
            last: self.last.clone(),
            crash_loop: self.live.looping.clone(),
            waiting: self.waiting(),
            refused: self.refused(),
            faults: self.fault.iter().chain(self.inbox.problem()).cloned().collect(),
            notes: vec!["accepts unsigned artifacts from whoever can write to its inbox".into()],
        }
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

    /// The release that goes live by itself, if one does.
    pub(super) fn automatic(&self) -> Result<Option<SlotName>, Fault> {
        if self.orphaned {
            return Ok(None);
        }
        self.with_rules(|ready, rules| choose::automatic(ready, rules).cloned())
    }

    fn with_rules<T>(&self, look: impl FnOnce(&[Ready], &Rules<'_>) -> T) -> Result<T, Fault> {
        let ready = self.ready()?;
        let mark = self.ground.store.mark().map_err(|error| error.fault())?;
        let current = self.ground.current();
        let rules = Rules {
            deploy: self.ground.settings.deploy,
            order: self.ground.settings.versions,
            mark: mark.as_ref().map(|mark| &mark.highest),
            current: current.as_ref(),
        };
        Ok(look(&ready, &rules))
    }

    /// What came of an upload: the deployment that brings it live, or why none does.
    pub(super) fn uploaded(&mut self, published: &Published, by: &str, message: Option<String>) -> Uploaded {
        let (record, known) = match published {
            Published::New(record) => (record, false),
            Published::Known(record) => (record, true),
        };
        let slot = record.slot.clone();
        self.choose_for(by, Some((&slot, message)));
        let queued = self.queued.as_ref().map(|wanted| &wanted.report).filter(|report| report.to == slot);
        let running = match &self.work {
            Work::Deploying(running) if running.slots.last() == Some(&slot) => Some(running.id.clone()),
            _ => None,
        };
        let deployment = queued.map(|report| report.id.clone()).or(running);
        let not_live = match deployment {
            Some(_) => None,
            None => self
                .with_rules(|ready, rules| choose::why_not(&slot, ready, rules))
                .ok()
                .flatten()
                .map(|why| why.to_string()),
        };
        Uploaded { slot, known, deployment, not_live }
    }

    async fn activate(&mut self, request: ActivateRequest, caller: &Caller) -> Result<Accepted, ApiError> {
        let ActivateRequest { slot, message, force } = request;
        self.check_target(&slot, force)?;
        if self.ground.current().as_ref() == Some(&slot) && !self.is_deploying() {
            return Ok(Accepted::Unchanged { current: slot });
        }
        self.check_idle()?;
        Ok(self.accept(Kind::Deploy, slot, caller, message).await)
    }

    async fn rollback(&mut self, request: RollbackRequest, caller: &Caller) -> Result<Accepted, ApiError> {
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
        self.check_idle()?;
        Ok(self.accept(Kind::Rollback, target, caller, request.message).await)
    }

    /// Whether `slot` can be made live at all.
    fn check_target(&self, slot: &SlotName, force: bool) -> Result<(), ApiError> {
        if self.orphaned {
            return Err(ApiError::new(Code::UnknownApp, format!("the settings file of {} is gone", self.name()))
                .next(format!("restore /etc/slotd/apps/{}.toml", self.name())));
        }
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
            _ => Ok(()),
        }
    }

    fn check_idle(&self) -> Result<(), ApiError> {
        let in_the_way = match (&self.work, &self.queued, &self.fault) {
            (_, _, Some(fault)) => return Err(fault.clone().into()),
            (Work::Deploying(running), _, _) => running.id.clone(),
            (_, Some(wanted), _) => wanted.report.id.clone(),
            (Work::Nothing | Work::Pruning(..), None, None) => return Ok(()),
        };
        Err(ApiError::new(Code::RequestBusy, format!("deployment {in_the_way} is in the way")).next(format!(
            "slotctl status {}; slotctl cancel {}",
            self.name(),
            self.name()
        )))
    }

    async fn accept(&mut self, kind: Kind, slot: SlotName, caller: &Caller, message: Option<String>) -> Accepted {
        let bound = match kind {
            Kind::Deploy => None,
            Kind::Rollback => self.bound(&slot).await,
        };
        let id = self.next_id();
        self.queue(Wanted { report: new_report(id.clone(), kind, slot, &caller.name, message) });
        Accepted::Deployment { id, kind, bound }
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

    fn is_deploying(&self) -> bool {
        matches!(self.work, Work::Deploying(_)) || self.queued.is_some()
    }

    fn cancel(&mut self, caller: Caller, answer: Answer<Accepted>) {
        if let Some(Wanted { report }) = self.queued.take() {
            let id = report.id.clone();
            let fault = Fault::new(Code::Cancelled, format!("cancelled by {} before it began", caller.name));
            self.end_unbegun(report, Outcome::Cancelled, fault, Blame::Operator);
            let _ = answer.send(Ok(Accepted::Deployment { id, kind: Kind::Deploy, bound: None }));
            return;
        }
        let Work::Deploying(running) = &self.work else {
            let error =
                ApiError::new(Code::UnknownDeployment, format!("no deployment of {} is under way", self.name()));
            let _ = answer.send(Err(error.next(format!("slotctl history {}", self.name()))));
            return;
        };
        let (id, verbs) = (running.id.clone(), running.verbs.clone());
        let kind = running.shown.borrow().as_ref().map_or(Kind::Deploy, |report| report.kind);
        tokio::spawn(async move {
            let (told, heard) = tokio::sync::oneshot::channel();
            let sent = verbs.send(Verb::Cancel { by: caller.name, answer: told }).await;
            let result = match (sent, heard.await) {
                (Ok(()), Ok(Ok(()))) => Ok(Accepted::Deployment { id, kind, bound: None }),
                (Ok(()), Ok(Err(refused))) => {
                    Err(ApiError::new(Code::RequestBusy, format!("{id} can't be cancelled: {refused}")))
                }
                _ => Err(ApiError::new(Code::UnknownDeployment, format!("{id} has ended meanwhile"))),
            };
            let _ = answer.send(result);
        });
    }

    fn clear(&mut self, slot: &SlotName, caller: &Caller) -> Result<(), ApiError> {
        let cleared = self.ground.store.clear_quarantine(slot).map_err(|error| error.fault())?;
        match cleared {
            true => {
                tracing::info!(
                    SLOTD_APP = self.name(),
                    SLOTD_SLOT = slot.to_string(),
                    "{} lifts the quarantine of {slot}",
                    caller.name
                );
                Ok(())
            }
            false => Err(ApiError::new(Code::UnknownSlot, format!("{slot} of {} isn't quarantined", self.name()))
                .next(format!("slotctl quarantine list {}", self.name()))),
        }
    }

    fn prune(&mut self, dry_run: bool, caller: &Caller, answer: Answer<Pruned>) {
        if dry_run {
            let ground = self.ground.clone();
            let wanted = self.wanted_slots();
            tokio::spawn(async move {
                let running = running_slots(&ground).await;
                let inputs = inputs(&ground.store, &ground.settings, running, &wanted);
                let _ =
                    answer.send(inputs.map(|inputs| shown(&inputs, Vec::new())).map_err(|error| error.fault().into()));
            });
            return;
        }
        if let Err(error) = self.check_idle() {
            let _ = answer.send(Err(error));
            return;
        }
        if matches!(self.work, Work::Pruning(..)) {
            let error = ApiError::new(Code::RequestBusy, "a prune is under way already");
            let _ = answer.send(Err(error));
            return;
        }
        tracing::info!(SLOTD_APP = self.name(), "{} prunes", caller.name);
        self.begin_prune(Some(answer));
    }

    /// After a deployment what retention doesn't keep goes by itself.
    pub(super) fn prune_quietly(&mut self) {
        if matches!(self.work, Work::Nothing) && self.queued.is_none() && !self.orphaned {
            self.begin_prune(None);
        }
    }

    fn begin_prune(&mut self, answer: Option<Answer<Pruned>>) {
        let (ground, wanted) = (self.ground.clone(), self.wanted_slots());
        let task = tokio::spawn(async move {
            let running = running_slots(&ground).await.ok_or_else(|| {
                Fault::new(Code::UnitControl, "systemd doesn't tell what runs, so nothing is removed")
            })?;
            let pruned = tokio::task::spawn_blocking(move || {
                points::pass(points::Side::Before, "prune");
                let look = || inputs(&ground.store, &ground.settings, Some(running.clone()), &wanted);
                let before = look().map_err(|error| error.fault())?;
                let pruned = ground.store.prune(look).map_err(|error| error.fault())?;
                points::pass(points::Side::After, "prune");
                let warnings = pruned.warnings.iter().map(ToString::to_string).collect();
                Ok(shown(&before, warnings))
            })
            .await;
            pruned.unwrap_or_else(|error| Err(Fault::new(Code::Internal, format!("the prune was torn: {error}"))))
        });
        self.work = Work::Pruning(task, answer);
    }

    pub(super) fn pruned(&mut self, result: Result<Result<Pruned, Fault>, tokio::task::JoinError>) {
        let Work::Pruning(_, answer) = std::mem::replace(&mut self.work, Work::Nothing) else { return };
        let result =
            result.unwrap_or_else(|error| Err(Fault::new(Code::Internal, format!("the prune was torn: {error}"))));
        match &result {
            Ok(pruned) => {
                for item in pruned.slots.iter().filter(|item| !item.kept) {
                    tracing::info!(
                        SLOTD_APP = self.name(),
                        SLOTD_SLOT = item.slot.to_string(),
                        "{} is removed: {}",
                        item.slot,
                        item.reason
                    );
                }
                for warning in &pruned.warnings {
                    tracing::warn!(SLOTD_APP = self.name(), "prune: {warning}");
                }
            }
            Err(fault) => tracing::warn!(SLOTD_APP = self.name(), "prune: {fault}"),
        }
        if let Some(answer) = answer {
            let _ = answer.send(result.map_err(ApiError::from));
        }
    }

    /// A queued deployment whose place was taken.
    pub(super) fn supersede(&mut self, report: Report) {
        let fault = Fault::new(Code::Superseded, "a newer release took its place in the queue");
        self.end_unbegun(report, Outcome::Superseded, fault, Blame::Operator);
    }

    /// A deployment that couldn't even be announced.
    pub(super) fn refused_at_once(&mut self, report: Report, fault: Fault) {
        tracing::error!(
            SLOTD_APP = self.name(),
            SLOTD_DEPLOYMENT = report.id.to_string(),
            "{} is refused: {fault}",
            report.id
        );
        self.end_unbegun(report, Outcome::Failed, fault, Blame::Environment);
    }

    fn end_unbegun(&mut self, report: Report, outcome: Outcome, fault: Fault, blame: Blame) {
        let ended = Ended {
            outcome,
            fault: Some(fault),
            blame: Some(blame),
            at: Timestamp::now(),
            next: None,
            warnings: Vec::new(),
        };
        let report = Report { state: State::Done, ended: Some(ended), ..report };
        self.tell(&report);
        let history = self.ground.shared.history.clone();
        tokio::spawn(async move {
            if let Err(error) = history.record(&report).await {
                tracing::warn!("the history lacks {}: {error}", report.id);
            }
        });
    }

    /// Watches the units of what is live now.
    pub(super) async fn watch_live(&mut self) {
        let units = match self.ground.current().map(|slot| self.ground.side(&slot)) {
            Some(Ok(side)) => side.unit_names(),
            _ => Vec::new(),
        };
        let rule = self.ground.settings.crash_loop;
        self.live.set(&units, &rule).await;
    }

    /// A unit of the live slot changed.
    pub(super) async fn live_changed(&mut self) {
        let rule = self.ground.settings.crash_loop;
        if !self.live.look(&rule).await {
            return;
        }
        match self.live.looping.clone() {
            Some(fault) => {
                tracing::error!(SLOTD_APP = self.name(), "the live slot crash-loops: {fault}");
                self.event(EventKind::App { state: AppState::Degraded { fault: Box::new(fault) } });
                if self.ground.settings.on_crash_loop == OnCrashLoop::Rollback && self.check_idle().is_ok() {
                    let by = Caller { uid: 0, name: "automatic".into() };
                    let message = Some("the live slot crash-loops".into());
                    if let Err(error) =
                        self.rollback(RollbackRequest { message, ..RollbackRequest::default() }, &by).await
                    {
                        tracing::error!(SLOTD_APP = self.name(), "the crash loop can't be left: {error}");
                    }
                }
            }
            None => {
                tracing::info!(SLOTD_APP = self.name(), "the live slot stays up again");
                self.event(EventKind::App { state: AppState::Online });
            }
        }
    }

    /// Whether releases go live by themselves, for `status`.
    pub fn deploy_mode(mode: DeployMode) -> &'static str {
        match mode {
            DeployMode::Automatic => "automatic",
            DeployMode::Manual => "manual",
        }
    }
}

/// What the keep-set depends on, as it is now.
fn inputs(
    store: &SlotStore,
    settings: &crate::config::AppSettings,
    running: Option<Vec<SlotName>>,
    wanted: &[SlotName],
) -> Result<KeepInputs, SlotError> {
    let inputs = store.keep_inputs(settings.keep, settings.versions)?;
    Ok(KeepInputs { running: running.unwrap_or_default(), queued: wanted.to_vec(), ..inputs })
}

fn shown(inputs: &KeepInputs, warnings: Vec<String>) -> Pruned {
    let set = keep_set(inputs);
    let item = |verdict: &crate::slots::keep::Verdict| PruneItem {
        slot: verdict.slot.clone(),
        kept: verdict.reason.keeps(),
        reason: set.bars(&verdict.slot).unwrap_or_else(|| verdict.reason.to_string()),
    };
    Pruned { slots: set.verdicts().iter().map(item).collect(), warnings }
}

/// The slots of which a unit isn't down; `None` if systemd doesn't tell.
async fn running_slots<U: UnitControl>(ground: &super::deploy::Ground<U>) -> Option<Vec<SlotName>> {
    let templates: Vec<_> = ground.settings.units.iter().map(|unit| unit.name.clone()).collect();
    let patterns: Vec<String> = templates.iter().map(|template| format!("{template}*.service")).collect();
    let mut slots = Vec::new();
    for unit in ground.shared.units.list(&patterns).await.ok()? {
        let instance = templates.iter().find_map(|template| template.instance_of(&unit));
        if let Some(instance) = instance
            && !ground.shared.units.status(&unit).await.ok()?.is_down()
        {
            slots.push(instance.slot);
        }
    }
    Some(slots)
}
