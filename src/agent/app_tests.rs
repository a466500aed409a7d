//! The task's own bookkeeping; what it does to a host is told by the stories on booted ones.

use std::future::pending;
use std::path::Path;

use crate::agent::deploy::new_report;
use crate::agent::shared::{Events, Shared, intakes};
use crate::config::{Defaults, parse_app};
use crate::history::History;
use crate::inbox::WatchHub;
use crate::model::deployment::{Blame, Ended, Kind};
use crate::model::{Layout, Outcome, SlotName, State, Timestamp};
use crate::slots::SlotStore;
use crate::units::fake::FakeUnits;

use super::*;

fn app(state: &Path) -> App<FakeUnits> {
    let name = "web".parse().expect("name");
    let text = "[[unit]]\nname = \"web@\"\n";
    let settings = parse_app(&name, Path::new("web.toml"), text, &Defaults::default()).expect("settings");
    let layout = Layout::new(state.join("state"), state.join("run"), name);
    let (store, _) = SlotStore::open_below(state, layout).expect("store");
    let shared = Shared {
        stopping: watch::Sender::new(false),
        units: FakeUnits::new(),
        history: History::open(state.join("history.db")),
        worker: "/nonexistent".into(),
        events: Events::new(),
        intakes: intakes(),
        run_dir: state.join("run"),
        state_dir: state.join("state"),
    };
    let ground = Ground { settings: Arc::new(settings), store: Arc::new(store), shared };
    App::new(ground, WatchHub::default(), Duration::from_secs(60))
}

/// A recovery that is due while a deployment is under way would take that one's own intent for something left open.
#[tokio::test]
async fn recovery_waits_for_what_is_under_way() {
    let state = tempfile::tempdir().expect("folder");
    let mut app = app(state.path());
    let intent = app.ground.store.layout().intent();
    std::fs::write(&intent, "is being written").expect("written");

    app.work = Work::Pruning(tokio::spawn(pending()), None);
    app.recover().await;
    assert!(matches!(app.work, Work::Pruning(..)) && intent.exists());
    assert!(app.recover_at.is_some(), "it is tried again");

    app.work = Work::Nothing;
    app.recover().await;
    assert!(!intent.exists(), "now it is what was left open: unreadable, and put aside");
    assert!(app.recover_at.is_none() && app.fault.is_none());
}

#[tokio::test]
async fn a_release_that_was_ready_before_a_kill_goes_live_after_it() {
    let state = tempfile::tempdir().expect("folder");
    let mut app = app(state.path());
    ready(&app, "1.0.0");

    app.begin().await;
    let Work::Deploying(running) = &app.work else { panic!("nothing is under way") };
    assert_eq!(running.slots, ["1.0.0".parse().expect("slot")]);
}

/// A masked unit is noticed before the mark is raised.
#[tokio::test]
async fn what_failed_last_waits_for_its_retry() {
    let state = tempfile::tempdir().expect("folder");
    let mut app = app(state.path());
    ready(&app, "1.0.0");
    let slot: SlotName = "1.0.0".parse().expect("slot");
    let id = app.next_id();
    let failed = new_report(id, Kind::Deploy, slot, "automatic", None);
    let ended = Ended {
        outcome: Outcome::Failed,
        fault: None,
        blame: Some(Blame::Environment),
        at: Timestamp::now(),
        next: None,
        warnings: Vec::new(),
    };
    app.last = Some(Report { state: State::Done, ended: Some(ended), ..failed });
    app.plan_retry();
    app.choose();
    assert!(app.queued.is_none() && app.retry_at.is_some());

    ready(&app, "1.1.0");
    app.choose();
    assert!(app.queued.is_some_and(|wanted| wanted.report.to.to_string() == "1.1.0") && app.retry_at.is_none());
}

/// Puts a slot there that can be activated, as far as the task can tell.
fn ready(app: &App<FakeUnits>, version: &str) {
    let digest = "0".repeat(64);
    let record = serde_json::json!({
        "format": 1, "app": "web", "slot": version, "artifact": digest, "tree": digest,
        "units": [{"name": "web@", "instances": 1}], "release": {}, "origin": {"file": "", "bytes": 0, "by": "inbox"},
        "env": {}, "created": "2020-01-01T00:00:00Z",
    });
    let slot = app.ground.store.layout().slots().join(version);
    std::fs::create_dir(&slot).expect("folder");
    std::fs::write(slot.join("slot.json"), record.to_string()).expect("written");
}
