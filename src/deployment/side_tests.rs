//! Every state × current × running × route set, N ≤ 3: one outcome each, ending with
//! current = running = route = the chosen side.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::machine::Machine;
use super::super::sim::{Sim, facts, runs, side};
use super::super::stage::{Live, Ruling, Runs, Settling, Stage, Target};
use super::*;
use crate::model::UnitName;
use crate::model::slot::Phase;

/// Every stage that an intent for these facts can hold.
fn stages(facts: &Facts) -> Vec<Stage> {
    let live = Live { up: facts.from.is_some(), failed_probe: None };
    let proved = runs(&facts.to);
    let mut stages = vec![
        Stage::Preparing,
        Stage::Starting { live: live.clone(), batch: 0, proved: Runs::new() },
        Stage::Proving { live: live.clone(), batch: 0, proved: Runs::new(), started: proved.clone() },
        Stage::Switching { live: live.clone(), proved: proved.clone() },
        Stage::Soaking { live, proved: proved.clone(), left: Duration::from_secs(60) },
        Stage::Post { proved },
    ];
    let ruling = |outcome| Ruling {
        outcome,
        fault: Some(Fault::new(Code::ProbeFailed, "no")),
        blame: Blame::Release,
        phase: Phase::Proving,
        warnings: Vec::new(),
    };
    let settling =
        |to, serve, alternative, outcome| Stage::Settling(Settling { to, serve, alternative, ruling: ruling(outcome) });
    match facts.from {
        Some(_) => stages.extend([
            settling(Target::From, true, false, Outcome::RolledBack),
            settling(Target::From, true, true, Outcome::RolledBack),
            settling(Target::To, true, true, Outcome::Failed),
        ]),
        None => stages.extend([
            settling(Target::Nothing, false, false, Outcome::Failed),
            settling(Target::To, true, false, Outcome::Failed),
        ]),
    }
    stages
}

fn subsets(units: &[UnitName]) -> Vec<BTreeSet<UnitName>> {
    let take = |mask: usize| units.iter().enumerate().filter(move |(i, _)| mask >> i & 1 == 1);
    (0..1 << units.len()).map(|mask| take(mask).map(|(_, unit)| unit.clone()).collect()).collect()
}

/// Hosts as they may be found: what `current` names, what runs, what the route has, who is broken.
fn hosts(facts: &Facts) -> Vec<Sim> {
    let (a, b) = (facts.from.as_ref().map(|side| side.slot.clone()), facts.to.slot.clone());
    let units: Vec<UnitName> = facts.from.iter().chain([&facts.to]).flat_map(Side::unit_names).collect();
    let foreign: SlotName = "9.9".parse().expect("slot");
    // `current` with the `next` that goes with it; without A, `current` may not be there yet.
    let links = [(a.clone(), Some(b.clone())), (Some(b.clone()), a.clone()), (Some(foreign), Some(b.clone()))];
    let mut hosts = Vec::new();
    for (current, next) in links {
        for running in subsets(&units) {
            for (broken_a, broken_b, gate) in
                [(false, false, true), (true, false, true), (false, true, true), (false, false, false)]
            {
                for route in [BTreeSet::new(), running.clone(), units.iter().cloned().collect()] {
                    let mut host = Sim::serving(facts.clone());
                    host.current = current.clone();
                    host.next = next.clone();
                    host.running = running.clone();
                    host.route = route;
                    host.gate = gate;
                    host.broken.extend(broken_a.then(|| a.clone()).flatten());
                    host.broken.extend(broken_b.then(|| b.clone()));
                    hosts.push(host);
                }
            }
        }
    }
    hosts
}

fn recover(host: &mut Sim, stage: &Stage, same_boot: bool, most: usize) -> Machine {
    let chosen = choose(&host.facts, stage, &host.found(stage, same_boot));
    let mut machine = Machine::resume(host.facts.clone(), chosen);
    host.run(&mut machine, most);
    machine
}

/// Holds the end of a recovery against the promise.
fn judge(before: &Sim, after: &Sim, machine: &Machine, case: &str) {
    let ruling = machine.ruling().unwrap_or_else(|| panic!("no result: {case}"));
    assert!(machine.effect().is_none() && !machine.is_left_open(), "not over: {case}");
    assert!(before.current.is_none() || after.current.is_some(), "current was lost: {case}");
    assert_eq!(after.next, None, "next stayed: {case}");
    let expected: BTreeSet<UnitName> = match &after.current {
        Some(slot) => {
            let sides = after.facts.from.iter().chain([&after.facts.to]);
            let side = sides.into_iter().find(|side| &side.slot == slot).cloned();
            side.unwrap_or_else(|| side_of(slot)).unit_names().into_iter().collect()
        }
        None => BTreeSet::new(),
    };
    match ruling.outcome {
        Outcome::Stuck => return,
        Outcome::Done => assert_eq!(after.current.as_ref(), Some(&after.facts.to.slot), "{case}"),
        Outcome::RolledBack => {
            assert_eq!(after.current, after.facts.from.as_ref().map(|from| from.slot.clone()), "{case}");
        }
        Outcome::Failed | Outcome::Cancelled | Outcome::Superseded => {}
    }
    if before.gate || !before.running.is_empty() {
        assert_eq!(after.running, expected, "running isn't what current names: {case}");
        assert_eq!(after.route, expected, "route isn't what current names: {case}");
    } else {
        // At rest, only a deployment that had not begun to start anything may bring the app up.
        assert!(after.running.is_empty() || after.running == expected, "{case}");
    }
}

fn side_of(slot: &SlotName) -> Side {
    side(&slot.to_string(), 1)
}

#[test]
fn every_state_ends_on_one_side() {
    let mut cases = 0;
    for n in 1..=3 {
        for from in [Some(side("1", n)), None] {
            let facts = facts(from, side("2", n));
            for stage in stages(&facts) {
                for host in hosts(&facts) {
                    for same_boot in [true, false] {
                        let mut after = host.clone();
                        let machine = recover(&mut after, &stage, same_boot, 200);
                        let case = format!("{stage:?} on {host:?}, same boot {same_boot}, ended {after:?}");
                        judge(&host, &after, &machine, &case);
                        cases += 1;
                    }
                }
            }
        }
    }
    assert!(cases > 10_000, "{cases} cases");
}

/// Recovery that is itself killed after any effect ends where the undisturbed one ends.
#[test]
fn twice_is_once() {
    for from in [Some(side("1", 1)), None] {
        let facts = facts(from, side("2", 1));
        for stage in stages(&facts) {
            for host in hosts(&facts) {
                let mut whole = host.clone();
                let ended = recover(&mut whole, &stage, true, 200);
                for cut in 1..60 {
                    let mut torn = host.clone();
                    torn.intent = Some(stage.clone());
                    let first = recover(&mut torn, &stage, true, cut);
                    if first.effect().is_none() {
                        break;
                    }
                    let Some(open) = torn.intent.clone() else { continue };
                    let second = recover(&mut torn, &open, true, 200);
                    let case = format!("{stage:?} on {host:?}, cut after {cut}: {torn:?}");
                    assert!(second.effect().is_none(), "{case}");
                    if ended.ruling().map(|ruling| ruling.outcome) != Some(Outcome::Stuck) && host.broken.is_empty() {
                        assert_eq!((&torn.current, &torn.running), (&whole.current, &whole.running), "{case}");
                    }
                }
            }
        }
    }
}
