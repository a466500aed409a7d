//! Every state × current × running × route set, N ≤ 3: one outcome each, ending with
//! current = running = route = the chosen side.

use std::collections::BTreeSet;

use super::super::machine::Machine;
use super::super::sim::{Sim, breaking, facts, facts_by, hooked, side, stages};
use super::super::stage::Stage;
use super::*;
use crate::model::{Numbers, UnitName};

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
                    host.along = facts.from.iter().flat_map(Side::unit_names).all(|unit| running.contains(&unit));
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

/// The ways to move N instances: all four of each kind.
fn ways(n: u32) -> Vec<Numbers> {
    let mut ways = vec![Numbers::stop_start(n), Numbers { max_surge: n, max_unavailable: 0 }];
    if n > 1 {
        ways.extend([Numbers { max_surge: 1, max_unavailable: 0 }, Numbers { max_surge: 0, max_unavailable: 1 }]);
    }
    ways
}

/// Holds the end of a recovery against the promise.
fn judge(before: &Sim, after: &Sim, machine: &Machine, case: &dyn Fn() -> String) {
    let ruling = machine.ruling().unwrap_or_else(|| panic!("no result: {}", case()));
    // What still serves beside a side that doesn't come up is left alone, and all is tried again.
    let tried_again = ruling.outcome == Outcome::Stuck && before.facts.plan.overlap;
    assert!(machine.effect().is_none() && (tried_again || !machine.is_left_open()), "not over: {}", case());
    if machine.is_left_open() {
        return;
    }
    assert!(before.current.is_none() || after.current.is_some(), "current was lost: {}", case());
    assert_eq!(after.next, None, "next stayed: {}", case());
    let expected: BTreeSet<UnitName> = match &after.current {
        Some(slot) => {
            let sides = after.facts.from.iter().chain([&after.facts.to]);
            let side = sides.into_iter().find(|side| &side.slot == slot).cloned();
            side.unwrap_or_else(|| side_of(slot)).unit_names().into_iter().collect()
        }
        None => BTreeSet::new(),
    };
    assert!(after.along || after.facts.along.is_empty(), "what went down with it stays down: {}", case());
    match ruling.outcome {
        Outcome::Stuck => return,
        Outcome::Done => assert_eq!(after.current.as_ref(), Some(&after.facts.to.slot), "{}", case()),
        Outcome::RolledBack => {
            assert_eq!(after.current, after.facts.from.as_ref().map(|from| from.slot.clone()), "{}", case());
        }
        Outcome::Failed | Outcome::Cancelled | Outcome::Superseded => {}
    }
    if before.gate || !before.running.is_empty() {
        assert_eq!(after.running, expected, "running isn't what current names: {}", case());
        assert_eq!(after.route, expected, "route isn't what current names: {}", case());
    } else {
        // At rest, only a deployment that had not begun to start anything may bring the app up.
        assert!(after.running.is_empty() || after.running == expected, "{}", case());
    }
}

fn side_of(slot: &SlotName) -> Side {
    side(&slot.to_string(), 1)
}

#[test]
fn every_state_ends_on_one_side() {
    let mut cases = 0;
    for n in 1..=3 {
        let moves = ways(n).into_iter().map(|numbers| facts_by(Some(side("1", n)), side("2", n), numbers));
        for facts in moves.chain([facts(None, side("2", n))]) {
            // With three instances there are more hosts than are worth their time.
            let step = if n == 3 { 11 } else { 1 };
            for stage in stages(&facts) {
                for host in hosts(&facts).into_iter().step_by(step) {
                    for same_boot in [true, false] {
                        let mut after = host.clone();
                        let machine = recover(&mut after, &stage, same_boot, 300);
                        let case = || format!("{stage:?} on {host:?}, same boot {same_boot}, ended {after:?}");
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
    let moves = [(1, 0), (1, 1), (2, 1)].map(|(n, surge)| {
        let numbers =
            if surge == 0 { Numbers::stop_start(n) } else { Numbers { max_surge: surge, max_unavailable: 0 } };
        facts_by(Some(side("1", n)), side("2", n), numbers)
    });
    for facts in moves.into_iter().chain([facts(None, side("2", 1))]) {
        // Of the many hosts with several instances every seventh is enough.
        let step = if facts.to.units[0].instances > 1 { 7 } else { 1 };
        for stage in stages(&facts) {
            for host in hosts(&facts).into_iter().step_by(step) {
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

/// How often the hook at this point may still begin from `stage` on.
fn may_begin(stage: &Stage, point: HookPoint) -> usize {
    let may = match point {
        HookPoint::Build => false,
        HookPoint::Preflight => *stage == Stage::Preparing,
        HookPoint::Deploy if matches!(stage, Stage::Hooking { point: HookPoint::Snapshot, .. }) => true,
        HookPoint::Snapshot | HookPoint::Deploy => matches!(stage, Stage::Preparing | Stage::Clearing { .. }),
        HookPoint::Restore => true,
        HookPoint::PostDeploy => !matches!(stage, Stage::Telling { .. } | Stage::Settling(_)),
    };
    usize::from(may)
}

/// What may have begun isn't begun again, however often slotd is killed, and nothing of it is left running.
#[test]
fn a_hook_begins_once_and_is_never_left_behind() {
    let surge = Numbers { max_surge: 1, max_unavailable: 0 };
    let (a, b) = (|| Some(side("1", 1)), || side("2", 1));
    let plain = [facts(a(), b()), facts_by(a(), b(), surge), facts(None, b())].map(hooked);
    let breaks = [facts(a(), b()), facts(None, b())].map(breaking);
    for facts in plain.into_iter().chain(breaks) {
        let restore = facts.hook(HookPoint::Restore);
        let a = facts.from.clone();
        for stage in stages(&facts) {
            let own = stage.hook().and_then(|point| facts.hook(point));
            for (host, n) in hosts(&facts).into_iter().zip(0..) {
                let mut host = host;
                // It doesn't run, or runs, or has failed.
                host.hooks.extend(own.clone().filter(|_| n % 3 == 1));
                host.bad_hooks.extend(own.clone().filter(|_| n % 3 == 2));
                host.bad_hooks.extend(restore.clone().filter(|_| n % 5 == 4));
                host.migrated = stage.has_migrated(&facts);
                let check = |after: &Sim, case: &dyn Fn() -> String| {
                    assert!(after.hooks.is_empty(), "left running: {}", case());
                    // What was live before runs on data of its own form alone.
                    let old = a.iter().flat_map(Side::unit_names).find(|unit| after.running.contains(unit));
                    let is_over = after.intent.is_none();
                    assert!(!(is_over && after.migrated && old.is_some()), "{old:?} on other data: {}", case());
                    for point in HookPoint::ALL {
                        let Some(unit) = facts.hook(point) else { continue };
                        let begun = after.hooks_begun.get(&unit).copied().unwrap_or_default();
                        // A preflight only looks, and the data is restored until it is.
                        let again = matches!(point, HookPoint::Preflight | HookPoint::Restore)
                            || begun <= may_begin(&stage, point);
                        assert!(again, "{point} began {begun} times: {}", case());
                    }
                };
                let mut whole = host.clone();
                let machine = recover(&mut whole, &stage, true, 300);
                let case = || format!("{stage:?} on {host:?}, ended {whole:?}");
                judge(&host, &whole, &machine, &case);
                check(&whole, &case);
                // Of the many hosts some are enough to be cut off on, each hook in each of its states among them.
                for cut in (1..40).take(if n % 11 == 0 { 40 } else { 0 }) {
                    let mut torn = host.clone();
                    torn.intent = Some(stage.clone());
                    let first = recover(&mut torn, &stage, true, cut);
                    let Some(open) = torn.intent.clone().filter(|_| first.effect().is_some()) else { continue };
                    // Nothing is cut off in the middle of a hook here: it is over, or was never begun.
                    recover(&mut torn, &open, true, 200);
                    check(&torn, &|| format!("{stage:?} on {host:?}, cut after {cut}: {torn:?}"));
                }
            }
        }
    }
}
