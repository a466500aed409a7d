//! The machine's stories, on a host of a few sets.

use super::super::effect::Kind;
use super::super::sim::{Sim, facts, facts_by, failure, side};
use super::*;
use crate::model::evidence::{Evidence, ProbeSeen};
use crate::model::{Numbers, Timestamp};
use std::time::Duration;

fn said(say: Say, by: &str) -> Event {
    Event::Said { say, by: by.into() }
}

/// The same with a soak time.
fn soaking(mut facts: Facts) -> Facts {
    facts.plan.soak = Duration::from_secs(9);
    facts
}

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
        let mut host = Sim::serving(soaking(facts(Some(side("1", 1)), side("2", 1))));
        let mut machine = Machine::new(host.facts.clone());
        until(&mut host, &mut machine, kind);
        machine.apply(said(Say::Cancel, "ann")).expect("taken");
        assert_eq!(machine.apply(said(Say::Cancel, "bob")), Err(Refused::Reverting));
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
    assert_eq!(machine.apply(said(Say::Cancel, "ann")), Err(Refused::TooLate));
    host.run(&mut machine, 200);
    assert_eq!(machine.apply(said(Say::Cancel, "ann")), Err(Refused::Over));
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
    let mut host = Sim::serving(soaking(facts(Some(side("1", 1)), side("2", 1))));
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

/// N = 4 by these numbers, `web@` alone.
fn four(max_surge: u32, max_unavailable: u32) -> Facts {
    facts_by(Some(side("1", 4)), side("2", 4), Numbers { max_surge, max_unavailable })
}

/// Runs to the end; after each effect no bound of (`surge`, `unavailable`) is broken. Returns the fewest that were ready
/// with users and the most that ran.
fn within_bounds(host: &mut Sim, machine: &mut Machine, surge: usize, unavailable: usize) -> (usize, usize) {
    let (mut fewest, mut most) = (usize::MAX, 0);
    while machine.effect().is_some() {
        host.run(machine, 1);
        let ready = host.route.intersection(&host.running).count();
        (fewest, most) = (fewest.min(ready), most.max(host.running.len()));
        assert!(ready + unavailable >= 4, "{ready} serve: {:?}", host.log);
        assert!(host.running.len() <= 4 + surge, "{} run: {:?}", host.running.len(), host.log);
    }
    (fewest, most)
}

#[test]
fn rolling_keeps_its_bounds_there_and_back() {
    for (surge, unavailable, fewest, most) in [(1, 0, 4, 5), (0, 1, 3, 4), (2, 1, 3, 6), (4, 0, 4, 8), (1, 1, 3, 5)] {
        let facts = soaking(four(surge, unavailable));
        let (surge, unavailable) = (surge as usize, unavailable as usize);
        let mut host = Sim::serving(facts.clone());
        let mut machine = Machine::new(facts.clone());
        let bounds = within_bounds(&mut host, &mut machine, surge, unavailable);
        assert_eq!(bounds, (fewest, most), "({surge}, {unavailable})");
        assert_eq!(machine.ruling().map(|ruling| ruling.outcome), Some(Outcome::Done));
        assert_eq!((up(&host, "2"), host.running.len()), (false, 4), "four of them");
        assert_eq!(host.current, Some("2".parse().expect("slot")));

        // And back, whatever fails, wherever it does.
        for fail_at in 0..200 {
            let mut host = Sim::serving(facts.clone());
            let mut machine = Machine::new(facts.clone());
            host.run(&mut machine, fail_at);
            match machine.effect() {
                None => break,
                Some(effect) if effect.kind() == Kind::Retire => break,
                Some(_) => {}
            }
            machine.apply(Event::Failed(failure(Code::ProbeFailed, Blame::Release))).expect("taken");
            within_bounds(&mut host, &mut machine, surge, unavailable);
            let outcome = machine.ruling().map(|ruling| ruling.outcome);
            assert!(matches!(outcome, Some(Outcome::RolledBack | Outcome::Failed)), "{outcome:?}");
            assert_eq!(host.current, Some("1".parse().expect("slot")));
            assert!(host.running.iter().all(|unit| unit.as_str().starts_with("web@1")), "{:?}", host.running);
            assert_eq!((host.running.len(), &host.route), (4, &host.running));
        }
    }
}

#[test]
fn blue_green_keeps_the_old_slot_warm_until_the_soak_is_over() {
    let facts = soaking(facts_by(Some(side("1", 1)), side("2", 1), Numbers { max_surge: 1, max_unavailable: 0 }));
    let mut host = Sim::serving(facts.clone());
    let mut machine = Machine::new(facts.clone());
    let old = host.route.clone();
    until(&mut host, &mut machine, Kind::Soak);
    assert_eq!((host.running.len(), host.route.len()), (2, 1), "both run, one serves");
    assert_eq!(host.standby, old, "and the other one stands by");
    // Going back is a switch: nothing has to be started.
    machine.apply(Event::Failed(failure(Code::SoakFailed, Blame::Release))).expect("taken");
    until(&mut host, &mut machine, Kind::Route);
    host.run(&mut machine, 1);
    assert_eq!((host.running.len(), &host.route, host.standby.len()), (2, &old, 0));
    host.run(&mut machine, 200);
    assert!(up(&host, "1"));

    // Where it can't be kept warm it goes before the soak.
    let mut cold = facts;
    cold.plan.warm = false;
    let mut host = Sim::serving(cold.clone());
    let mut machine = Machine::new(cold);
    until(&mut host, &mut machine, Kind::Soak);
    assert!(up(&host, "2") && host.standby.is_empty());
}

#[test]
fn a_canary_waits_for_the_word_and_so_does_a_switch_by_hand() {
    let mut facts = four(1, 0);
    facts.plan.pause_after = Some(1);
    facts.plan.weight = Some(10);
    facts.plan.by_hand = true;
    let mut host = Sim::serving(facts.clone());
    let mut machine = Machine::new(facts.clone());
    assert_eq!(machine.apply(said(Say::Promote, "ann")), Err(Refused::NothingToPromote));
    until(&mut host, &mut machine, Kind::Await);
    assert_eq!(machine.state(), State::Waiting);
    let Some(Effect::Route(traffic)) = machine.script.get(machine.at - 1) else { panic!("{:?}", machine.script) };
    assert_eq!((traffic.to.len(), traffic.weight), (4, Some(10)));
    machine.apply(said(Say::Promote, "ann")).expect("taken");
    // Then no further batch waits, but the switch does, without users on it.
    until(&mut host, &mut machine, Kind::Await);
    assert_eq!((host.running.len(), host.route.len()), (5, 4));
    assert_eq!(host.current, Some("1".parse().expect("slot")));
    assert_eq!(machine.apply(said(Say::Confirm, "ann")), Err(Refused::NothingToConfirm));
    machine.apply(said(Say::Promote, "ann")).expect("taken");
    host.run(&mut machine, 200);
    assert_eq!(machine.ruling().map(|ruling| ruling.outcome), Some(Outcome::Done));
    assert_eq!(host.running.len(), 4);
}

#[test]
fn what_nobody_confirms_goes_back() {
    let mut facts = soaking(facts_by(Some(side("1", 1)), side("2", 1), Numbers { max_surge: 1, max_unavailable: 0 }));
    facts.plan.confirm = true;
    for confirmed in [false, true] {
        let mut host = Sim::serving(facts.clone());
        let mut machine = Machine::new(facts.clone());
        until(&mut host, &mut machine, Kind::Soak);
        if confirmed {
            machine.apply(said(Say::Confirm, "ann")).expect("taken");
        }
        host.run(&mut machine, 200);
        let ruling = machine.ruling().expect("a result");
        let code = ruling.fault.as_ref().map(|fault| fault.code);
        match confirmed {
            true => assert_eq!((ruling.outcome, code, up(&host, "2")), (Outcome::Done, None, true)),
            false => assert_eq!(
                (ruling.outcome, code, up(&host, "1")),
                (Outcome::RolledBack, Some(Code::SoakUnconfirmed), true)
            ),
        }
    }
}
