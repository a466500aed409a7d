//! slotd killed in the middle of a row of `tests/README.md`: what was asked for is done, or can be asked for again.

mod crash;
mod support;

use crash::Rig;
use slotd::config::Profile;
use slotd::model::Exit;
use support::host::shown;
use support::workshop::expect_exit;
use support::world::World;

/// Says something in which slotd dies at `point`; the caller is told that nobody answered.
#[track_caller]
fn die_at(rig: &Rig, point: &str, words: &str) {
    rig.arm(point, 1);
    let output = rig.world.host.sh(&format!("timeout 60 slotctl {words}"));
    assert_eq!(output.status.code(), Some(Exit::Unreachable as i32), "{point}, {words}: {}", shown(&output));
    rig.expect_dead(point);
}

/// Whether the slot is pinned, or the app.
#[track_caller]
fn is_pinned(world: &World, slot: Option<&str>) -> bool {
    let Some(slot) = slot else { return !world.json("status web")["pinned"].is_null() };
    !world.json(&format!("inspect web {slot}"))["info"]["pinned"].is_null()
}

#[test]
fn row07_kill() {
    let rig = Rig::boot("row07-kill", Profile::User);
    let world = &rig.world;
    // 3.0.0 is live, 2.0.0 the fallback; 1.0.0 goes, at each point of its removal.
    for point in
        ["before:remove-instances", "after:remove-instances", "before:remove-slot", "after:remove-slot", "before:sweep"]
    {
        world.settings("web", "[retention]\nkeep = 10\n");
        if !world.slots("web").iter().any(|slot| slot.starts_with("1.0.0 ")) {
            expect_exit(&world.slotctl("deploy /root/web-1.0.0.tar.zst --app web"), Exit::ReadyNotLive as i32);
        }
        world.settings("web", "[retention]\nkeep = 10\nmax_bytes = 1\n");
        die_at(&rig, point, "prune web");
        let left = world.json("prune web");
        assert_eq!(left["warnings"], serde_json::json!([]), "{point}: {left}");
        assert!(!world.slots("web").iter().any(|slot| slot.starts_with("1.0.0 ")), "{point}: {:?}", world.slots("web"));
        let trees = "cd /var/lib/slotd/apps/web; ls slots | wc -l; ls trees | grep -vc json; ls artifacts | wc -l";
        let counts = world.host.ok(trees);
        let counts: Vec<&str> = counts.lines().collect();
        assert!(counts.iter().all(|count| *count == counts[0]), "{point}: slots, trees, artifacts {counts:?}");
        world.expect_serving(8080, "3.0.0");
    }
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
