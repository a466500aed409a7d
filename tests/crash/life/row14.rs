//! Freezes, and what is scheduled: each is there or not, and what it led to comes once.

use serde_json::Value;
use slotd::config::Profile;
use slotd::model::Exit;

use super::die_at;
use crate::crash::Rig;
use crate::support::wait_until;
use crate::support::workshop::expect_exit;
use crate::support::world::{PATIENCE, World};

/// Whether the app is frozen by its own freeze, or with all.
#[track_caller]
fn frozen(world: &World, all: bool) -> bool {
    world.json("status web")["frozen"]["all"] == all
}

/// The ends of the deployments to this slot, the newest first.
fn ends(world: &World, slot: &str) -> Vec<String> {
    let past = world.json("history web -n 200").as_array().cloned().unwrap_or_default();
    let of_slot = past.iter().filter(|report| report["to"] == slot);
    of_slot.map(|report| format!("{} {}", report["id"], report["ended"]["outcome"])).collect()
}

#[test]
fn row14_kill() {
    let rig = Rig::boot("row14-kill", Profile::User);
    let world = &rig.world;
    for (name, all) in [(" web", false), ("", true)] {
        for (point, verb, is_frozen) in [
            ("before:freeze", "freeze", false),
            ("after:freeze", "freeze", true),
            ("before:unfreeze", "unfreeze", true),
            ("after:unfreeze", "unfreeze", false),
        ] {
            die_at(&rig, point, &format!("{verb}{name}"));
            assert_eq!(frozen(world, all), is_frozen, "{point}{name}");
        }
    }
    // What waited goes live though slotd died as the freeze was lifted.
    world.ok("freeze");
    expect_exit(&world.deploy("web", &world.artifact("web", "10.0.0", "")), Exit::ReadyNotLive as i32);
    die_at(&rig, "after:unfreeze", "unfreeze");
    world.expect_serving(8080, "10.0.0");
    world.expect_idle("web");

    // A schedule that slotd died over is there or not.
    die_at(&rig, "before:schedule", "activate web 3.0.0 --at 1h");
    assert!(world.json("status web")["scheduled"].is_null());
    die_at(&rig, "after:schedule", "activate web 3.0.0 --at 1h");
    let id = world.json("status web")["scheduled"]["id"].clone();
    assert_ne!(id, Value::Null);
    die_at(&rig, "before:schedule", "cancel web");
    assert_eq!(world.json("status web")["scheduled"]["id"], id, "it wasn't taken back");
    die_at(&rig, "after:schedule", "cancel web");
    assert!(world.json("status web")["scheduled"].is_null());
    let told = world.json(&format!("why {}", id.as_str().expect("an id")));
    assert_eq!(told["ended"]["outcome"], "cancelled", "{told}");

    // At its time it begins once, under its id, wherever slotd dies.
    for point in ["before:queue", "after:queue", "before:announce", "after:switch", "after:close"] {
        let live = world.json("status web")["current"].clone();
        let to = if live == "3.0.0" { "2.0.0" } else { "3.0.0" };
        let before = ends(world, to).len();
        let told = world.json(&format!("activate web {to} --at 2s"));
        rig.arm(point, 1);
        rig.expect_dead(point);
        world.expect_serving(8080, to);
        world.expect_idle("web");
        let line = format!("{} \"done\"", told["id"]);
        wait_until(&format!("{point}: {line} once"), PATIENCE, || match ends(world, to) {
            ends if ends.len() == before + 1 && ends[0] == line => Ok(()),
            ends => Err(format!("{ends:?}")),
        });
    }
}
