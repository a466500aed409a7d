//! Pins: one that is set or lifted as slotd dies is there or not, and never half.

use slotd::config::Profile;
use slotd::model::Exit;

use super::die_at;
use crate::crash::Rig;
use crate::support::workshop::expect_exit;
use crate::support::world::World;

/// Whether the slot is pinned, or the app.
#[track_caller]
fn is_pinned(world: &World, slot: Option<&str>) -> bool {
    let Some(slot) = slot else { return !world.json("status web")["pinned"].is_null() };
    !world.json(&format!("inspect web {slot}"))["info"]["pinned"].is_null()
}

#[test]
fn row13_kill() {
    let rig = Rig::boot("row13-kill", Profile::User);
    let world = &rig.world;
    for (slot, name) in [(Some("2.0.0"), " 2.0.0"), (None, "")] {
        for (point, words, pinned) in [
            ("before:pin", "pin", false),
            ("after:pin", "pin", true),
            ("before:unpin", "unpin", true),
            ("after:unpin", "unpin", false),
        ] {
            die_at(&rig, point, &format!("{words} web{name}"));
            assert_eq!(is_pinned(world, slot), pinned, "{point}{name}");
        }
    }
    // A release that waited for the end of the pin goes live though slotd died as it was lifted.
    world.ok("pin web");
    expect_exit(&world.deploy("web", &world.artifact("web", "10.0.0", "")), Exit::ReadyNotLive as i32);
    die_at(&rig, "after:unpin", "unpin web");
    world.expect_serving(8080, "10.0.0");
    world.expect_idle("web");
}
