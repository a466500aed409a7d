//! Cancel: what somebody was told is cancelled stays so though slotd dies.

use slotd::config::Profile;
use slotd::model::Exit;

use crate::crash::Rig;
use crate::support::workshop::expect_exit;

#[test]
fn row12_kill() {
    let rig = Rig::boot("row12-kill", Profile::User);
    let world = &rig.world;
    // Under way: slotd dies once the way back is announced, or in the middle of it.
    for (version, point) in [("10.0.0", "after:announce"), ("11.0.0", "before:stop-others"), ("12.0.0", "before:close")]
    {
        world.settings("web", "[soak]\ntime = \"60s\"\n");
        let path = world.make("web", version, "");
        world.begin("sent", &format!("deploy {path} --app web"));
        world.expect_status("web", "soaking", |status| status["deployment"]["state"] == "soaking");
        rig.arm(point, 1);
        world.host.sh("timeout 60 slotctl cancel web -m 'not this one'");
        rig.expect_dead(point);
        let last = world.expect_idle("web")["last"].clone();
        assert_eq!((&last["to"], &last["ended"]["outcome"]), (&version.into(), &"cancelled".into()), "{point}: {last}");
        assert_eq!(last["said"][0]["message"], "not this one", "{point}: {last}");
        world.exit_of("sent");
        world.expect_serving(8080, "3.0.0");
    }
    // Between two tries.
    world.host.ok("systemctl mask --runtime web@13.0.0.service");
    expect_exit(&world.send("web", &world.make("web", "13.0.0", "")), Exit::Failed as i32);
    world.host.ok("systemctl unmask --runtime web@13.0.0.service");
    rig.arm("after:queue", 1);
    world.host.sh("timeout 60 slotctl cancel web");
    rig.expect_dead("after:queue");
    let last = world.expect_idle("web")["last"].clone();
    assert_eq!((&last["to"], &last["ended"]["outcome"]), (&"13.0.0".into(), &"cancelled".into()), "{last}");
    world.expect_serving(8080, "3.0.0");
}
