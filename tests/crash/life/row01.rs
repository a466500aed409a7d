//! Automatic and manual: slotd dies as a setting is chosen, or in the deployment that brings together what is staged.

use slotd::config::Profile;
use slotd::model::Exit;

use crate::crash::Rig;
use crate::support::workshop::expect_exit;

use super::die_at;

#[test]
fn row01_kill() {
    let rig = Rig::boot("row01-kill", Profile::User);
    let world = &rig.world;
    for (point, mode) in [("before:choose", "automatic"), ("after:choose", "manual")] {
        die_at(&rig, point, "set web deploy manual");
        assert_eq!(world.json("status web")["deploy"], mode, "{point}");
    }
    expect_exit(&world.deploy("web", &world.artifact("web", "10.0.0", "")), Exit::ReadyNotLive as i32);
    world.ok("set web env.A 1");
    let staged = || {
        let all = world.json("staged web");
        all.as_array().expect("a list").iter().map(|it| (it["id"].clone(), it["at"].clone())).collect::<Vec<_>>()
    };
    let before = staged();
    // Nobody was told an id: the word is said again.
    die_at(&rig, "before:queue", "deploy-staged web");
    world.expect_idle_but_staged("web");
    assert_eq!(staged(), before, "what was made on the way is no news");
    // From here on it goes on by itself.
    rig.arm("after:switch", 1);
    world.ok("deploy-staged web --no-wait");
    rig.expect_dead("after:switch");
    world.expect_status("web", "10.0.0 with what was set", |status| {
        status["current"] == "10.0.0@r2" && status["deployment"].is_null()
    });
    assert_eq!(world.json("staged web"), serde_json::json!([]));
    world.expect_serving(8080, "10.0.0");
    // What is staged goes live though slotd died as the app became automatic again.
    world.ok("set web env.A 2");
    die_at(&rig, "after:choose", "set web deploy automatic");
    world.expect_status("web", "the new environment live", |status| {
        status["current"] == "10.0.0@r3" && status["deployment"].is_null()
    });
}
