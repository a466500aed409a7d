//! An app's task on real slots and a scripted systemd: what it does by itself, and what it answers.
//!
//! Longer than other files: the stories share one site, and are read side by side.

mod freezes;
mod notices;
mod orphans;
mod pauses;
mod pins;
mod states;
mod strays;
mod turns;

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{broadcast, oneshot, watch};
use tokio::time::Instant;

use super::ahead::Ahead;
use super::app::{self, App, Work};
use super::ask::{AppHandle, Ask, View};
use super::deploy::{Ground, Wanted, Word, new_report};
use super::directory::Directory;
use super::queue::Brought;
use super::shared::{Events, Shared, Turns};
use crate::control::api::{Accepted, ActivateRequest, ApiError, Event, EventKind, Pruned, UploadQuery, Uploaded};
use crate::control::service::Caller;
use crate::deployment::intent::{Intent, IntentFile};
use crate::deployment::site::{Site, artifact, slot};
use crate::deployment::stage::{Live, Stage};
use crate::history::History;
use crate::inbox::WatchHub;
use crate::model::deployment::{Blame, Ended, Kind, Otherwise};
use crate::model::{Code, Fault, Link, Outcome, Report, StrategyName, Timestamp};
use crate::units::fake::FakeUnits;

/// Longer than anything here takes on a busy machine; what is waited for is a level.
const LONG: Duration = Duration::from_secs(60);

fn ground(site: &Site) -> Ground<FakeUnits> {
    let shared = Shared {
        units: site.units.clone(),
        history: History::open(site.base.path().join("history.db")),
        worker: PathBuf::from("/nonexistent/worker"),
        events: Events::new(),
        turns: Turns::new(Default::default()),
        run_dir: site.base.path().join("run"),
        state_dir: site.base.path().join("state"),
        directory: Directory::new(),
        stopping: watch::Sender::new(false),
    };
    Ground { settings: site.settings.clone(), store: site.store.clone(), shared }
}

/// The app before its task begins: for what depends on the moment.
fn still(site: &Site) -> App<FakeUnits> {
    app::App::new(ground(site), WatchHub::default(), LONG)
}

/// The app with its task.
struct Lively<'a> {
    site: &'a Site,
    handle: AppHandle,
    events: broadcast::Receiver<Event>,
}

/// A word for this version, and nothing else said.
fn activation(version: &str) -> ActivateRequest {
    ActivateRequest {
        slot: slot(version),
        message: None,
        force: false,
        strategy: None,
        migration: None,
        at: None,
        plan: None,
        without_dependencies: false,
    }
}

fn ann() -> Caller {
    Caller { uid: 1000, name: "ann".into() }
}

impl Lively<'_> {
    fn of(site: &Site) -> Lively<'_> {
        let ground = ground(site);
        let events = ground.shared.events.listen();
        let (handle, _task) =
            app::spawn(ground.clone(), ground.settings, WatchHub::default(), Duration::from_millis(200));
        Lively { site, handle, events }
    }

    async fn view(&self) -> View {
        self.handle.view().await.expect("the task lives")
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<Result<T, ApiError>>) -> Ask) -> Result<T, ApiError> {
        let (answer, answered) = oneshot::channel();
        self.handle.asks.send(ask(answer)).await.unwrap_or_else(|_| panic!("the task is gone"));
        answered.await.expect("answered")
    }

    async fn activate(&self, version: &str) -> Result<Accepted, ApiError> {
        let request = activation(version);
        self.ask(|answer| Ask::Activate(request, ann(), answer)).await
    }

    async fn upload(&self, file: &str, bytes: &[u8]) -> (Result<Uploaded, ApiError>, PathBuf) {
        let path = self.site.layout().spool().join("uploaded");
        std::fs::write(&path, bytes).expect("written");
        let query = UploadQuery {
            file: file.into(),
            version: None,
            message: None,
            sha256: None,
            strategy: None,
            migration: None,
            without_dependencies: false,
        };
        (self.ask(|answer| Ask::Upload(path.clone(), query, ann(), answer)).await, path)
    }

    /// Waits until the app is as `is` says.
    async fn until(&self, what: &str, is: impl Fn(&View) -> bool) -> View {
        let end = std::time::Instant::now() + LONG;
        loop {
            let view = self.view().await;
            if is(&view) {
                return view;
            }
            assert!(
                std::time::Instant::now() < end,
                "never {what}: {:?} {:?} {:?}",
                view.deployment,
                view.last,
                view.fault
            );
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until_live(&self, version: &str) -> View {
        let live = |view: &View| view.deployment.is_none() && self.site.link(Link::Current) == version;
        self.until(&format!("{version} live"), live).await
    }
}

fn outcome(report: Option<&Report>) -> Option<(Outcome, Option<Code>)> {
    let ended = report?.ended.as_ref()?;
    Some((ended.outcome, ended.fault.as_ref().map(|fault| fault.code)))
}

fn failed(site: &Site, version: &str, blame: Blame) -> Report {
    let facts = site.facts(version);
    let fault = Some(Fault::new(Code::UnitMasked, "masked"));
    let (at, warnings) = (Timestamp::now(), Vec::new());
    let ended = Ended { outcome: Outcome::Failed, fault, phase: None, blame: Some(blame), at, next: None, warnings };
    Report { ended: Some(ended), ..site.report(&facts) }
}

fn wanted(app: &mut App<FakeUnits>, version: &str, ordered: bool) -> Wanted {
    let id = app.next_id();
    let word = if ordered { Word::Operators } else { Word::Nobodys };
    Wanted { report: new_report(id, Kind::Deploy, slot(version), "ann", None), word, ahead: Ahead::Nothing }
}

#[tokio::test]
async fn what_became_ready_before_a_stop_of_slotd_goes_live_at_the_next_start() {
    let site = Site::serving(&["1", "2"]).automatic();
    let lively = Lively::of(&site);
    let view = lively.until_live("2").await;
    assert_eq!(outcome(view.last.as_ref()), Some((Outcome::Done, None)));
    assert_eq!(site.units.up(), ["web", "web@2"]);
}

#[tokio::test]
async fn a_dropped_file_that_is_known_goes_and_its_slot_goes_live() {
    let site = Site::serving(&["1", "2"]);
    let lively = Lively::of(&site);
    let dropped = site.layout().inbox().join("web-2.tar");
    let aside = site.layout().inbox().join(".web-2.tar");
    std::fs::write(&aside, artifact("2")).expect("written");
    crate::durable::rename_over(&aside, &dropped).expect("dropped");
    let staged = |view: &View| view.waiting.iter().map(|item| item.what.as_str()).eq(["2"]);
    lively.until("taken in and staged", |view| staged(view) && !dropped.exists()).await;
    assert_eq!(site.links(), ["1", "-", "-"], "in manual mode nothing goes by itself");
    let accepted = lively.activate("2").await.expect("accepted");
    assert!(matches!(accepted, Accepted::Deployment { kind: Kind::Deploy, .. }), "{accepted:?}");
    lively.until_live("2").await;
    assert_eq!(site.links(), ["2", "1", "-"]);
    assert!(matches!(lively.activate("2").await, Ok(Accepted::Unchanged { .. })));
}

#[tokio::test]
async fn an_upload_is_always_answered_and_its_file_goes() {
    let site = Site::serving(&["1", "2"]);
    let lively = Lively::of(&site);
    let (uploaded, path) = lively.upload("web-2.tar", &artifact("2")).await;
    let uploaded = uploaded.expect("taken in");
    assert_eq!((uploaded.known, uploaded.deployment), (true, None));
    assert!(uploaded.not_live.expect("a reason").contains("it is staged"));
    assert!(!path.exists());
    let (refused, path) = lively.upload("something-else", b"x").await;
    assert_eq!(refused.expect_err("misnamed").fault.code, Code::IngestMisnamed);
    assert!(!path.exists(), "a refused upload stays in the spool");
    lively.handle.asks.send(Ask::Orphan).await.unwrap_or_else(|_| panic!("gone"));
    let (refused, path) = lively.upload("web-2.tar", &artifact("2")).await;
    assert_eq!(refused.expect_err("no settings").fault.code, Code::UnknownApp);
    assert!(!path.exists());
}

/// Lets come to its end what is under way, and what it leads to at once.
async fn rest(app: &mut App<FakeUnits>) {
    for _ in 0..20 {
        app.go_on();
        match &mut app.work {
            Work::Nothing => return,
            Work::Deploying(running) => {
                let driven = (&mut running.task).await;
                app.driven(driven).await;
            }
            Work::Pruning(task, _) => {
                let pruned = task.await;
                app.pruned(pruned);
            }
            Work::Clearing(task) => {
                let cleared = task.await;
                app.cleared(cleared);
            }
        }
    }
    panic!("it goes on for ever: {:?}", app.last);
}

#[tokio::test]
async fn a_masked_unit_is_tried_five_times_again_and_then_it_is_said() {
    let site = Site::serving(&["1", "2"]).automatic();
    site.units.unit("web@2").is_masked();
    let mut app = still(&site);
    app.choose();
    rest(&mut app).await;
    for (attempt, delay) in (1..).zip(super::retry::DELAYS) {
        assert_eq!(app.last.as_ref().map(|last| (last.attempt, last.id.number)), Some((attempt, attempt.into())));
        let pause = app.retry_at.expect("it is tried again").duration_since(Instant::now());
        assert!(pause <= delay && pause + Duration::from_secs(5) > delay, "{pause:?}, not {delay:?}");
        app.choose();
        assert!(app.queued.is_none(), "chosen again at once");
        app.retry();
        rest(&mut app).await;
    }
    assert!(app.retry_at.is_none());
    let waiting = app.view().waiting;
    assert!(waiting.iter().any(|item| item.reason.contains("slotctl activate web 2")), "{waiting:?}");
    assert_eq!(site.links(), ["1", "-", "-"]);
}

#[tokio::test]
async fn when_the_cause_is_gone_the_next_try_goes_live() {
    let site = Site::serving(&["1", "2"]).automatic();
    site.units.unit("web@2").start_is_denied();
    let mut app = still(&site);
    let strategy = Some(StrategyName::StopStart);
    app.choose_for(
        "ann",
        Some(Brought {
            slot: &slot("2"),
            message: None,
            otherwise: Otherwise { strategy, migration: None },
            ahead: Ahead::Nothing,
        }),
    );
    rest(&mut app).await;
    assert_eq!(outcome(app.last.as_ref()), Some((Outcome::RolledBack, Some(Code::UnitControl))));
    app.retry();
    rest(&mut app).await;
    assert_eq!(outcome(app.last.as_ref()), Some((Outcome::Done, None)));
    assert_eq!(app.last.as_ref().and_then(|last| last.strategy), strategy, "tried as it was ordered");
    assert_eq!(site.links(), ["2", "1", "-"]);
}

#[tokio::test]
async fn a_second_word_is_refused_and_cancel_undoes_the_first() {
    let site = Site::serving(&["1", "2", "3"]);
    let lively = Lively::of(&site);
    site.units.unit("web@2").start_hangs();
    lively.activate("2").await.expect("accepted");
    lively.until("starting", |view| view.deployment.is_some()).await;
    let busy = lively.activate("3").await.expect_err("busy");
    assert!(busy.fault.code == Code::RequestBusy && busy.fault.message.contains("web-1"), "{busy}");
    let cancelled = lively
        .ask(|answer| Ask::Say(crate::model::deployment::Say::Cancel, None, ann(), answer))
        .await
        .expect("cancelled");
    assert!(matches!(cancelled, Accepted::Deployment { id, .. } if id.number == 1));
    let view = lively.until("over", |view| view.deployment.is_none()).await;
    assert_eq!(outcome(view.last.as_ref()), Some((Outcome::Cancelled, Some(Code::Cancelled))));
    assert_eq!(site.units.up(), ["web", "web@1"]);
}

#[tokio::test]
async fn an_interrupted_deployment_is_told_to_whoever_listens() {
    let site = Site::serving(&["1", "2"]);
    let facts = site.facts("2");
    site.store.link_next(&slot("2")).expect("next");
    let live = Live { up: true, failed_probe: None };
    let stage = Stage::Starting { live, batch: 0, proved: Default::default() };
    IntentFile::of(site.layout()).write(&Intent::new(facts.clone(), stage, site.report(&facts))).expect("written");
    let mut lively = Lively::of(&site);
    lively.until("over", |view| view.deployment.is_none() && outcome(view.last.as_ref()).is_some()).await;
    assert_eq!(site.links(), ["2", "1", "-"], "the boot is the same and nothing ran: it goes on");
    let mut told = Vec::new();
    while let Ok(Event { what, .. }) = lively.events.try_recv() {
        if let EventKind::Deployment { report } = what {
            told.push(report.state.as_str());
        }
    }
    assert!(told.contains(&"proving") || told.len() > 2, "{told:?}");
    site.assert_closed();
}

#[tokio::test]
async fn after_an_unreadable_intent_what_runs_is_what_current_names() {
    let site = Site::serving(&["1", "2"]);
    site.units.unit("web@2").runs();
    site.store.link_next(&slot("2")).expect("next");
    std::fs::write(site.layout().intent(), "{ \"format\": 1, ").expect("written");
    Lively::of(&site).until("over", |view| view.deployment.is_none() && view.last.is_some()).await;
    assert_eq!(
        (site.links(), site.units.up()),
        (["1".into(), "-".into(), "-".into()], vec!["web".into(), "web@1".into()])
    );
    site.assert_closed();

    // Of a first deployment: nothing is live, so nothing runs.
    let site = Site::with(&["1"]);
    site.units.unit("web@1").runs();
    site.store.link_next(&slot("1")).expect("next");
    std::fs::write(site.layout().intent(), "").expect("written");
    Lively::of(&site).until("over", |view| view.deployment.is_none() && view.last.is_some()).await;
    assert_eq!((site.links(), site.units.up()), (["-"; 3].map(String::from), Vec::<String>::new()));
    site.assert_closed();
}

#[tokio::test]
async fn out_of_a_broken_current_a_good_slot_leads() {
    let site = Site::with(&["1"]);
    std::os::unix::fs::symlink("slots/0.9", site.layout().link(Link::Current)).expect("linked");
    let lively = Lively::of(&site);
    let view = lively.until("stuck", |view| view.fault.is_some()).await;
    assert_eq!(view.fault.map(|fault| fault.code), Some(Code::Stuck));
    lively.activate("1").await.expect("accepted");
    lively.until_live("1").await;
    lively.until("well", |view| view.fault.is_none()).await;
    assert_eq!(site.units.up(), ["web", "web@1"]);
}

#[tokio::test(start_paused = true)]
async fn a_deployment_takes_the_place_of_a_recovery_that_was_to_come() {
    let site = Site::serving(&["1", "2", "3"]).automatic();
    let mut app = still(&site);
    app.recover_at = Some(Instant::now());
    app.choose();
    assert!(app.queued.is_none(), "nothing goes by itself while a deployment is left open");
    let word = wanted(&mut app, "2", true);
    app.queue(word);
    app.go_on();
    assert!(matches!(app.work, Work::Deploying(_)) && app.recover_at.is_none());
    app.recover().await;
    let Work::Deploying(running) = &app.work else { panic!("it still runs") };
    assert_eq!(running.id.number, 1, "and nobody else works on its intent");
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_for_a_prune_and_gives_way_to_a_word() {
    let site = Site::serving(&["1", "2", "3"]);
    let mut app = still(&site);
    app.work = Work::Pruning(tokio::spawn(std::future::pending::<Result<Pruned, Fault>>()), None);
    app.last = Some(failed(&site, "2", Blame::Environment));
    app.plan_retry();
    assert!(app.wanted_slots().contains(&slot("2")), "no prune takes what is to be tried again");
    app.retry();
    assert_eq!(app.queued.as_ref().map(|wanted| (wanted.report.attempt, wanted.word)), Some((2, Word::Nobodys)));
    let word = wanted(&mut app, "3", true);
    app.queue(word);
    app.retry();
    assert_eq!(app.queued.as_ref().map(|wanted| wanted.report.to.clone()), Some(slot("3")));
}

#[tokio::test(start_paused = true)]
async fn an_operators_word_is_not_taken_back_by_the_next_release() {
    let site = Site::serving(&["1", "2", "3"]).automatic();
    let mut app = still(&site);
    app.work = Work::Pruning(tokio::spawn(std::future::pending::<Result<Pruned, Fault>>()), None);
    app.choose();
    assert_eq!(app.queued.as_ref().map(|wanted| wanted.report.to.clone()), Some(slot("3")));
    // Cancelled before it began, it isn't chosen again.
    let (answer, answered) = oneshot::channel();
    app.asked(Ask::Say(crate::model::deployment::Say::Cancel, None, ann(), answer)).await;
    assert!(answered.await.expect("answered").is_ok());
    app.choose();
    assert!(app.queued.is_none(), "{:?}", app.queued);

    site.publish("4");
    let word = wanted(&mut app, "2", true);
    app.queue(word);
    app.choose();
    assert_eq!(app.queued.as_ref().map(|wanted| wanted.report.to.clone()), Some(slot("2")), "4 goes after it");
    assert_eq!(app.view().queued.map(|report| report.to), Some(slot("2")), "and whoever waits for it can find it");
    app.orphan();
    assert!(app.queued.is_none() && app.orphaned);
}

#[tokio::test(start_paused = true)]
async fn a_prune_spares_what_is_open_wanted_or_came_meanwhile() {
    let site = Site::serving(&["5", "1", "2", "3", "4"]).set("[retention]\nkeep = 0");
    let mark = site.store.raise_mark(&slot("5").version, site.settings.versions, None);
    assert_eq!(mark.ok(), Some(true), "nothing is staged");
    let facts = site.facts("2");
    let file = IntentFile::of(site.layout());
    file.write(&Intent::new(facts.clone(), Stage::Preparing, site.report(&facts))).expect("written");
    let mut app = still(&site);
    let (answer, answered) = oneshot::channel();
    app.prune(Default::default(), &ann(), answer);
    // The prune has begun and awaits its turn: what is wanted by now counts.
    let word = wanted(&mut app, "3", true);
    app.queue(word);
    site.publish("1.5");
    let Work::Pruning(task, _) = &mut app.work else { panic!("a prune is under way") };
    let pruned = task.await;
    app.pruned(pruned);
    answered.await.expect("answered").expect("pruned");
    let left: Vec<String> = site.store.slots().expect("slots").iter().map(|entry| entry.name.to_string()).collect();
    assert!(["5", "2", "3"].iter().all(|kept| left.contains(&(*kept).to_owned())), "{left:?}");
    assert!(!left.contains(&"1".to_owned()) && !left.contains(&"4".to_owned()), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_recovered_on_systemds_silence() {
    let site = Site::serving(&["1", "2"]);
    let facts = site.facts("2");
    let live = Live { up: true, failed_probe: None };
    let stage = Stage::Starting { live, batch: 0, proved: Default::default() };
    IntentFile::of(site.layout()).write(&Intent::new(facts.clone(), stage, site.report(&facts))).expect("written");
    site.units.lose_bus();
    let mut app = still(&site);
    app.recover().await;
    assert_eq!(app.fault.as_ref().map(|fault| fault.code), Some(Code::UnitControl));
    assert!(matches!(app.work, Work::Nothing) && app.recover_at.is_some());
    assert_eq!(app.check_idle().expect_err("barred").fault.code, Code::UnitControl);
    site.units.bus_is_back();
    app.recover().await;
    assert!(matches!(app.work, Work::Deploying(_)) && app.fault.is_none());
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_a_deployment_is_left_where_it_is() {
    let site = Site::serving(&["1", "2"]);
    site.units.unit("web@2").start_hangs();
    let mut app = still(&site);
    let word = wanted(&mut app, "2", true);
    app.queue(word);
    app.go_on();
    while !site.units.calls().contains(&"start web@2".to_owned()) {
        tokio::task::yield_now().await;
    }
    app.ground.shared.stopping.send_replace(true);
    tokio::task::yield_now().await;
    // As a host that goes down does it.
    site.units.unit("web@2").is_stopped_by_hand();
    tokio::time::sleep(LONG * 60).await;
    let intent = IntentFile::of(site.layout()).read().expect("readable").expect("open");
    assert!(matches!(intent.stage, Stage::Starting { .. }), "{:?}", intent.stage);
}
