//! Pins, and quarantine.

use super::{expect_denied, expect_refused, has, verdict, world};
use crate::support::host::shown;
use crate::support::workshop::{expect_exit, expect_parts};
use crate::support::world::World;

#[test]
fn row13_story() {
    let world = world("row13");
    world.live("web", 8080, "1.0.0");
    let kept = world.ok("pin web 1.0.0 -m 'the last without cookies'");
    expect_parts(&kept, &["web: 1.0.0 is kept until it is unpinned"]);
    for version in ["2.0.0", "3.0.0", "4.0.0", "5.0.0"] {
        world.live("web", 8080, version);
    }
    assert_eq!(world.slots("web"), ["5.0.0 active", "4.0.0 ready", "3.0.0 ready", "1.0.0 ready"]);
    assert_eq!(verdict(&world.json("prune web --dry-run"), "1.0.0"), (true, "pinned".to_owned()));
    expect_parts(&world.ok("inspect web 1.0.0"), &["pinned", "by root, ", "the last without cookies"]);

    // The app stays on what is live: whatever comes waits, over a restart of slotd as well.
    let pinned = world.json("pin web -m sale");
    assert_eq!((&pinned["slot"], &pinned["changed"]), (&serde_json::Value::Null, &true.into()), "{pinned}");
    world.host.ok("systemctl restart slotd.service");
    let sent = world.deploy("web", &world.artifact("web", "6.0.0", ""));
    expect_exit(&sent, slotd::model::Exit::ReadyNotLive as i32);
    expect_parts(&shown(&sent), &["the app is pinned by root: sale; it waits for `slotctl unpin`"]);
    world.mv("web", &world.artifact("web", "7.0.0", ""));
    let status = world.expect_status("web", "7.0.0 to wait", |status| status["waiting"][0]["what"] == "7.0.0");
    assert_eq!((&status["pinned"]["by"], &status["pinned"]["message"]), (&"root".into(), &"sale".into()), "{status}");
    assert_eq!((&status["state"], &status["current"]), (&"online".into(), &"5.0.0".into()), "{status}");
    expect_parts(&world.ok("status web"), &["pinned", "by root, ", ": sale"]);
    // An operator's word is heard all the same.
    world.ok("rollback web");
    world.expect_serving(8080, "4.0.0");
    world.expect_status("web", "the end of the rollback", |status| status["deployment"].is_null());
    world.ok("unpin web");
    world.expect_serving(8080, "7.0.0");
    world.expect_idle("web");
    assert!(world.json("status web")["pinned"].is_null());

    world.ok("unpin web 1.0.0");
    world.ok("prune web");
    assert!(!has(&world, "1.0.0"), "{:?}", world.slots("web"));

    // What failed by its own fault is listed, and tried again once its quarantine is lifted.
    expect_exit(&world.deploy("web", &world.artifact("web", "8.0.0", "health-500")), 10);
    let listed = world.json("quarantine list web");
    assert_eq!((&listed[0]["slot"], listed.as_array().map(Vec::len)), (&"8.0.0".into(), Some(1)), "{listed}");
    world.ok("quarantine clear web 8.0.0");
    assert_eq!(world.json("quarantine list web"), serde_json::json!([]));
    expect_exit(&world.slotctl("activate web 8.0.0"), 10);
    world.expect_serving(8080, "7.0.0");
}

#[track_caller]
pub fn row13_refusal(world: &World) {
    let before = world.slots("web");
    expect_refused(world, "pin web 9.9.9", 4, "unknown.slot");
    expect_refused(world, "unpin web 9.9.9", 4, "unknown.slot");
    expect_refused(world, "pin nobody", 4, "unknown.app");
    expect_refused(world, "quarantine clear web 1.0.0", 4, "unknown.slot");
    let long = "x".repeat(5000);
    expect_refused(world, &format!("pin web -m {long}"), 5, "request.invalid");
    expect_denied(world, "pin web");
    // What isn't pinned is no mistake to unpin.
    for words in ["unpin web", "unpin web 1.0.0"] {
        assert_eq!(world.json(words)["changed"], false, "{words}");
    }
    assert!(world.json("status web")["pinned"].is_null());
    assert_eq!(world.slots("web"), before);
}
