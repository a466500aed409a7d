//! Freezes, and what is activated at a time to come.

use serde_json::Value;
use slotd::model::Exit;

use super::{expect_denied, expect_refused, has, verdict, world};
use crate::support::host::{shown, text};
use crate::support::wait_until;
use crate::support::workshop::{expect_exit, expect_parts};
use crate::support::world::{PATIENCE, World};

/// The time on the host, so many seconds from now, as an operator types it.
fn from_now(world: &World, seconds: u32) -> String {
    world.host.ok(&format!("date -u -d '{seconds} seconds' +%Y-%m-%dT%H:%M:%SZ"))
}

/// Waits until it is that time on the host.
fn until_then(world: &World, time: &str) {
    wait_until(time, PATIENCE, || {
        let now = world.host.ok("date -u +%Y-%m-%dT%H:%M:%SZ");
        if now.as_str() >= time { Ok(()) } else { Err(now) }
    });
}

fn waits(status: &Value, slot: &str, part: &str) -> bool {
    let waiting = status["waiting"].as_array().cloned().unwrap_or_default();
    waiting.iter().any(|item| item["what"] == slot && item["reason"].as_str().is_some_and(|why| why.contains(part)))
}

#[test]
fn row14_story() {
    let world = world("row14");
    world.settings("web", "[retention]\nkeep = 5\n");
    world.live("web", 8080, "1.0.0");
    world.live("web", 8080, "2.0.0");
    frozen_until_it_is_lifted(&world);
    frozen_for_a_time(&world);
    at_a_time(&world);
    over_a_restart(&world);
}

/// One app: what comes waits and is told, whatever says so; going back is possible.
fn frozen_until_it_is_lifted(world: &World) {
    expect_parts(&world.ok("freeze web -m Christmas"), &["web: nothing goes forward until `slotctl unfreeze web`"]);
    let sent = world.deploy("web", &world.artifact("web", "3.0.0", ""));
    expect_exit(&sent, Exit::ReadyNotLive as i32);
    expect_parts(&shown(&sent), &["the app is frozen by root: Christmas; it waits for `slotctl unfreeze`"]);
    world.mv("web", &world.artifact("web", "4.0.0", ""));
    let status = world.expect_status("web", "4.0.0 to wait", |status| waits(status, "4.0.0", "Christmas"));
    assert_eq!((&status["state"], &status["current"]), (&"frozen".into(), &"2.0.0".into()), "{status}");
    assert_eq!((&status["frozen"]["by"], &status["frozen"]["all"]), (&"root".into(), &false.into()), "{status}");
    for words in ["status web", "list web", "why web"] {
        expect_parts(&text(&world.slotctl(words)), &["frozen", "Christmas"]);
    }
    for words in ["activate web 3.0.0", "scale web 2"] {
        expect_refused(world, words, 5, "app.frozen");
    }
    let planned = world.slotctl("plan web 4.0.0");
    expect_exit(&planned, Exit::Refused as i32);
    expect_parts(&shown(&planned), &["app.frozen", "by root: Christmas", "slotctl activate web 4.0.0 --force"]);
    world.host.ok("systemctl restart slotd.service");
    world.ok("rollback web");
    world.expect_serving(8080, "1.0.0");
    world.expect_status("web", "the end of the rollback", |status| status["deployment"].is_null());
    world.ok("activate web 3.0.0 --force");
    world.expect_serving(8080, "3.0.0");
    expect_parts(&world.ok("unfreeze web"), &["web: no longer frozen"]);
    world.expect_serving(8080, "4.0.0");
    world.expect_idle("web");
}

/// All apps, with an end, at which slotd is down.
fn frozen_for_a_time(world: &World) {
    world.add_app("api", 8081);
    let end = from_now(world, 20);
    world.ok(&format!("freeze --until {end} -m 'the move'"));
    for (app, version) in [("web", "5.0.0"), ("api", "1.0.0")] {
        world.mv(app, &world.artifact(app, version, ""));
        let told = format!("frozen, with all apps, by root until {end}: the move");
        world.expect_status(app, "to wait", |status| waits(status, version, &told));
    }
    expect_parts(&world.ok("status"), &["all apps are frozen, by root, ", ": the move"]);
    expect_parts(&world.ok("unfreeze web"), &["web: not frozen", "still frozen with all apps, by root"]);
    world.expect_serving(8080, "4.0.0");
    world.host.ok("systemctl stop slotd.service slotd.socket");
    until_then(world, &end);
    world.host.ok("systemctl start slotd.socket slotd.service");
    for (port, version, app) in [(8080, "5.0.0", "web"), (8081, "1.0.0", "api")] {
        world.expect_serving(port, version);
        world.expect_idle(app);
    }
    // And by itself while slotd runs.
    world.ok("freeze web --until 6s");
    world.mv("web", &world.artifact("web", "6.0.0", ""));
    world.expect_serving(8080, "6.0.0");
    let status = world.expect_idle("web");
    assert_eq!((&status["state"], &status["frozen"]), (&"online".into(), &Value::Null), "{status}");
}

/// A slot that is live at a time to come, under the id that is told at once; and taken back.
fn at_a_time(world: &World) {
    let at = from_now(world, 10);
    let told = world.json(&format!("activate web 5.0.0 --at {at} -m 'for the night'"));
    assert_eq!((&told["answer"], &told["to"]), (&"scheduled".into(), &"5.0.0".into()), "{told}");
    let id = told["id"].as_str().expect("an id").to_owned();
    let kept = verdict(&world.json("prune web --dry-run"), "5.0.0");
    assert!(kept.0, "{kept:?}");
    let status = world.json("status web");
    assert_eq!(status["scheduled"]["id"], id, "{status}");
    assert!(waits(&status, "5.0.0", "unless `slotctl cancel web`"), "{status}");
    expect_parts(&world.ok(&format!("why {id}")), &["scheduled", "for 20"]);
    expect_refused(world, &format!("activate web 6.0.0 --at {at}"), 6, "request.busy");
    // Another one goes first.
    world.live("web", 8080, "7.0.0");
    world.expect_serving(8080, "5.0.0");
    let status = world.expect_idle("web");
    assert_eq!((&status["last"]["id"], &status["last"]["by"]), (&id.as_str().into(), &"root".into()), "{status}");
    assert_eq!(world.json("history web")[0]["id"], id, "what ran last comes first");

    let far = world.json("activate web 7.0.0 --at 400d");
    let cancelled = world.json("cancel web");
    assert_eq!((&cancelled["answer"], &cancelled["id"]), (&"cancelled".into(), &far["id"]), "{cancelled}");
    assert_eq!(world.json(&format!("why {}", far["id"].as_str().expect("an id")))["ended"]["outcome"], "cancelled");
    world.expect_idle("web");
}

/// slotd is down at that time: it begins at the next start, and says so; what can't be then is refused and told.
fn over_a_restart(world: &World) {
    let at = from_now(world, 4);
    let told = world.json(&format!("activate web 7.0.0 --at {at}"));
    world.host.ok("systemctl stop slotd.service slotd.socket");
    until_then(world, &from_now(world, 10));
    world.host.ok("systemctl start slotd.socket slotd.service");
    world.expect_serving(8080, "7.0.0");
    world.expect_idle("web");
    let id = told["id"].as_str().expect("an id");
    expect_parts(&world.ok(&format!("why {id}")), &["scheduled", "began", "late"]);

    // Neither a pin nor a release that waits keeps it; a pause does, for good.
    world.ok("pin web");
    let at = from_now(world, 5);
    let told = world.json(&format!("activate web 6.0.0 --at {at}"));
    world.host.ok("touch /var/lib/slotd/apps/web/paused");
    let refused = |status: &Value| status["scheduled"]["ended"]["outcome"] == "failed";
    let status = world.expect_status("web", "a refusal", refused);
    assert_eq!(status["scheduled"]["id"], told["id"], "{status}");
    assert_eq!(status["scheduled"]["ended"]["fault"]["code"], "app.paused", "{status}");
    world.host.ok("rm /var/lib/slotd/apps/web/paused");
    world.json("activate web 6.0.0 --at 3s");
    world.expect_serving(8080, "6.0.0");
    world.expect_idle("web");
    assert!(has(world, "7.0.0"), "{:?}", world.slots("web"));
}

#[track_caller]
pub fn row14_refusal(world: &World) {
    let before = world.slots("web");
    expect_refused(world, "freeze nobody", 4, "unknown.app");
    expect_refused(world, "unfreeze nobody", 4, "unknown.app");
    expect_refused(world, "freeze web --until 2020-12-24T18:00:00Z", 5, "request.invalid");
    let long = "x".repeat(5000);
    expect_refused(world, &format!("freeze web -m {long}"), 5, "request.invalid");
    for words in ["freeze", "freeze web", "unfreeze", "unfreeze web", "activate web 1.0.0 --at 1h"] {
        expect_denied(world, words);
    }
    for (words, part) in [
        ("freeze web --until '2030-12-24 18:00'", "it says no time zone"),
        ("activate web 1.0.0 --at tomorrow", "or how long from now: 3d"),
    ] {
        let ran = world.slotctl(words);
        expect_exit(&ran, Exit::Usage as i32);
        expect_parts(&shown(&ran), &[part]);
    }
    expect_refused(world, "activate web 9.9.9 --at 1h", 4, "unknown.slot");
    expect_refused(world, "activate web 1.0.0 --at 2020-12-24T18:00:00Z", 5, "request.invalid");
    world.ok("freeze web --until 1h");
    expect_refused(world, "activate web 1.0.0 --at 30m", 5, "app.frozen");
    world.ok("unfreeze web");
    // What isn't frozen, or scheduled, is no mistake to unfreeze, and one to cancel.
    for words in ["unfreeze web", "unfreeze"] {
        assert_eq!(world.json(words)["changed"], false, "{words}");
    }
    expect_refused(world, "cancel web", 4, "unknown.deployment");
    let status = world.json("status web");
    assert!(status["frozen"].is_null() && status["scheduled"].is_null(), "{status}");
    assert_eq!(world.slots("web"), before);
}
