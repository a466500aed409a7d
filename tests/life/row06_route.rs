//! A changed route: it waits, goes live by its own word alone, and costs users nothing.

use std::path::Path;

use serde_json::Value;

use super::row06::change;
use super::{expect_refused, world};
use crate::support::host::{shown, text};
use crate::support::wait_until;
use crate::support::workshop::{expect_exit, expect_parts};
use crate::support::world::{PATIENCE, World};

const HELPER: &str = "/etc/systemd/system/slotd-route@api.service";
const CLIENT: &str = "/usr/local/lib/handover-client";

/// The helper of the route may lead these ports.
fn allow(world: &World, ports: &str) {
    world.host.ok(&format!("sed -i 's/--port [0-9,]*/--port {ports}/' {HELPER} && systemctl daemon-reload"));
}

/// The app file says this port, and that users call it.
fn set_port(world: &World, port: u16) {
    world.host.ok(&format!(
        "sed -i -e 's/^port = .*/port = {port}/' -e 's/^address = \"127.0.0.1:[0-9]*\"/address = \"127.0.0.1:{port}\"/' \
         /etc/slotd/apps/api.toml && systemctl reload slotd.service"
    ));
}

/// What the app's status says of its route.
fn waits(world: &World, app: &str) -> Option<String> {
    let status = world.json(&format!("status {app}"));
    let waiting = status["waiting"].as_array().cloned().unwrap_or_default();
    let found = waiting.into_iter().find(|item| item["what"] == "route")?;
    Some(found["reason"].as_str().unwrap_or_default().to_owned())
}

#[track_caller]
fn expect_shut(world: &World, port: u16) {
    let asked = world.host.sh(&format!("curl -s -m 5 http://127.0.0.1:{port}/"));
    assert_eq!(asked.status.code(), Some(7), "nobody is there: {}", shown(&asked));
}

/// Users of a port, without a pause.
fn users(world: &World, port: u16) {
    world.host.ok(&format!(
        "systemd-run --quiet --unit=users-{port} -p LimitNOFILE=4096 {CLIENT} 127.0.0.1:{port} --new 4 --keep-alive 4 \
         --pace 2ms --report /root/users-{port}.json"
    ));
    wait_until("users at work", PATIENCE, || {
        let open = text(&world.host.sh(&format!("ss -Htn state established dst 127.0.0.1:{port}")));
        if open.is_empty() { Err("none are connected".to_owned()) } else { Ok(()) }
    });
}

/// What they counted.
#[track_caller]
fn counted(world: &World, port: u16) -> Value {
    world.host.ok(&format!("systemctl stop users-{port}"));
    wait_until("the count", PATIENCE, || {
        let report = world.host.sh(&format!("cat /root/users-{port}.json"));
        serde_json::from_slice(&report.stdout).map_err(|error| error.to_string())
    })
}

#[test]
fn a_changed_route_is_a_step_of_its_own() {
    let world = world("row06-route");
    let client = Path::new(env!("CARGO_BIN_EXE_slotd")).with_file_name("examples/handover-client");
    world.host.push(client, CLIENT);
    world.supply_server();
    world.add_app_with("api", "--port 9090 --route nftables");
    world.settings("api", "strategy = \"blue-green\"\n[soak]\ntime = \"3s\"\n");
    world.send_live("api", "1.0.0");
    assert_eq!(waits(&world, "api"), None);

    // It is told everywhere, and nothing comes of it.
    let run = world.host.ok("systemctl show -P InvocationID api@1.0.0.service");
    set_port(&world, 9191);
    expect_parts(
        &waits(&world, "api").expect("it waits"),
        &["users come by nftables, port 9090", "nftables, port 9191", "slotctl redeploy api --route"],
    );
    let differs = world.json("diff api");
    let port = change(&differs, "route.port");
    assert_eq!((&port["from"], &port["to"]), (&"9090".into(), &"9191".into()), "{differs}");
    assert_eq!(port["class"], "own-step", "{differs}");
    expect_parts(&world.ok("diff api"), &["by a step of its own", "slotctl redeploy api --route"]);
    expect_parts(&world.ok("staged api"), &["route.port: 9090 to 9191", "by a step of its own", "plan api --route"]);
    expect_parts(&world.ok("cat api"), &["route.port", "9191", "by a step of its own"]);
    expect_refused(&world, "deploy-staged api", 5, "route.unsupported");
    expect_parts(
        &world.ok("plan api --route"),
        &[
            "port 9191 in place of nftables, port 9090",
            "begins      port 9191",
            "ends        port 9090",
            "none expected",
        ],
    );
    let planned = world.json("plan api --route");
    assert_eq!((&planned["to"], &planned["reroute"]["gap"]), (&"1.0.0@r2".into(), &"none".into()), "{planned}");
    let stopped = world.json("plan api --route --strategy stop-start");
    assert_eq!(stopped["reroute"]["gap"], "restart", "{stopped}");

    // Users would be asked for where nobody is any more.
    world
        .host
        .ok("sed -i 's/127.0.0.1:9191/127.0.0.1:9090/' /etc/slotd/apps/api.toml && systemctl reload slotd.service");
    let contradiction = world.slotctl("redeploy api --route");
    expect_parts(&shown(&contradiction), &["route.unsupported", "users call 127.0.0.1:9090, and port 9090 ends"]);
    expect_parts(&text(&world.slotctl("plan api --route")), &["port 9090 ends with this change"]);
    set_port(&world, 9191);

    // The helper's unit is the administrator's: while it leads the old port alone, nothing is touched.
    let refused = world.slotctl("redeploy api --route");
    expect_exit(&refused, slotd::model::Exit::Failed as i32);
    expect_parts(&shown(&refused), &["route.unsupported", "--port 9191,9090"]);
    assert_eq!(world.host.ok("systemctl show -P InvocationID api@1.0.0.service"), run);
    world.expect_serving(9090, "1.0.0");

    // Neither a release nor a way back moves users in passing.
    world.send_live("api", "2.0.0");
    world.expect_serving(9090, "2.0.0");
    expect_shut(&world, 9191);
    world.ok("rollback api");
    world.expect_serving(9090, "1.0.0");
    world.ok("activate api 2.0.0");
    world.expect_serving(9090, "2.0.0");
    assert!(waits(&world, "api").is_some(), "it waits still");
    world.host.ok("systemctl restart slotd.service");
    assert!(waits(&world, "api").is_some(), "over a restart too");
    assert_eq!(world.json("plan api 2.0.0")["foreseen"]["settings"], serde_json::json!([]), "no part of a release");

    // Nor does a helper that was changed too early: what would be another way is refused before anything is touched.
    allow(&world, "9191");
    expect_parts(&text(&world.slotctl("status api")), &["degraded", "users come by port 9090"]);
    let early = world.send("api", &world.make("api", "3.0.0", ""));
    expect_exit(&early, slotd::model::Exit::Failed as i32);
    expect_parts(&shown(&early), &["let it have --port 9090,9191 until they have moved"]);
    world.ok("cancel api");
    world.expect_serving(9090, "2.0.0");
    allow(&world, "9090,9191");
    expect_exit(&world.slotctl("check api"), 0);

    // Users of the old address find the app until the end, those of the new one from the switch on.
    users(&world, 9090);
    world.begin("moved", "redeploy api --route -m 'port 9191 from now on'");
    world.expect_status("api", "users may come by both", |status| status["deployment"]["state"] == "soaking");
    users(&world, 9191);
    let old = counted(&world, 9090);
    assert_eq!(world.json("status api")["deployment"]["state"], "soaking", "the old port was open all the while");
    let (exit, said) = world.exit_of("moved");
    assert_eq!(exit, 0, "{said}");
    let new = counted(&world, 9191);
    for (port, count) in [(9090, &old), (9191, &new)] {
        assert_eq!((&count["failed"], &count["stale"]), (&0.into(), &0.into()), "users of {port}: {count}");
        assert!(count["requests"].as_u64().is_some_and(|count| count > 100), "users of {port}: {count}");
    }
    expect_shut(&world, 9090);
    world.expect_serving(9191, "2.0.0");
    let status = world.expect_idle("api");
    assert_eq!((&status["current"], &status["state"]), (&"2.0.0@r2".into(), &"online".into()), "{status}");
    let last = &status["last"];
    assert_eq!(last["reroute"]["to"], "nftables, port 9191", "{last}");
    let steps: Vec<&str> =
        last["steps"].as_array().into_iter().flatten().filter_map(|it| it["what"].as_str()).collect();
    let at =
        |part: &str| steps.iter().position(|step| step.contains(part)).unwrap_or_else(|| panic!("{part}: {steps:?}"));
    let (both, switch) = (at("by nftables, port 9191 beside nftables, port 9090"), at("exchange current"));
    assert!(both < switch && switch < at("by nftables, port 9191 alone"), "{steps:?}");
    expect_parts(&world.ok("history api"), &["2.0.0@r2, by nftables, port 9191", "port 9191 from now on"]);
    assert_eq!(world.json("staged api"), serde_json::json!([]));
    expect_parts(&world.ok("diff api"), &["don't differ"]);
    expect_parts(&world.ok("redeploy api --route"), &["nothing to do"]);

    // It is the live slot's: the helper goes by it without slotd, and it doesn't return with a rollback.
    world.host.ok("rm /run/slotd/route/api && systemctl restart slotd-route@api.service");
    world.expect_serving(9191, "2.0.0");
    expect_shut(&world, 9090);
    world.ok("rollback api");
    world.expect_serving(9191, "2.0.0");
    expect_shut(&world, 9090);
    world.expect_status("api", "back on 2.0.0", |status| status["current"] == "2.0.0");

    // A way that doesn't lead to the app is gone back from, and is no fault of the release.
    allow(&world, "9191,9292");
    set_port(&world, 9292);
    world
        .settings("api", "[outside]\naddress = \"127.0.0.1:9393\"\n[proof]\ninterval = \"100ms\"\ndeadline = \"3s\"\n");
    let undone = world.slotctl("redeploy api --route");
    expect_exit(&undone, slotd::model::Exit::RolledBack as i32);
    let status = world.expect_idle_but_staged("api");
    let ended = &status["last"]["ended"];
    assert_eq!((&ended["fault"]["code"], &ended["blame"]), (&"route.outside".into(), &"environment".into()), "{ended}");
    assert!(ended["next"].as_str().is_some_and(|next| next.ends_with("slotctl redeploy api --route")), "{ended}");
    assert!(!world.slots("api").iter().any(|line| line.contains("failed")), "{:?}", world.slots("api"));
    assert!(!status["waiting"].to_string().contains("tried again"), "{status}");
    world.expect_serving(9191, "2.0.0");
    expect_shut(&world, 9292);
    assert!(waits(&world, "api").is_some(), "it waits as before");
    set_port(&world, 9191);
    assert_eq!(waits(&world, "api"), None, "what is set back waits for nobody");

    // What can't be done while users are there is refused, and done while the app rests.
    world.send_live("web", "1.0.0");
    world.settings("web", "[route]\nkind = \"none\"\n");
    expect_parts(&waits(&world, "web").expect("it waits"), &["can only be taken while web rests"]);
    let planned = world.slotctl("plan web --route");
    expect_exit(&planned, slotd::model::Exit::Refused as i32);
    expect_parts(&text(&planned), &["which has to rest", "systemctl stop web.socket web.service"]);
    expect_refused(&world, "redeploy web --route", 5, "route.unsupported");
    world.send_live("web", "2.0.0");
    assert!(waits(&world, "web").is_some());
    world.host.ok("systemctl stop web.socket web.service");
    world.ok("redeploy web --route");
    world.expect_serving(8080, "2.0.0");
    assert_eq!(waits(&world, "web"), None);
    world.expect_status("web", "2.0.0@r2 live", |status| status["current"] == "2.0.0@r2");
}
