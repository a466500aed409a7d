//! Cancel: whatever a deployment stands at, before it begins and between its tries; and an intake under way.

use super::{expect_denied, expect_refused, has, world};
use crate::support::host::shown;
use crate::support::wait_until;
use crate::support::workshop::{expect_exit, expect_parts};
use crate::support::world::{PATIENCE, World};

/// Begins a deployment of a release, and waits until it stands at `state`; whoever sent it waits.
#[track_caller]
fn begin(world: &World, version: &str, behaviour: &str, state: &str) {
    let path = world.make("api", version, behaviour);
    world.begin("sent", &format!("deploy {path} --app api"));
    world.expect_status("api", state, |status| {
        status["deployment"]["state"] == state && status["deployment"]["to"] == version
    });
}

/// Cancels it: it is undone, and whoever waits is told.
#[track_caller]
fn expect_cancelled(world: &World, state: &str) {
    world.ok(&format!("cancel api -m 'at {state}'"));
    let (exit, said) = world.exit_of("sent");
    assert_eq!(exit, 12, "{state}: {said}");
    let last = world.expect_idle("api")["last"].clone();
    assert_eq!(
        (&last["ended"]["outcome"], &last["ended"]["blame"]),
        (&"cancelled".into(), &"operator".into()),
        "{last}"
    );
    assert_eq!(last["said"][0]["message"], format!("at {state}"), "{last}");
    world.expect_serving(9090, "1.0.0");
    let units = world.host.ok("systemctl list-units --plain --no-legend --full 'api@*.service' | awk '{print $1}'");
    assert_eq!(units, "api@1.0.0.service", "{state}");
}

#[test]
fn row12_story() {
    let world = world("row12");
    world.supply_server();
    world.add_app_with("api", "--port 9090 --route nftables");
    world.send_live("api", "1.0.0");
    // Under way, at each step that lasts; the short ones are held open in tests/host_crash_verbs.rs.
    begin(&world, "2.0.0", "never-ready", "starting");
    expect_cancelled(&world, "starting");
    begin(&world, "3.0.0", "health-500", "proving");
    expect_cancelled(&world, "proving");
    world.settings("api", "strategy = \"blue-green\"\nswitch = \"manual\"\n[soak]\ntime = \"60s\"\n");
    begin(&world, "4.0.0", "", "waiting");
    expect_cancelled(&world, "waiting");
    world.settings("api", "switch = \"automatic\"\n");
    begin(&world, "5.0.0", "", "soaking");

    // What waits for its turn goes first, and the one under way goes on.
    let waits = world.make("api", "6.0.0", "");
    world.begin("waits", &format!("deploy {waits} --app api"));
    world.expect_status("api", "6.0.0 to wait", |status| status["waiting"].to_string().contains("waits for the one"));
    expect_parts(&world.ok("cancel api"), &["6.0.0", "before it began"]);
    assert_eq!(world.exit_of("waits").0, 12);
    assert_eq!(world.json("status api")["deployment"]["to"], "5.0.0");
    expect_cancelled(&world, "soaking");

    // The next try of one that failed: it isn't tried again.
    world.host.ok("systemctl mask --runtime api@7.0.0.service");
    expect_exit(&world.send("api", &world.make("api", "7.0.0", "")), 11);
    world.expect_status("api", "a next try", |status| status["waiting"].to_string().contains("is tried again in"));
    expect_parts(&world.ok("cancel api"), &["7.0.0 isn't tried again"]);
    assert_eq!(world.json("status api")["waiting"], serde_json::json!([]));
    world.host.ok("systemctl unmask --runtime api@7.0.0.service");

    // An intake: nothing of it is left, and `retry` takes the file once more.
    let big = "head -c 300M /dev/zero >/root/trees/big/zeros && cd /root && tar cf api-8.0.0.tar -C trees/big .";
    world.tree("big", &[]);
    world.host.ok(big);
    world.drop_in("api", "/root/api-8.0.0.tar");
    let cancelled = wait_until("the intake to be cancelled", PATIENCE, || {
        let output = world.slotctl("cancel api --json");
        if output.status.success() { Ok(shown(&output)) } else { Err(shown(&output)) }
    });
    expect_parts(&cancelled, &["\"answer\":\"nottaken\"", "api-8.0.0.tar"]);
    world.expect_status("api", "its fate", |status| status["refused"][0]["fault"]["code"] == "deployment.cancelled");
    assert!(!world.slots("api").iter().any(|slot| slot.starts_with("8.0.0")), "{:?}", world.slots("api"));
    world.host.ok("rm /var/lib/slotd/inbox/api/api-8.0.0.tar*");
    world.expect_serving(9090, "1.0.0");
    world.expect_idle("api");
}

#[track_caller]
pub fn row12_refusal(world: &World) {
    expect_refused(world, "cancel nobody", 4, "unknown.app");
    expect_refused(world, "cancel web", 4, "unknown.deployment");
    expect_denied(world, "cancel web");
    assert!(has(world, "2.0.0"));
    world.expect_serving(8080, "2.0.0");
}
