//! Plan and approval: all that would come of a deployment, and a token that binds it to what was read.

use serde_json::Value;

use crate::support::workshop::{expect_exit, expect_parts};
use crate::support::world::World;

use super::{expect_denied, expect_refused, hooks, world};

/// The token of a plan.
#[track_caller]
fn token(planned: &Value) -> String {
    planned["foreseen"]["token"].as_str().unwrap_or_else(|| panic!("{planned}")).to_owned()
}

#[test]
fn row11_story() {
    let world = world("row11");
    world.settings("web", "deploy = \"manual\"\n[env]\nTOKEN = \"old\"\n[retention]\nkeep = 0\n");
    expect_exit(&world.deploy("web", &world.artifact("web", "1.0.0", "")), 20);
    world.ok("activate web 1.0.0");
    hooks::add(&world, &["deploy"]);
    for version in ["1.1.0", "2.0.0"] {
        let next = world.artifact_with("web", version, ".tar.zst", |tree| {
            std::fs::write(tree.join("motd"), version).expect("written");
        });
        expect_exit(&world.deploy("web", &next), 20);
    }
    world.settings("web", "[env]\nTOKEN = \"new\"\n");

    // What is staged, as it would be: files, environment, who runs what, hooks, what goes, how long it took before.
    let planned = world.json("plan web");
    let foreseen = &planned["foreseen"];
    assert_eq!((&planned["to"], &foreseen["change"]), (&"2.0.0@r2".into(), &true.into()), "{planned}");
    assert_eq!(foreseen["files"], serde_json::json!({"added": 1, "removed": 0, "changed": 1}), "{planned}");
    let change = &foreseen["settings"][0];
    assert_eq!((&change["key"], &change["hidden"], &change["to"]), (&"env.TOKEN".into(), &true.into(), &Value::Null));
    let runs = &foreseen["runtime"][0];
    assert_eq!((&runs["user"], &runs["unit"]), (&"web".into(), &"web@".into()), "{planned}");
    assert!(runs["command"].as_str().is_some_and(|command| command.contains("/srv/web/bin/web")), "{planned}");
    assert_eq!(planned["hooks"][0]["at"], "deploy", "{planned}");
    assert!(foreseen["pruned"].as_array().is_some_and(|all| all.contains(&"1.1.0".into())), "{planned}");
    assert_eq!(foreseen["past"]["deployments"], 1, "{planned}");
    let said = world.ok("plan web 2.0.0@r2");
    expect_parts(&said, &["env.TOKEN (hidden)", "1 added, 0 removed, 1 changed", "as web", "token", "pruned"]);
    assert!(!said.contains("\"new\""), "{said}");

    // The same plan has the same token; what moves in between is named, and nothing is done.
    let approved = token(&planned);
    assert_eq!(token(&world.json("plan web 2.0.0@r2")), approved);
    world.settings("web", "[proof]\ninterval = \"120ms\"\ndeadline = \"20s\"\n");
    let refused = world.json(&format!("activate web 2.0.0@r2 --plan {approved}"));
    assert_eq!(refused["fault"]["code"], "plan.moved", "{refused}");
    expect_parts(refused["fault"]["message"].as_str().unwrap_or_default(), &["the settings changed"]);
    let approved = token(&world.json("plan web 2.0.0@r2"));
    world.host.ok("mkdir -p /etc/systemd/system/web@.service.d");
    world.host.write("/etc/systemd/system/web@.service.d/nice.conf", "[Service]\nNice=5\n");
    world.host.ok("systemctl daemon-reload");
    let refused = world.json(&format!("activate web 2.0.0@r2 --plan {approved}"));
    expect_parts(refused["fault"]["message"].as_str().unwrap_or_default(), &["the unit files changed"]);
    assert_eq!(world.json("status web")["current"], "1.0.0");

    // As it was read it is carried out; then there is nothing to do.
    let approved = token(&world.json("plan web"));
    world.ok(&format!("activate web 2.0.0@r2 --plan {approved} -m 'approved by bob'"));
    world.expect_serving(8080, "2.0.0");
    expect_exit(&world.slotctl("plan web"), 9);
    expect_exit(&world.slotctl("plan web 1.0.0"), 0);
}

#[track_caller]
pub fn row11_refusal(world: &World) {
    expect_refused(world, "plan web 9.9.9", 4, "unknown.slot");
    expect_refused(world, "plan nobody", 4, "unknown.app");
    expect_refused(world, "activate web 1.0.0 --plan nonsense", 5, "plan.moved");
    expect_refused(world, "activate web 1.0.0 --at 2h --plan nonsense", 5, "request.invalid");
    expect_denied(world, "plan web");
    let refused = world.slotctl("plan web 1.0.0 --strategy blue-green");
    expect_exit(&refused, 5);
    assert_eq!(world.json("status web")["current"], "2.0.0");
}
