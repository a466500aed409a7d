//! The way of an artifact on a real systemd, as whoever drops it sees it.

mod support;

use support::host::Root;
use support::world::World;

#[test]
fn a_dropped_artifact_serves_the_next_one_replaces_it_and_a_broken_one_is_undone() {
    let world = World::boot("story", Root::Own);
    world.live("web", 8080, "1.0.0");
    world.live("web", 8080, "2.0.0");
    let broken = world.artifact("web", "3.0.0", "exit-before-accept 3");
    let deployed = world.deploy("web", &broken);
    assert_eq!(deployed.status.code(), Some(10), "{}", support::host::shown(&deployed));
    world.expect_serving(8080, "2.0.0");
    assert_eq!(world.slots("web"), ["3.0.0 failed", "2.0.0 active", "1.0.0 ready"]);
    let why = world.ok("why web");
    for part in [
        "deploy 3.0.0 over 2.0.0: rolled-back",
        "exited with status 3",
        "can't start: its BEHAVIOUR says so",
        "quarantined",
    ] {
        assert!(why.contains(part), "{part:?} is missing: {why}");
    }
}
