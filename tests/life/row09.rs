//! Dependencies between apps, and units that systemd takes down with an app's own.

use serde_json::Value;
use slotd::model::Exit;

use super::{expect_refused, world};
use crate::support::host::shown;
use crate::support::wait_until;
use crate::support::workshop::{expect_exit, expect_parts};
use crate::support::world::{PATIENCE, World};

/// What becomes ready and waits for somebody's word.
#[track_caller]
fn stage(world: &World, app: &str, version: &str, behaviour: &str) {
    expect_exit(&world.send(app, &world.make(app, version, behaviour)), Exit::ReadyNotLive as i32);
}

/// The one dependency in an answer or a report.
#[track_caller]
fn the_one(of: &Value) -> &Value {
    let all = of["dependencies"].as_array().unwrap_or_else(|| panic!("no dependencies: {of}"));
    assert_eq!(all.len(), 1, "{of}");
    &all[0]
}

/// The last deployment of an app.
#[track_caller]
fn last(world: &World, app: &str) -> Value {
    world.json(&format!("history {app} -n 1"))[0].clone()
}

#[test]
fn row09_story() {
    let world = world("row09");
    world.supply_server();
    world.add_app("api", 8081);
    for app in ["api", "web"] {
        world.settings(app, "deploy = \"manual\"\n[retention]\nkeep = 10\n");
    }
    world.settings("web", "depends_on = [\"api\"]\n");
    assert_eq!(world.json("check web"), serde_json::json!([]));
    for version in ["1.0.0", "2.0.0", "3.0.0", "4.0.0"] {
        stage(&world, "web", version, "");
    }

    // Before anything of it is live, web can't be; and what waits for it comes up first.
    let plan = world.json("plan web 1.0.0");
    assert_eq!(the_one(&plan)["state"], "empty", "{plan}");
    stage(&world, "api", "1.0.0", "");
    let plan = world.json("plan web 1.0.0");
    assert_eq!((&the_one(&plan)["next"], &the_one(&plan)["address"]), (&"1.0.0".into(), &"127.0.0.1:8081".into()));
    let accepted = world.json("activate web 1.0.0 --no-wait");
    assert_eq!((&accepted["id"], &the_one(&accepted)["app"]), (&"web-1".into(), &"api".into()), "{accepted}");
    world.expect_serving(8081, "1.0.0");
    world.expect_serving(8080, "1.0.0");
    world.expect_status("web", "the end of web-1", |status| !status["last"]["ended"].is_null());

    // In order: api ends before web begins.
    stage(&world, "api", "2.0.0", "");
    let plan = world.ok("plan web 2.0.0");
    expect_parts(&plan, &["needs       api online, 1.0.0 at 127.0.0.1:8081; 2.0.0 goes live first"]);
    let told = world.ok("activate web 2.0.0");
    expect_parts(&told, &["ok   needs      api online, 2.0.0 at 127.0.0.1:8081 (api-2)", "web-2: 2.0.0 is live"]);
    let (api, web) = (last(&world, "api"), last(&world, "web"));
    assert_eq!((&api["message"], &api["by"], &api["to"]), (&"before web-2".into(), &"root".into(), &"2.0.0".into()));
    let (ended, began) = (api["ended"]["at"].as_str(), web["steps"][0]["began"].as_str());
    assert!(ended.is_some() && ended <= began, "{api} {web}");
    let seen = the_one(&web);
    assert_eq!(
        (&seen["state"], &seen["slot"], &seen["deployment"]),
        (&"online".into(), &"2.0.0".into(), &"api-2".into())
    );

    // The first that fails stops everything.
    stage(&world, "api", "3.0.0", "health-500");
    let failed = world.slotctl("activate web 3.0.0");
    expect_exit(&failed, Exit::Failed as i32);
    expect_parts(&shown(&failed), &["dependency.failed", "api-3, which goes before web-3, ended rolled-back"]);
    let web = last(&world, "web");
    assert_eq!((&web["steps"], &the_one(&web)["state"]), (&serde_json::json!([]), &"failed".into()), "{web}");
    expect_parts(&world.ok("why web"), &["cause", "probe", "slotctl why api-3; slotctl activate web 3.0.0"]);
    assert_eq!(world.json("status web")["current"], "2.0.0");
    world.expect_serving(8080, "2.0.0");
    world.expect_serving(8081, "2.0.0");

    // Alone, if that is what is wanted: what waits for api goes on waiting.
    stage(&world, "api", "4.0.0", "");
    world.ok("activate web 3.0.0 --without-dependencies");
    assert_eq!(world.json("status api")["current"], "2.0.0");

    // But not over one that is down; once it is up again the next try comes by itself.
    world.host.ok("systemctl stop api.socket");
    let down = world.slotctl("activate web 2.0.0 --without-dependencies");
    expect_exit(&down, Exit::Failed as i32);
    expect_parts(&shown(&down), &["web depends on api, which is stopped: api@2.0.0.service is inactive/dead"]);
    assert!(shown(&down).contains("dependency.down"), "{}", shown(&down));
    world.expect_serving(8080, "3.0.0");
    world.host.ok("systemctl start api.socket api.service");
    world.expect_serving(8080, "2.0.0");
    let tried = |status: &Value| status["last"]["attempt"] == 2 && status["deployment"].is_null();
    world.expect_status("web", "the end of the second try", tried);

    // What is brought together brings them up as well, and a release that is sent.
    expect_parts(&world.ok("deploy-staged web"), &["api online, 4.0.0 at 127.0.0.1:8081 (api-4)", "4.0.0 is live"]);
    assert_eq!(world.json("status api")["current"], "4.0.0");
    world.settings("web", "deploy = \"automatic\"\n");
    stage(&world, "api", "4.5.0", "");
    let sent = world.send("web", &world.make("web", "5.0.0", ""));
    expect_exit(&sent, 0);
    expect_parts(&shown(&sent), &["api online, 4.5.0 at 127.0.0.1:8081"]);
    assert_eq!(world.json("status api")["current"], "4.5.0");

    // What goes live by itself waits for what is under way, and brings up nothing that waits for somebody.
    stage(&world, "api", "5.0.0", "");
    world.drop_in("web", &world.make("web", "6.0.0", ""));
    world.expect_serving(8080, "6.0.0");
    world.expect_idle("web");
    assert_eq!(world.json("status api")["current"], "4.5.0");
    world.settings("api", "deploy = \"automatic\"\n[soak]\ntime = \"5s\"\n");
    world.expect_status("api", "5.0.0 under way", |status| status["deployment"]["to"] == "5.0.0");
    world.drop_in("web", &world.make("web", "7.0.0", ""));
    let waits = |status: &Value| {
        let reason = status["waiting"][0]["reason"].as_str().unwrap_or_default();
        reason.ends_with("waits for api-6, which goes first")
    };
    world.expect_status("web", "7.0.0 to wait for api-6", waits);
    world.expect_serving(8080, "7.0.0");
    assert_eq!(world.json("status api")["current"], "5.0.0");
}

#[track_caller]
pub fn row09_refusal(world: &World) {
    let wrong = |app: &str, on: &str, part: &str| {
        let file = format!("/etc/slotd/apps/{app}.toml");
        world.host.ok(&format!("cp {file} /root/{app}.toml && sed -i '1i depends_on = [{on}]' {file}"));
        let checked = world.slotctl(&format!("check {app}"));
        assert_eq!(checked.status.code(), Some(Exit::Degraded as i32), "{on}: {}", shown(&checked));
        expect_parts(&shown(&checked), &[part, "^^^"]);
        world.host.ok(&format!("mv /root/{app}.toml {file}"));
    };
    wrong("web", "\"nobody\"", "there is no app nobody");
    wrong("web", "\"web\"", "web can't depend on itself");

    // A circle is named as a whole, and the settings from before stay in force.
    world.add_app("api", 8081);
    world.settings("web", "depends_on = [\"api\"]\n");
    assert!(the_one(&world.json("plan web 1.0.0"))["app"] == "api");
    world.host.ok("cp /etc/slotd/apps/api.toml /root/api.good");
    world.settings("api", "depends_on = [\"web\"]\n");
    expect_parts(&shown(&world.slotctl("check api")), &["api depends on itself: api -> web -> api"]);
    expect_parts(&shown(&world.slotctl("check web")), &["web depends on itself: web -> api -> web"]);
    wait_until("the circle to be told", PATIENCE, || {
        let health = world.json("status")["health"].to_string();
        if health.contains("web -> api -> web") { Ok(()) } else { Err(health) }
    });
    assert_eq!(world.json("plan api 1.0.0")["fault"]["code"], "unknown.slot");
    assert!(the_one(&world.json("plan web 1.0.0"))["app"] == "api", "what was in force stays so");
    world.host.ok("mv /root/api.good /etc/slotd/apps/api.toml && systemctl reload slotd.service");

    // Nothing of api is live: web isn't touched.
    let before = world.json("status web")["current"].clone();
    expect_refused(world, "activate web 1.0.0", Exit::Failed as i32, "dependency.down");
    expect_refused(world, "activate web 1.0.0 --without-dependencies", Exit::Failed as i32, "dependency.down");
    world.slotctl("cancel web");
    assert_eq!(world.json("status web")["current"], before);

    world.host.ok("sed -i '/^depends_on/d' /etc/slotd/apps/web.toml && rm /etc/slotd/apps/api.toml");
    world.host.ok("systemctl reload slotd.service");
    assert_eq!(world.json("check web"), serde_json::json!([]));
}

/// Units beside the app's: three that go down with its first slot, the last by the others; one that doesn't run; one that
/// would start that slot; one that goes by the gate.
#[track_caller]
fn add_units(world: &World) {
    for (unit, ties) in [
        ("metrics", "PartOf=web@1.0.0.service"),
        ("tail", "BindsTo=metrics.service\nAfter=metrics.service"),
        ("mail", "Requires=tail.service"),
        ("idle", "PartOf=web@1.0.0.service"),
        ("bound", "BindsTo=web@1.0.0.service\nAfter=web@1.0.0.service"),
        ("side", "BindsTo=web.service\nAfter=web.service"),
    ] {
        let text = format!("[Unit]\n{ties}\n[Service]\nExecStart=/bin/sleep infinity\n");
        world.host.write(&format!("/etc/systemd/system/{unit}.service"), text);
    }
    world.host.ok("systemctl daemon-reload && systemctl start metrics tail mail bound side");
}

/// A rule of polkit by which slotd may start what goes down with its app.
#[track_caller]
fn allow(world: &World, units: &str) {
    let rule = format!(
        "polkit.addRule(function(action, subject) {{\n    if (action.id == \"org.freedesktop.systemd1.manage-units\" && \
         subject.user == \"slotd\" && action.lookup(\"verb\") == \"start\" &&\n        \
         /^({units})\\.service$/.test(action.lookup(\"unit\")))\n        return polkit.Result.YES;\n}});\n"
    );
    world.host.write("/etc/polkit-1/rules.d/60-beside-web.rules", rule);
}

/// Which of the units beside the app are up.
fn up(world: &World) -> String {
    let units = "metrics.service tail.service mail.service idle.service bound.service side.service";
    let list = format!("systemctl list-units --plain --no-legend --state=active {units} | cut -d. -f1 | sort");
    world.host.ok(&list).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_goes_down_with_a_slot_is_up_again() {
    let world = world("row09-along");
    world.supply_server();
    world.settings("web", "[retention]\nkeep = 10\n");
    world.send_live("web", "1.0.0");
    add_units(&world);
    // What would go down and may not be started is told before.
    let checked = world.slotctl("check web");
    expect_exit(&checked, Exit::Degraded as i32);
    let shown = shown(&checked);
    expect_parts(&shown, &["metrics.service", "tail.service", "mail.service", "goes down with web@1.0.0.service"]);
    allow(&world, "metrics|tail|mail|idle|bound|side");
    assert_eq!(world.json("check web"), serde_json::json!([]));
    assert_eq!(up(&world), "bound mail metrics side tail");
    let side = || world.host.ok("systemctl show -P InvocationID side.service");
    let run = side();

    // Back to the slot: all of them are up as before.
    expect_exit(&world.send("web", &world.make("web", "2.0.0", "health-500")), Exit::RolledBack as i32);
    assert_eq!(up(&world), "bound mail metrics side tail");
    let last = last(&world, "web");
    assert_eq!(last["ended"]["warnings"], Value::Null, "{last}");
    assert!(last["steps"].to_string().contains("see that bound.service"), "{last}");

    // The slot is left: what would start it again stays down, and that is said.
    let sent = world.send("web", &world.make("web", "3.0.0", ""));
    expect_exit(&sent, 0);
    expect_parts(&crate::support::host::shown(&sent), &["bound.service went down with web@1.0.0.service and stays so"]);
    assert_eq!(up(&world), "mail metrics side tail");
    assert_eq!(side(), run, "the gate was active all the while");
    world.expect_serving(8080, "3.0.0");

    // And back by an operator's word: it goes down with nothing now, and may be started by hand.
    world.ok("rollback web");
    world.host.ok("systemctl start bound");
    allow(&world, "side");
    let sent = world.send("web", &world.make("web", "4.0.0", ""));
    expect_exit(&sent, 0);
    expect_parts(&crate::support::host::shown(&sent), &["slotd may not start metrics.service"]);
    world.expect_serving(8080, "4.0.0");
}
