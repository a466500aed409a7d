//! States and phases, told with their times; and what failed is tried again.

use serde_json::Value;

use super::{expect_denied, expect_refused, has, world};
use crate::support::host::shown;
use crate::support::wait_until;
use crate::support::workshop::{expect_exit, expect_parts};
use crate::support::world::{PATIENCE, World};

/// The phases of a deployment that events tell of, the oldest first: which, when it began, and when it ended.
fn phases(events: &[Value], deployment: &str) -> Vec<(String, String, Option<String>)> {
    let phases = events.iter().filter(|event| event["event"] == "phase" && event["deployment"] == deployment);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let one = |it: &Value| {
        (text(&it["phase"]).unwrap_or_default(), text(&it["began"]).unwrap_or_default(), text(&it["ended"]))
    };
    phases.map(one).collect()
}

/// The stream's events so far, once `is` holds of them.
#[track_caller]
fn streamed(world: &World, what: &str, is: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    wait_until(what, PATIENCE, || {
        let text = world.host.ok("cat /root/stream");
        let events: Vec<Value> = text.lines().skip(1).filter_map(|line| serde_json::from_str(line).ok()).collect();
        if is(&events) { Ok(events) } else { Err(text) }
    })
}

fn is_over(events: &[Value], deployment: &str) -> bool {
    events.iter().any(|event| event["report"]["id"] == deployment && !event["report"]["ended"].is_null())
}

#[test]
fn row03_story() {
    let world = world("row03");
    world.supply_server();
    world
        .host
        .ok("systemd-run -q --unit=stream -p StandardOutput=file:/root/stream slotctl events web --follow --json");
    streamed(&world, "the stream to begin", |_| world.host.sh("grep -q '^\\[' /root/stream").status.success());

    // Each phase begins and ends, with its times, in the stream and afterwards.
    world.send_live("web", "1.0.0");
    let events = streamed(&world, "the end of web-1", |events| is_over(events, "web-1"));
    let told = phases(&events, "web-1");
    let names: Vec<&str> = told.iter().filter(|(.., ended)| ended.is_some()).map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["queued", "preparing", "starting", "proving", "switching", "post"], "{told:?}");
    for (name, began, ended) in &told {
        assert!(ended.as_ref().is_none_or(|ended| began <= ended), "{name} {began} {ended:?}");
        assert!(
            told.iter().any(|other| other == &(name.clone(), began.clone(), None)) || name == "queued",
            "{name} begins"
        );
    }
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(&kinds[..2], ["processing", "ready"], "{kinds:?}");
    let past = world.json("events web -n 100");
    let past: Vec<&str> = past.as_array().into_iter().flatten().rev().filter_map(|it| it["kind"].as_str()).collect();
    for kind in ["release.processing", "release.ready", "deployment.proving", "deployment.done"] {
        assert!(past.contains(&kind), "{past:?}");
    }
    expect_parts(&world.ok("events web"), &["proving begins", "proving ended after ", "web-1 to 1.0.0 ended: done"]);

    // An error carries phase and cause: in the report, in the events, at the slot.
    let sent = world.slotctl(&format!("deploy {} --app web", world.make("web", "2.0.0", "health-500")));
    expect_exit(&sent, 10);
    let last = world.expect_idle("web")["last"].clone();
    let (ended, code) = (&last["ended"], "probe.failed");
    assert_eq!((&ended["phase"], &ended["fault"]["code"]), (&"proving".into(), &code.into()), "{last}");
    let events = streamed(&world, "the end of web-2", |events| is_over(events, "web-2"));
    let failed = events.iter().find(|it| it["event"] == "phase" && !it["fault"].is_null()).expect("a failed phase");
    assert_eq!((&failed["phase"], &failed["fault"]["code"]), (&"proving".into(), &code.into()), "{failed}");
    let slot = world.json("list web")[0].clone();
    assert_eq!(
        (&slot["state"], &slot["phase"], &slot["fault"]["code"]),
        (&"failed".into(), &"proving".into(), &code.into())
    );
    assert!(phases(&events, "web-2").iter().any(|(name, _, ended)| name == "reverting" && ended.is_some()));

    // `retry` doesn't overrule a quarantine by itself; by force the same release is tried once more.
    expect_refused(&world, "retry web", 5, "release.quarantined");
    let again = world.slotctl("retry web --force -m 'once more'");
    expect_exit(&again, 10);
    let last = world.expect_idle("web")["last"].clone();
    assert_eq!((&last["id"], &last["to"], &last["message"]), (&"web-3".into(), &"2.0.0".into(), &"once more".into()));

    // The environment's fault is tried again by itself, after a pause; `retry` doesn't wait for it.
    world.host.ok("systemctl mask --runtime web@3.0.0.service");
    let sent = world.slotctl(&format!("deploy {} --app web", world.make("web", "3.0.0", "")));
    assert_eq!(sent.status.code(), Some(11), "{}", shown(&sent));
    let status = world.json("status web");
    expect_parts(&status["waiting"][0]["reason"].to_string(), &["is tried again in ", "for the 2nd time"]);
    assert_eq!(status["last"]["ended"]["blame"], "environment", "{status}");
    world.host.ok("systemctl unmask --runtime web@3.0.0.service");
    expect_exit(&world.slotctl("retry web"), 0);
    world.expect_serving(8080, "3.0.0");
    world.expect_idle("web");

    // Nothing has failed now but a file: `retry` takes it once more, though it hasn't changed.
    world.settings("web", "require_version = true\n");
    let tree = world.tree("unnamed", &[("TEXT", "x")]);
    world.drop_in("web", &world.pack(&tree, "web.tar.zst"));
    world.expect_status("web", "it to be refused", |status| status["refused"][0]["fault"]["code"] == "release.version");
    world.settings("web", "require_version = false\n");
    let again = world.json("retry web");
    assert_eq!((&again["answer"], &again["files"]), (&"again".into(), &serde_json::json!(["web.tar.zst"])), "{again}");
    wait_until("the file to be taken", PATIENCE, || match world.slots("web") {
        slots if slots.iter().any(|slot| slot.starts_with("0.20")) => Ok(()),
        slots => Err(format!("{slots:?}")),
    });
    assert!(has(&world, "3.0.0"));
    expect_parts(&world.ok("events web -n 100"), &["web.tar.zst is refused", "retry by root"]);
    world.host.ok("systemctl stop stream.service");
}

#[track_caller]
pub fn row03_refusal(world: &World) {
    let before = world.slots("web");
    expect_refused(world, "retry nobody", 4, "unknown.app");
    expect_refused(world, "retry web", 4, "unknown.deployment");
    expect_refused(world, "events nobody", 4, "unknown.app");
    expect_denied(world, "retry web");
    assert_eq!(world.slotctl("events web -n 0").status.code(), Some(2));
    assert_eq!(world.slots("web"), before);
}
