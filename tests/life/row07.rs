//! Retention: numbers, ages and bytes of slots, and the bounds of the history.

use super::{expect_denied, expect_refused, expect_wrong, has, verdict, world};
use crate::support::wait_until;
use crate::support::workshop::{expect_exit, expect_parts};
use crate::support::world::{PATIENCE, World};

/// As if users had left the slot in the year 2020.
fn age(world: &World, slot: &str) {
    let long_ago = "2020-01-01T00:00:00.000Z";
    let folder = format!("/var/lib/slotd/apps/web/slots/{slot}");
    world.host.ok(&format!("sed -i 's/\"created\": \"[^\"]*\"/\"created\": \"{long_ago}\"/' {folder}/slot.json"));
    world.host.ok(&format!("sed -i 's/\"at\": \"[^\"]*\"/\"at\": \"{long_ago}\"/' {folder}/left.json"));
}

#[test]
fn row07_story() {
    let world = world("row07");
    world.settings("web", "[retention]\nkeep = 10\n");
    for version in ["1.0.0", "2.0.0", "3.0.0", "4.0.0", "5.0.0"] {
        world.live("web", 8080, version);
    }
    world.ok("pin web 2.0.0");
    for slot in ["1.0.0", "2.0.0", "4.0.0"] {
        age(&world, slot);
    }
    let all = world.json("prune web --dry-run");
    assert_eq!(
        verdict(&all, "1.0.0"),
        (true, "one of the 10 highest".to_owned()),
        "ages don't count unless they are set"
    );

    // What was last live too long ago goes; the fallback, what is live and what is pinned never do.
    world.settings("web", "[retention]\nkeep = 10\nmax_age = \"30d\"\n");
    world.ok("check web");
    let before = world.slots("web");
    let dry = world.json("prune web --dry-run");
    for (slot, kept, reason) in [
        ("5.0.0", true, "current"),
        ("4.0.0", true, "fallback"),
        ("3.0.0", true, "one of the 10 highest"),
        ("2.0.0", true, "pinned"),
        ("1.0.0", false, "last live more than 30 days ago"),
    ] {
        assert_eq!(verdict(&dry, slot), (kept, reason.to_owned()), "{slot}: {dry}");
    }
    assert_eq!(world.slots("web"), before, "a dry run removes nothing");
    expect_parts(&world.ok("prune web"), &["1.0.0", "removed", "last live more than 30 days ago"]);
    assert!(!has(&world, "1.0.0") && has(&world, "2.0.0") && has(&world, "4.0.0"), "{:?}", world.slots("web"));

    // Bytes: after the next deployment by itself.
    world.settings("web", "[retention]\nkeep = 10\nmax_bytes = \"1KiB\"\n");
    world.live("web", 8080, "6.0.0");
    wait_until("3.0.0 and 4.0.0 to go", PATIENCE, || match world.slots("web") {
        slots if slots == ["6.0.0 active", "5.0.0 ready", "2.0.0 ready"] => Ok(()),
        slots => Err(format!("{slots:?}")),
    });
    let trees =
        world.host.ok("ls /var/lib/slotd/apps/web/trees | grep -vc json; ls /var/lib/slotd/apps/web/artifacts | wc -l");
    assert_eq!(trees, "3\n3", "what no slot has goes with it");
    world.ok("rollback web");
    world.expect_serving(8080, "5.0.0");

    // What failed has a quota of its own, with its evidence.
    expect_exit(&world.deploy("web", &world.artifact("web", "7.0.0", "health-500")), 10);
    let dry = world.json("prune web --dry-run");
    assert_eq!(verdict(&dry, "7.0.0"), (true, "one of the 5 that failed last".to_owned()), "{dry}");
    world.host.ok("ls /var/lib/slotd/apps/web/slots/7.0.0/evidence/*.json");

    // The history has its own bounds.
    world.host.ok("echo 'history_deployments = 3' >>/etc/slotd/slotd.toml && systemctl restart slotd.service");
    wait_until("three deployments in the history", PATIENCE, || {
        match world.json("history web -n 100").as_array().map(Vec::len) {
            Some(3) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[track_caller]
pub fn row07_refusal(world: &World) {
    let before = world.slots("web");
    expect_refused(world, "prune nobody", 4, "unknown.app");
    expect_denied(world, "prune web");
    expect_wrong(world, "max_age = \"12m\"", "is no age: days as a number");
    expect_wrong(world, "max_age = 36501", "must be between 0 and 36500");
    expect_wrong(world, "max_age = \"101y\"", "has at most 36500 days");
    expect_wrong(world, "max_bytes = \"lots\"", "is no size");
    assert_eq!(world.slots("web"), before);
}
