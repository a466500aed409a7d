//! A build that slotd was at when it died is ended, its files are taken back, and it begins anew with its artifact.

use slotd::agent::build::Step;
use slotd::config::Profile;

use crate::crash::{Rig, builds};
use crate::support::wait_until;
use crate::support::world::{PATIENCE, World};

/// Counts its runs, and changes what came with the release.
const SCRIPT: &str =
    "echo $SLOTD_VERSION >>/var/tmp/builds.log; mkdir -p made/deep; echo $SLOTD_SLOT >made/deep/slot; chmod 700 bin\n";

/// Runs until it is let go.
const HELD: &str =
    "echo $SLOTD_VERSION >>/var/tmp/builds.log; mkdir made; while [ ! -e /var/tmp/go ]; do sleep 0.1; done\n";

/// How often this release was built.
fn runs(world: &World, version: &str) -> usize {
    world.host.ok("cat /var/tmp/builds.log").lines().filter(|line| *line == version).count()
}

#[track_caller]
fn expect_begun(world: &World, version: &str, runs_before: usize) {
    wait_until("the build to run", PATIENCE, || match runs(world, version) {
        seen if seen > runs_before => Ok(()),
        seen => Err(format!("{seen}; {}; {}", world.json("status web"), world.journal())),
    });
}

/// It is live, as it was built, and nothing of the build is left.
#[track_caller]
fn expect_built(world: &World, slot: &str) {
    let version = slot.split('@').next().expect("a version");
    world.expect_status("web", slot, |status| status["current"] == slot);
    world.expect_idle("web");
    world.expect_serving(8080, version);
    builds::expect_cleared(world);
    let strangers = "find /var/lib/slotd/apps ! -user slotd; systemctl list-units --failed --plain --no-legend";
    assert_eq!(world.host.ok(strangers), "");
}

#[test]
fn row04_kill() {
    let rig = Rig::boot("row04-kill", Profile::User);
    let world = &rig.world;
    builds::add(world);
    world.host.ok("install -m 0666 /dev/null /var/tmp/builds.log");
    // What came to nothing isn't there, and what was done is done once more.
    let mut major = 10;
    for step in Step::ALL {
        for side in ["before", "after"] {
            let (point, version) = (format!("{side}:{}", step.as_str()), format!("{major}.0.0"));
            let path = builds::release(world, &version, SCRIPT);
            rig.arm(&point, 1);
            world.drop_in("web", &path);
            rig.expect_dead(&point);
            expect_built(world, &version);
            assert_eq!(builds::file(world, &version, "made/deep/slot"), version);
            let again = if *step < Step::Build || point == "before:build" { 1 } else { 2 };
            assert_eq!(runs(world, &version), again, "{point}");
            major += 1;
        }
    }

    // What is set is built in the end, too.
    for (mode, point) in [("one", "after:lend"), ("two", "after:build")] {
        rig.arm(point, 1);
        world.settings("web", &format!("[build.env]\nMODE = \"{mode}\"\n"));
        rig.expect_dead(point);
        expect_built(world, if mode == "one" { "19.0.0@r2" } else { "19.0.0@r3" });
    }
}

#[test]
fn a_build_whose_slotd_or_host_dies_begins_anew() {
    let rig = Rig::boot("row04-boot", Profile::User);
    let world = &rig.world;
    builds::add(world);
    world.host.ok("install -m 0666 /dev/null /var/tmp/builds.log");
    // In its middle: systemd would let it run on, beside the one that begins anew.
    world.drop_in("web", &builds::release(world, "30.0.0", HELD));
    expect_begun(world, "30.0.0", 0);
    let run = || world.host.ok("systemctl show -P InvocationID web-build@30.0.0.service");
    let before = run();
    world.host.ok("systemctl kill -s KILL slotd.service");
    expect_begun(world, "30.0.0", 1);
    assert_ne!(run(), before);
    world.host.ok("touch /var/tmp/go && chmod 644 /var/tmp/go");
    expect_built(world, "30.0.0");

    // Nobody has the tree lent after a boot, and its files still are the build's.
    world.host.ok("rm /var/tmp/go");
    world.drop_in("web", &builds::release(world, "31.0.0", HELD));
    expect_begun(world, "31.0.0", 0);
    world.host.ok("sync");
    world.host.crash();
    expect_begun(world, "31.0.0", 1);
    world.host.ok("touch /var/tmp/go && chmod 644 /var/tmp/go");
    expect_built(world, "31.0.0");
}
