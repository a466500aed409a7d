//! Versions: immutable and explicit, generated where none is given; what a release says of itself; messages.

use serde_json::Value;

use super::{expect_denied, expect_refused, has, world};
use crate::support::host::shown;
use crate::support::workshop::{expect_exit, expect_parts};
use crate::support::world::World;

const RELEASE: &str =
    "commit = \"8f14e45fceea167a5a36\"\nbranch = \"main\"\nbuilder = \"ci 7\"\nnotes = \"Faster\\nand more\"\n";

/// A program without a version of its own, packed as `file`: it answers with that of its slot.
fn unnamed(world: &World, file: &str, text: &str) -> String {
    let tree = world.tree("unnamed", &[("TEXT", text)]);
    world.pack(&tree, file)
}

/// Sends it, which has to go live; the version that it got.
#[track_caller]
fn send_unnamed(world: &World, path: &str) -> String {
    expect_exit(&world.slotctl(&format!("deploy {path} --app api")), 0);
    let live = world.json("status api")["current"].as_str().expect("a slot").to_owned();
    world.expect_serving(8081, &live);
    live
}

/// Whether commit, branch, builder and notes stand in it.
fn tells_all(value: &Value) -> bool {
    let told = ["commit", "branch", "builder", "notes"].map(|key| value[key].as_str().unwrap_or_default());
    told == ["8f14e45fceea167a5a36", "main", "ci 7", "Faster\nand more"]
}

/// An event of this kind says so.
#[track_caller]
fn expect_event(world: &World, kind: &str, part: &str) {
    let events = world.json("events web -n 200");
    let found = |event: &&Value| event["kind"] == kind && event["message"].as_str().unwrap_or_default().contains(part);
    assert!(events.as_array().into_iter().flatten().any(|event| found(&event)), "{kind}, {part}: {events}");
}

#[test]
fn row08_story() {
    let world = world("row08");
    world.supply_server();
    world.add_app("api", 8081);

    // What a release says of itself is in list, history and inspect.
    let first = world.make_with("web", "1.0.0", &[(".slotd/release.toml", RELEASE)]);
    expect_exit(&world.slotctl(&format!("deploy {first} --app web -m 'the first one'")), 0);
    let (list, history) = (world.json("list web"), world.json("history web"));
    assert!(tells_all(&list[0]) && tells_all(&history[0]), "{list} {history}");
    assert_eq!((&list[0]["message"], &history[0]["message"]), (&"the first one".into(), &"the first one".into()));
    assert!(tells_all(&world.json("inspect web 1.0.0")["record"]["release"]));
    for words in ["list web", "history web"] {
        expect_parts(&world.ok(words), &["8f14e45fceea main, built by ci 7: Faster", "the first one"]);
    }
    expect_parts(&world.ok("inspect web 1.0.0"), &["ci 7", "main", "8f14e45fceea167a5a36", "Faster"]);

    // A version means the same bytes for good: while its slot is there, and after it is gone.
    let other = world.make("web", "1.0.0", "health-500");
    expect_refused(&world, &format!("deploy {other} --app web"), 21, "release.conflict");
    for version in ["2.0.0", "3.0.0", "4.0.0", "5.0.0"] {
        world.send_live("web", version);
    }
    world.ok("prune web -m 'room for more'");
    assert!(!has(&world, "1.0.0"), "{:?}", world.slots("web"));
    world.host.ok("systemctl restart slotd.service");
    expect_refused(&world, &format!("deploy {other} --app web"), 21, "release.conflict");
    world.drop_in("web", &other);
    let refused = world.expect_status("web", "the dropped one to be refused", |status| {
        status["refused"][0]["fault"]["code"] == "release.conflict"
    });
    expect_parts(&refused.to_string(), &["had other bytes", "until it was removed"]);
    world.host.ok("rm /var/lib/slotd/inbox/web/web-1.0.0.tar.zst*");
    world.make_with("web", "1.0.0", &[(".slotd/release.toml", RELEASE)]);
    let again = world.slotctl(&format!("deploy {first} --app web"));
    expect_exit(&again, slotd::model::Exit::ReadyNotLive as i32);
    assert!(has(&world, "1.0.0"), "the same bytes may come again: {}", shown(&again));

    // Without a version one is generated, of time and digest. It rises with time; the same bytes are the same release.
    world.drop_in("api", &unnamed(&world, "api.tar.zst", "one"));
    let status = world.expect_status("api", "the unnamed one live", |status| !status["current"].is_null());
    let one = status["current"].as_str().expect("a slot").to_owned();
    world.expect_idle("api");
    let digest = world.json("list api")[0]["artifact"].as_str().expect("a digest").to_owned();
    assert!(one.starts_with("0.20") && one.ends_with(&format!("-x{}", &digest[..12])), "{one} {digest}");
    let two = send_unnamed(&world, &unnamed(&world, "build.tar.zst", "two"));
    let three = send_unnamed(&world, &unnamed(&world, "api.tar.gz", "three"));
    assert_ne!(two, three);
    assert_eq!(send_unnamed(&world, "/root/api.tar.gz"), three, "the same bytes are live already");
    expect_exit(&world.slotctl("deploy /root/build.tar.zst --app api"), slotd::model::Exit::ReadyNotLive as i32);
    assert_eq!(world.slots("api").len(), 3, "{:?}", world.slots("api"));
    // The release file's word comes first, and a version that somebody gave is above each that was generated.
    let tree = world.tree("said", &[(".slotd/release.toml", "version = \"0.1.0\"\n")]);
    assert_eq!(
        world.slotctl(&format!("deploy {} --app api", world.pack(&tree, "said.tar.zst"))).status.code(),
        Some(20)
    );
    assert!(world.slots("api").contains(&"0.1.0 ready".to_owned()), "{:?}", world.slots("api"));

    // Each verb takes a message, which is kept and shown.
    world.ok("pin web 4.0.0 -m 'for the audit'");
    world.ok("unpin web 4.0.0 -m 'audited'");
    expect_exit(&world.slotctl(&format!("deploy {} --app web", world.make("web", "6.0.0", "health-500"))), 10);
    world.ok("quarantine clear web 6.0.0 -m 'the disk was full'");
    world.ok("rollback web -m 'too slow'");
    for (kind, part) in [
        ("operator.pin", "pin 4.0.0 by root: for the audit"),
        ("operator.unpin", "unpin 4.0.0 by root: audited"),
        ("operator.prune", "prune by root: room for more"),
        ("operator.quarantine-clear", "quarantine clear 6.0.0 by root: the disk was full"),
        ("deployment.asked", "too slow"),
    ] {
        expect_event(&world, kind, part);
    }
    expect_parts(&world.ok("history web"), &["too slow"]);
    // To a deployment too: what was said to it stands in its report.
    world.settings("web", "[soak]\ntime = \"60s\"\nconfirm = true\n");
    for (version, word) in [("7.0.0", "confirm"), ("8.0.0", "cancel")] {
        let sent = world.make("web", version, "");
        world.begin("sent", &format!("deploy {sent} --app web"));
        world.expect_status("web", "it to be watched", |status| {
            status["deployment"]["state"] == "soaking" && status["deployment"]["to"] == version
        });
        world.slotctl(&format!("{word} web -m 'so say I'"));
        world.exit_of("sent");
        let last = world.expect_idle("web")["last"].clone();
        let said = &last["said"][0];
        assert_eq!((&said["say"], &said["message"]), (&word.into(), &"so say I".into()), "{last}");
        expect_event(&world, &format!("operator.{word}"), "by root: so say I");
        expect_parts(&world.ok("history web"), &[&format!("{word} by root: so say I")]);
    }
}

#[track_caller]
pub fn row08_refusal(world: &World) {
    let before = world.slots("web");
    world.supply_server();
    let (unnamed, other) = (unnamed(world, "build.tar.zst", "x"), world.make("web", "2.0.0", "health-500"));
    world.host.ok(&format!("cp {unnamed} /root/api-1.2.3.tar.zst"));
    expect_refused(world, "deploy /root/api-1.2.3.tar.zst --app web", 21, "ingest.misnamed");
    expect_refused(world, &format!("deploy {other} --app web"), 21, "release.conflict");
    world.settings("web", "require_version = true\n");
    expect_refused(world, &format!("deploy {unnamed} --app web"), 21, "release.version");
    world.settings("web", "require_version = false\n");
    let long = "x".repeat(5000);
    for verb in [
        "cancel web",
        "promote web",
        "confirm web",
        "retry web",
        "prune web",
        "unpin web",
        "quarantine clear web 1.0.0",
    ] {
        expect_refused(world, &format!("{verb} -m {long}"), 5, "request.invalid");
    }
    expect_denied(world, "retry web -m please");
    assert_eq!(world.slots("web"), before);
}
