//! The D-Bus client against a small systemd of our own, peer to peer over a socket pair: no bus, no privileges.
//!
//! What no real systemd does on demand is done here: a job that ends before its own reply, a bus that goes away in
//! the middle of a start, a reload that swallows the signal.

mod mock;

use std::future::Future;
use std::time::Duration;

use mock::{Answer, LONG, OTHER, Unit, WEB, World, web};
use slotd::model::UnitName;
use slotd::units::systemd::Systemd;
use slotd::units::{Active, JobResult, Load, Signal, UnitControl, UnitError, UnitWatch};

/// Starts web@2 beside the test.
fn starting(systemd: &Systemd) -> impl Future<Output = Result<JobResult, UnitError>> {
    let systemd = systemd.clone();
    let task = tokio::spawn(async move { systemd.start(&web(), LONG).await });
    async move { task.await.expect("no panic") }
}

#[tokio::test]
async fn our_own_jobs_end_counts_and_no_others() {
    let world = World::new();
    let systemd = world.client().await;
    world.answer(Answer::Job);
    let start = starting(&systemd);
    world.until_called("StartUnit", 1).await;
    for other in 100..300 {
        world.job_ends(other, "failed").await;
    }
    world.job_ends(1, "done").await;
    assert_eq!(start.await, Ok(JobResult::Done));
}

#[tokio::test]
async fn a_job_may_end_before_its_reply() {
    let world = World::new();
    let systemd = world.client().await;
    for (word, result) in [
        ("done", JobResult::Done),
        ("failed", JobResult::Failed),
        ("timeout", JobResult::Timeout),
        ("canceled", JobResult::Canceled),
        ("dependency", JobResult::Dependency),
        ("skipped", JobResult::Skipped),
        ("assert", JobResult::Other),
    ] {
        world.answer(Answer::EndedBefore(word));
        assert_eq!(systemd.start(&web(), LONG).await, Ok(result), "{word}");
    }
    world.answer(Answer::EndedBefore("done"));
    assert_eq!(systemd.stop(&web(), LONG).await, Ok(JobResult::Done));
}

#[tokio::test]
async fn a_reload_has_its_own_result_and_is_made_again_where_it_was_lost() {
    let world = World::new();
    let systemd = world.client().await;
    for (word, result) in [("done", JobResult::Done), ("failed", JobResult::Failed)] {
        world.answer(Answer::EndedBefore(word));
        assert_eq!(systemd.reload(&web(), LONG).await, Ok(result), "{word}");
    }
    for (reload, ended) in [("success", JobResult::Done), ("exit-code", JobResult::Failed)] {
        let world = World::new();
        let systemd = world.client().await;
        world.set(|unit| *unit = Unit { active: "active", sub: "exited", reload, ..unit.clone() });
        world.answer(Answer::Job);
        let task = tokio::spawn({
            let systemd = systemd.clone();
            async move { systemd.reload(&web(), LONG).await }
        });
        world.until_called("ReloadOrRestartUnit", 1).await;
        world.reloads().await;
        assert_eq!(task.await.expect("no panic"), Ok(ended), "its end fell into a reload of systemd: {reload}");
    }
}

#[tokio::test]
async fn two_starts_at_once_each_get_their_own_result() {
    let world = World::new();
    let systemd = world.client().await;
    world.answer(Answer::Job);
    world.answer(Answer::Job);
    let first = starting(&systemd);
    world.until_called("StartUnit", 1).await;
    let second = starting(&systemd);
    world.until_called("StartUnit", 2).await;
    world.job_ends(2, "failed").await;
    world.job_ends(1, "done").await;
    assert_eq!((first.await, second.await), (Ok(JobResult::Done), Ok(JobResult::Failed)));
}

#[tokio::test]
async fn a_job_that_does_not_end_is_a_timeout() {
    let world = World::new();
    let systemd = world.client().await;
    world.answer(Answer::Job);
    let after = Duration::from_millis(100);
    let error = systemd.start(&web(), after).await.expect_err("a timeout");
    assert_eq!(error, UnitError::Timeout { verb: "start", unit: web(), after });
    assert_eq!(error.to_string(), "the start job of web@2.service didn't end within 100ms");
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let world = World::new();
    let systemd = world.client().await;
    let denied = UnitError::Denied { verb: "start", unit: web(), message: "no".into() };
    let conflict = UnitError::Conflict { verb: "start", unit: web(), message: "no".into() };
    let refused = UnitError::Refused { verb: "start", unit: web(), message: "no".into() };
    for (name, error) in [
        ("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", denied.clone()),
        ("org.freedesktop.DBus.Error.AccessDenied", denied),
        ("org.freedesktop.systemd1.NoSuchUnit", UnitError::NotFound(web())),
        ("org.freedesktop.systemd1.UnitMasked", UnitError::Masked(web())),
        ("org.freedesktop.systemd1.TransactionIsDestructive", conflict),
        ("org.freedesktop.systemd1.BadUnitSetting", refused),
    ] {
        world.answer(Answer::Error(name, "no"));
        assert_eq!(systemd.start(&web(), LONG).await, Err(error), "{name}");
    }
    world.answer(Answer::Error("org.freedesktop.systemd1.NoSuchUnit", "Unit web@2.service not loaded."));
    assert_eq!(systemd.stop(&web(), LONG).await, Ok(JobResult::Done));
    assert_eq!(systemd.reset_failed(&web()).await, Ok(()));
}

#[tokio::test]
async fn a_reload_that_swallowed_the_signal() {
    for (active, sub, result, ended) in [
        ("active", "running", "success", JobResult::Done),
        ("failed", "failed", "exit-code", JobResult::Failed),
        ("activating", "auto-restart", "exit-code", JobResult::Failed),
        // A oneshot that ran to its end.
        ("inactive", "dead", "success", JobResult::Done),
    ] {
        let world = World::new();
        let systemd = world.client().await;
        world.answer(Answer::Job);
        let start = starting(&systemd);
        world.until_called("StartUnit", 1).await;
        world.set(|unit| *unit = Unit { active, sub, result, invocation: 2, ..unit.clone() });
        world.reloads().await;
        assert_eq!(start.await, Ok(ended), "{active}/{sub}");
        assert_eq!((world.count("StartUnit"), world.count("Subscribe")), (1, 2));
    }
}

#[tokio::test]
async fn a_reload_during_which_the_job_goes_on() {
    let world = World::new();
    let systemd = world.client().await;
    world.answer(Answer::Job);
    let start = starting(&systemd);
    world.until_called("StartUnit", 1).await;
    world.set(|unit| *unit = Unit { active: "activating", sub: "start", invocation: 2, job: 1, ..unit.clone() });
    world.reloads().await;
    world.until_called("Subscribe", 2).await;
    world.set(|unit| *unit = Unit { active: "failed", sub: "failed", job: 0, ..unit.clone() });
    world.job_ends(1, "failed").await;
    assert_eq!(start.await, Ok(JobResult::Failed));
}

#[tokio::test]
async fn another_job_in_our_jobs_place() {
    let world = World::new();
    let systemd = world.client().await;
    world.answer(Answer::Job);
    let start = starting(&systemd);
    world.until_called("StartUnit", 1).await;
    world.set(|unit| *unit = Unit { active: "deactivating", sub: "stop", job: 9, ..unit.clone() });
    world.reloads().await;
    assert_eq!(start.await, Ok(JobResult::Canceled));
}

#[tokio::test]
async fn a_bus_that_goes_away_while_a_job_runs() {
    // It ended meanwhile: read from the unit, and not started a second time.
    for (active, sub, ended) in [("active", "running", JobResult::Done), ("failed", "failed", JobResult::Failed)] {
        let world = World::new();
        let systemd = world.client().await;
        world.answer(Answer::Job);
        let start = starting(&systemd);
        world.until_called("StartUnit", 1).await;
        world.set(|unit| *unit = Unit { active, sub, invocation: 2, ..unit.clone() });
        world.cuts().await;
        assert_eq!(start.await, Ok(ended));
        assert_eq!(world.count("StartUnit"), 1);
    }
    // It goes on: its end is told on the new connection.
    let world = World::new();
    let systemd = world.client().await;
    world.answer(Answer::Job);
    let start = starting(&systemd);
    world.until_called("StartUnit", 1).await;
    world.set(|unit| *unit = Unit { active: "activating", sub: "start", invocation: 2, job: 1, ..unit.clone() });
    world.cuts().await;
    world.until_called("Subscribe", 2).await;
    world.set(|unit| *unit = Unit { active: "active", sub: "running", job: 0, ..unit.clone() });
    world.job_ends(1, "done").await;
    assert_eq!(start.await, Ok(JobResult::Done));
}

#[tokio::test]
async fn a_bus_that_goes_away_before_the_reply() {
    // The call never arrived: made again.
    let world = World::new();
    let systemd = world.client().await;
    world.answer(Answer::Nothing);
    world.answer(Answer::EndedBefore("done"));
    let start = starting(&systemd);
    world.until_called("StartUnit", 1).await;
    world.cuts().await;
    assert_eq!(start.await, Ok(JobResult::Done));
    assert_eq!(world.count("StartUnit"), 2);

    // It arrived, and the run failed: not made again.
    let world = World::new();
    let systemd = world.client().await;
    world.answer(Answer::Nothing);
    let start = starting(&systemd);
    world.until_called("StartUnit", 1).await;
    world.set(|unit| *unit = Unit { active: "failed", sub: "failed", invocation: 2, ..unit.clone() });
    world.cuts().await;
    assert_eq!(start.await, Ok(JobResult::Failed));
    assert_eq!(world.count("StartUnit"), 1);
}

#[tokio::test]
async fn a_connection_that_was_given_has_no_successor() {
    let world = World::new();
    let systemd = Systemd::with_connection(world.clone().connect().await.expect("connected")).await.expect("a link");
    assert_eq!(systemd.status(&web()).await.expect("a status").restarts, 7);
    world.answer(Answer::Job);
    let start = starting(&systemd);
    world.until_called("StartUnit", 1).await;
    world.cuts().await;
    assert!(matches!(start.await, Err(UnitError::Bus(_))));
    assert!(matches!(systemd.status(&web()).await, Err(UnitError::Bus(_))));
}

#[tokio::test]
async fn a_status_is_read_from_both_interfaces() {
    let world = World::new();
    let systemd = world.client().await;
    world.set(|unit| *unit = Unit { load: "masked", invocation: 0xab, job: 4, ..unit.clone() });
    let status = systemd.status(&web()).await.expect("a status");
    assert_eq!((status.load, status.active, status.job), (Load::Masked, Active::Inactive, true));
    assert_eq!((status.invocation, status.restarts, status.stop_limit), (Some("ab".repeat(16)), 7, None));
    assert_eq!(status.said.as_deref(), Some("quiet, 3 open"));
    let listed = systemd.list(&["web@*.service".to_owned()]).await;
    assert_eq!(listed, Ok(vec![UnitName::new("web@1.service"), web()]));
}

#[tokio::test]
async fn a_signal_goes_to_the_main_process() {
    let world = World::new();
    let systemd = world.client().await;
    assert_eq!(systemd.kill(&web(), Signal::Usr1).await, Ok(()));
    assert_eq!(systemd.kill(&web(), Signal::Usr2).await, Ok(()));
    assert_eq!((world.count("KillUnit main 10"), world.count("KillUnit main 12")), (1, 1));
    let other = UnitName::new("other.service");
    let refused = UnitError::Refused { verb: "signal", unit: other.clone(), message: "No main process".into() };
    assert_eq!(systemd.kill(&other, Signal::Usr1).await, Err(refused));
}

async fn next(watch: &mut UnitWatch) -> Option<UnitName> {
    tokio::time::timeout(LONG, watch.changed()).await.expect("a hint or an end")
}

#[tokio::test]
async fn a_watch_tells_of_its_units_and_ends_when_it_might_miss_something() {
    let world = World::new();
    let systemd = world.client().await;
    let units = [web()];
    let mut watch = systemd.watch(&units).await.expect("a watch");
    world.changes(OTHER).await;
    world.changes(WEB).await;
    assert_eq!(next(&mut watch).await, Some(web()));
    world.reloads().await;
    assert_eq!(next(&mut watch).await, None, "a hint of {OTHER} would have come first");

    let mut watch = systemd.watch(&units).await.expect("a second watch");
    world.changes(WEB).await;
    assert_eq!(next(&mut watch).await, Some(web()));
    world.cuts().await;
    assert_eq!(next(&mut watch).await, None);

    let mut watch = systemd.watch(&units).await.expect("a watch on a new connection");
    world.changes(WEB).await;
    assert_eq!(next(&mut watch).await, Some(web()));
}

#[tokio::test]
async fn a_watch_on_jobs_tells_of_its_templates_and_ends_when_it_might_miss_something() {
    let world = World::new();
    let systemd = world.client().await;
    let templates = ["web@".parse().expect("a template")];
    let mut watch = systemd.watch_jobs(&templates).await.expect("a watch");
    world.job_of_ends("web-log@2.service").await;
    world.job_of_ends("web@2.service").await;
    assert_eq!(next(&mut watch).await, Some(web()));
    world.reloads().await;
    assert_eq!(next(&mut watch).await, None);

    let mut watch = systemd.watch_jobs(&templates).await.expect("a second watch");
    world.job_of_ends("web@2.service").await;
    assert_eq!(next(&mut watch).await, Some(web()));
    world.cuts().await;
    assert_eq!(next(&mut watch).await, None);
}
