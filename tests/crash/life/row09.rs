//! Dependencies: an order that is cut off goes on in its order.

use serde_json::Value;
use slotd::config::Profile;
use slotd::model::Exit;

use crate::crash::Rig;
use crate::support::workshop::expect_exit;

#[test]
fn row09_kill() {
    let rig = Rig::boot("row09-kill", Profile::User);
    let world = &rig.world;
    world.add_app("api", 8081);
    world.settings("api", "deploy = \"manual\"\n[retention]\nkeep = 50\n");
    world.settings("web", "depends_on = [\"api\"]\n");
    expect_exit(&world.send("api", &world.make("api", "0.1.0", "")), Exit::ReadyNotLive as i32);
    // The passings of both apps count: what comes first is api's, and what comes last is web's.
    let deaths = [
        // web waits, and nobody has asked api yet; api has promised, and web hasn't written it down.
        ("after:queue", 1),
        ("before:queue", 3),
        ("after:queue", 3),
        // In api's deployment.
        ("after:announce", 1),
        ("before:stop", 1),
        ("before:start", 1),
        ("after:prove", 1),
        ("after:switch", 1),
        ("before:close", 1),
        ("after:close", 1),
        ("after:record", 1),
        // Between the two, and in web's.
        ("before:ask-needs", 1),
        ("after:ask-needs", 1),
        ("after:switch", 2),
    ];
    for (number, (point, passing)) in deaths.into_iter().enumerate() {
        let (api, web) = (format!("1.{number}.0"), if number % 2 == 0 { "2.0.0" } else { "3.0.0" });
        let web = if world.json("status web")["current"] == web { "1.0.0" } else { web };
        expect_exit(&world.send("api", &world.make("api", &api, "")), Exit::ReadyNotLive as i32);
        rig.arm(point, passing);
        let story = format!("{point} {passing}: api {api}, web {web}");
        eprintln!("{story}");
        world.begin("order", &format!("activate web {web} --json"));
        rig.expect_dead(point);
        let status = world.expect_status("web", &story, |status| {
            let (last, waiting) = (&status["last"]["to"], status["waiting"].as_array().is_some_and(Vec::is_empty));
            last == web && status["deployment"].is_null() && waiting
        });
        let (_, said) = world.exit_of("order");
        let last = &status["last"];
        assert_eq!(last["ended"]["outcome"], "done", "{story}: {status}; {said}; {}", world.journal());
        assert_eq!(status["current"], web, "{story}: {status}");
        world.expect_serving(8080, web);
        world.expect_serving(8081, &api);
        // One deployment of api, which went first and says for which one.
        let of_api = world.json("history api -n 100");
        let for_this = |it: &&Value| it["message"] == format!("before {}", last["id"].as_str().unwrap_or_default());
        let first: Vec<&Value> = of_api.as_array().into_iter().flatten().filter(for_this).collect();
        assert_eq!(first.len(), 1, "{story}: {of_api}");
        assert_eq!(first[0]["to"], api, "{story}: {of_api}");
        assert_eq!(last["dependencies"][0]["deployment"], first[0]["id"], "{story}: {status}");
        assert!(first[0]["ended"]["at"].as_str() <= last["steps"][0]["began"].as_str(), "{story}: {status}");
    }
}

/// Units that go down with the app's are up again wherever slotd dies: on the way forward, on the way back, and between the
/// stop that took them and the word that they were there.
#[test]
fn killed_beside_units_that_go_down_too() {
    let rig = Rig::boot("row09-along", Profile::User);
    let world = &rig.world;
    let parts = ["1.0.0", "2.0.0", "3.0.0"].map(|version| format!("PartOf=web@{version}.service\n")).concat();
    for (unit, ties) in [("metrics", parts.as_str()), ("tail", "BindsTo=metrics.service\nAfter=metrics.service\n")] {
        let text = format!("[Unit]\n{ties}[Service]\nExecStart=/bin/sleep infinity\n");
        world.host.write(&format!("/etc/systemd/system/{unit}.service"), text);
    }
    let rule = "polkit.addRule(function(action, subject) {\n    \
                if (subject.user == \"slotd\" && /^(metrics|tail)\\.service$/.test(action.lookup(\"unit\")))\n        \
                return polkit.Result.YES;\n});\n";
    world.host.write("/etc/polkit-1/rules.d/60-beside-web.rules", rule);
    world.host.ok("systemctl daemon-reload && systemctl start tail metrics");
    let is_up = || world.host.ok("systemctl is-active tail metrics || true").replace('\n', " ");
    assert_eq!(is_up(), "active active");
    for (number, point) in
        ["before:stop", "after:stop", "before:start", "after:switch", "before:rejoin", "after:rejoin", "after:close"]
            .into_iter()
            .enumerate()
    {
        let good = ["1.0.0", "2.0.0"][number % 2];
        for (version, outcome) in [(good, "done"), ("9.0.0", "rolled-back")] {
            if version == "9.0.0" && point == "after:switch" {
                continue;
            }
            world.slotctl("quarantine clear web 9.0.0");
            rig.arm(point, 1);
            let story = format!("{point}: web {version}");
            eprintln!("{story}");
            world.begin("along", &format!("activate web {version}"));
            rig.expect_dead(point);
            let status = world.expect_status("web", &story, |status| {
                status["deployment"].is_null() && status["last"]["to"] == version && !status["last"]["ended"].is_null()
            });
            world.exit_of("along");
            assert_eq!(status["last"]["ended"]["outcome"], outcome, "{story}: {status}");
            assert_eq!(is_up(), "active active", "{story}: {status}; {}", world.journal());
            world.expect_serving(8080, good);
        }
    }
}
