//! After a failure: every strategy is open, and what a deployment left running is found, named and stopped.

use super::{expect_denied, expect_refused, world};
use crate::support::host::shown;
use crate::support::wait_until;
use crate::support::workshop::{expect_exit, expect_parts};
use crate::support::world::{PATIENCE, World};

/// What runs of the app, as systemd has it.
fn running(world: &World, app: &str) -> Vec<String> {
    let units = world.host.ok(&format!("systemctl list-units --plain --no-legend --full '{app}@*.service'"));
    units.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn row02_story() {
    let world = world("row02");
    world.supply_server();
    world.add_app_with("api", "--port 9090 --route nftables");
    let soak = "[soak]\ntime = \"200ms\"\n";
    world.settings("api", soak);
    world.send_live("api", "1.0.0");
    // Whatever has failed, and however it moved, each strategy is open to the next one.
    let moves = [
        ("blue-green", "blue-green"),
        ("blue-green", "rolling"),
        ("blue-green", "stop-start"),
        ("rolling", "blue-green"),
        ("stop-start", "rolling"),
    ];
    for (number, (fails, works)) in (2..).step_by(2).zip(moves) {
        let (bad, good) = (format!("{number}.0.0"), format!("{}.0.0", number + 1));
        let bad = world.make("api", &bad, "health-500");
        let failed = world.slotctl(&format!("deploy {bad} --app api --strategy {fails}"));
        expect_exit(&failed, 10);
        let path = world.make("api", &good, "");
        let done = world.slotctl(&format!("deploy {path} --app api --strategy {works}"));
        assert_eq!(done.status.code(), Some(0), "{works} after a failed {fails}: {}", shown(&done));
        world.expect_serving(9090, &good);
        world.expect_idle("api");
        assert_eq!(running(&world, "api"), [format!("api@{good}.service")], "{works} after a failed {fails}");
    }

    // slotd dies with a deployment under way, and its record is lost: what it had started is found at the next start.
    world.send_live("web", "1.0.0");
    world.send_live("web", "2.0.0");
    world.expect_idle("web");
    world.host.ok("systemctl stop slotd.socket slotd.service && systemctl start web@1.0.0.service");
    world.host.ok("systemctl start slotd.socket slotd.service");
    wait_until("the stray to be stopped", PATIENCE, || match running(&world, "web") {
        units if units == ["web@2.0.0.service"] => Ok(()),
        units => Err(format!("{units:?}; {}", world.journal())),
    });
    let named = "web@1.0.0.service runs though it is none of the live slot's";
    let event = || {
        let events = world.json("events web -n 100");
        let events = events.as_array().cloned().unwrap_or_default();
        let found = events.iter().any(|event| {
            event["kind"] == "unit.stray" && event["message"].as_str().unwrap_or_default().contains(named)
        });
        if found { Ok(()) } else { Err(format!("{events:?}")) }
    };
    wait_until("the event", PATIENCE, event);
    world.expect_serving(8080, "2.0.0");

    // One that somebody starts by hand is named in `status` before it is stopped; what has no slot's name was never slotd's.
    let instances = "/var/lib/slotd/apps/web/instances";
    world.host.ok(&format!("cp -a {instances}/2.0.0 {instances}/own && systemctl start web@own.service"));
    world.host.ok("systemctl start web@1.0.0.service");
    let two_looks = PATIENCE * 2;
    wait_until("the stray in `status`", two_looks, || {
        let status = world.json("status web");
        if status["notes"].to_string().contains(named) { Ok(()) } else { Err(status.to_string()) }
    });
    expect_parts(&world.ok("status web"), &[named]);
    wait_until("it to be stopped", PATIENCE, || match running(&world, "web") {
        units if units == ["web@2.0.0.service", "web@own.service"] => Ok(()),
        units => Err(format!("{units:?}")),
    });
    world.host.ok(&format!("systemctl stop web@own.service && rm -r {instances}/own"));
    let status = world.expect_status("web", "no note", |status| !status["notes"].to_string().contains(named));
    assert_eq!((&status["state"], &status["current"]), (&"online".into(), &"2.0.0".into()), "{status}");
}

#[track_caller]
pub fn row02_refusal(world: &World) {
    let before = world.slots("web");
    // What the route can't give is refused by name, after a failure as before it, and changes nothing.
    world.supply_server();
    let bad = world.make("web", "2.0.1", "health-500");
    expect_exit(&world.slotctl(&format!("deploy {bad} --app web")), 10);
    expect_refused(world, "activate web 2.0.1 --force --strategy blue-green", 5, "route.probe_unaddressed");
    expect_refused(world, "activate web 2.0.1", 5, "release.quarantined");
    expect_denied(world, "activate web 1.0.0");
    world.expect_serving(8080, "2.0.0");
    world.expect_idle("web");
    assert_eq!(running(world, "web"), ["web@2.0.0.service"]);
    assert_eq!(world.slots("web").len(), before.len() + 1, "{:?}", world.slots("web"));
}
