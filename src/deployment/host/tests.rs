//! Deployments over the real host: slots and links on disk, systemd as scripted.

use std::time::Duration;

use tokio::sync::mpsc;

use super::super::driver::{Said, drive};
use super::super::facts::Traffic;
use super::super::intent::Intent;
use super::super::machine::Machine;
use super::super::site::{Site, slot};
use super::super::stage::{Live, Stage};
use super::super::world::{Context, World as _};
use super::super::{Effect, clock};
use crate::durable;
use crate::model::deployment::Blame;
use crate::model::deployment::Say;
use crate::model::hold::Hold;
use crate::model::slot::{Phase, Quarantine};
use crate::model::{Code, Fault, Link, Outcome, Timestamp};
use crate::units::{Active, JobResult};

/// How it ended: the word, who is to blame, and the code.
fn ended(driven: &super::super::driver::Driven) -> (Outcome, Blame, Option<Code>) {
    let ruling = &driven.ruling;
    (ruling.outcome, ruling.blame, ruling.fault.as_ref().map(|fault| fault.code))
}

#[tokio::test(start_paused = true)]
async fn a_good_release_goes_live_and_leaves_nothing_but_a_fallback() {
    let site = Site::serving(&["1", "2"]);
    let driven = site.deploy("2").await;
    assert_eq!(ended(&driven), (Outcome::Done, Blame::Operator, None), "{:?}", driven.report);
    assert_eq!(site.links(), ["2", "1", "-"]);
    assert_eq!(site.units.up(), ["web", "web@2"]);
    site.assert_closed();
    assert!(site.layout().last().exists());
    assert_eq!(site.store.mark().expect("a mark").map(|mark| mark.highest), Some("2".parse().expect("a version")));
}

#[tokio::test(start_paused = true)]
async fn a_first_release_goes_live_or_leaves_nothing() {
    let site = Site::with(&["1"]);
    assert_eq!(site.deploy("1").await.ruling.outcome, Outcome::Done);
    assert_eq!(
        (site.links(), site.units.up()),
        (["1".into(), "-".into(), "-".into()], vec!["web".into(), "web@1".into()])
    );

    let site = Site::with(&["1"]);
    site.units.unit("web@1").start_fails("exited with status 3");
    assert_eq!(ended(&site.deploy("1").await), (Outcome::Failed, Blame::Release, Some(Code::UnitExited)));
    assert_eq!((site.links(), site.units.up()), (["-"; 3].map(String::from), Vec::<String>::new()));
    site.assert_closed();
}

/// Which end of the candidate is its own fault, and which is the host's.
#[tokio::test(start_paused = true)]
async fn blame_goes_where_the_cause_lies() {
    type Script = fn(&Site);
    let cases: [(&str, Script, Blame, Code); 8] = [
        (
            "exits",
            |site| drop(site.units.unit("web@2").start_fails("exited with status 3")),
            Blame::Release,
            Code::UnitExited,
        ),
        (
            "never ready",
            |site| drop(site.units.unit("web@2").start_times_out()),
            Blame::Release,
            Code::UnitStartTimeout,
        ),
        (
            "dies while it proves itself",
            |site| drop(site.units.unit("web@2").dies_after(Duration::from_millis(10), "killed by SIGSEGV")),
            Blame::Release,
            Code::UnitExited,
        ),
        (
            "the program isn't there",
            |site| drop(site.units.unit("web@2").start_fails("exited with status 203 (systemd's EXEC)")),
            Blame::Release,
            Code::UnitExited,
        ),
        (
            "its user isn't there",
            |site| drop(site.units.unit("web@2").start_fails("exited with status 217 (systemd's USER)")),
            Blame::Environment,
            Code::UnitExited,
        ),
        ("polkit", |site| drop(site.units.unit("web@2").start_is_denied()), Blame::Environment, Code::UnitControl),
        ("masked", |site| drop(site.units.unit("web@2").is_masked()), Blame::Environment, Code::UnitMasked),
        ("missing", |site| drop(site.units.unit("web@2").is_missing()), Blame::Environment, Code::UnitMissing),
    ];
    for (name, script, blame, code) in cases {
        let site = Site::serving(&["1", "2"]);
        script(&site);
        let driven = site.deploy("2").await;
        assert_eq!((driven.ruling.blame, ended(&driven).2), (blame, Some(code)), "{name}: {:?}", driven.ruling);
        assert_eq!(site.is_quarantined("2"), blame == Blame::Release, "{name}");
        assert_eq!(
            (site.links(), site.units.up()),
            (["1".into(), "-".into(), "-".into()], vec!["web".into(), "web@1".into()])
        );
        site.assert_closed();
    }
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_ends_before_the_route_is_to_blame_itself() {
    let site = Site::serving(&["1", "2"]);
    let (facts, host) = (site.facts("2"), site.host());
    site.units.unit("web@2").runs().dies("exited with status 1");
    let report = site.report(&facts);
    let context = Context { facts: &facts, stage: None, ruling: None, report: &report };
    let failure = host.perform(&Effect::Route(Traffic::all(&facts.to)), context).await.expect_err("it doesn't run");
    assert_eq!((failure.blame, failure.fault.code), (Blame::Release, Code::UnitExited));
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_does_not_listen_is_nothing_that_a_release_can_do() {
    let mut site = Site::serving(&["1", "2"]);
    let mut settings = (*site.settings).clone();
    settings.route = crate::config::app::Route::Socket { accept: crate::config::app::Accept::Ready };
    site.settings = settings.into();
    site.units.unit("web.socket").change(|status| status.active = Active::Failed);
    site.units.unit("web@2").runs();
    let (facts, host) = (site.facts("2"), site.host());
    let report = site.report(&facts);
    let context = Context { facts: &facts, stage: None, ruling: None, report: &report };
    let failure = host.perform(&Effect::AskOutside, context).await.expect_err("it doesn't listen");
    assert_eq!((failure.blame, failure.fault.code), (Blame::Environment, Code::RouteOutside));
    // Stopped by hand, the socket takes the slots with it.
    site.units.unit("web@2").is_stopped_by_hand();
    let failure = host.perform(&Effect::AskOutside, context).await.expect_err("it doesn't listen");
    assert_eq!((failure.blame, failure.fault.code), (Blame::Operator, Code::UnitStoppedByOther));
}

#[tokio::test(start_paused = true)]
async fn what_somebody_restarted_did_not_end_by_itself() {
    for (restarts, blame, code) in
        [(0, Blame::Operator, Code::UnitStoppedByOther), (1, Blame::Release, Code::UnitExited)]
    {
        let site = Site::serving(&["1", "2"]);
        site.units.unit("web@2").runs().change(|status| status.restarts = restarts);
        let (facts, host) = (site.facts("2"), site.host());
        let report = site.report(&facts);
        let context = Context { facts: &facts, stage: None, ruling: None, report: &report };
        let runs = [("web@2.service", "an earlier run")];
        let runs = runs.map(|(unit, run)| (crate::model::UnitName::new(unit), run.to_owned())).into();
        let failure = host.perform(&Effect::Confirm(runs), context).await.expect_err("another run");
        assert_eq!((failure.blame, failure.fault.code, failure.rests), (blame, code, false));
    }
}

/// A stop of the whole app, in whatever step it comes: of the gate's start, before a unit's, or unseen during it.
#[tokio::test(start_paused = true)]
async fn what_somebody_stops_is_not_started_again() {
    type Hand = fn(&Site);
    type Case = (&'static str, Hand, fn(&Site) -> Effect, &'static [&'static str]);
    let takes = Duration::from_secs(3);
    let stop: Hand = |site| drop(site.units.unit("web").stop_begins_by_hand(Duration::from_secs(3)));
    let cases: [Case; 4] = [
        ("as the gate is started", stop, |_| Effect::Gate, &["start web"]),
        ("before a unit is started", stop, |site| Effect::Start(site.side("2").unit_names()), &[]),
        ("before a unit is started again", stop, |site| Effect::Restore(site.side("2").unit_names()), &[]),
        (
            "while a unit starts",
            |site| drop(site.units.unit("web@2").start_meets_a_stop_of("web")),
            |site| Effect::Start(site.side("2").unit_names()),
            &["reset-failed web@2", "start web@2"],
        ),
    ];
    for (name, hand, effect, calls) in cases {
        let site = Site::serving(&["1", "2"]);
        let (facts, host) = (site.facts("2"), site.host());
        let report = site.report(&facts);
        let context = Context { facts: &facts, stage: None, ruling: None, report: &report };
        hand(&site);
        let failure = host.perform(&effect(&site), context).await.expect_err(name);
        let told = (failure.blame, failure.fault.code, failure.rests);
        assert_eq!(told, (Blame::Operator, Code::UnitStoppedByOther, true), "{name}: {}", failure.fault);
        assert_eq!(site.units.calls(), calls, "{name}");
    }

    // Stopped and started again: it is meant to run, and what waited for the end of that goes on.
    let site = Site::serving(&["1", "2"]);
    site.units.unit("web").restart_begins_by_hand(takes);
    let driven = site.deploy("2").await;
    assert_eq!(ended(&driven), (Outcome::Done, Blame::Operator, None), "{:?}", driven.report);
    assert_eq!(site.units.up(), ["web", "web@2"]);
}

/// After the deployment's own start of the gate only a hand takes it down; one that did so before it goes back as well.
#[tokio::test(start_paused = true)]
async fn a_gate_that_was_stopped_is_not_started_on_the_way_back() {
    let site = Site::serving(&["1", "2"]);
    // The stop comes as the candidate fails: nothing of it is seen until the way back begins.
    site.units.unit("web@2").start_fails_as_somebody_stops("web", "exited with status 3");
    let driven = site.deploy("2").await;
    assert_eq!(ended(&driven), (Outcome::RolledBack, Blame::Release, Some(Code::UnitExited)), "{:?}", driven.ruling);
    assert_eq!(site.links(), ["1", "-", "-"]);
    assert_eq!(site.units.up(), Vec::<String>::new(), "{:?}", site.units.calls());
    site.assert_closed();
}

/// A job that is left of an earlier stop of the unit itself is waited for, not cancelled.
#[tokio::test(start_paused = true)]
async fn a_unit_that_still_stops_is_started_after_its_end() {
    let site = Site::serving(&["1", "2"]);
    site.units.unit("web@2").stop_begins_by_hand(Duration::from_secs(3));
    let driven = site.deploy("2").await;
    assert_eq!(ended(&driven), (Outcome::Done, Blame::Operator, None), "{:?}", driven.report);

    // One that doesn't end within three tries is the host's trouble.
    let site = Site::serving(&["1", "2"]);
    site.units.unit("web@2").stop_begins_by_hand(Duration::from_secs(1000));
    let driven = site.deploy("2").await;
    assert_eq!(ended(&driven).2, Some(Code::UnitControl), "{:?}", driven.report);
    assert!(!site.is_quarantined("2"));
}

#[tokio::test(start_paused = true)]
async fn cancelled_while_it_proves_itself_the_old_slot_serves() {
    let site = Site::serving(&["1", "2"]);
    let (facts, host) = (site.facts("2"), site.host());
    let report = site.report(&facts);
    // A start that doesn't end is what an operator cancels.
    site.units.unit("web@2").start_hangs();
    let (verbs, mut heard) = mpsc::channel(1);
    let cancel = async {
        while site.units.status_of("web@2").active != Active::Activating {
            tokio::task::yield_now().await;
        }
        let (answer, answered) = tokio::sync::oneshot::channel();
        verbs.send(Said { say: Say::Cancel, by: "ann".into(), message: None, answer }).await.expect("heard");
        answered.await.expect("answered")
    };
    let (driven, answer) = tokio::join!(drive(Machine::new(facts), report, &host, &mut heard), cancel);
    assert_eq!((answer, ended(&driven)), (Ok(()), (Outcome::Cancelled, Blame::Operator, Some(Code::Cancelled))));
    assert_eq!(
        (site.links(), site.units.up()),
        (["1".into(), "-".into(), "-".into()], vec!["web".into(), "web@1".into()])
    );
    site.assert_closed();
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_does_not_come_back_speaks_for_the_candidate() {
    let site = Site::serving(&["1", "2"]);
    site.units.unit("web@2").start_times_out();
    site.units.unit("web@1").start_times_out();
    let driven = site.deploy("2").await;
    assert_eq!(ended(&driven).0, Outcome::Stuck);
    assert!(!site.is_quarantined("2"), "on a host where nothing comes up nobody is judged");
    assert_eq!(site.links(), ["1", "-", "-"]);
}

#[tokio::test(start_paused = true)]
async fn without_systemd_the_way_back_is_left_open() {
    let site = Site::serving(&["1", "2"]);
    let (facts, host) = (site.facts("2"), site.host());
    let report = site.report(&facts);
    site.units.unit("web@2").start_hangs();
    let (_verbs, mut heard) = mpsc::channel(1);
    let lose = async {
        while site.units.status_of("web@2").active != Active::Activating {
            tokio::task::yield_now().await;
        }
        site.units.lose_bus();
    };
    let (driven, ()) = tokio::join!(drive(Machine::new(facts.clone()), report.clone(), &host, &mut heard), lose);
    assert!(driven.open && site.layout().intent().exists(), "{:?}", driven.ruling);
    assert!(!site.is_quarantined("2"));

    site.units.bus_is_back();
    let intent = host.intent.read().expect("readable").expect("open");
    let driven = drive(Machine::resume(facts, intent.stage), report, &host, &mut heard).await;
    assert_eq!(ended(&driven).0, Outcome::RolledBack, "{:?}", driven.ruling);
    assert_eq!(
        (site.links(), site.units.up()),
        (["1".into(), "-".into(), "-".into()], vec!["web".into(), "web@1".into()])
    );
    site.assert_closed();
}

/// What the disk refuses, as a folder in the place of a file does.
#[tokio::test(start_paused = true)]
async fn a_disk_that_takes_nothing_stops_no_way_back() {
    let refuse = |path: std::path::PathBuf| std::fs::create_dir_all(path.join("in the way")).expect("made");
    let site = Site::serving(&["1", "2"]);
    refuse(site.layout().mark());
    let driven = site.deploy("2").await;
    assert_eq!((driven.ruling.outcome, driven.ruling.blame), (Outcome::Failed, Blame::Environment));
    assert_eq!(
        (site.links(), site.units.up()),
        (["1".into(), "-".into(), "-".into()], vec!["web".into(), "web@1".into()])
    );
    site.assert_closed();

    let site = Site::serving(&["1", "2"]);
    site.units.unit("web@2").start_fails("exited with status 3");
    refuse(site.layout().slot(&slot("2")).join("evidence").join("web-7.json"));
    let driven = site.deploy("2").await;
    assert_eq!(ended(&driven), (Outcome::RolledBack, Blame::Release, Some(Code::UnitExited)));
    assert!(site.is_quarantined("2"), "evidence that can't be kept is no reason to try it again");
    assert_eq!(driven.ruling.warnings.len(), 1, "{:?}", driven.ruling.warnings);
}

/// The links first: where they can't be moved the quarantine stays, and what was interrupted in between is done again.
#[tokio::test(start_paused = true)]
async fn a_quarantine_that_was_overruled_is_lifted_last() {
    let site = Site::serving(&["1", "2"]);
    let quarantine = Quarantine {
        deployment: "web-6".into(),
        phase: Phase::Proving,
        fault: Fault::new(Code::ProbeFailed, "status 500"),
        at: Timestamp::from_unix_millis(0),
    };
    site.store.quarantine(&slot("2"), &quarantine).expect("quarantined");
    let (facts, host) = (site.facts("2"), site.host());
    let report = site.report(&facts);
    let context = Context { facts: &facts, stage: None, ruling: None, report: &report };
    site.store.ensure_current(&slot("2")).expect("linked");
    let fallback = site.layout().link(Link::Fallback);
    std::fs::create_dir_all(fallback.join("in the way")).expect("made");
    host.perform(&Effect::Retire, context).await.expect_err("nothing goes over a folder");
    assert!(site.is_quarantined("2"));
    assert_eq!((site.link(Link::Current), site.link(Link::Next)), ("2".into(), "1".into()));

    std::fs::remove_dir_all(fallback).expect("removed");
    host.perform(&Effect::Retire, context).await.expect("retired");
    assert_eq!((site.links(), site.is_quarantined("2")), (["2", "1", "-"].map(String::from), false));
}

#[tokio::test(start_paused = true)]
async fn the_hold_mark_never_ends_under_a_step() {
    let site = Site::serving(&["1", "2"]);
    let (facts, host) = (site.facts("2"), site.host());
    let report = site.report(&facts);
    let stage = Stage::Starting { live: Live::default(), batch: 0, proved: Default::default() };
    let context = Context { facts: &facts, stage: Some(&stage), ruling: None, report: &report };
    let lasts = || {
        let hold = durable::read_json::<Hold>(&site.layout().hold()).expect("readable").expect("a mark");
        Duration::from_millis(hold.until_ms).saturating_sub(clock::powered_on())
    };
    host.perform(&Effect::Hold, context).await.expect("held");
    for effect in [Effect::Gate, Effect::Verify(slot("2")), Effect::Stop(facts.from.as_ref().expect("A").unit_names())]
    {
        host.perform(&effect, context).await.expect("done");
        assert!(lasts() >= host.limit(&effect) + super::super::driver::GRACE, "{effect}: {:?}", lasts());
    }
    // One that nobody can read holds nobody up, and is written anew.
    std::fs::write(site.layout().hold(), "nonsense").expect("written");
    host.perform(&Effect::Gate, context).await.expect("done");
    assert!(lasts() > Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn limits_are_those_of_the_units_after_a_restart_too() {
    let site = Site::serving(&["1", "2"]);
    let slow = Duration::from_secs(600);
    site.units.unit("web@1").change(|status| (status.start_limit, status.stop_limit) = (Some(slow), Some(slow)));
    let (facts, host) = (site.facts("2"), site.host());
    host.learn_limits(&facts).await;
    let from = facts.from.clone().expect("A");
    assert!(host.limit(&Effect::Restore(from.unit_names())) > slow);
    assert!(host.limit(&Effect::Gate) > slow, "the gate may be waiting for that start");
    assert!(host.limit(&Effect::StopOthers(Some(from))) > slow * 2);
}

#[tokio::test(start_paused = true)]
async fn one_unit_that_does_not_stop_leaves_no_other_running() {
    let site = Site::serving(&["1", "2", "3"]);
    site.units.unit("web@2").runs().stop_ends(JobResult::Canceled);
    site.units.unit("web@3").runs();
    let (facts, host) = (site.facts("3"), site.host());
    let report = site.report(&facts);
    let context = Context { facts: &facts, stage: None, ruling: None, report: &report };
    let failure = host.perform(&Effect::StopOthers(facts.from.clone()), context).await.expect_err("one is still up");
    assert_eq!(failure.fault.code, Code::UnitStop);
    assert_eq!(site.units.up(), ["web", "web@1", "web@2"]);
}

#[test]
fn an_intent_of_another_version_is_not_read() {
    let site = Site::serving(&["1", "2"]);
    let facts = site.facts("2");
    let file = site.host().intent;
    let intent = Intent::new(facts.clone(), Stage::Preparing, site.report(&facts));
    file.write(&intent).expect("written");
    assert_eq!(file.read().expect("readable"), Some(intent.clone()));
    file.write(&Intent { format: intent.format + 1, ..intent }).expect("written");
    assert!(file.read().is_err_and(|error| error.is_damage()));
}
