//! Retention: a removal cut off.

use slotd::config::Profile;
use slotd::model::Exit;

use super::die_at;
use crate::crash::Rig;
use crate::support::workshop::expect_exit;

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
