//! One app through its whole life: by hand, staged with a changed environment and two releases, built, planned, approved
//! with the token, migrated, deployed, rolled back, retried, pinned, frozen, pruned.

use serde_json::Value;

use crate::support::workshop::{expect_exit, expect_parts};
use crate::support::world::World;

use super::{builds, env_of, expect_refused, has, hooks, verdict, world};

/// What is live.
#[track_caller]
fn current(world: &World) -> String {
    world.json("status web")["current"].as_str().unwrap_or("nothing").to_owned()
}

#[test]
fn an_app_walks_through_all_of_it() {
    let world = world("walk");
    world.live("web", 8080, "1.0.0");
    world.ok("set web deploy manual -m 'the walk'");
    let points = ["preflight", "deploy", "post_deploy", "snapshot", "restore"];
    hooks::add(&world, &points);
    builds::add_to(&world, &hooks::lines(&points));
    world.settings("web", "[soak]\ntime = \"0s\"\n[retention]\nkeep = 10\n");

    // Built and staged: two releases, of which the higher one migrates the data, and a changed environment.
    for (version, migration) in [("2.0.0", "none"), ("3.0.0", "breaking")] {
        let artifact = hooks::migrating(&world, version, migration, "", "");
        expect_exit(&world.deploy("web", &artifact), slotd::model::Exit::ReadyNotLive as i32);
    }
    world.ok("set web env.MODE new");
    let staged = world.json("staged web");
    let what = |staged: &Value| staged["slot"].as_str().or(staged["key"].as_str()).unwrap_or("?").to_owned();
    let what: Vec<String> = staged.as_array().expect("a list").iter().map(what).collect();
    assert_eq!(what[..3], ["3.0.0", "2.0.0", "env.MODE"], "and the settings that changed");

    // Planned, approved, and brought together.
    let planned = world.ok("plan web");
    let parts =
        ["3.0.0@r2 over 1.0.0", "breaking migration", "web-deploy@3.0.0@r2", "env.MODE (hidden)", "slots below 3.0.0"];
    expect_parts(&planned, &parts);
    let token = planned.lines().find_map(|line| line.trim().strip_prefix("token")).expect("a token").trim();
    assert_eq!(current(&world), "1.0.0");
    world.ok(&format!("activate web 3.0.0@r2 --plan {token} -m 'all of it'"));
    assert_eq!(world.json("staged web"), serde_json::json!([]));
    let live = current(&world);
    assert_eq!(live, "3.0.0@r2", "published before the environment was set");
    let ran: Vec<String> =
        hooks::ran(&world).iter().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect();
    assert_eq!(ran, ["preflight", "snapshot", "deploy", "post_deploy"]);
    assert_eq!(hooks::form(&world), "3.0.0");
    assert_eq!(builds::file(&world, &live, "made"), "built as 3.0.0");
    expect_parts(&world.ok(&format!("logs web {live} --build")), &["web-build@3.0.0.service begins", "it ended well"]);
    assert_eq!(env_of(&world, &format!("web@{live}.service"), "MODE").as_deref(), Some("new"));
    let history = world.json("history web -n 1");
    assert_eq!(
        (&history[0]["message"], &history[0]["migration"]),
        (&"all of it".into(), &"breaking".into()),
        "{history}"
    );

    // Back is barred now, unless somebody has seen to the data.
    expect_refused(&world, "rollback web", 5, "release.barred");
    world.host.ok("runuser -u web -- sh -c 'echo 1 >/var/tmp/data/form'");
    world.ok("rollback web --force -m 'the data is restored'");
    world.expect_serving(8080, "1.0.0");
    world.expect_idle_but_staged("web");

    // One whose surroundings aren't there yet is tried again by itself, and at once by a word.
    world.ok("set web deploy automatic");
    let needy = world.artifact("web", "4.0.0", "health-file /var/lib/there");
    let sent = world.deploy("web", &needy);
    assert_ne!(sent.status.code(), Some(0), "its file isn't there");
    world.host.ok("touch /var/lib/there");
    if current(&world) != "4.0.0" {
        world.ok("retry web --force -m 'the file is there'");
    }
    world.expect_serving(8080, "4.0.0");
    world.expect_idle_but_staged("web");

    // Pinned and frozen: what comes waits; then it goes live by itself.
    world.ok("pin web 1.0.0 -m 'for the archive'");
    world.ok("freeze web -m Christmas");
    expect_exit(&world.deploy("web", &world.artifact("web", "5.0.0", "")), slotd::model::Exit::ReadyNotLive as i32);
    expect_refused(&world, "activate web 5.0.0", 5, "app.frozen");
    assert_eq!(current(&world), "4.0.0");
    world.ok("unfreeze web");
    world.expect_serving(8080, "5.0.0");
    world.expect_idle_but_staged("web");

    // Pruned: what is pinned stays, what is neither live nor the way back goes.
    world.ok("set web retention.keep 0");
    let dry = world.json("prune web --dry-run");
    assert_eq!(verdict(&dry, "1.0.0"), (true, "pinned".to_owned()), "{dry}");
    world.ok("prune web");
    for (slot, there) in [("1.0.0", true), ("2.0.0", false), ("4.0.0", true), ("5.0.0", true)] {
        assert_eq!(has(&world, slot), there, "{slot}: {:?}", world.slots("web"));
    }
    world.ok("unpin web 1.0.0");
}
