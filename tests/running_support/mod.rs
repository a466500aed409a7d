//! What the stories of running apps share: looks at units, and the stories that are told on both systems.
#![allow(dead_code, reason = "each test binary uses its part")]

use crate::support::host::{Root, shown, text};
use crate::support::wait_until;
use crate::support::world::{PATIENCE, World};

/// Proofs that give up early, for releases that never answer well; with them a hold mark ends early too.
pub const BRIEF_PROOF: &str =
    "[proof]\ninterval = \"100ms\"\ntimeout = \"2s\"\nsuccesses = 2\ndeadline = \"8s\"\nstable_for = \"500ms\"\n";

/// Tells the story on both systems.
pub fn on_both(hint: &str, story: impl Fn(&World)) {
    for root in [Root::Own, Root::Trixie] {
        story(&World::boot(hint, root));
    }
}

/// The unit of a slot of the app `web`.
pub fn web(slot: &str) -> String {
    format!("web@{slot}.service")
}

/// "active", "inactive", "failed" …, a word a unit.
pub fn states(world: &World, units: &str) -> String {
    text(&world.host.sh(&format!("systemctl is-active {units}"))).replace('\n', " ")
}

/// Waits until the units are in these states.
#[track_caller]
pub fn until(world: &World, units: &str, wanted: &str) {
    wait_until(&format!("{units}: {wanted}"), PATIENCE, || match states(world, units) {
        now if now == wanted => Ok(()),
        now => Err(format!("{now}\n{}", told(world))),
    });
}

/// What port 8080 answers to one client that waits: the version, or what went wrong.
/// Where the client had the gate started, that is `activating` for a moment more.
pub fn ask(world: &World) -> String {
    let answer = world.host.sh("curl -sS --max-time 50 http://127.0.0.1:8080/");
    match text(&answer).split(' ').nth(1) {
        Some(version) if answer.status.success() => version.to_owned(),
        _ => shown(&answer),
    }
}

/// Waits until nobody looks after an ended slot any more.
#[track_caller]
pub fn until_settled(world: &World) {
    wait_until("settle to have ended", PATIENCE, || {
        match world.host.ok("systemctl list-units --plain --no-legend 'slotd-settle@*'").as_str() {
            "" => Ok(()),
            left => Err(format!("{left}\n{}", told(world))),
        }
    });
}

/// Waits until the deployment under way is in that state.
#[track_caller]
pub fn until_deploying(world: &World, app: &str, state: &str) {
    world.expect_status(app, &format!("a deployment of {app} that is {state}"), |status| {
        status["deployment"]["state"] == state
    });
}

/// The state in one word.
#[track_caller]
pub fn word(world: &World, app: &str) -> String {
    world.json(&format!("status {app}"))["state"].as_str().unwrap_or("?").to_owned()
}

/// Waits until the state is that word.
#[track_caller]
pub fn until_word(world: &World, app: &str, word: &str) -> serde_json::Value {
    world.expect_status(app, &format!("{app} {word}"), |status| status["state"] == word)
}

/// slotd is gone and doesn't come back by itself, nor by a connection to its socket.
pub fn mask_slotd(world: &World) {
    world.host.ok("systemctl mask --now slotd.socket slotd.service 2>&1");
}

/// slotd again.
pub fn unmask_slotd(world: &World) {
    world.host.ok("systemctl unmask slotd.socket slotd.service 2>&1 && systemctl start slotd.socket slotd.service");
}

/// A host boots to basic.target and no further: the gate, enabled for multi-user.target, is wanted there.
pub fn wanted_at_boot(world: &World, unit: &str) {
    world.host.ok(&format!("systemctl add-wants basic.target {unit} 2>&1"));
}

/// A drop-in for a unit, which systemd knows by the end.
pub fn drop_in(world: &World, unit: &str, lines: &str) {
    world.host.write(&format!("/etc/systemd/system/{unit}.d/story.conf"), lines);
    world.host.ok("systemctl daemon-reload");
}

/// The last lines of the apps' units, of settle and of slotd.
pub fn told(world: &World) -> String {
    world.host.ok("journalctl -b --no-pager -o short-monotonic -u 'web*' -u 'api*' -u 'job*' -u 'slotd*' | tail -n 80")
}

/// A hundred restarts of an app on 1.0.0, each of which ends active; some meet a client, none a settle that acts.
pub fn restarts_end_active(world: &World) {
    let restarted = world.host.sh("n=0; while [ $n -lt 100 ]; do n=$((n + 1)); systemctl restart web && \
         systemctl is-active --quiet web && systemctl is-active --quiet web@1.0.0 || { echo \"restart $n\"; exit 1; }; \
         [ $((n % 10)) -ne 0 ] || curl -sS --max-time 20 http://127.0.0.1:8080/ || exit; done");
    let answers = text(&restarted);
    assert!(restarted.status.success(), "{}\n{}", shown(&restarted), told(world));
    assert_eq!(answers.lines().filter(|line| line.starts_with("version 1.0.0 ")).count(), 10, "{answers}");
    until_settled(world);
    assert_eq!(states(world, "web web@1.0.0 web.socket"), "active active active", "{}", told(world));
    // Restarts by hand are no crash loop.
    assert_eq!(word(world, "web"), "online");
}

/// A slot of 1.0.0 that ends for good: `is-active` says so, `status` too, and the next connection starts it.
pub fn gone_for_good_is_told(world: &World) {
    for _ in 0..3 {
        world.host.ok("systemctl stop web@1.0.0");
        until(world, "web web.socket", "inactive active");
        assert_eq!(word(world, "web"), "stopped");
        assert_eq!(ask(world), "1.0.0");
        until(world, "web web@1.0.0", "active active");
    }
    drop_in(world, "web@.service", "[Service]\nRestart=no\n");
    world.host.ok("systemctl restart web && systemctl kill -s KILL web@1.0.0");
    until(world, "web web@1.0.0 web.socket", "inactive failed active");
    assert_eq!(ask(world), "1.0.0");
    until(world, "web web@1.0.0", "active active");
    assert_eq!(word(world, "web"), "online");

    // A crash is no end for good: with the template's own Restart= it comes back, and settle leaves the gate alone.
    world.host.ok("rm -r /etc/systemd/system/web@.service.d && systemctl daemon-reload && systemctl restart web");
    let pid = world.host.ok("systemctl show -P MainPID web@1.0.0");
    world.host.ok(&format!("kill -9 {pid}"));
    wait_until("another process", PATIENCE, || {
        match world.host.ok("systemctl show -P ActiveState -P MainPID web@1.0.0").replace('\n', " ") {
            now if now.contains("active") && !now.contains("activating") && !now.split(' ').any(|it| it == pid) => {
                Ok(())
            }
            now => Err(now),
        }
    });
    until_settled(world);
    assert_eq!(states(world, "web web.socket"), "active active", "{}", told(world));
}
