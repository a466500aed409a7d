//! Releases that fail, and whose fault it is: the evidence on a real systemd.

mod support;

use serde_json::Value;
use support::host::Root;
use support::wait_until;
use support::workshop::{expect_exit, expect_parts};
use support::world::{PATIENCE, World};

/// What a fault of the environment is about: without this file the releases' health is bad.
const DATABASE: &str = "/etc/database";

struct Broken {
    behaviour: &'static str,
    code: &'static str,
    /// systemd's word on the unit.
    exit: Option<&'static str>,
    why: &'static [&'static str],
}

#[test]
fn a_broken_release_is_returned_from_and_why_shows_its_true_cause() {
    let world = World::boot("broken", Root::Own);
    world.supply_server();
    world.settings("web", "[proof]\ninterval = \"100ms\"\nsuccesses = 2\ndeadline = \"5s\"\nstable_for = \"4s\"\n");
    world.host.write("/etc/systemd/system/web@.service.d/start.conf", "[Service]\nTimeoutStartSec=3s\n");
    world.host.ok("systemctl daemon-reload");
    world.send_live("web", "1.0.0");

    let broken = [
        Broken {
            behaviour: "exit-before-accept 3",
            code: "unit.exited",
            exit: Some("exited with status 3"),
            why: &["starting: start web@2.0.0.service", "version 2.0.0 can't start: its BEHAVIOUR says so"],
        },
        Broken {
            behaviour: "never-ready",
            code: "unit.start_timeout",
            exit: None,
            why: &["starting: start web@2.0.1.service", "result timeout"],
        },
        Broken {
            behaviour: "ready-then-die 0",
            code: "unit.exited",
            exit: Some("exited with status 1"),
            why: &["web@2.0.2.service exited with status 1", "sample-server: its BEHAVIOUR says so"],
        },
        Broken {
            behaviour: "ready-then-die 2000",
            code: "proof.unstable",
            exit: Some("exited with status 1"),
            why: &["proving: prove web@2.0.3.service", "after it had answered well", "its BEHAVIOUR says so"],
        },
        Broken {
            behaviour: "crash-after 2000",
            code: "proof.unstable",
            exit: Some("killed by SIGABRT"),
            why: &["proving: prove web@2.0.4.service", "killed by SIGABRT", "serves on [::]:8080"],
        },
        Broken {
            behaviour: "health-500",
            code: "probe.failed",
            exit: None,
            why: &[
                "proving: prove web@2.0.5.service",
                "http http://127.0.0.1:8080/health of 2.0.5",
                "status 500 Internal Server Error, not 200 to 299; body",
                "broken version 2.0.5",
                "web@2.0.5.service: active/running, result success",
            ],
        },
    ];
    for (number, Broken { behaviour, code, exit, why }) in broken.iter().enumerate() {
        let version = format!("2.0.{number}");
        expect_exit(&world.send("web", &world.make("web", &version, behaviour)), 10);
        world.expect_serving(8080, "1.0.0");
        let last = world.json("status web")["last"].clone();
        let fault = &last["ended"]["fault"];
        assert_eq!(fault["code"], *code, "{behaviour}: {last}");
        assert_eq!(last["ended"]["blame"], "release", "{behaviour}: {last}");
        if let Some(exit) = exit {
            assert_eq!(fault["evidence"]["unit"]["exit"], *exit, "{behaviour}: {last}");
        }
        let shown = world.ok("why web");
        expect_parts(&shown, why);
        expect_parts(&shown, &["returned to 1.0.0", "quarantined", "journal", &format!("({code})")]);
        let slots = world.slots("web");
        assert!(slots.contains(&format!("{version} failed")) && slots.contains(&"1.0.0 active".into()), "{slots:?}");
    }
    assert_eq!(
        world.json("quarantine list web").as_array().map(Vec::len),
        Some(5),
        "the newest of the failed are kept"
    );
}

#[test]
fn when_the_live_slot_fails_the_same_probe_the_release_is_tried_again_and_goes_live_when_the_cause_is_gone() {
    let world = World::boot("blame", Root::Own);
    world.supply_server();
    // The second app is asked on a socket of each slot's own: one probe, though its address differs.
    world.add_app("own", 8081);
    let probe = "[[probe]]\nkind = \"http\"\naddress = \"/run/slots/own/{instance}/health.sock\"\npath = \"/health\"\n";
    let proof = "[proof]\ninterval = \"100ms\"\nsuccesses = 2\ndeadline = \"3s\"\nstable_for = \"300ms\"\n";
    world.settings("own", &format!("{proof}{probe}"));
    world.settings("web", proof);
    let apps = [("web", 8080), ("own", 8081)];
    let behaviour = format!("health-file {DATABASE}");

    world.host.ok(&format!("touch {DATABASE}"));
    for (app, _) in apps {
        expect_exit(&world.send(app, &world.make(app, "1.0.0", &behaviour)), 0);
        world.make(app, "2.0.0", &behaviour);
    }
    world.host.ok(&format!("rm {DATABASE}"));
    apps.iter().for_each(|(app, _)| world.drop_in(app, &format!("/root/{app}-2.0.0.tar.zst")));
    for (app, port) in apps {
        let status = world.expect_status(app, "2.0.0 returned from", |status| {
            status["last"]["to"] == "2.0.0" && status["last"]["ended"].is_object()
        });
        let ended = &status["last"]["ended"];
        assert_eq!((&ended["outcome"], &ended["blame"]), (&"rolled-back".into(), &"environment".into()), "{status}");
        assert_eq!(ended["fault"]["code"], "probe.failed", "{status}");
        world.expect_serving(port, "1.0.0");
        assert_eq!(world.json(&format!("quarantine list {app}")), Value::Array(Vec::new()));
        let waiting = status["waiting"].to_string();
        expect_parts(&waiting, &["is tried again in", "for the 2nd time"]);
        expect_parts(&world.ok(&format!("why {app}")), &["the environment, not the release", "database is missing"]);
    }
    world.host.ok(&format!("touch {DATABASE}"));
    for (app, port) in apps {
        world.expect_serving(port, "2.0.0");
        let status = world.expect_idle(app);
        assert_eq!((&status["last"]["attempt"], &status["current"]), (&2.into(), &"2.0.0".into()), "{status}");
        assert_eq!(world.slots(app), ["2.0.0 active", "1.0.0 ready"]);
    }
}

#[test]
fn each_slot_is_asked_by_the_health_path_of_its_own_release() {
    let world = World::boot("path", Root::Own);
    world.supply_server();
    world.settings("web", "[proof]\ninterval = \"100ms\"\nsuccesses = 2\ndeadline = \"3s\"\nstable_for = \"300ms\"\n");
    world.send_live("web", "1.0.0");
    // Its /health is bad, and not what it wants to be asked.
    let release = "commit = \"0a1b2c\"\nhealth_path = \"/?deep=1\"\n";
    let files = [("BEHAVIOUR", "health-500"), (".slotd/release.toml", release)];
    expect_exit(&world.send("web", &world.make_with("web", "2.0.0", &files)), 0);
    expect_parts(&world.ok("inspect web 2.0.0"), &["health path", "/?deep=1", "0a1b2c"]);

    // The live slot, asked by its own path, is well: so this one is at fault.
    expect_exit(&world.send("web", &world.make("web", "3.0.0", "health-500")), 10);
    assert_eq!(world.json("status web")["last"]["ended"]["blame"], "release");

    let files = [(".slotd/release.toml", "health_path = \"/nowhere\"\n")];
    expect_exit(&world.send("web", &world.make_with("web", "4.0.0", &files)), 10);
    expect_parts(&world.ok("why web"), &["http http://127.0.0.1:8080/nowhere of 4.0.0", "status 404 Not Found"]);
    world.expect_serving(8080, "2.0.0");
    wait_until("the way back closed", PATIENCE, || {
        let status = world.json("status web");
        if status["state"] == "online" { Ok(()) } else { Err(status.to_string()) }
    });
}
