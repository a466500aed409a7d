//! Versions: a slot whose removal is cut off leaves a version that means its bytes.

use slotd::config::Profile;
use slotd::model::Exit;

use super::die_at;
use crate::crash::Rig;
use crate::support::workshop::expect_exit;

#[test]
fn row08_kill() {
    let rig = Rig::boot("row08-kill", Profile::User);
    let world = &rig.world;
    let same = "/root/web-0.1.0.tar.zst";
    world.host.ok(&format!("mv {same} /root/same.tar.zst"));
    let other = world.make("web", "0.1.0", "health-500");
    world.host.ok(&format!("mv {other} /root/other.tar.zst"));
    let deploy = |file: &str| world.slotctl(&format!("deploy /root/{file}.tar.zst --app web --version 0.1.0"));
    for point in ["before:remove-slot", "after:remove-slot", "before:sweep"] {
        world.settings("web", "[retention]\nkeep = 10\n");
        expect_exit(&deploy("same"), Exit::ReadyNotLive as i32);
        world.settings("web", "[retention]\nkeep = 10\nmax_bytes = 1\n");
        die_at(&rig, point, "prune web");
        world.ok("prune web");
        let slots = world.slots("web");
        assert!(!slots.iter().any(|slot| slot.starts_with("0.1.0 ")), "{point}: {slots:?}");
        expect_exit(&deploy("other"), Exit::Artifact as i32);
        assert_eq!(world.host.ok("ls /var/lib/slotd/apps/web/gone/0.1.0"), "slot.json", "{point}");
        world.expect_serving(8080, "3.0.0");
    }
}
