//! Settings: what holds when, how sides differ, and what returns with a rollback.

use serde_json::Value;

use crate::support::host::shown;
use crate::support::workshop::{expect_exit, expect_parts};
use crate::support::world::World;

use super::{env_of, expect_denied, expect_refused, world};

/// The value of a setting and where it was said.
#[track_caller]
fn said(world: &World, key: &str) -> (Value, String) {
    let all = world.json("cat web --reveal");
    let found = all.as_array().and_then(|all| all.iter().find(|setting| setting["key"] == key));
    let found = found.unwrap_or_else(|| panic!("{key}: {all}"));
    (found["value"].clone(), found["origin"].as_str().unwrap_or("?").to_owned())
}

/// A setting among the differences.
pub fn change(differs: &Value, key: &str) -> Value {
    let all = differs["settings"].as_array().expect("a list");
    all.iter().find(|change| change["key"] == key).cloned().unwrap_or_default()
}

#[test]
fn row06_story() {
    let world = world("row06");
    world.host.ok("echo '[defaults.limits]\nentries = 999' >>/etc/slotd/slotd.toml && systemctl reload slotd.service");
    let nice = "/etc/systemd/system/web@.service.d/nice.conf";
    world.host.write(nice, "[Service]\nNice=1\n");
    world.host.ok("systemctl daemon-reload");
    world.settings("web", "[env]\nTOKEN = \"old\"\nGREETING = \"hello\"\n");
    world.live("web", 8080, "1.0.0");

    // Every value with its origin; secrets only for those who may operate, and when they ask.
    for (key, value, origin) in [
        ("retention.max_age", "\"forever\"", "default"),
        ("retention.keep", "1", "file"),
        ("limits.entries", "999", "daemon"),
        ("env.TOKEN", "\"old\"", "file"),
        ("unit.web@.instances", "1", "default"),
    ] {
        assert_eq!(said(&world, key), (value.into(), origin.to_owned()), "{key}");
    }
    world.ok("set web retention.max_age 90d -m 'as the law has it'");
    assert_eq!(said(&world, "retention.max_age"), ("\"90d\"".into(), "verb".to_owned()));
    expect_parts(&world.ok("cat web"), &["set by root", "as the law has it"]);
    let cat = world.ok("cat web");
    expect_parts(&cat, &["env.TOKEN", "(hidden; --reveal)", "/etc/slotd/apps/web.toml:", "at the next deployment"]);
    assert!(!cat.contains("\"old\""), "{cat}");
    expect_parts(&world.ok("diff web"), &["web: 1.0.0 and what is set don't differ"]);

    // A changed environment makes another slot of the same tree; nothing changes in the one that runs.
    world.ok("pin web");
    let run = world.host.ok("systemctl show -P InvocationID web@1.0.0.service");
    world.settings("web", "[env]\nTOKEN = \"new\"\n[proof]\ninterval = \"150ms\"\ndeadline = \"20s\"\n");
    let differs = world.json("diff web --reveal");
    let token = change(&differs, "env.TOKEN");
    assert_eq!((&token["from"], &token["to"]), (&"\"old\"".into(), &"\"new\"".into()));
    let greeting = change(&differs, "env.GREETING");
    assert_eq!((&greeting["to"], &greeting["class"]), (&Value::Null, &"new-slot".into()));
    assert_eq!(change(&differs, "proof.interval")["class"], "next-deployment", "{differs}");
    expect_parts(&world.ok("status web"), &["env.GREETING, env.TOKEN: the app is pinned", "`slotctl unpin`"]);
    let hidden = world.ok("diff web");
    assert!(hidden.contains("(hidden)") && !hidden.contains("\"new\""), "{hidden}");
    assert_eq!(world.host.ok("systemctl show -P InvocationID web@1.0.0.service"), run);
    assert_eq!(env_of(&world, "web@1.0.0.service", "TOKEN").as_deref(), Some("old"));

    // Units that changed on disk, and that systemd hasn't read.
    world.host.write(nice, "[Service]\nNice=5\n");
    let units = world.json("diff web")["units"].clone();
    assert_eq!((&units[0]["unit"], &units[0]["need_reload"]), (&"web@".into(), &true.into()), "{units}");
    world.host.ok("systemctl daemon-reload");
    let units = world.json("diff web")["units"].clone();
    assert_eq!((&units[0]["changed"], &units[0]["need_reload"]), (&true.into(), &false.into()), "{units}");

    world.ok("unpin web");
    world.expect_status("web", "1.0.0@r2 live", |status| status["current"] == "1.0.0@r2");
    world.expect_idle("web");
    assert_eq!(env_of(&world, "web@1.0.0@r2.service", "TOKEN").as_deref(), Some("new"));
    assert_eq!(env_of(&world, "web@1.0.0@r2.service", "GREETING"), None);
    let trees = world.host.ok("ls /var/lib/slotd/apps/web/trees | grep -vc json");
    assert_eq!(trees, "1", "both slots are of one tree");
    expect_parts(&world.ok("diff web"), &["don't differ"]);

    // Two slots: settings, files, and the lines of texts.
    let two = world.artifact_with("web", "2.0.0", ".tar.zst", |tree| {
        std::fs::write(tree.join("motd"), "one\ntwo\nthree\n").expect("written");
    });
    expect_exit(&world.deploy("web", &two), 0);
    let three = world.artifact_with("web", "3.0.0", ".tar.zst", |tree| {
        std::fs::write(tree.join("motd"), "one\n2\nthree\n").expect("written");
    });
    expect_exit(&world.deploy("web", &three), 0);
    let between = world.ok("diff web 2.0.0 3.0.0 --text");
    expect_parts(&between, &["motd", "changed", "-two", "+2", "VERSION"]);
    let slots = world.json("diff web 1.0.0@r2 3.0.0");
    assert!(slots["files"].as_array().is_some_and(|all| all.iter().any(|it| it["how"] == "added")), "{slots}");
    assert_eq!(
        slots["files"].as_array().and_then(|all| all.iter().find(|it| it["path"] == "bin/web")),
        None,
        "{slots}"
    );

    // What returns with a rollback: files, environment, number of instances. What doesn't: everything else.
    world.settings("web", "[env]\nTOKEN = \"newest\"\n[proof]\ninterval = \"200ms\"\ndeadline = \"20s\"\n");
    world.expect_status("web", "3.0.0@r2 live", |status| status["current"] == "3.0.0@r2");
    world.expect_idle("web");
    world.ok("rollback web --to 2.0.0");
    assert_eq!(env_of(&world, "web@2.0.0.service", "TOKEN").as_deref(), Some("new"));
    assert_eq!(said(&world, "proof.interval").0, "\"200ms\"");
    assert_eq!(world.host.ok("systemctl show -P Nice web@2.0.0.service"), "5", "units are the host's");
}

#[track_caller]
pub fn row06_refusal(world: &World) {
    expect_refused(world, "diff web 1.0.0 9.9.9", 4, "unknown.slot");
    expect_refused(world, "diff nobody", 4, "unknown.app");
    expect_refused(world, "cat nobody", 4, "unknown.app");
    let one = world.slotctl("diff web 1.0.0");
    assert_eq!(one.status.code(), Some(2), "one slot is compared with nothing: {}", shown(&one));
    for words in ["cat web --reveal", "diff web --reveal"] {
        expect_denied(world, words);
    }
    // A settings file of verbs that can't be read is told, and the app's file holds alone.
    let file = "/var/lib/slotd/apps/web/settings.toml";
    world.host.ok(&format!("echo 'deploy = \"never\"' >{file} && systemctl reload slotd.service"));
    let status = world.json("status");
    assert!(status["health"].to_string().contains("settings.toml"), "{status}");
    expect_refused(world, "set web retention.keep 3", 5, "config.invalid");
    world.host.ok(&format!("rm {file} && systemctl reload slotd.service"));
    assert!(!world.json("status")["health"].to_string().contains("settings.toml"));
}
