//! Settings: a changed environment goes live once, however slotd dies on the way.

use slotd::config::Profile;

use crate::crash::{Rig, STAYS_DEAD};
use crate::support::host::text;
use crate::support::world::World;

#[test]
fn row06_kill() {
    let rig = Rig::boot("row06-kill", Profile::User);
    let world = &rig.world;
    for (n, point) in [(2, "before:raise-mark"), (3, "after:raise-mark"), (4, "after:start"), (5, "after:retire")] {
        rig.arm(point, 1);
        world.settings("web", &format!("[env]\nA = \"{n}\"\n"));
        rig.expect_dead(point);
        let slot = format!("3.0.0@r{n}");
        world.expect_status("web", &format!("{point}: {slot} live"), |status| {
            status["current"] == slot.as_str() && status["deployment"].is_null()
        });
        assert_eq!(world.json("staged web"), serde_json::json!([]), "{point}");
        let slots = world.slots("web").into_iter().filter(|line| line.starts_with("3.0.0@r"));
        assert_eq!(slots.count(), n - 1, "{point}: one slot for each environment");
    }
    world.expect_serving(8080, "3.0.0");
}

/// Who answers at a port, if somebody does.
fn answered(world: &World, port: u16) -> String {
    let answer = text(&world.host.sh(&format!("curl -s -m 5 http://127.0.0.1:{port}/")));
    answer.split_whitespace().nth(1).unwrap_or("nobody").to_owned()
}

#[test]
fn a_changed_route_is_taken_or_waits_however_slotd_dies() {
    let rig = Rig::empty("row06-route-kill", Profile::User);
    let world = &rig.world;
    world.supply_server();
    world.add_app_with("web", "--port 9090 --route nftables");
    world.settings("web", "strategy = \"blue-green\"\n[soak]\ntime = \"200ms\"\n");
    world.send_live("web", "1.0.0");
    world.host.ok(
        "sed -i 's/--port [0-9]*/--port 9090,9191/' /etc/systemd/system/slotd-route@web.service && systemctl daemon-reload",
    );
    let write = |port: u16| {
        world.host.ok(&format!(
            "sed -i -e 's/^port = .*/port = {port}/' -e 's/127.0.0.1:9[0-9]*/127.0.0.1:{port}/' /etc/slotd/apps/web.toml"
        ));
    };
    let set = |port: u16| {
        write(port);
        world.host.ok("systemctl reload slotd.service");
    };
    // Each time to the other port: by both before the switch, from it on, and with the old one shut.
    let deaths = [
        ("before:queue", 1, false),
        ("before:provide", 1, true),
        ("before:switch", 1, true),
        ("after:switch", 1, true),
        ("after:ask-outside", 1, true),
        ("before:stop-others", 1, true),
        ("after:retire", 1, true),
        ("before:close", 1, true),
    ];
    let (mut from, mut to) = (9090, 9191);
    for (point, passing, begun) in deaths {
        set(to);
        rig.arm(point, passing);
        world.host.sh("timeout 60 slotctl redeploy web --route");
        rig.expect_dead(point);
        let status = world.expect_status("web", &format!("{point}: over"), |status| {
            status["deployment"].is_null() && status["state"] == "online"
        });
        if !begun {
            // Nobody was told of it: it never was, and waits as before.
            assert_eq!((answered(world, from), answered(world, to)), ("1.0.0".into(), "nobody".into()), "{point}");
            world.ok("redeploy web --route");
        } else {
            assert_eq!(status["last"]["ended"]["outcome"], "done", "{point}: {status}");
        }
        assert_eq!((answered(world, from), answered(world, to)), ("nobody".into(), "1.0.0".into()), "{point}");
        assert_eq!(world.json("staged web"), serde_json::json!([]), "{point}");
        (from, to) = (to, from);
    }

    // While slotd is dead the helper goes, as after a boot, by the slot that `current` names, and by no other way.
    for (point, is_moved) in [("before:switch", false), ("after:switch", true)] {
        set(to);
        rig.arm(point, 1);
        world.host.ok(&format!("touch {STAYS_DEAD}"));
        world.begin("moved", "redeploy web --route");
        rig.expect_dead(point);
        world.host.ok("rm /run/slotd/route/web && systemctl restart slotd-route@web.service");
        let (leads, other) = if is_moved { (to, from) } else { (from, to) };
        assert_eq!((answered(world, leads), answered(world, other)), ("1.0.0".into(), "nobody".into()), "{point}");
        world.host.ok(&format!("rm {STAYS_DEAD} && systemctl start slotd.service"));
        world.exit_of("moved");
        let status = world.expect_status("web", &format!("{point}: over"), |status| status["deployment"].is_null());
        assert_eq!(status["last"]["ended"]["outcome"], "done", "{point}: {status}");
        assert_eq!((answered(world, from), answered(world, to)), ("nobody".into(), "1.0.0".into()), "{point}");
        (from, to) = (to, from);
    }

    // On the way back: the new address leads to nobody.
    world.settings("web", "[proof]\ninterval = \"100ms\"\ndeadline = \"2s\"\n");
    for point in ["before:return", "after:point", "before:judge"] {
        set(to);
        world.settings("web", "[outside]\naddress = \"127.0.0.1:9393\"\n");
        rig.arm(point, 1);
        world.host.sh("timeout 60 slotctl redeploy web --route");
        rig.expect_dead(point);
        let status = world.expect_status("web", &format!("{point}: over"), |status| {
            status["deployment"].is_null() && status["state"] == "online"
        });
        assert_eq!(status["last"]["ended"]["outcome"], "rolled-back", "{point}: {status}");
        assert_eq!((answered(world, from), answered(world, to)), ("1.0.0".into(), "nobody".into()), "{point}");
        assert_eq!(status["waiting"][0]["what"], "route", "{point}: {status}");
    }

    // A release under way goes on by the route that it began with, though another one is set while slotd is dead.
    world.settings("web", "[outside]\naddress = \"127.0.0.1:9191\"\n");
    set(from);
    rig.arm("after:switch", 1);
    let release = world.make("web", "2.0.0", "");
    world.host.ok(&format!("touch {STAYS_DEAD}"));
    world.begin("sent", &format!("deploy {release} --app web"));
    rig.expect_dead("after:switch");
    write(to);
    world.host.ok(&format!("rm {STAYS_DEAD} && systemctl start slotd.service"));
    world.exit_of("sent");
    world.expect_status("web", "2.0.0 live", |status| status["current"] == "2.0.0" && status["deployment"].is_null());
    assert_eq!((answered(world, from), answered(world, to)), ("2.0.0".into(), "nobody".into()));
}
