//! The machine's stories, on a host of a few sets.

use super::super::effect::Kind;
use super::super::sim::{Sim, facts, failure, side};
use super::*;
use crate::model::Timestamp;
use crate::model::evidence::{Evidence, ProbeSeen};
use std::time::Duration;

fn deploy(host: &mut Sim) -> Ruling {
    let mut machine = Machine::new(host.facts.clone());
    host.run(&mut machine, 200);
    machine.ruling().expect("a result").clone()
}

/// Runs until the effect of this kind is next.
fn until(host: &mut Sim, machine: &mut Machine, kind: Kind) {
    for _ in 0..100 {
        match machine.effect() {
            Some(effect) if effect.kind() == kind => return,
            Some(_) => host.run(machine, 1),
            None => break,
        }
    }
    panic!("{kind:?} never came: {:?}", host.log);
}

fn up(host: &Sim, version: &str) -> bool {
    host.current.as_ref().map(ToString::to_string).as_deref() == Some(version)
        && host.running.iter().all(|unit| unit.as_str() == format!("web@{version}.service"))
        && !host.running.is_empty()
}

fn probe_failure() -> Failure {
    let mut failure = failure(Code::ProbeFailed, Blame::Release);
    failure.fault.evidence = Evidence {
        probe: Some(ProbeSeen {
            probe: "http /health".into(),
            asked: None,
            instance: "2".parse().expect("instance"),
            attempts: 3,
            last: "500".into(),
            at: Timestamp::from_unix_millis(0),
        }),
        ..Evidence::default()
    };
    failure
}

#[test]
fn a_good_release_goes_live_and_leaves_a_fallback() {
    let mut host = Sim::serving(facts(Some(side("1", 1)), side("2", 1)));
    assert_eq!(deploy(&mut host).outcome, Outcome::Done);
    assert!(up(&host, "2"));
    assert_eq!(host.fallback, Some("1".parse().expect("slot")));
    assert_eq!(host.intent, None);
}

#[test]
fn current_moves_only_after_the_proof() {
    let mut host = Sim::serving(facts(Some(side("1", 1)), side("2", 1)));
    deploy(&mut host);
    let at = |kind| host.log.iter().position(|effect| effect.kind() == kind).expect("performed");
    assert!(
        at(Kind::Verify) < at(Kind::Stop) && at(Kind::Start) < at(Kind::Prove) && at(Kind::Prove) < at(Kind::Switch)
    );
}

#[test]
fn every_stage_is_announced_before_it_acts() {
    let mut host = Sim::serving(facts(Some(side("1", 1)), side("2", 1)));
    deploy(&mut host);
    assert_eq!(host.log.first(), Some(&Effect::Announce));
    assert_eq!(host.log.iter().filter(|effect| **effect == Effect::Announce).count(), 5);
}

#[test]
fn a_candidate_that_fails_is_undone() {
    let mut host = Sim::serving(facts(Some(side("1", 1)), side("2", 1)));
    host.broken.insert("2".parse().expect("slot"));
    let ruling = deploy(&mut host);
    assert_eq!((ruling.outcome, ruling.blame), (Outcome::RolledBack, Blame::Release));
    assert!(up(&host, "1"));
    assert_eq!(host.next, None);
}

#[test]
fn a_first_release_that_fails_leaves_nothing() {
    let mut host = Sim::serving(facts(None, side("2", 1)));
    host.broken.insert("2".parse().expect("slot"));
    assert_eq!(deploy(&mut host).outcome, Outcome::Failed);
    assert_eq!((host.current, host.running.len(), host.gate), (None, 0, false));
}

#[test]
fn a_first_release_that_fails_after_the_link_stays() {
    let mut host = Sim::serving(facts(None, side("2", 1)));
    let mut machine = Machine::new(host.facts.clone());
    until(&mut host, &mut machine, Kind::AskOutside);
    machine.apply(Event::Failed(failure(Code::RouteOutside, Blame::Release))).expect("taken");
    host.run(&mut machine, 200);
    let ruling = machine.ruling().expect("a result");
    assert_eq!(ruling.outcome, Outcome::Failed);
    assert!(ruling.warnings[0].contains("nothing to go back to"), "{ruling:?}");
    assert!(up(&host, "2"));
}

#[test]
fn the_mark_is_raised_before_anything_can_refuse_the_release() {
    let machine = Machine::new(facts(Some(side("1", 1)), side("2", 1)));
    let kinds: Vec<Kind> = machine.script.iter().map(Effect::kind).collect();
    assert_eq!(kinds[..4], [Kind::Announce, Kind::Hold, Kind::RaiseMark, Kind::CheckUnits]);
}

#[test]
fn a_cancelled_deployment_is_undone_at_every_step() {
    for kind in [
        Kind::CheckUnits,
        Kind::AskLive,
        Kind::Stop,
        Kind::Start,
        Kind::Prove,
        Kind::Switch,
        Kind::AskOutside,
        Kind::Soak,
    ] {
        let mut host = Sim::serving(Facts { soak: Duration::from_secs(9), ..facts(Some(side("1", 1)), side("2", 1)) });
        let mut machine = Machine::new(host.facts.clone());
        until(&mut host, &mut machine, kind);
        machine.apply(Event::Cancel { by: "ann".into() }).expect("taken");
        assert_eq!(machine.apply(Event::Cancel { by: "bob".into() }), Err(Refused::Reverting));
        host.run(&mut machine, 200);
        let ruling = machine.ruling().expect("a result");
        assert_eq!((ruling.outcome, ruling.blame), (Outcome::Cancelled, Blame::Operator), "{kind:?}");
        assert!(up(&host, "1"), "{kind:?}: {host:?}");
    }
}

#[test]
fn it_is_too_late_to_cancel_what_is_live() {
    let mut host = Sim::serving(facts(Some(side("1", 1)), side("2", 1)));
    let mut machine = Machine::new(host.facts.clone());
    until(&mut host, &mut machine, Kind::Retire);
    assert_eq!(machine.apply(Event::Cancel { by: "ann".into() }), Err(Refused::TooLate));
    host.run(&mut machine, 200);
    assert_eq!(machine.apply(Event::Cancel { by: "ann".into() }), Err(Refused::Over));
}

#[test]
fn the_environment_is_blamed_if_the_live_slot_failed_the_same_probe() {
    let mut host = Sim::serving(facts(Some(side("1", 1)), side("2", 1)));
    let mut machine = Machine::new(host.facts.clone());
    until(&mut host, &mut machine, Kind::AskLive);
    let live = Live { up: true, failed_probe: Some("http /health".into()) };
    machine.apply(Event::Done(Observed::Live(live))).expect("taken");
    until(&mut host, &mut machine, Kind::Prove);
    machine.apply(Event::Failed(probe_failure())).expect("taken");
    host.run(&mut machine, 200);
    assert_eq!(machine.ruling().map(|ruling| ruling.blame), Some(Blame::Environment));
}

#[test]
fn the_environment_is_blamed_if_the_restored_slot_fails_the_same_probe() {
    for (probe, blame) in [("http /health", Blame::Environment), ("tcp other", Blame::Release)] {
        let mut host = Sim::serving(facts(Some(side("1", 1)), side("2", 1)));
        let mut machine = Machine::new(host.facts.clone());
        until(&mut host, &mut machine, Kind::Prove);
        machine.apply(Event::Failed(probe_failure())).expect("taken");
        until(&mut host, &mut machine, Kind::AskAgain);
        machine.apply(Event::Done(Observed::Again { failed_probe: Some(probe.into()) })).expect("taken");
        until(&mut host, &mut machine, Kind::Judge);
        let Some(Effect::Judge(ruling)) = machine.effect() else { panic!("judge is next") };
        assert_eq!(ruling.blame, blame);
    }
}

#[test]
fn an_app_stopped_by_hand_is_not_resurrected() {
    let mut host = Sim::serving(facts(Some(side("1", 1)), side("2", 1)));
    let mut machine = Machine::new(host.facts.clone());
    until(&mut host, &mut machine, Kind::Prove);
    host.running.clear();
    let stopped = Failure { rests: true, ..failure(Code::UnitStoppedByOther, Blame::Operator) };
    machine.apply(Event::Failed(stopped)).expect("taken");
    host.run(&mut machine, 200);
    assert_eq!(machine.ruling().map(|ruling| ruling.outcome), Some(Outcome::Cancelled));
    assert_eq!((host.running.len(), host.current), (0, Some("1".parse().expect("slot"))));
}

#[test]
fn a_slot_that_proved_itself_is_better_than_one_that_does_not_come_back() {
    let mut host = Sim::serving(Facts { soak: Duration::from_secs(9), ..facts(Some(side("1", 1)), side("2", 1)) });
    let mut machine = Machine::new(host.facts.clone());
    until(&mut host, &mut machine, Kind::Soak);
    host.broken.insert("1".parse().expect("slot"));
    machine.apply(Event::Failed(failure(Code::SoakFailed, Blame::Release))).expect("taken");
    host.run(&mut machine, 200);
    let ruling = machine.ruling().expect("a result");
    assert_eq!(ruling.outcome, Outcome::Failed);
    assert!(up(&host, "2"), "{host:?}");
}

#[test]
fn if_no_side_comes_up_it_is_stuck_and_current_is_the_one_that_worked() {
    let mut host = Sim::serving(facts(Some(side("1", 1)), side("2", 1)));
    let mut machine = Machine::new(host.facts.clone());
    until(&mut host, &mut machine, Kind::Prove);
    host.broken.extend(["1", "2"].map(|slot| slot.parse().expect("slot")));
    machine.apply(Event::Failed(probe_failure())).expect("taken");
    host.run(&mut machine, 200);
    assert_eq!(machine.ruling().map(|ruling| ruling.outcome), Some(Outcome::Stuck));
    assert_eq!(host.current, Some("1".parse().expect("slot")));
}

#[test]
fn a_current_that_cannot_be_moved_back_leaves_the_intent_open() {
    let mut host = Sim::serving(facts(Some(side("1", 1)), side("2", 1)));
    let mut machine = Machine::new(host.facts.clone());
    until(&mut host, &mut machine, Kind::AskOutside);
    machine.apply(Event::Failed(failure(Code::RouteOutside, Blame::Release))).expect("taken");
    until(&mut host, &mut machine, Kind::Point);
    machine.apply(Event::Failed(failure(Code::FsIo, Blame::Environment))).expect("taken");
    assert!(machine.is_left_open() && machine.effect().is_none());
    assert!(host.intent.is_some());
}

/// Nothing that goes wrong, wherever it does, ends anywhere but on a complete slot, or without a result.
#[test]
fn one_failure_at_any_effect_ends_well() {
    for from in [Some(side("1", 1)), None] {
        for fail_at in 0..40 {
            let mut host = Sim::serving(facts(from.clone(), side("2", 1)));
            let mut machine = Machine::new(host.facts.clone());
            host.run(&mut machine, fail_at);
            let Some(effect) = machine.effect().cloned() else { break };
            machine.apply(Event::Failed(failure(Code::FsIo, Blame::Environment))).expect("taken");
            host.run(&mut machine, 200);
            let ruling = machine.ruling().unwrap_or_else(|| panic!("no result after {effect:?}"));
            assert!(from.is_none() || host.current.is_some(), "{effect:?}");
            if ruling.outcome == Outcome::RolledBack {
                assert!(up(&host, "1"), "{effect:?}: {host:?}");
            }
        }
    }
}
