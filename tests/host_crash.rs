//! slotd killed before and after each step that changes the host, on a real systemd: each time the next start brings
//! everything to one side by itself, and `status` agrees with systemd.
//!
//! The points are the machine's own list of effects and prune's list of removals. `make test` kills at each of them
//! once, the scenarios taking turns; `make check-all` at each passing of each point in each scenario.

mod crash;
mod support;

use std::collections::HashMap;
use std::io::Write as _;

use crash::{Rig, Scenario};
use slotd::deployment::effect::Kind;
use slotd::slots::Removal;

/// All points that there are.
fn points() -> Vec<String> {
    let names = Kind::ALL.iter().map(|kind| kind.as_str()).chain(Removal::ALL.iter().map(|removal| removal.as_str()));
    names.flat_map(|name| [format!("before:{name}"), format!("after:{name}")]).collect()
}

/// A death: at which point, and at which of its passings in the scenario.
type Death = (String, usize);

/// Each passing of `log`, as a point and which time it is.
fn passings(log: &[String]) -> Vec<Death> {
    let mut counts = HashMap::new();
    let mut number = |point: &String| {
        let count: &mut usize = counts.entry(point.clone()).or_default();
        *count += 1;
        (point.clone(), *count)
    };
    log.iter().map(&mut number).collect()
}

/// Where a runner shows it: what a test prints is otherwise kept from those who look at one that passed.
fn tell(line: &str) {
    // A closed output is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
fn killed_at_every_point_once() {
    let rig = Rig::boot("crash");
    let mut passed = Vec::new();
    for scenario in Scenario::ALL {
        rig.set_up(scenario);
        passed.push((scenario, passings(&rig.record(scenario))));
    }
    let points = points();
    let mut deaths: Vec<(Scenario, Death)> = Vec::new();
    for (number, point) in points.iter().enumerate() {
        let ways: Vec<(Scenario, &Death)> = passed
            .iter()
            .flat_map(|(scenario, passings)| passings.iter().map(|death| (*scenario, death)))
            .filter(|(_, (passed, _))| passed == point)
            .collect();
        assert!(!ways.is_empty(), "no scenario passes {point}");
        let (scenario, death) = ways[number % ways.len()];
        deaths.push((scenario, death.clone()));
    }
    let mut fired = 0;
    for scenario in Scenario::ALL {
        rig.set_up(scenario);
        for (_, (point, passing)) in deaths.iter().filter(|(of, _)| *of == scenario) {
            rig.die_at(scenario, point, *passing);
            fired += 1;
        }
    }
    tell(&format!("killed at every point once: points={} fired={fired}", points.len()));
    assert_eq!(points.len(), fired);
}

/// Every passing of every point in one scenario.
fn everywhere(scenario: Scenario) {
    let rig = Rig::boot("crash-all");
    rig.set_up(scenario);
    let passings = passings(&rig.record(scenario));
    for (point, passing) in &passings {
        rig.die_at(scenario, point, *passing);
    }
    tell(&format!("{scenario:?}: points={} fired={}", passings.len(), passings.len()));
}

#[test]
#[ignore = "takes minutes: make check-all"]
fn killed_everywhere_while_a_good_release_goes_live() {
    everywhere(Scenario::Good);
}

#[test]
#[ignore = "takes minutes: make check-all"]
fn killed_everywhere_while_a_release_fails_its_probe() {
    everywhere(Scenario::ProbeFails);
}

#[test]
#[ignore = "takes minutes: make check-all"]
fn killed_everywhere_while_an_operator_goes_back() {
    everywhere(Scenario::Rollback);
}

#[test]
#[ignore = "takes minutes: make check-all"]
fn killed_everywhere_while_retention_removes() {
    everywhere(Scenario::Prune);
}
