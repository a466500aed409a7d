//! Hooks: what may have begun isn't begun again in the same deployment, and one that runs is waited for.

use serde_json::Value;
use slotd::config::Profile;

use crate::crash::{Rig, hooks};
use crate::support::wait_until;
use crate::support::world::{PATIENCE, World};

const POINTS: [&str; 3] = ["preflight", "deploy", "post_deploy"];

/// How often each hook ran for this release.
#[track_caller]
fn counts(world: &World, version: &str) -> [usize; 3] {
    let ran = hooks::ran(world);
    POINTS.map(|point| ran.iter().filter(|line| line.starts_with(&format!("{point} {version} "))).count())
}

/// Whether the deploy hook of this release has written down that it runs.
#[track_caller]
fn expect_running(world: &World, version: &str) {
    wait_until("the hook to run", PATIENCE, || {
        let log = world.host.ok("cat /var/tmp/hooks.log");
        if log.contains(&format!("deploy {version} ")) { Ok(()) } else { Err(log) }
    });
}

#[test]
fn row05_kill() {
    let rig = Rig::boot("row05-kill", Profile::User);
    let world = &rig.world;
    hooks::add(world, &POINTS);
    // A preflight only looks, so it looks again; of a `deploy` hook that doesn't run any more nobody can say whether it did,
    // so it goes back and is tried again; and what is live for good isn't told twice.
    for (version, point, passing, ran, tries) in [
        ("10.0.0", "before:hook", 1, [1, 1, 1], 1),
        ("11.0.0", "after:hook", 1, [2, 1, 1], 1),
        ("12.0.0", "before:hook", 2, [2, 1, 1], 2),
        ("13.0.0", "after:hook", 2, [2, 2, 1], 2),
        ("14.0.0", "before:hook", 3, [1, 1, 0], 1),
        ("15.0.0", "after:hook", 3, [1, 1, 1], 1),
    ] {
        world.fetch(&hooks::release(world, version, &[]));
        rig.arm(point, passing);
        world.host.sh(&format!("timeout 60 slotctl deploy /root/web-{version}.tar.zst --app web"));
        rig.expect_dead(point);
        world.expect_serving(8080, version);
        let last = world.expect_idle("web")["last"].clone();
        let told = (&last["attempt"], &last["ended"]["outcome"], counts(world, version));
        assert_eq!(told, (&tries.into(), &"done".into(), ran), "{point} {passing}: {last}");
        let warned = last["ended"]["warnings"].to_string().contains("isn't known");
        assert_eq!(warned, passing == 3, "{point} {passing}: {last}");
    }

    // Killed while the hook runs: the same run goes on, and what comes of it counts.
    for (version, exit, outcome, code) in
        [("16.0.0", 0, "done", Value::Null), ("17.0.0", 3, "rolled-back", "hook.failed".into())]
    {
        let script = format!("while [ ! -e /var/tmp/go ]; do sleep 0.1; done; exit {exit}");
        world.host.ok("rm -f /var/tmp/go");
        world.fetch(&hooks::release(world, version, &[("deploy", &script)]));
        world.begin("held", &format!("deploy /root/web-{version}.tar.zst --app web"));
        expect_running(world, version);
        let run = || world.host.ok(&format!("systemctl show -P InvocationID web-deploy@{version}.service"));
        let (before, id) = (run(), world.json("status web")["deployment"]["id"].clone());
        world.host.ok("systemctl kill -s KILL slotd.service");
        wait_until("slotd to be back", PATIENCE, || {
            let status = world.host.sh("slotctl status web --json");
            let status: Value = serde_json::from_slice(&status.stdout).map_err(|error| error.to_string())?;
            let waits = status["deployment"]["waiting"]["what"].as_str().unwrap_or_default().to_owned();
            if waits.starts_with("run the deploy hook") { Ok(()) } else { Err(status.to_string()) }
        });
        assert_eq!(run(), before, "{version}");
        world.host.ok("touch /var/tmp/go && chmod 644 /var/tmp/go");
        let last = world.expect_idle("web")["last"].clone();
        let told = (&last["id"], &last["ended"]["outcome"], &last["ended"]["fault"]["code"]);
        assert_eq!(told, (&id, &outcome.into(), &code), "{version}: {last}");
        assert_eq!(counts(world, version)[1], 1, "{version}");
        world.expect_serving(8080, "16.0.0");
    }
    assert_eq!(world.json("quarantine list web")[0]["slot"], "17.0.0");
}
