//! The share of new users that a canary gets, counted.

use super::load::Load;
use super::program::SAMPLE;
use super::{Route, VERSIONS, app_on};
use crate::route_support::count;
use crate::support::workshop::expect_exit;
use crate::support::world::World;

/// New connections that are counted.
const CONNECTIONS: u32 = 10_000;

/// A row of counts: one of the new instances waits for `promote`, with this percentage of new connections.
#[track_caller]
pub fn gets_its_share(route: &Route, weight: u32) {
    let world = app_on(route, &SAMPLE);
    let artifact = SAMPLE.release(&world, VERSIONS[1]);
    let load = Load::start(&world, 8080, "");
    expect_exit(&world.slotctl(&format!("deploy {artifact} --app web --no-wait")), 0);
    expect_waiting(&world);
    let before = load.end();
    let answered = count(&world, CONNECTIONS, VERSIONS[1]);
    println!("handover canary-{} weight={weight} requests={CONNECTIONS} by_canary={answered}", route.name);
    let percent = |share: u32| CONNECTIONS / 100 * share;
    assert!((percent(weight - 1)..=percent(weight + 1)).contains(&answered), "{answered} of {CONNECTIONS}");

    let load = Load::start(&world, 8080, "");
    expect_exit(&world.slotctl("promote web"), 0);
    world.expect_idle("web");
    let after = load.end();
    // All of them, now that the word is said.
    assert_eq!(count(&world, 100, VERSIONS[1]), 100);
    for counted in [before, after] {
        assert_eq!((counted.count("failed"), counted.wrk_failed()), (0, 0), "{} {}", counted.client, counted.wrk);
    }
}

#[track_caller]
fn expect_waiting(world: &World) {
    world.expect_status("web", "the canary to wait", |status| {
        status["deployment"]["waiting"]["what"] == "an operator's `promote`"
    });
}
