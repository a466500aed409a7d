//! `retry`: once somebody was told that it is tried again, it is, though slotd dies.

use slotd::config::Profile;
use slotd::model::Exit;

use super::die_at;
use crate::crash::Rig;
use crate::support::workshop::expect_exit;

#[test]
fn row03_kill() {
    let rig = Rig::boot("row03-kill", Profile::User);
    let world = &rig.world;
    for (version, point) in [("10.0.0", "after:queue"), ("11.0.0", "before:start"), ("12.0.0", "after:switch")] {
        let unit = format!("web@{version}.service");
        world.host.ok(&format!("systemctl mask --runtime {unit}"));
        let sent = world.send("web", &world.make("web", version, ""));
        expect_exit(&sent, Exit::Failed as i32);
        world.host.ok(&format!("systemctl unmask --runtime {unit}"));
        rig.arm(point, 1);
        world.slotctl("retry web");
        rig.expect_dead(point);
        world.expect_serving(8080, version);
        let last = world.expect_idle("web")["last"].clone();
        assert_eq!((&last["to"], &last["ended"]["outcome"]), (&version.into(), &"done".into()), "{point}: {last}");
    }
    // Before it is written down nobody was told, and it comes after its pause, or on the next word.
    world.host.ok("systemctl mask --runtime web@13.0.0.service");
    expect_exit(&world.send("web", &world.make("web", "13.0.0", "")), Exit::Failed as i32);
    world.host.ok("systemctl unmask --runtime web@13.0.0.service");
    die_at(&rig, "before:queue", "retry web");
    world.expect_serving(8080, "13.0.0");
    world.expect_idle("web");
}
