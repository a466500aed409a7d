//! What is promised, on Debian 13 with systemd 257; the rest of the stories is told on the machine's own system.

mod running_support;
mod support;

use running_support::{
    BRIEF_PROOF, ask, gone_for_good_is_told, restarts_end_active, states, told, until, wanted_at_boot, word,
};
use support::host::{Root, shown, text};
use support::world::World;

#[test]
fn artifacts_come_by_cp_mv_and_deploy_a_broken_one_is_undone_and_an_operator_goes_back() {
    let world = World::boot("trixie", Root::Trixie);
    let version = text(&world.host.sh("systemctl --version"));
    assert!(version.starts_with("systemd 257"), "{version}");
    let checked = world.slotctl("check web");
    assert_eq!(checked.status.code(), Some(0), "{}", shown(&checked));

    world.cp("web", &world.artifact("web", "1.0.0", ""));
    world.expect_serving(8080, "1.0.0");
    world.mv("web", &world.artifact("web", "1.1.0+b5", ""));
    world.expect_serving(8080, "1.1.0+b5");
    let deployed = world.deploy("web", &world.artifact("web", "2.0.0", ""));
    assert_eq!(deployed.status.code(), Some(0), "{}", shown(&deployed));
    world.expect_serving(8080, "2.0.0");

    let broken = world.deploy("web", &world.artifact("web", "3.0.0", "exit-before-accept 3"));
    assert_eq!(broken.status.code(), Some(10), "{}", shown(&broken));
    world.settings("web", BRIEF_PROOF);
    let silent = world.deploy("web", &world.artifact("web", "3.1.0", "health-500"));
    assert_eq!(silent.status.code(), Some(10), "{}", shown(&silent));
    world.expect_serving(8080, "2.0.0");
    let why = world.ok("why web");
    for part in ["deploy 3.1.0 over 2.0.0: rolled-back", "broken version 3.1.0", "500", "quarantined"] {
        assert!(why.contains(part), "{part:?} is missing: {why}");
    }
    let back = world.slotctl("rollback web");
    assert_eq!(back.status.code(), Some(0), "{}", shown(&back));
    world.expect_serving(8080, "1.1.0+b5");
    assert_eq!(world.slots("web"), ["3.1.0 failed", "3.0.0 failed", "2.0.0 ready", "1.1.0+b5 active", "1.0.0 ready"]);
    assert_eq!(word(&world, "web"), "online");
    assert_eq!(world.host.ok("systemctl --failed --plain --no-legend"), "");

    wanted_at_boot(&world, "web.service");
    world.host.ok("systemctl mask --now slotd.service slotd.socket 2>&1");
    world.host.reboot();
    until(&world, "web web@1.1.0@bb5 web@2.0.0", "active active inactive");
    assert_eq!(ask(&world), "1.1.0+b5");
}

#[test]
fn restarts_stops_and_ends_of_slots_are_right() {
    let world = World::boot("trixie-gate", Root::Trixie);
    world.live("web", 8080, "1.0.0");
    gone_for_good_is_told(&world);
    restarts_end_active(&world);
    // A slot that isn't the live one ends with a stop and with a restart.
    world.live("web", 8080, "2.0.0");
    world.host.ok("systemctl start web@1.0.0 && systemctl restart web");
    assert_eq!(states(&world, "web web@2.0.0 web@1.0.0"), "active active inactive", "{}", told(&world));
    world.host.ok("systemctl start web@1.0.0 && systemctl stop web.socket");
    assert_eq!(states(&world, "web web@2.0.0 web@1.0.0 web.socket"), "inactive inactive inactive inactive");
    assert_eq!(word(&world, "web"), "stopped");
}
