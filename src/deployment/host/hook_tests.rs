//! Hooks in their places, whose fault they are, and what becomes of data.

use super::super::super::facts::{How, Plan, Side};
use super::super::super::site::{Site, slot};
use super::*;
use crate::model::{Kind, Link, Migration, Outcome, VersionOrder};

const HOOKS: &str = "[hooks]\npreflight = \"look@\"\ndeploy = \"migrate@\"\npost_deploy = \"tell@\"\n";

/// Slot 1 is live, and slot 2 has hooks that pass unless a test says otherwise.
fn site() -> Site {
    let site = Site::serving(&["1", "2"]).set(HOOKS);
    for hook in ["look@2", "migrate@2", "tell@2"] {
        site.units.unit(hook);
    }
    site
}

fn passing() -> Site {
    let site = site();
    for hook in ["look@2", "migrate@2", "tell@2"] {
        site.units.unit(hook).passes();
    }
    site
}

/// What was asked of all units but the gate.
fn calls(site: &Site) -> Vec<String> {
    let calls = site.units.calls().into_iter();
    calls.filter(|call| !call.ends_with(" web") && !call.starts_with("reset-failed")).collect()
}

#[tokio::test(start_paused = true)]
async fn hooks_run_in_their_places() {
    let site = passing();
    assert_eq!(site.deploy("2").await.ruling.outcome, Outcome::Done);
    let expected = ["start look@2", "stop web@1", "start migrate@2", "stop web@1", "start web@2", "start tell@2"];
    assert_eq!(calls(&site), expected);
    site.assert_closed();
}

#[tokio::test(start_paused = true)]
async fn whose_fault_a_hook_is() {
    type Fails = fn(&Site);
    let cases: [(&str, Fails, Blame, Code); 6] = [
        (
            "it fails",
            |site| drop(site.units.unit("migrate@2").start_fails("exited with status 3")),
            Blame::Release,
            Code::HookFailed,
        ),
        ("in time", |site| drop(site.units.unit("migrate@2").start_times_out()), Blame::Release, Code::HookFailed),
        (
            "it says that it is worth another try",
            |site| drop(site.units.unit("migrate@2").start_fails("exited with status 75")),
            Blame::Environment,
            Code::HookFailed,
        ),
        (
            "systemd can't run it",
            |site| drop(site.units.unit("migrate@2").start_fails("exited with status 217 (systemd's USER)")),
            Blame::Environment,
            Code::HookFailed,
        ),
        ("polkit", |site| drop(site.units.unit("migrate@2").start_is_denied()), Blame::Environment, Code::UnitControl),
        (
            "somebody else has started it",
            |site| drop(site.units.unit("migrate@2").runs()),
            Blame::Environment,
            Code::UnitControl,
        ),
    ];
    for (name, fails, blame, code) in cases {
        let site = site();
        site.units.unit("look@2").passes();
        site.units.unit("migrate@2").writes("no such column");
        fails(&site);
        let ruling = site.deploy("2").await.ruling;
        let fault = ruling.fault.clone().expect("a fault");
        assert_eq!((ruling.outcome, ruling.blame, fault.code), (Outcome::RolledBack, blame, code), "{name}: {fault}");
        assert!(fault.code != Code::HookFailed || !fault.evidence.journal.is_empty(), "{name}");
        assert_eq!(site.is_quarantined("2"), blame == Blame::Release, "{name}");
        assert_eq!(site.units.up(), ["web", "web@1"], "{name}");
        assert_eq!(site.units.status_of("migrate@2").active, Active::Inactive, "{name}: it is ended, and forgotten");
        site.assert_closed();
    }
}

/// Before anything is touched nothing has to be undone, and what can't come to an end isn't begun.
#[tokio::test(start_paused = true)]
async fn a_hook_that_fails_first_leaves_all_as_it_was() {
    type Fails = fn(&Site);
    let cases: [(Fails, Blame, Code); 4] = [
        (|site| drop(site.units.unit("look@2").start_fails("exited with status 1")), Blame::Release, Code::HookFailed),
        (
            |site| drop(site.units.unit("tell@2").change(|status| status.start_limit = None)),
            Blame::Environment,
            Code::ConfigUnit,
        ),
        (
            |site| drop(site.units.unit("migrate@2").change(|status| status.runs_to_end = false)),
            Blame::Environment,
            Code::ConfigUnit,
        ),
        (|site| drop(site.units.unit("migrate@2").is_missing()), Blame::Environment, Code::UnitMissing),
    ];
    for (fails, blame, code) in cases {
        let site = site();
        fails(&site);
        let run = site.units.status_of("web@1").invocation;
        let ruling = site.deploy("2").await.ruling;
        let found = (ruling.outcome, ruling.blame, ruling.fault.map(|fault| fault.code));
        assert_eq!(found, (Outcome::Failed, blame, Some(code)));
        assert_eq!(site.units.status_of("web@1").invocation, run);
        site.assert_closed();
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_to_be_told_is_a_warning() {
    let site = site();
    site.units.unit("look@2").passes();
    site.units.unit("migrate@2").passes();
    site.units.unit("tell@2").start_fails("exited with status 1");
    let ruling = site.deploy("2").await.ruling;
    assert_eq!((ruling.outcome, ruling.fault), (Outcome::Done, None));
    assert!(ruling.warnings.concat().contains("the post_deploy hook tell@2.service exited with status 1"));
    assert_eq!(site.units.status_of("tell@2").active, Active::Inactive, "once it is told, its failure is forgotten");
    assert_eq!(site.links(), ["2", "1", "-"]);
    site.assert_closed();
}

#[tokio::test(start_paused = true)]
async fn the_end_of_one_that_was_begun_is_waited_for() {
    let site = site();
    let hook = |begun| Hook { point: HookPoint::Deploy, unit: UnitName::new("migrate@2.service"), begun };
    let host = site.host();
    site.units.unit("migrate@2").runs().change(|status| status.active = Active::Activating);
    let units = site.units.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(20)).await;
        units.unit("migrate@2").is_stopped_by_hand();
    });
    let began = Instant::now();
    assert_eq!(host.run_hook(&hook(true)).await, Ok(Observed::Nothing));
    assert_eq!(began.elapsed().as_secs(), 20);
    assert_eq!(calls(&site), Vec::<String>::new(), "it isn't begun again");
    site.units.unit("migrate@2").runs().change(|status| {
        (status.active, status.exit) = (Active::Failed, Some("exited with status 3".to_owned()));
    });
    let failure = host.run_hook(&hook(true)).await.expect_err("it failed");
    assert_eq!((failure.blame, failure.fault.code), (Blame::Release, Code::HookFailed));
}

/// The data changes under nobody, and goes back before what was live starts again.
#[tokio::test(start_paused = true)]
async fn a_breaking_migration_is_undone_before_the_old_slot_starts() {
    let hooks =
        "strategy = \"blue-green\"\n[hooks]\ndeploy = \"migrate@\"\nsnapshot = \"save@\"\nrestore = \"undo@\"\n";
    let deployed = async |fails: &[&str]| {
        let site = Site::serving(&["1", "2"]).set_all(hooks);
        for unit in ["save@2", "migrate@2", "undo@2", "web@2"] {
            match fails.contains(&unit) {
                true => drop(site.units.unit(unit).start_fails("exited with status 1")),
                false if unit == "web@2" => {}
                false => drop(site.units.unit(unit).passes()),
            }
        }
        let mut facts = site.facts("2");
        let how = How { strategy: None, migration: Migration::Breaking };
        facts.plan = Plan::of(&site.settings, how, Kind::Deploy, facts.from.as_ref(), &facts.to).expect("a plan");
        let driven = site.drive(facts).await;
        let barred = site.store.barred_by(&slot("1"), VersionOrder::Uapi).expect("readable").is_some();
        (site, driven.ruling, barred)
    };
    let (site, ruling, barred) = deployed(&[]).await;
    assert_eq!((ruling.outcome, barred), (Outcome::Done, true));
    let forth = ["stop web@1", "start save@2", "stop web@1", "start migrate@2", "stop web@1", "start web@2"];
    assert_eq!(calls(&site), forth);

    let (site, ruling, barred) = deployed(&["web@2"]).await;
    assert_eq!((ruling.outcome, ruling.blame, barred), (Outcome::RolledBack, Blame::Release, false));
    let back = &calls(&site)[forth.len()..];
    assert_eq!(back, ["stop web@2", "stop web@1", "start undo@2", "start web@1"]);

    // What is saved first changes nothing, and isn't the release's fault.
    let (site, ruling, barred) = deployed(&["save@2"]).await;
    assert_eq!((ruling.outcome, ruling.blame, barred), (Outcome::RolledBack, Blame::Environment, false));
    assert!(!calls(&site).contains(&"start undo@2".to_owned()), "{:?}", calls(&site));

    // Nothing starts on data that isn't its own.
    let (site, ruling, _) = deployed(&["web@2", "undo@2"]).await;
    assert_eq!((ruling.outcome, ruling.blame), (Outcome::Stuck, Blame::Release));
    assert_eq!((site.units.up(), site.link(Link::Current)), (Vec::<String>::new(), "1".to_owned()));
    assert!(ruling.warnings.concat().contains("the restore hook undo@2.service exited with status 1"));
    assert_eq!(site.units.status_of("undo@2").active, Active::Inactive);
    site.assert_closed();
}

#[test]
fn what_nobody_could_undo_is_refused() {
    let site = Site::serving(&["1", "2"]).set("[hooks]\ndeploy = \"migrate@\"\n");
    let how = |migration| How { strategy: None, migration };
    let plan = |migration, from: Option<&Side>| {
        Plan::of(&site.settings, how(migration), Kind::Deploy, from, &site.side("2")).map_err(|fault| fault.code)
    };
    let from = site.side("1");
    assert_eq!(plan(Migration::Breaking, Some(&from)), Err(Code::ReleaseIrreversible));
    assert!(plan(Migration::Breaking, None).is_ok(), "there is nothing to go back to");
    assert!(plan(Migration::Compatible, Some(&from)).is_ok());
}
