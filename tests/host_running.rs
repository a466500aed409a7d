//! A running app on a real systemd, with the real slotd, gate and settle: boots, restarts, stops, slots that die.

mod running_support;
mod support;

use std::time::{Duration, Instant};

use running_support::{
    BRIEF_PROOF, ask, drop_in, gone_for_good_is_told, mask_slotd, restarts_end_active, states, told, unmask_slotd,
    until, until_settled, until_word, wanted_at_boot, web, word,
};
use support::host::{Root, shown, text};
use support::wait_until;
use support::world::{PATIENCE, World};

#[test]
fn a_boot_without_slotd_brings_up_the_live_slot_and_no_other() {
    let world = World::boot("boot", Root::Own);
    world.live("web", 8080, "1.0.0");
    world.live("web", 8080, "1.1.0+b5");
    world.host.ok("systemctl start web@1.0.0");
    assert_eq!(states(&world, "web@1.0.0 web@1.1.0@bb5 web"), "active active active");
    wanted_at_boot(&world, "web.service");
    mask_slotd(&world);

    world.host.reboot();
    until(&world, "web web.socket web@1.1.0@bb5 web@1.0.0", "active active active inactive");
    assert_eq!(ask(&world), "1.1.0+b5");
    // Right after a boot too, all of it can be stopped and started at once.
    world.host.ok("systemctl stop web.socket && systemctl start web");
    assert_eq!(ask(&world), "1.1.0+b5");
    world.host.crash();
    until(&world, "web web@1.0.0", "active inactive");
    assert_eq!(ask(&world), "1.1.0+b5");
    assert_eq!(world.host.ok("systemctl --failed --plain --no-legend"), "");
    assert_eq!(world.slotctl("status").status.code(), Some(8), "nobody listens");

    // Without its gate at boot the app starts with its first client; without its socket too, by hand.
    world.host.ok("rm /etc/systemd/system/basic.target.wants/web.service && systemctl disable web.service 2>&1");
    world.host.reboot();
    assert_eq!(states(&world, "web web.socket web@1.1.0@bb5"), "inactive active inactive");
    assert_eq!(ask(&world), "1.1.0+b5");
    until(&world, "web web@1.1.0@bb5", "active active");
    world.host.ok("systemctl disable web.socket 2>&1");
    world.host.reboot();
    assert_eq!(states(&world, "web web.socket web@1.1.0@bb5"), "inactive inactive inactive");

    // slotd that comes back starts nothing that rests, and deploys nothing anew.
    unmask_slotd(&world);
    let status = until_word(&world, "web", "stopped");
    assert_eq!(status["current"], "1.1.0+b5");
    assert_eq!(status["deployment"], serde_json::Value::Null);
    assert_eq!(world.json("history web").as_array().map(Vec::len), Some(2));
    world.host.ok("systemctl start web");
    assert_eq!(word(&world, "web"), "online");
    assert_eq!(ask(&world), "1.1.0+b5");
}

#[test]
fn a_hundred_restarts_all_end_active() {
    let world = World::boot("restart", Root::Own);
    world.live("web", 8080, "1.0.0");
    restarts_end_active(&world);
}

#[test]
fn a_slot_that_is_gone_for_good_shows_and_the_next_connection_starts_it() {
    let world = World::boot("gone", Root::Own);
    world.live("web", 8080, "1.0.0");
    gone_for_good_is_told(&world);
}

#[test]
fn start_stop_and_restart_are_right_without_slotd_and_status_tells_them_with_it() {
    let world = World::boot("stop", Root::Own);
    world.live("web", 8080, "1.0.0");
    world.live("web", 8080, "2.0.0");
    let both = "web web@2.0.0 web@1.0.0 web.socket";

    mask_slotd(&world);
    world.host.ok("systemctl start web@1.0.0 && systemctl restart web");
    // A candidate that slotd left behind doesn't outlive a restart, on either systemd.
    assert_eq!(states(&world, both), "active active inactive active", "{}", told(&world));
    world.host.ok("systemctl start web@1.0.0 && systemctl stop web");
    assert_eq!(states(&world, both), "inactive inactive inactive active", "{}", told(&world));
    assert_eq!(ask(&world), "2.0.0");
    world.host.ok("systemctl start web@1.0.0 && systemctl stop web.socket");
    assert_eq!(states(&world, both), "inactive inactive inactive inactive", "{}", told(&world));
    // Right after a stop the address is free.
    for n in 0..10 {
        let started = world.host.sh("systemctl start web && systemctl stop web.socket");
        assert!(started.status.success(), "{n}: {}\n{}", shown(&started), told(&world));
    }
    world.host.ok("systemctl start web");
    assert_eq!(ask(&world), "2.0.0");

    unmask_slotd(&world);
    until_word(&world, "web", "online");
    world.host.ok("systemctl stop web");
    assert_eq!(word(&world, "web"), "stopped");
    assert_eq!(world.slotctl("status web").status.code(), Some(0), "stopped by hand is no fault");
    world.host.ok("systemctl start web && systemctl stop web.socket");
    assert_eq!(word(&world, "web"), "stopped");
    world.host.ok("systemctl start web");
    assert_eq!(word(&world, "web"), "online");

    // A listener that is gone under a slot that serves is one restart from an outage.
    let units = "/etc/systemd/system/web.service /etc/systemd/system/web@.service";
    world
        .host
        .ok(&format!("sed -i /^Requires=web.socket/d {units} && systemctl daemon-reload && systemctl stop web.socket"));
    assert_eq!(states(&world, both), "active active inactive inactive", "{}", told(&world));
    let status = until_word(&world, "web", "degraded");
    let message = status["fault"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("web.socket doesn't listen"), "{status}");
}

#[test]
fn a_crash_loop_of_the_live_slot_is_told_and_its_end_too() {
    let world = World::boot("crash", Root::Own);
    world.settings("web", "[crash_loop]\nrestarts = 4\nwithin = \"30s\"\n");
    world.live("web", 8080, "1.0.0");
    world.host.ok(
        "curl -sN --unix-socket /run/slotd/slotd.sock http://slotd/v1/events >/root/events 2>&1 </dev/null & echo $!",
    );
    let crashing = world.artifact("web", "2.0.0", "crash-after 3000");
    let deployed = world.deploy("web", &crashing);
    assert_eq!(deployed.status.code(), Some(0), "{}", shown(&deployed));

    let live = Instant::now();
    let status = world.expect_status("web", "a crash loop", |status| status["fault"]["code"] == "unit.crash_loop");
    let took = live.elapsed();
    assert!(took < Duration::from_secs(60), "told after {took:?}");
    println!("a crash loop of 4 restarts was told after {took:?}");
    assert_eq!(status["state"], "degraded");
    assert_eq!(status["fault"]["evidence"]["unit"]["unit"], web("2.0.0").as_str());
    let said = world.slotctl("status web");
    assert_eq!(said.status.code(), Some(3), "{}", shown(&said));
    for part in ["degraded on 2.0.0", "unit.crash_loop", "was restarted"] {
        assert!(text(&said).contains(part), "{part:?} is missing: {}", shown(&said));
    }
    let errors = world.host.ok("journalctl -b -o cat -p err SLOTD_APP=web");
    assert!(errors.contains("the live slot crash-loops"), "{errors}");

    // The cause goes, it stays up, and all is well once the restarts are long enough ago.
    drop_in(&world, "web@.service", "[Service]\nBindReadOnlyPaths=/dev/null:/srv/web/BEHAVIOUR\n");
    world.host.ok("systemctl restart web");
    let status = until_word(&world, "web", "online");
    assert_eq!(status["current"], "2.0.0");
    wait_until("both events", PATIENCE, || {
        let events = world.host.ok("grep '\"event\":\"app\"' /root/events || true");
        let of_app = |state: &str| {
            let line =
                |line: &&str| line.contains(r#""event":"app""#) && line.contains(&format!(r#""state":"{state}""#));
            events.lines().position(|text| line(&text))
        };
        match (of_app("degraded"), of_app("online")) {
            (Some(first), Some(then)) if first < then => Ok(()),
            _ => Err(events),
        }
    });
}

#[test]
fn a_broken_live_slot_with_a_waiting_client_starts_once_a_step_and_the_way_forward_is_open() {
    let world = World::boot("broken", Root::Own);
    world.live("web", 8080, "1.0.0");
    // What it needs goes away under it; other slots don't need it.
    drop_in(&world, "web@.service", "[Service]\nExecStartPre=/bin/sh -c 'test %i != 1.0.0'\n");
    world.host.ok("systemctl stop web");
    let since = world.host.ok("date '+%Y-%m-%d %H:%M:%S'");
    let starts = || -> usize {
        let line = format!("journalctl -b --since '{since}' -o cat -u web@1.0.0 | grep -c '^Starting ' || true");
        world.host.ok(&line).parse().expect("a number")
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| ask(&world));
        // Starts at 0, 1, 3 and 7 s, and what starting and stopping takes besides.
        let (seen, elapsed) = wait_until("three starts", PATIENCE, || match starts() {
            n if n >= 3 => Ok((n, began.elapsed())),
            n => Err(format!("{n} starts\n{}", told(&world))),
        });
        let most = [0, 1, 3, 7, 15, 31].iter().filter(|second| elapsed >= Duration::from_secs(**second)).count();
        assert!(seen <= most, "{seen} starts in {elapsed:?}\n{}", told(&world));
        assert_eq!(states(&world, "web.socket"), "active", "{}", told(&world));
        let status = world.json("status web");
        assert_eq!(status["state"], "degraded", "{status}");
        assert!(told(&world).contains("slot 1.0.0 didn't start"), "{}", told(&world));

        // The next release isn't held up by the broken one, and the client that waited all the time is served.
        let next = world.artifact("web", "2.0.0", "");
        let deployed = world.deploy("web", &next);
        assert_eq!(deployed.status.code(), Some(0), "{}\n{}", shown(&deployed), told(&world));
        assert_eq!(client.join().expect("the client ends"), "2.0.0", "{}", told(&world));
    });
    assert_eq!(states(&world, "web web@2.0.0"), "active active");
    assert_eq!(word(&world, "web"), "online");

    // An app on which nothing was ever deployed says so, and its first client waits for its first release.
    world.add_app("api", 8081);
    assert!(!world.host.sh("systemctl start api").status.success());
    assert!(told(&world).contains("nothing is deployed yet"), "{}", told(&world));
    std::thread::scope(|scope| {
        let client = scope.spawn(|| world.host.ok("curl -sS --max-time 50 http://127.0.0.1:8081/"));
        until(&world, "api", "activating");
        world.live("api", 8081, "1.0.0");
        assert!(client.join().expect("the client ends").starts_with("version 1.0.0 "));
    });
    until_settled(&world);
    assert_eq!(states(&world, "api api@1.0.0"), "active active", "{}", told(&world));
}

#[test]
fn an_app_without_a_route_is_deployed_undone_and_booted() {
    let world = World::boot("none", Root::Own);
    world.ok("new job --exec '/srv/job/bin/web --port 8082' --write");
    world.settings(
        "job",
        "[[probe]]\nkind = \"http\"\naddress = \"127.0.0.1:8082\"\npath = \"/health\"\nbody = \"{version}\"\n\
         [proof]\ninterval = \"100ms\"\ndeadline = \"20s\"\nstable_for = \"500ms\"\n",
    );
    assert!(!world.host.sh("test -e /etc/systemd/system/job.socket").status.success());
    world.live("job", 8082, "1.0.0");
    world.live("job", 8082, "2.0.0");
    world.settings("job", BRIEF_PROOF);
    let broken = world.artifact("job", "3.0.0", "health-500");
    assert_eq!(world.deploy("job", &broken).status.code(), Some(10));
    world.expect_serving(8082, "2.0.0");
    assert_eq!(states(&world, "job job@2.0.0 job@3.0.0"), "active active inactive");
    assert_eq!(word(&world, "job"), "online");
    let back = world.slotctl("rollback job");
    assert_eq!(back.status.code(), Some(0), "{}", shown(&back));
    world.expect_serving(8082, "1.0.0");

    // Without a socket nobody starts a slot that somebody stopped; a boot does.
    world.host.ok("systemctl stop job@1.0.0");
    until(&world, "job", "inactive");
    assert_eq!(word(&world, "job"), "stopped");
    wanted_at_boot(&world, "job.service");
    mask_slotd(&world);
    world.host.reboot();
    until(&world, "job job@1.0.0 job@2.0.0", "active active inactive");
    world.host.ok("systemctl restart job");
    assert_eq!(states(&world, "job job@1.0.0"), "active active");
    unmask_slotd(&world);
    until_word(&world, "job", "online");
}

#[test]
fn as_root_slotd_does_the_same_without_polkit() {
    let world = World::installed("root", Root::Own);
    world.host.ok("systemctl mask --now polkit.service 2>&1");
    world.host.ok("mkdir -p /etc/systemd/system/slotd.service.d");
    world.host.ok("cp /usr/share/slotd/profile-root.conf /etc/systemd/system/slotd.service.d/");
    world.host.write("/etc/slotd/slotd.toml", "profile = \"root\"\n");
    world.host.ok("systemctl daemon-reload");
    world.host.ok("systemctl enable --now slotd.socket slotd.service 2>&1");
    world.add_app("web", 8080);
    assert_eq!(world.host.ok("ps -o user= -C slotd"), "root");
    let checked = world.slotctl("check web");
    assert_eq!(checked.status.code(), Some(0), "{}", shown(&checked));

    world.live("web", 8080, "1.0.0");
    world.live("web", 8080, "2.0.0");
    let broken = world.artifact("web", "3.0.0", "exit-before-accept 3");
    assert_eq!(world.deploy("web", &broken).status.code(), Some(10));
    world.expect_serving(8080, "2.0.0");
    assert_eq!(world.slotctl("rollback web").status.code(), Some(0));
    world.expect_serving(8080, "1.0.0");
    assert_eq!(world.host.ok("stat -c '%G %a' /var/lib/slotd/inbox/web"), "slotd-deploy 2770");

    wanted_at_boot(&world, "web.service slotd.service");
    world.host.reboot();
    world.expect_serving(8080, "1.0.0");
    until_word(&world, "web", "online");
    assert_eq!(world.host.ok("stat -c '%G %a' /var/lib/slotd/inbox/web"), "slotd-deploy 2770");
    // Whoever is in the group can still deploy.
    world.host.ok("useradd --system --groups slotd-deploy dropper");
    let next = world.artifact("web", "4.0.0", "");
    world.fetch(&next);
    world.host.ok("cp /root/web-4.0.0.tar.zst /tmp/ && chmod 644 /tmp/web-4.0.0.tar.zst");
    let dropped =
        world.host.run_unit(&["-p", "User=dropper"], &["cp", "/tmp/web-4.0.0.tar.zst", "/var/lib/slotd/inbox/web/"]);
    assert!(dropped.status.success(), "{}", shown(&dropped));
    world.expect_serving(8080, "4.0.0");
}
