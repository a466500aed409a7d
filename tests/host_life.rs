//! The life of a release on a real systemd, by the rows of `tests/README.md`: what each is for, and what it refuses.

mod support;

use serde_json::Value;
use support::host::{Root, shown};
use support::wait_until;
use support::workshop::{expect_exit, expect_parts};
use support::world::{PATIENCE, World};

/// An app that keeps one slot beside the live one and the fallback.
fn world(hint: &str) -> World {
    let world = World::installed(hint, Root::Own);
    world.host.ok("systemctl enable --now slotd.socket slotd.service");
    world.add_app("web", 8080);
    world.settings("web", "[retention]\nkeep = 1\n");
    world
}

/// Whether the app has this slot, in whatever state.
fn has(world: &World, slot: &str) -> bool {
    world.slots("web").iter().any(|line| line.starts_with(&format!("{slot} ")))
}

/// What `prune` says of a slot: whether it stays, and why.
#[track_caller]
fn verdict(pruned: &Value, slot: &str) -> (bool, String) {
    let found = pruned["slots"].as_array().and_then(|all| all.iter().find(|it| it["slot"] == slot));
    let found = found.unwrap_or_else(|| panic!("{slot}: {pruned}"));
    (found["kept"] == true, found["reason"].as_str().unwrap_or_default().to_owned())
}

/// As if users had left the slot in the year 2020.
fn age(world: &World, slot: &str) {
    let long_ago = "2020-01-01T00:00:00.000Z";
    let folder = format!("/var/lib/slotd/apps/web/slots/{slot}");
    world.host.ok(&format!("sed -i 's/\"created\": \"[^\"]*\"/\"created\": \"{long_ago}\"/' {folder}/slot.json"));
    world.host.ok(&format!("sed -i 's/\"at\": \"[^\"]*\"/\"at\": \"{long_ago}\"/' {folder}/left.json"));
}

#[test]
fn row07_story() {
    let world = world("row07");
    world.settings("web", "[retention]\nkeep = 10\n");
    for version in ["1.0.0", "2.0.0", "3.0.0", "4.0.0", "5.0.0"] {
        world.live("web", 8080, version);
    }
    world.ok("pin web 2.0.0");
    for slot in ["1.0.0", "2.0.0", "4.0.0"] {
        age(&world, slot);
    }
    let all = world.json("prune web --dry-run");
    assert_eq!(
        verdict(&all, "1.0.0"),
        (true, "one of the 10 highest".to_owned()),
        "ages don't count unless they are set"
    );

    // What was last live too long ago goes; the fallback, what is live and what is pinned never do.
    world.settings("web", "[retention]\nkeep = 10\nmax_age = \"30d\"\n");
    world.ok("check web");
    let before = world.slots("web");
    let dry = world.json("prune web --dry-run");
    for (slot, kept, reason) in [
        ("5.0.0", true, "current"),
        ("4.0.0", true, "fallback"),
        ("3.0.0", true, "one of the 10 highest"),
        ("2.0.0", true, "pinned"),
        ("1.0.0", false, "last live more than 30 days ago"),
    ] {
        assert_eq!(verdict(&dry, slot), (kept, reason.to_owned()), "{slot}: {dry}");
    }
    assert_eq!(world.slots("web"), before, "a dry run removes nothing");
    expect_parts(&world.ok("prune web"), &["1.0.0", "removed", "last live more than 30 days ago"]);
    assert!(!has(&world, "1.0.0") && has(&world, "2.0.0") && has(&world, "4.0.0"), "{:?}", world.slots("web"));

    // Bytes: after the next deployment by itself.
    world.settings("web", "[retention]\nkeep = 10\nmax_bytes = \"1KiB\"\n");
    world.live("web", 8080, "6.0.0");
    wait_until("3.0.0 and 4.0.0 to go", PATIENCE, || match world.slots("web") {
        slots if slots == ["6.0.0 active", "5.0.0 ready", "2.0.0 ready"] => Ok(()),
        slots => Err(format!("{slots:?}")),
    });
    let trees =
        world.host.ok("ls /var/lib/slotd/apps/web/trees | grep -vc json; ls /var/lib/slotd/apps/web/artifacts | wc -l");
    assert_eq!(trees, "3\n3", "what no slot has goes with it");
    world.ok("rollback web");
    world.expect_serving(8080, "5.0.0");

    // What failed has a quota of its own, with its evidence.
    expect_exit(&world.deploy("web", &world.artifact("web", "7.0.0", "health-500")), 10);
    let dry = world.json("prune web --dry-run");
    assert_eq!(verdict(&dry, "7.0.0"), (true, "one of the 5 that failed last".to_owned()), "{dry}");
    world.host.ok("ls /var/lib/slotd/apps/web/slots/7.0.0/evidence/*.json");

    // The history has its own bounds.
    world.host.ok("echo 'history_deployments = 3' >>/etc/slotd/slotd.toml && systemctl restart slotd.service");
    wait_until("three deployments in the history", PATIENCE, || {
        match world.json("history web -n 100").as_array().map(Vec::len) {
            Some(3) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

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

#[test]
fn refusals() {
    let world = world("refusals");
    world.live("web", 8080, "1.0.0");
    world.live("web", 8080, "2.0.0");
    row07_refusal(&world);
    row13_refusal(&world);
}

/// Words that are refused: their exit status, the stable code, and what stays as it was.
#[track_caller]
fn expect_refused(world: &World, words: &str, exit: i32, code: &str) {
    let output = world.slotctl(&format!("{words} --json"));
    assert_eq!(output.status.code(), Some(exit), "{words}: {}", shown(&output));
    assert!(shown(&output).contains(&format!("\"{code}\"")), "{words}: {}", shown(&output));
}

/// Words that are refused to somebody who is in none of slotd's groups.
#[track_caller]
fn expect_denied(world: &World, words: &str) {
    let denied = world.host.sh(&format!("runuser -u nobody -- slotctl {words} --json"));
    assert!(shown(&denied).contains("\"auth.denied\""), "{}", shown(&denied));
}

/// What the settings file is told about this line of `[retention]`.
#[track_caller]
fn expect_wrong(world: &World, line: &str, part: &str) {
    let file = "/etc/slotd/apps/web.toml";
    world.host.ok(&format!("cp {file} /root/web.toml && sed -i '/^keep = /a {line}' {file}"));
    let checked = world.slotctl("check web");
    world.host.ok(&format!("mv /root/web.toml {file}"));
    assert_eq!(checked.status.code(), Some(3), "{line}: {}", shown(&checked));
    expect_parts(&shown(&checked), &[line, part]);
}

#[track_caller]
fn row07_refusal(world: &World) {
    let before = world.slots("web");
    expect_refused(world, "prune nobody", 4, "unknown.app");
    expect_denied(world, "prune web");
    expect_wrong(world, "max_age = \"12m\"", "is no age: days as a number");
    expect_wrong(world, "max_age = 36501", "must be between 0 and 36500");
    expect_wrong(world, "max_age = \"101y\"", "has at most 36500 days");
    expect_wrong(world, "max_bytes = \"lots\"", "is no size");
    assert_eq!(world.slots("web"), before);
}

#[track_caller]
fn row13_refusal(world: &World) {
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
