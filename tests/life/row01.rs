//! Automatic and manual: releases and changed settings are staged, and brought together into one deployment.

use serde_json::Value;

use crate::support::host::shown;
use crate::support::workshop::{expect_exit, expect_parts};
use crate::support::world::World;

use super::{env_of, expect_denied, expect_refused, world};

/// What `staged` shows of each thing: what, and who brought or set it.
#[track_caller]
fn staged(world: &World) -> Vec<(String, String)> {
    let all = world.json("staged web");
    let line = |staged: &Value| {
        let what = staged["slot"].as_str().or_else(|| staged["key"].as_str()).unwrap_or("?");
        (what.to_owned(), staged["by"].as_str().unwrap_or("?").to_owned())
    };
    all.as_array().unwrap_or_else(|| panic!("{all}")).iter().map(line).collect()
}

fn pair(what: &str, by: &str) -> (String, String) {
    (what.to_owned(), by.to_owned())
}

#[test]
fn row01_story() {
    let world = world("row01");
    world.settings("web", "[retention]\nkeep = 5\n");
    world.live("web", 8080, "1.0.0");
    world.ok("set web deploy manual -m 'no surprises in the sale'");
    assert_eq!(world.json("status web")["deploy"], "manual");

    // Two releases and a changed environment wait, each with who brought it.
    world.mv("web", &world.artifact("web", "2.0.0", ""));
    world.expect_status("web", "2.0.0 to be staged", |status| status["waiting"][0]["what"] == "2.0.0");
    let cart = world.artifact("web", "3.0.0", "");
    world.fetch(&cart);
    let sent = world.slotctl(&format!("deploy /root/{} --app web -m 'the new cart'", cart.file));
    expect_exit(&sent, slotd::model::Exit::ReadyNotLive as i32);
    expect_parts(&shown(&sent), &["it is staged", "  next: slotctl deploy-staged web"]);
    // A lower one isn't what would be brought: it goes live by its name.
    let lower = world.artifact("web", "0.9.0", "");
    let sent = world.deploy("web", &lower);
    expect_parts(&shown(&sent), &["not above 1.0.0", "  next: slotctl activate web 0.9.0"]);
    let set = world.json("set web env.LOG_LEVEL debug -m 'to see the cart'");
    assert_eq!((&set["staged"], &set["class"]), (&true.into(), &"new-slot".into()), "{set}");
    world.settings("web", "[soak]\ntime = \"1s\"\n");
    let waits = [
        pair("3.0.0", "root"),
        pair("2.0.0", "inbox"),
        pair("env.LOG_LEVEL", "root"),
        pair("soak.time", "/etc/slotd/apps/web.toml"),
    ];
    assert_eq!(staged(&world), waits);
    let before = world.json("staged web");
    assert_eq!((&before[0]["message"], &before[2]["hidden"]), (&"the new cart".into(), &true.into()), "{before}");
    world.host.ok("systemctl restart slotd.service");
    assert_eq!(world.json("staged web"), before, "what waits, its number and since when, outlive slotd");
    world.expect_serving(8080, "1.0.0");
    assert_eq!(env_of(&world, "web@1.0.0.service", "LOG_LEVEL"), None);

    // Once more as it is: nothing that is staged goes along.
    world.ok("redeploy web -m 'a leak'");
    world.expect_idle_but_staged("web");
    assert_eq!(world.json("status web")["current"], "1.0.0@r2");
    assert_eq!(env_of(&world, "web@1.0.0@r2.service", "LOG_LEVEL"), None);
    assert_eq!(staged(&world), waits[..3], "a deployment goes by the settings that hold for deployments");

    // All of it in one deployment.
    let deployed = world.ok("deploy-staged web -m 'friday'");
    expect_parts(
        &deployed,
        &["release 3.0.0", "release 2.0.0", "stays ready, 3.0.0 is higher", "env.LOG_LEVEL (hidden)"],
    );
    let slot = world.json("status web")["current"].clone();
    assert_eq!(slot, "3.0.0@r2", "3.0.0 was published before the environment was set");
    assert_eq!(env_of(&world, "web@3.0.0@r2.service", "LOG_LEVEL").as_deref(), Some("debug"));
    assert_eq!(staged(&world), []);
    let history = world.json("history web -n 1");
    assert_eq!((&history[0]["message"], &history[0]["to"]), (&"friday".into(), &slot), "{history}");
    assert_eq!(world.json("deploy-staged web")["answer"], "unchanged");
    let again = world.json("activate web 3.0.0@r2");
    assert_eq!(again["answer"], "unchanged", "{again}");
    // For programs it is one answer, what was staged and how it ended.
    world.mv("web", &world.artifact("web", "3.1.0", ""));
    world.expect_status("web", "3.1.0 to be staged", |status| status["waiting"][0]["what"] == "3.1.0");
    let answer = world.ok("deploy-staged web --json");
    let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"));
    let ended = &answer["report"]["ended"]["outcome"];
    assert_eq!((&answer["staged"][0]["slot"], ended), (&"3.1.0".into(), &"done".into()), "{answer}");

    // What is staged goes live as the app becomes automatic again, and from then on by itself.
    world.mv("web", &world.artifact("web", "4.0.0", ""));
    world.expect_status("web", "4.0.0 to be staged", |status| status["waiting"][0]["what"] == "4.0.0");
    world.ok("set web deploy automatic");
    world.expect_serving(8080, "4.0.0");
    world.live("web", 8080, "5.0.0");
    world.ok("set web env.LOG_LEVEL info");
    world.expect_idle("web");
    assert_eq!(world.json("status web")["current"], "5.0.0@r2");
    assert_eq!(env_of(&world, "web@5.0.0@r2.service", "LOG_LEVEL").as_deref(), Some("info"));

    // What an operator went back from doesn't come again by itself, a changed environment neither.
    world.ok("rollback web");
    world.host.ok("systemctl restart slotd.service");
    world.expect_idle("web");
    assert_eq!(world.json("status web")["current"], "5.0.0");
    assert_eq!(staged(&world), [pair("env.LOG_LEVEL", "root")]);
}

#[track_caller]
pub fn row01_refusal(world: &World) {
    let before = world.json("status web");
    expect_refused(world, "deploy-staged nobody", 4, "unknown.app");
    expect_refused(world, "set web deploy never", 5, "request.invalid");
    expect_refused(world, "set web route.kind none", 5, "request.invalid");
    expect_refused(world, "set web env.PORT 80", 5, "request.invalid");
    expect_refused(world, "unset web proof.deadline", 5, "request.invalid");
    expect_refused(world, &format!("redeploy web -m {}", "x".repeat(5000)), 5, "request.invalid");
    for words in ["deploy-staged web", "redeploy web", "set web deploy manual", "unset web deploy"] {
        expect_denied(world, words);
    }
    // What is so already is no mistake.
    assert_eq!(world.json("unset web deploy")["changed"], false);
    assert_eq!(world.json("deploy-staged web")["answer"], "unchanged");
    let after = world.json("status web");
    assert_eq!((&after["current"], &after["deploy"]), (&before["current"], &"automatic".into()));
}
