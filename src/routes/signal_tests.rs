//! Who accepts on a shared socket, and how instances are told, against the scripted systemd.

use std::collections::BTreeSet;
use std::path::Path;

use super::{AnyRoute, Backend, Observed, Route, RouteSet, SIGNAL_LIMIT};
use crate::model::{Code, InstanceName, Layout, UnitName};
use crate::units::fake::FakeUnits;

fn route(fake: &FakeUnits) -> AnyRoute<FakeUnits> {
    let name = "web".parse().expect("a name");
    let text = "[[unit]]\nname = \"web@\"\n[[unit]]\nname = \"worker@\"\n[route]\naccept = \"signal\"\n";
    let settings = crate::config::parse_app(&name, Path::new("web.toml"), text, &Default::default());
    AnyRoute::new(&settings.expect("settings"), &Layout::new("/state", "/run", name), fake.clone())
}

/// "2", "2@3": instances of web@; "worker@2": as it is.
fn set(names: &[&str]) -> BTreeSet<Backend> {
    let backend = |name: &&str| {
        let (template, instance) = name.strip_prefix("worker@").map_or(("web@", *name), |rest| ("worker@", rest));
        let unit = UnitName::new(format!("{template}{instance}.service"));
        Backend::new(unit, instance.parse::<InstanceName>().expect("an instance"))
    };
    names.iter().map(backend).collect()
}

/// 1 serves, and 2 with two instances and a worker waits.
fn two_slots() -> FakeUnits {
    let fake = FakeUnits::new();
    fake.unit("web.socket").runs();
    fake.unit("web@1").says("accepting");
    for quiet in ["web@2", "web@2@2"] {
        fake.unit(quiet).says("quiet, 0 open");
    }
    fake.unit("worker@1").runs();
    fake.unit("worker@2").runs();
    fake
}

async fn serving(route: &AnyRoute<FakeUnits>) -> BTreeSet<Backend> {
    match route.observe().await.expect("a look") {
        Observed { set: RouteSet::These(set), trouble: None } => set,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn the_new_ones_accept_before_the_old_ones_are_quieted_and_twice_is_once() {
    let fake = two_slots();
    let route = route(&fake);
    let (old, new) = (set(&["1", "worker@1"]), set(&["2", "2@2", "worker@2"]));
    assert_eq!(serving(&route).await, set(&["1"]));
    assert_eq!(route.confirm_candidate(&new).await, Ok(()));
    assert_eq!(route.switch(&new, &BTreeSet::new()).await, Ok(()));
    assert_eq!(fake.calls(), ["kill SIGUSR1 web@2", "kill SIGUSR1 web@2@2", "kill SIGUSR2 web@1"]);
    assert_eq!(serving(&route).await, set(&["2", "2@2"]));
    fake.forget_calls();
    assert_eq!(route.switch(&new, &BTreeSet::new()).await, Ok(()));
    assert_eq!(fake.calls(), [""; 0]);
    assert_eq!(route.revert(&old).await, Ok(()));
    assert_eq!(fake.calls(), ["kill SIGUSR1 web@1", "kill SIGUSR2 web@2", "kill SIGUSR2 web@2@2"]);
    assert_eq!(serving(&route).await, set(&["1"]));
}

#[tokio::test(start_paused = true)]
async fn sets_of_both_slots_are_sets_too() {
    let fake = two_slots();
    let route = route(&fake);
    assert_eq!(route.switch(&set(&["1", "2@2"]), &BTreeSet::new()).await, Ok(()));
    assert_eq!(fake.calls(), ["kill SIGUSR1 web@2@2"]);
    assert_eq!(serving(&route).await, set(&["1", "2@2"]));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_quieted_while_a_new_one_does_not_accept() {
    let fake = two_slots();
    fake.unit("web@2@2").ignores_signals();
    let began = tokio::time::Instant::now();
    let fault = route(&fake).switch(&set(&["2", "2@2"]), &BTreeSet::new()).await.expect_err("one doesn't accept");
    assert!(began.elapsed() >= SIGNAL_LIMIT && began.elapsed() < SIGNAL_LIMIT * 2);
    assert_eq!(fault.code, Code::RouteNotAccepting);
    assert_eq!(
        fault.message,
        "web@2@2.service was told by SIGUSR1 to be accepting and says \"quiet, 0 open\" after 10s: \
         `systemctl status web@2@2.service`"
    );
    assert_eq!(fake.calls(), ["kill SIGUSR1 web@2", "kill SIGUSR1 web@2@2"]);
    assert_eq!(fake.status_of("web@1").said.as_deref(), Some("accepting"));
}

#[tokio::test(start_paused = true)]
async fn an_old_one_that_does_not_get_quiet_is_told_by_name() {
    let fake = two_slots();
    fake.unit("web@1").ignores_signals();
    let fault = route(&fake).switch(&set(&["2", "2@2"]), &BTreeSet::new()).await.expect_err("it goes on");
    assert_eq!(fault.code, Code::RouteNotQuiet);
    assert_eq!(fault.evidence.unit.expect("the unit").unit.as_str(), "web@1.service");
    assert_eq!(serving(&route(&fake)).await, set(&["1", "2", "2@2"]), "users are where they should be");
}

#[tokio::test(start_paused = true)]
async fn who_never_spoke_gets_no_signal_that_it_would_die_of() {
    let fake = two_slots();
    // A program of the days of accept = "ready", and one that says other things.
    for silent in ["web@1", "web@2"] {
        fake.unit(silent).change(|status| status.said = None);
    }
    let fault = route(&fake).switch(&set(&["2"]), &BTreeSet::new()).await.expect_err("it says nothing");
    assert_eq!(fault.code, Code::RouteNotAccepting);
    assert!(fault.message.contains("says nothing of itself, so it may not know SIGUSR1"), "{}", fault.message);
    fake.unit("web@2").change(|status| status.said = Some("accepting, with 3 workers".into()));
    let began = tokio::time::Instant::now();
    let fault = route(&fake).switch(&set(&["2"]), &BTreeSet::new()).await.expect_err("the old one says nothing");
    assert_eq!((fault.code, began.elapsed().is_zero()), (Code::RouteNotQuiet, true));
    assert_eq!(fake.calls(), [""; 0], "both others are told nothing: one is quiet");
    assert_eq!(fake.up().len(), 6, "nobody died");
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_has_users_unasked_is_refused() {
    let fake = two_slots();
    let mut faults = Vec::new();
    for said in [Some("accepting"), Some("Quiet"), Some("quietly starting"), None] {
        fake.unit("web@2").change(|status| status.said = said.map(str::to_owned));
        faults.push(route(&fake).confirm_candidate(&set(&["2"])).await.expect_err("not quiet").code);
    }
    assert_eq!(faults, [Code::RouteNotQuiet; 4]);
}

#[tokio::test(start_paused = true)]
async fn one_that_restarts_is_told_again_and_one_that_ended_is_told() {
    let fake = two_slots();
    fake.unit("web@2").ignores_signals();
    let switching = tokio::spawn({
        let route = route(&fake);
        async move { route.switch(&set(&["2"]), &BTreeSet::new()).await }
    });
    tokio::time::sleep(SIGNAL_LIMIT / 2).await;
    fake.unit("web@2").says("quiet");
    assert_eq!(switching.await.expect("no panic"), Ok(()));
    let told = fake.calls().iter().filter(|call| *call == "kill SIGUSR1 web@2").count();
    assert_eq!(told, 2);

    fake.unit("web@1").says("quiet").ignores_signals();
    let switching = tokio::spawn({
        let route = route(&fake);
        async move { route.switch(&set(&["1"]), &BTreeSet::new()).await }
    });
    tokio::time::sleep(SIGNAL_LIMIT / 2).await;
    fake.unit("web@1").dies("killed by SIGSEGV");
    let fault = switching.await.expect("no panic").expect_err("it died");
    assert_eq!(fault.code, Code::UnitExited);
    assert!(fault.message.starts_with("web@1.service should accept and is activating"), "{}", fault.message);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_lost_is_made_anew() {
    let fake = two_slots();
    fake.unit("web@2").ignores_signals();
    let switching = tokio::spawn({
        let route = route(&fake);
        async move { route.switch(&set(&["2"]), &BTreeSet::new()).await }
    });
    tokio::time::sleep(SIGNAL_LIMIT / 4).await;
    fake.reload();
    tokio::time::sleep(SIGNAL_LIMIT / 4).await;
    fake.unit("web@2").change(|status| status.said = Some("accepting".into()));
    assert_eq!(switching.await.expect("no panic"), Ok(()));
}
