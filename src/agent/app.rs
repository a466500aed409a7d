//! The task that owns one app.
//!
//! It alone starts deployments, takes artifacts in and removes slots, one thing of each kind at a time; everybody else
//! asks it. It never waits for any of them: what takes long runs in a task of its own, and its end is an event here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use crate::control::api::{EventKind, Pruned, RefusedItem, Uploaded, WaitingItem};
use crate::deployment::driver::Driven;
use crate::deployment::intent::IntentFile;
use crate::inbox::{self, Candidate, Inbox, InboxSettings};
use crate::model::deployment::Kind;
use crate::model::{Code, DeploymentId, Fault, Report, SlotName};
use crate::slots::Published;
use crate::units::UnitControl;

use super::ask::{Answer, Ask, View};
use super::deploy::{Ground, Running, Wanted, new_report};
use super::intake::{self, Job, Place, Refused, Source};
use super::retry::{self, Retry};
use super::watch::LiveWatch;

/// How long a file that couldn't be taken for the host's fault waits for its next try.
const INTAKE_RETRY: Duration = Duration::from_secs(10);

/// How long an intent that couldn't be brought to an end waits for the next try.
const RECOVERY_RETRY: Duration = Duration::from_secs(10);

/// Questions that may wait for the task.
const ASKS: usize = 64;

/// An app, as its task holds it.
pub struct App<U: UnitControl> {
    pub(super) ground: Ground<U>,
    pub(super) place: Place,
    pub(super) orphaned: bool,
    pub(super) inbox: Inbox,
    pub(super) work: Work,
    pub(super) queued: Option<Wanted>,
    pub(super) intake: VecDeque<Intake>,
    pub(super) taking: Option<Taking>,
    pub(super) last: Option<Report>,
    pub(super) number: u64,
    pub(super) retry_at: Option<Instant>,
    pub(super) recover_at: Option<Instant>,
    pub(super) live: LiveWatch<U>,
    pub(super) fault: Option<Fault>,
    rescan: Duration,
}

/// What is done to the slots: one thing at a time.
pub(super) enum Work {
    Nothing,
    Deploying(Box<Running>),
    Pruning(JoinHandle<Result<Pruned, Fault>>, Option<Answer<Pruned>>),
}

/// An artifact that waits for its turn.
pub(super) struct Intake {
    pub(super) job: Job,
    pub(super) from: Bearer,
}

/// Whom an intake's end concerns.
pub(super) enum Bearer {
    Inbox(Box<Candidate>),
    Caller(Answer<Uploaded>),
}

/// The artifact that is being taken in.
pub(super) struct Taking {
    pub(super) file: String,
    by: String,
    message: Option<String>,
    from: Bearer,
    task: JoinHandle<Result<Published, Refused>>,
}

/// A handle to an app's task.
#[derive(Clone)]
pub struct AppHandle {
    /// Its questions.
    pub asks: mpsc::Sender<Ask>,
}

impl AppHandle {
    /// How the app stands; `None` if its task is gone.
    pub async fn view(&self) -> Option<View> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask::View(answer)).await.ok()?;
        answered.await.ok()
    }
}

/// Starts the task of an app: it first goes on with what was left open.
pub fn spawn<U: UnitControl>(ground: Ground<U>, hub: inbox::WatchHub, rescan: Duration) -> (AppHandle, JoinHandle<()>) {
    let (asks, asked) = mpsc::channel(ASKS);
    let settings = InboxSettings::of(&ground.settings, rescan);
    let inbox = Inbox::new(ground.store.layout().inbox(), settings, hub, write_fate);
    let place = Place {
        settings: Arc::clone(&ground.settings),
        store: Arc::clone(&ground.store),
        worker: ground.shared.worker.clone(),
    };
    let live = LiveWatch::new(ground.shared.units.clone());
    let app = App {
        ground,
        place,
        orphaned: false,
        inbox,
        work: Work::Nothing,
        queued: None,
        intake: VecDeque::new(),
        taking: None,
        last: None,
        number: 0,
        retry_at: None,
        recover_at: None,
        live,
        fault: None,
        rescan,
    };
    (AppHandle { asks }, tokio::spawn(app.run(asked)))
}

/// What woke the task.
enum Woken {
    Asked(Ask),
    Closed,
    Dropped(inbox::Batch),
    TakenIn(Result<Result<Published, Refused>, JoinError>),
    Driven(Result<Driven, JoinError>),
    Pruned(Result<Result<Pruned, Fault>, JoinError>),
    Retry,
    Recover,
    Live,
}

impl<U: UnitControl> App<U> {
    async fn run(mut self, mut asked: mpsc::Receiver<Ask>) {
        self.begin().await;
        loop {
            match self.woken(&mut asked).await {
                Woken::Asked(ask) => self.asked(ask).await,
                Woken::Closed => return,
                Woken::Dropped(batch) => self.dropped(batch),
                Woken::TakenIn(result) => self.taken_in(result).await,
                Woken::Driven(result) => self.driven(result).await,
                Woken::Pruned(result) => self.pruned(result),
                Woken::Retry => self.retry(),
                Woken::Recover => self.recover().await,
                Woken::Live => self.live_changed().await,
            }
            self.go_on();
        }
    }

    async fn woken(&mut self, asked: &mut mpsc::Receiver<Ask>) -> Woken {
        let accepting = !self.orphaned && self.fault.is_none();
        tokio::select! {
            ask = asked.recv() => ask.map_or(Woken::Closed, Woken::Asked),
            end = end_of_work(&mut self.work) => end,
            result = end_of(&mut self.taking) => Woken::TakenIn(result),
            batch = self.inbox.next(), if accepting => Woken::Dropped(batch),
            () = at(self.retry_at) => Woken::Retry,
            () = at(self.recover_at) => Woken::Recover,
            () = self.live.changed() => Woken::Live,
        }
    }

    /// What was left open comes first; then what ended last may have to be tried again.
    async fn begin(&mut self) {
        let file = IntentFile::of(self.ground.store.layout());
        if let Err(error) = file.refill() {
            tracing::warn!(SLOTD_APP = self.name(), "no room is kept for the next intent: {error}");
        }
        let last = file.last().unwrap_or_else(|error| {
            tracing::warn!(SLOTD_APP = self.name(), "the record of the last deployment can't be read: {error}");
            None
        });
        let open = file.read().ok().flatten();
        let told = self.ground.shared.history.highest_number(&self.ground.settings.name).await.unwrap_or_default();
        let known = last.iter().chain(&open).map(|intent| intent.facts.id.number).max().unwrap_or_default();
        self.number = told.max(known);
        self.last = last.map(|intent| intent.report);
        if let Some(last) = &self.last {
            // A kill between the close and the history leaves this one out.
            let _ = self.ground.shared.history.record(last).await;
        }
        self.recover().await;
        self.plan_retry();
        self.watch_live().await;
        self.go_on();
    }

    async fn recover(&mut self) {
        self.recover_at = None;
        match self.ground.recover().await {
            Ok(Some(running)) => {
                self.fault = None;
                self.work = Work::Deploying(Box::new(running));
            }
            Ok(None) => self.fault = None,
            Err(fault) => {
                tracing::error!(SLOTD_APP = self.name(), "recovery: {fault}");
                self.fault = Some(fault);
                self.recover_at = Some(Instant::now() + RECOVERY_RETRY);
            }
        }
    }

    /// Begins what can begin now: the next intake, the queued deployment.
    fn go_on(&mut self) {
        if self.fault.is_some() {
            return;
        }
        if self.taking.is_none()
            && let Some(Intake { job, from }) = self.intake.pop_front()
        {
            let (place, turns) = (self.place.clone(), Arc::clone(&self.ground.shared.intakes));
            let (file, by, message) = (job.file.clone(), job.by.clone(), job.message.clone());
            let task = tokio::spawn(async move {
                // The semaphore is never closed.
                let _turn = turns.acquire_owned().await.ok();
                intake::take_in(&place, &job).await
            });
            self.taking = Some(Taking { file, by, message, from, task });
        }
        if matches!(self.work, Work::Nothing)
            && let Some(wanted) = self.queued.take()
        {
            self.start(wanted);
        }
    }

    pub(super) fn start(&mut self, wanted: Wanted) {
        self.retry_at = None;
        let report = wanted.report.clone();
        match self.ground.begin(wanted) {
            Ok(running) => {
                self.tell(&report);
                self.relay(&running);
                self.work = Work::Deploying(Box::new(running));
            }
            Err(fault) => self.refused_at_once(report, fault),
        }
    }

    /// Passes on to the stream of events what the deployment shows.
    pub(super) fn relay(&self, running: &Running) {
        let (mut shown, events) = (running.shown.clone(), self.ground.shared.events.clone());
        let app = self.ground.settings.name.clone();
        tokio::spawn(async move {
            while shown.changed().await.is_ok() {
                let report = shown.borrow_and_update().clone();
                if let Some(report) = report {
                    events.tell(&app, EventKind::Deployment { report: Box::new(report) });
                }
            }
        });
    }

    fn dropped(&mut self, batch: inbox::Batch) {
        for (file, fault) in batch.told {
            tracing::warn!(SLOTD_APP = self.name(), "{file}: {fault}");
            self.event(EventKind::Refused { file, fault: Box::new(fault) });
        }
        for candidate in batch.ready {
            let path = candidate.seen.path.clone();
            let source = match candidate.seen.kind {
                inbox::Kind::Directory => Source::Directory(path),
                inbox::Kind::File | inbox::Kind::Other(_) => Source::File(path),
            };
            let job = Job {
                source,
                file: candidate.seen.name.clone(),
                version: Some(candidate.version.clone()),
                sha256: None,
                by: "inbox".into(),
                message: None,
            };
            self.intake.push_back(Intake { job, from: Bearer::Inbox(Box::new(candidate)) });
        }
    }

    async fn taken_in(&mut self, result: Result<Result<Published, Refused>, JoinError>) {
        let Some(Taking { file, by, message, from, .. }) = self.taking.take() else { return };
        let result = result.unwrap_or_else(|error| {
            let fault = Fault::new(Code::Internal, format!("the intake of {file} was torn: {error}"));
            Err(Refused { fault, later: true })
        });
        match &result {
            Ok(Published::New(record)) => {
                tracing::info!(
                    SLOTD_APP = self.name(),
                    SLOTD_SLOT = record.slot.to_string(),
                    "{file} is ready as {}",
                    record.slot
                );
                self.event(EventKind::Ready { slot: record.slot.clone() });
            }
            Ok(Published::Known(_)) => {}
            Err(refused) => {
                tracing::warn!(SLOTD_APP = self.name(), "{file}: {}", refused.fault);
                self.event(EventKind::Refused { file: file.clone(), fault: Box::new(refused.fault.clone()) });
            }
        }
        match (from, result) {
            (Bearer::Inbox(candidate), Ok(Published::New(record) | Published::Known(record))) => {
                self.clear_inbox(&candidate).await;
                self.inbox.accepted(&candidate, &record.slot, &record.artifact).await;
                self.choose();
            }
            (Bearer::Inbox(candidate), Err(refused)) if refused.later => self.inbox.again(&candidate, INTAKE_RETRY),
            (Bearer::Inbox(candidate), Err(refused)) => self.inbox.refused(&candidate, refused.fault).await,
            (Bearer::Caller(answer), Ok(published)) => {
                let uploaded = self.uploaded(&published, &by, message);
                let _ = answer.send(Ok(uploaded));
            }
            (Bearer::Caller(answer), Err(refused)) => {
                let _ = answer.send(Err(refused.fault.into()));
            }
        }
    }

    async fn clear_inbox(&self, candidate: &Candidate) {
        if self.ground.settings.inbox.keep {
            return;
        }
        let (gone, name) = (candidate.clone(), candidate.seen.name.clone());
        let removed = tokio::task::spawn_blocking(move || gone.remove()).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(SLOTD_APP = self.name(), "{name} is accepted and can't be removed from the inbox: {error}");
        }
    }

    async fn driven(&mut self, result: Result<Driven, JoinError>) {
        self.work = Work::Nothing;
        match result {
            Ok(driven) => {
                if driven.open {
                    self.recover_at = Some(Instant::now() + RECOVERY_RETRY);
                }
                self.tell(&driven.report);
                self.last = Some(driven.report);
                self.plan_retry();
                self.watch_live().await;
                self.choose();
                self.prune_quietly();
            }
            Err(error) => {
                tracing::error!(SLOTD_APP = self.name(), "the deployment was torn: {error}");
                self.recover().await;
            }
        }
    }

    fn plan_retry(&mut self) {
        self.retry_at = None;
        let Some(last) = &self.last else { return };
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

    fn retry(&mut self) {
        self.retry_at = None;
        let Some(last) = self.last.clone() else { return };
        let gone = self.ground.store.record(&last.to).is_err();
        if gone || self.ground.current().as_ref() == Some(&last.to) || !matches!(self.work, Work::Nothing) {
            return;
        }
        let id = self.next_id();
        let report = Report {
            attempt: last.attempt + 1,
            message: last.message.clone(),
            ..new_report(id, last.kind, last.to.clone(), &last.by, None)
        };
        self.queued = Some(Wanted { report });
    }

    /// Lets the highest ready release above the mark go live, if there is one; it waits where something is under way.
    pub(super) fn choose(&mut self) {
        self.choose_for("automatic", None);
    }

    /// The same, on the word of whoever brought the newest release.
    pub(super) fn choose_for(&mut self, by: &str, brought: Option<(&SlotName, Option<String>)>) {
        let chosen = match self.automatic() {
            Ok(Some(chosen)) => chosen,
            Ok(None) => return,
            Err(fault) => {
                tracing::error!(SLOTD_APP = self.name(), "no release can be chosen: {fault}");
                return;
            }
        };
        let busy_with = match &self.work {
            Work::Deploying(running) => running.slots.last() == Some(&chosen),
            Work::Nothing | Work::Pruning(..) => false,
        };
        if busy_with || self.queued.as_ref().is_some_and(|wanted| wanted.report.to == chosen) {
            return;
        }
        let id = self.next_id();
        let (by, message) = match brought {
            Some((slot, message)) if *slot == chosen => (by, message),
            _ => ("automatic", None),
        };
        self.queue(Wanted { report: new_report(id, Kind::Deploy, chosen, by, message) });
    }

    /// Puts a deployment in the one place of the queue; what was there is superseded.
    pub(super) fn queue(&mut self, wanted: Wanted) {
        self.retry_at = None;
        self.tell(&wanted.report);
        if let Some(Wanted { report }) = self.queued.replace(wanted) {
            self.supersede(report);
        }
    }

    pub(super) fn next_id(&mut self) -> DeploymentId {
        self.number += 1;
        DeploymentId { app: self.ground.settings.name.clone(), number: self.number }
    }

    pub(super) fn name(&self) -> &str {
        self.ground.settings.name.as_str()
    }

    pub(super) fn event(&self, what: EventKind) {
        self.ground.shared.events.tell(&self.ground.settings.name, what);
    }

    pub(super) fn tell(&self, report: &Report) {
        self.event(EventKind::Deployment { report: Box::new(report.clone()) });
    }

    /// Takes other settings: what runs goes on by those it began with.
    pub(super) fn set(&mut self, settings: Arc<crate::config::AppSettings>) {
        self.inbox.set(InboxSettings::of(&settings, self.rescan));
        self.place.settings = Arc::clone(&settings);
        self.ground.settings = settings;
        self.orphaned = false;
        self.choose();
    }

    /// What waits, with its reason.
    pub(super) fn waiting(&self) -> Vec<WaitingItem> {
        let item = |what: &str, reason: String| WaitingItem { what: what.to_owned(), reason };
        let files = self.inbox.waiting().iter().map(|(what, reason)| item(what, reason.clone()));
        let taking = self.taking.iter().map(|taking| item(&taking.file, "is checked and unpacked".into()));
        let turns = self.intake.iter().enumerate();
        let turns = turns.map(|(place, intake)| item(&intake.job.file, format!("queued at place {}", place + 1)));
        let queued = self.queued.iter().map(|wanted| {
            item(&wanted.report.to.to_string(), format!("{} waits for the one under way", wanted.report.id))
        });
        let retry = self.retry_at.zip(self.last.as_ref()).map(|(at, last)| {
            let rest = at.saturating_duration_since(Instant::now()).as_secs();
            item(&last.to.to_string(), format!("is tried again in {rest} s, for the {} time", nth(last.attempt + 1)))
        });
        files.chain(taking).chain(turns).chain(queued).chain(retry).collect()
    }

    /// What was refused and lies in the inbox still.
    pub(super) fn refused(&self) -> Vec<RefusedItem> {
        self.inbox.refusals().into_iter().map(|(file, fault)| RefusedItem { file, fault }).collect()
    }

    /// The slots that an open or queued deployment is about.
    pub(super) fn wanted_slots(&self) -> Vec<SlotName> {
        let running = match &self.work {
            Work::Deploying(running) => running.slots.clone(),
            Work::Nothing | Work::Pruning(..) => Vec::new(),
        };
        running.into_iter().chain(self.queued.iter().map(|wanted| wanted.report.to.clone())).collect()
    }
}

fn nth(number: u32) -> String {
    match number {
        2 => "2nd".into(),
        3 => "3rd".into(),
        n => format!("{n}th"),
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn end_of(taking: &mut Option<Taking>) -> Result<Result<Published, Refused>, JoinError> {
    match taking {
        Some(taking) => (&mut taking.task).await,
        None => std::future::pending().await,
    }
}

async fn end_of_work(work: &mut Work) -> Woken {
    match work {
        Work::Nothing => std::future::pending().await,
        Work::Deploying(running) => Woken::Driven((&mut running.task).await),
        Work::Pruning(task, _) => Woken::Pruned(task.await),
    }
}

fn write_fate(path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    // Read by whoever dropped the artifact.
    crate::durable::write_atomic_mode(path, bytes, 0o644).map_err(std::io::Error::other)
}
