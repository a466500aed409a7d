//! The task that owns one app.
//!
//! It alone starts deployments, takes artifacts in and removes slots, one thing of each kind at a time; everybody else
//! asks it. It never waits for any of them: what takes long runs in a task of its own, and its end is an event here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use crate::config::AppSettings;
use crate::control::api::Pruned;
use crate::deployment::driver::Driven;
use crate::deployment::intent::IntentFile;
use crate::inbox::{self, Inbox, InboxSettings};
use crate::model::deployment::Blame;
use crate::model::{Code, DeploymentId, Digest, Fault, Freeze, Outcome, Report, SlotName, UnitName};
use crate::units::UnitControl;

use super::ahead::{Leading, Led, next_of};
use super::alarm;
use super::ask::{Answer, AppHandle, Ask};
use super::deploy::{Ground, Running, Wanted};
use super::intake::Place;
use super::intake_queue::{Intake, News, Taking, news_of, write_fate};
use super::prune::PRUNE_EVERY;
use super::queue::ended;
use super::rebuild::Rebuild;
use super::schedule::Scheduled;
use super::strays::{self, Strays};
use super::teller::Teller;
use super::watch::LiveWatch;

/// How long an intent that couldn't be brought to an end waits for the next try.
pub(super) const RECOVERY_RETRY: Duration = Duration::from_secs(10);

/// How long recovery steps aside for a prune, which is short.
const PRUNE_FIRST: Duration = Duration::from_secs(1);

/// How often a paused app looks whether it still is: its mark is removed by a hand that tells nobody.
const PAUSE_LOOK: Duration = Duration::from_secs(2);

/// Questions that may wait for the task.
pub(super) const ASKS: usize = 64;

/// An app, as its task holds it.
pub struct App<U: UnitControl> {
    pub(super) ground: Ground<U>,
    /// What the app's file says; the ground's settings are that with what operators chose over it.
    pub(super) file: Arc<AppSettings>,
    pub(super) place: Place,
    pub(super) orphaned: bool,
    pub(super) inbox: Inbox,
    pub(super) work: Work,
    pub(super) queued: Option<Wanted>,
    /// What sees to it that others go ahead of that.
    pub(super) leading: Option<Leading>,
    /// The slots that somebody has plans with, for a prune under way.
    pub(super) wanted: watch::Sender<Vec<SlotName>>,
    pub(super) intake: VecDeque<Intake>,
    pub(super) taking: Option<Taking>,
    /// Of which deployment the record of the queue is, and why it couldn't be written.
    pub(super) kept: Option<DeploymentId>,
    pub(super) unkept: Option<Fault>,
    pub(super) last: Option<Report>,
    pub(super) number: u64,
    pub(super) retry_at: Option<Instant>,
    /// When what couldn't be built is tried again.
    pub(super) rebuild: Rebuild,
    /// Of what files the unit of builds was when that was looked at last.
    pub(super) build_text: Option<Digest>,
    pub(super) recover_at: Option<Instant>,
    /// When what has become too old goes, though nothing is deployed.
    pub(super) prune_at: Instant,
    pub(super) strays: Strays,
    pub(super) live: LiveWatch<U>,
    pub(super) fault: Option<Fault>,
    /// It was told to rest when that was looked at last.
    pub(super) paused: bool,
    /// It was frozen when that was looked at last, and by what.
    pub(super) frozen: Option<Freeze>,
    /// What is wanted at a time to come, and why it couldn't be read.
    pub(super) scheduled: Option<Scheduled>,
    pub(super) unread: Option<Fault>,
    pub(super) teller: Teller<U>,
}

/// What is done to the slots: one thing at a time.
pub(super) enum Work {
    Nothing,
    Deploying(Box<Running>),
    Pruning(JoinHandle<Result<Pruned, Fault>>, Option<Answer<Pruned>>),
    /// What runs is held against what is live.
    Clearing(strays::Task),
}

/// Starts the task of an app: it first goes on with what was left open.
///
/// `file`: what the app's file alone says.
pub fn spawn<U: UnitControl>(
    ground: Ground<U>,
    file: Arc<AppSettings>,
    hub: inbox::WatchHub,
    rescan: Duration,
) -> (AppHandle, JoinHandle<()>) {
    let (asks, asked) = mpsc::channel(ASKS);
    let app = App { file, ..App::new(ground, hub, rescan) };
    (AppHandle { asks }, tokio::spawn(app.run(asked)))
}

/// What woke the task.
enum Woken {
    Asked(Ask),
    Closed,
    Dropped(inbox::Batch),
    Taking(News),
    Driven(Result<Driven, JoinError>),
    Pruned(Result<Result<Pruned, Fault>, JoinError>),
    Cleared(Result<strays::Cleared, JoinError>),
    Heard(Option<UnitName>),
    Led(Led),
    Retry,
    Rebuild,
    Recover,
    Prune,
    Strays,
    Live,
    Look,
}

impl<U: UnitControl> App<U> {
    /// An app that has done nothing yet.
    pub(super) fn new(ground: Ground<U>, hub: inbox::WatchHub, rescan: Duration) -> Self {
        let settings = InboxSettings::of(&ground.settings, rescan);
        let inbox = Inbox::new(ground.store.layout().inbox(), settings, hub, write_fate);
        let place = Place {
            settings: Arc::clone(&ground.settings),
            store: Arc::clone(&ground.store),
            worker: ground.shared.worker.clone(),
        };
        let live = LiveWatch::new(ground.shared.units.clone());
        let teller = Teller::new(ground.shared.units.clone(), ground.store.layout());
        App {
            file: Arc::clone(&ground.settings),
            ground,
            place,
            orphaned: false,
            inbox,
            work: Work::Nothing,
            queued: None,
            leading: None,
            kept: None,
            unkept: None,
            wanted: watch::Sender::new(Vec::new()),
            intake: VecDeque::new(),
            taking: None,
            last: None,
            number: 0,
            retry_at: None,
            rebuild: Rebuild::default(),
            build_text: None,
            recover_at: None,
            prune_at: Instant::now() + PRUNE_EVERY,
            strays: Strays::new(),
            live,
            fault: None,
            paused: false,
            frozen: None,
            scheduled: None,
            unread: None,
            teller,
        }
    }

    pub(super) async fn run(mut self, mut asked: mpsc::Receiver<Ask>) {
        self.begin().await;
        loop {
            match self.woken(&mut asked).await {
                Woken::Asked(ask) => self.asked(ask).await,
                Woken::Closed => return,
                Woken::Dropped(batch) => self.dropped(batch),
                Woken::Taking(News::WentOn) => self.taking_went_on(),
                Woken::Taking(News::Ended(result)) => self.taken_in(result).await,
                Woken::Driven(result) => self.driven(result).await,
                Woken::Pruned(result) => self.pruned(result),
                Woken::Cleared(result) => self.cleared(result),
                Woken::Led(led) => self.led(led),
                Woken::Retry => self.retry(),
                Woken::Rebuild => self.rebuild(),
                Woken::Recover => {
                    self.recover().await;
                    self.choose();
                }
                Woken::Prune => self.prune_in_time(),
                Woken::Strays => self.look_for_strays(),
                Woken::Heard(unit) => self.heard_of_job(unit),
                Woken::Live => self.live_changed().await,
                // What has come to its end is noticed below.
                Woken::Look => {}
            }
            self.go_on();
        }
    }

    async fn woken(&mut self, asked: &mut mpsc::Receiver<Ask>) -> Woken {
        let accepting = !self.orphaned && self.barred().is_none();
        let alarm = self.alarm();
        tokio::select! {
            ask = asked.recv() => ask.map_or(Woken::Closed, Woken::Asked),
            end = end_of_work(&mut self.work) => end,
            news = news_of(&mut self.taking) => Woken::Taking(news),
            batch = self.inbox.next(), if accepting => Woken::Dropped(batch),
            led = next_of(&mut self.leading) => Woken::Led(led),
            () = at(self.retry_at) => Woken::Retry,
            () = at(self.rebuild.at) => Woken::Rebuild,
            () = at(self.recover_at) => Woken::Recover,
            () = tokio::time::sleep_until(self.prune_at) => Woken::Prune,
            () = tokio::time::sleep_until(self.strays.look_at), if matches!(self.work, Work::Nothing) => Woken::Strays,
            unit = self.strays.heard() => Woken::Heard(unit),
            () = self.live.changed() => Woken::Live,
            () = at(self.paused.then(|| Instant::now() + PAUSE_LOOK)) => Woken::Look,
            () = alarm::at(alarm) => Woken::Look,
        }
    }

    /// What was left open comes first; then what ended last may have to be tried again.
    pub(super) async fn begin(&mut self) {
        self.note_the_way();
        self.go_by_what_is_live();
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
        let known: Vec<DeploymentId> = last.iter().chain(&open).map(|intent| intent.facts.id.clone()).collect();
        self.number = known.iter().map(|id| id.number).fold(told, u64::max);
        self.last = last.map(|intent| intent.report);
        if let Some(last) = &self.last {
            // A kill between the close and the history leaves this one out.
            let _ = self.ground.shared.history.record(last).await;
        }
        self.take_up(&known).await;
        self.take_up_scheduled(&known).await;
        self.note_ends_of_before();
        self.clear_builds().await;
        self.keep_to_the_pin();
        self.recover().await;
        self.plan_retry();
        self.watch_live().await;
        // What became ready just before the last run of slotd ended was perhaps never chosen.
        self.choose();
        self.go_on();
    }

    /// Goes on with what was left open. While something else is done to the slots it waits: a second driver on an
    /// open intent would work against the first.
    pub(super) async fn recover(&mut self) {
        self.recover_at = None;
        match self.work {
            Work::Nothing => {}
            Work::Deploying(_) => return,
            Work::Pruning(..) | Work::Clearing(_) => {
                self.recover_at = Some(Instant::now() + PRUNE_FIRST);
                return;
            }
        }
        match self.ground.recover().await {
            Ok(Some(running)) => {
                self.fault = None;
                self.relay(&running);
                self.work = Work::Deploying(Box::new(running));
            }
            Ok(None) => {
                self.fault = None;
                // A link may have been mended.
                self.go_by_what_is_live();
            }
            Err(fault) => {
                tracing::error!(SLOTD_APP = self.name(), "recovery: {fault}");
                self.fault = Some(fault);
                self.recover_at = Some(Instant::now() + RECOVERY_RETRY);
            }
        }
    }

    /// Begins what can begin now: the next intake, the queued deployment.
    pub(super) fn go_on(&mut self) {
        self.notice_freeze();
        if self.barred().is_some() {
            return;
        }
        self.begin_intake();
        self.notice_pause();
        self.take_due();
        self.share_wanted();
        if matches!(self.work, Work::Nothing)
            && !self.paused
            && self.is_led()
            && let Some(wanted) = self.queued.take()
        {
            self.start(wanted);
        }
        self.share_wanted();
    }

    /// Lets a prune under way know what has become wanted.
    pub(super) fn share_wanted(&self) {
        // Nobody else asks, and what is staged is found by reading every slot.
        if self.wanted.receiver_count() > 0 {
            self.wanted.send_replace(self.wanted_slots());
        }
    }

    pub(super) fn start(&mut self, wanted: Wanted) {
        // It takes the place of whatever was to be tried again or brought to an end.
        self.retry_at = None;
        self.recover_at = None;
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

    /// What keeps the app from every deployment until it is gone. Being stuck doesn't: a good release is the way out.
    pub(super) fn barred(&self) -> Option<&Fault> {
        self.fault.as_ref().filter(|fault| fault.code != Code::Stuck)
    }

    /// Whether a deployment that couldn't be brought to an end waits for the next try. Only an operator's word goes
    /// before it.
    pub(super) fn is_left_open(&self) -> bool {
        self.recover_at.is_some() && self.fault.is_none()
    }

    /// The settings file is gone: what is under way ends, nothing else begins.
    pub(super) fn orphan(&mut self) {
        self.orphaned = true;
        self.retry_at = None;
        if let Some(Wanted { report, .. }) = self.queued.take() {
            let fault = Fault::new(Code::UnknownApp, "the app's settings file was removed before it began");
            self.end_unbegun(report, ended(Outcome::Superseded, fault, Blame::Operator), false);
        }
    }

    pub(super) fn next_id(&mut self) -> DeploymentId {
        self.number += 1;
        DeploymentId { app: self.ground.settings.name.clone(), number: self.number }
    }

    pub(super) fn name(&self) -> &str {
        self.ground.settings.name.as_str()
    }

    /// Takes other settings: what runs goes on by those it began with.
    pub(super) fn set(&mut self, file: Arc<AppSettings>, settings: Arc<AppSettings>, rescan: Duration) {
        self.file = file;
        self.inbox.set(InboxSettings::of(&settings, rescan));
        self.go_by(&settings);
        if self.orphaned {
            self.orphaned = false;
            self.plan_retry();
        }
        self.choose();
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn end_of_work(work: &mut Work) -> Woken {
    match work {
        Work::Nothing => std::future::pending().await,
        Work::Deploying(running) => Woken::Driven((&mut running.task).await),
        Work::Pruning(task, _) => Woken::Pruned(task.await),
        Work::Clearing(task) => Woken::Cleared(task.await),
    }
}
