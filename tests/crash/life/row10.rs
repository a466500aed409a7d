//! Data: wherever slotd dies, what runs is on data of its own form, and who is barred follows what is live.

use slotd::config::Profile;
use slotd::model::Exit;

use crate::crash::{Rig, hooks};
use crate::support::workshop::expect_exit;

#[test]
fn row10_kill() {
    let rig = Rig::boot("row10-kill", Profile::User);
    let world = &rig.world;
    hooks::add(world, &["snapshot", "deploy", "restore"]);
    world.settings("web", "deploy = \"manual\"\n[retention]\nkeep = 20\n");
    let mut live = "3.0.0".to_owned();
    // Passings of a hook: `snapshot`, `deploy`, `restore`.
    for (version, point, passing, behaviour, code) in [
        ("10.0.0", "before:hook", 1, "", ""),
        ("11.0.0", "after:hook", 2, "", ""),
        ("12.0.0", "before:switch", 1, "", ""),
        ("13.0.0", "after:switch", 1, "", ""),
        ("14.0.0", "before:retire", 1, "", ""),
        ("20.0.0", "before:hook", 3, "health-500", "probe.failed"),
        ("21.0.0", "after:hook", 3, "health-500", "probe.failed"),
        ("22.0.0", "before:restore", 1, "health-500", "probe.failed"),
        ("23.0.0", "after:point", 1, "health-500", "probe.failed"),
    ] {
        let good = behaviour.is_empty();
        let artifact = hooks::migrating(world, version, "breaking", behaviour, "");
        expect_exit(&world.deploy("web", &artifact), Exit::ReadyNotLive as i32);
        rig.arm(point, passing);
        world.host.sh(&format!("timeout 60 slotctl activate web {version}"));
        rig.expect_dead(point);
        let before = live.clone();
        if good {
            live = version.to_owned();
        }
        world.expect_serving(8080, &live);
        let last = world.expect_idle("web")["last"].clone();
        let told = (&last["to"], last["ended"]["fault"]["code"].as_str().unwrap_or_default());
        assert_eq!(told, (&version.into(), code), "{point} {passing}: {last}");
        let form = if live == "3.0.0" { "1" } else { &live };
        assert_eq!(hooks::form(world), form, "{point} {passing}: {:?}", hooks::ran(world));
        let detail = world.json(&format!("inspect web {before}"));
        let by = detail["info"]["barred"].as_str().map(str::to_owned);
        assert_eq!(by, good.then(|| live.clone()), "{point} {passing}");
    }
}
