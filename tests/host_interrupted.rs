//! slotd that ends, or can't go on, in the middle of a deployment, on a real systemd: killed for good, restarted,
//! upgraded, doubled; and units that it can't use.

mod running_support;
mod support;

use std::time::{Duration, Instant};

use running_support::{BRIEF_PROOF, ask, drop_in, states, told, unmask_slotd, until_deploying, until_word, word};
use support::host::{Root, shown, text};
use support::wait_until;
use support::world::{PATIENCE, World};

/// Which deployments ended how, newest first: "3.0.0 rolled-back".
fn endings(world: &World, app: &str) -> Vec<String> {
    let history = world.json(&format!("history {app}"));
    let word = |value: &serde_json::Value| value.as_str().unwrap_or("?").to_owned();
    let line = |report: &serde_json::Value| format!("{} {}", word(&report["to"]), word(&report["ended"]["outcome"]));
    history.as_array().expect("a list").iter().map(line).collect()
}

/// How long an app's hold mark lasts from now on.
fn hold_left(world: &World, app: &str) -> Duration {
    let mark: serde_json::Value =
        serde_json::from_slice(&world.host.read(&format!("/run/slotd/hold/{app}"))).expect("a hold mark");
    // Hosts share the machine's clock; none has a boot-time namespace of its own.
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).expect("a clock");
    Duration::from_millis(mark["until_ms"].as_u64().expect("a time")).saturating_sub(now.into())
}

#[test]
fn killed_for_good_in_mid_deployment_it_leaves_apps_that_serve_after_the_hold_marks_deadline() {
    let world = World::boot("left", Root::Own);
    world.add_app("api", 8081);
    world.ok("new job --exec '/srv/job/bin/web --port 8082' --write");
    world.settings("job", "[proof]\ninterval = \"100ms\"\nstable_for = \"500ms\"\n");
    // web: the candidate runs and never proves itself. api: the old slot doesn't stop. job: the candidate doesn't start.
    world.settings("web", BRIEF_PROOF);
    drop_in(&world, "api@.service", "[Service]\nTimeoutStopSec=8s\n");
    drop_in(&world, "job@.service", "[Service]\nTimeoutStartSec=20s\n");
    world.live("web", 8080, "1.0.0");
    world.mv("api", &world.artifact("api", "1.0.0", "hang-on-stop"));
    world.expect_serving(8081, "1.0.0");
    world.live("job", 8082, "1.0.0");
    let all = [
        ("web", 8080, world.artifact("web", "2.0.0", "health-500"), "proving"),
        ("api", 8081, world.artifact("api", "2.0.0", ""), "starting"),
        ("job", 8082, world.artifact("job", "2.0.0", "slow-start 60000"), "starting"),
    ];
    for (app, _, next, _) in &all {
        world.fetch(next);
        world.expect_idle(app);
    }
    // web last: its proof is the shortest of the three steps.
    for (app, _, next, state) in all.iter().rev() {
        let no_wait = world.slotctl(&format!("deploy /root/{} --app {app} --no-wait", next.file));
        assert!(no_wait.status.success(), "{}", shown(&no_wait));
        until_deploying(&world, app, state);
    }
    wait_until("api to stop and job to start", PATIENCE, || {
        match states(&world, "api@1.0.0 job@1.0.0 job@2.0.0 web@2.0.0").as_str() {
            "deactivating inactive activating active" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    world.host.ok("systemctl mask slotd.service 2>&1 && systemctl kill -s KILL slotd.service");
    let killed = Instant::now();

    // A step's own limit, 30 s for what systemd takes beside it, and 40 s more: no mark lasts longer.
    let ends: Vec<(Duration, Instant)> =
        all.iter().map(|(app, ..)| hold_left(&world, app)).map(|left| (left, Instant::now() + left)).collect();
    for ((app, ..), (left, _)) in all.iter().zip(&ends) {
        println!("{app}: held for {left:?} after the kill");
        assert!(*left <= Duration::from_secs(20 + 30 + 40), "{app}: {left:?}");
    }
    for ((app, port, ..), (_, end)) in all.iter().zip(&ends) {
        let end = *end;
        let served = wait_until(&format!("{app} on 1.0.0"), Duration::from_secs(120), || {
            let answer = text(&world.host.sh(&format!("curl -s -m 2 http://127.0.0.1:{port}/")));
            match answer.starts_with("version 1.0.0 ") {
                true => Ok(Instant::now()),
                false => Err(format!("{answer}\n{}", told(&world))),
            }
        });
        println!("{app}: serves {:?} after the kill", served - killed);
        let late = served.saturating_duration_since(end);
        assert!(late < Duration::from_secs(15), "{app} serves {late:?} after the hold's end\n{}", told(&world));
    }
    assert_eq!(
        states(&world, "web api job web@2.0.0 api@2.0.0 job@2.0.0"),
        "active active active inactive inactive inactive"
    );

    // Whenever slotd comes back, it brings what it had begun to an end: back where the candidate it was proving is gone,
    // on where all is as the step announced it.
    unmask_slotd(&world);
    for ((app, port, ..), (outcome, code, live)) in all.iter().zip([
        ("rolled-back", "deployment.interrupted", "1.0.0"),
        ("done", "", "2.0.0"),
        ("rolled-back", "unit.start_timeout", "1.0.0"),
    ]) {
        let status =
            world.expect_status(app, "an end of the second deployment", |status| status["last"]["to"] == "2.0.0");
        let ended = &status["last"]["ended"];
        assert_eq!(ended["outcome"], outcome, "{app}: {status}");
        assert_eq!(ended["fault"]["code"].as_str().unwrap_or_default(), code, "{app}: {status}");
        assert_eq!(status["current"], live, "{app}: {status}");
        world.expect_serving(*port, live);
    }
}

#[test]
fn restarted_in_mid_deployment_it_goes_at_once_and_the_next_start_resumes_and_finishes() {
    let world = World::boot("resume", Root::Own);
    world.live("web", 8080, "1.0.0");
    world.settings("web", "[proof]\ninterval = \"100ms\"\ndeadline = \"30s\"\nstable_for = \"4s\"\n");
    let second = world.artifact("web", "2.0.0", "");
    world.fetch(&second);
    std::thread::scope(|scope| {
        // A client that waits must neither hold up the stop nor be told a lie.
        let client = scope.spawn(|| world.slotctl("deploy /root/web-2.0.0.tar.zst --app web"));
        until_deploying(&world, "web", "proving");
        let run = world.host.ok("systemctl show -P InvocationID web@2.0.0");
        let began = Instant::now();
        world.host.ok("systemctl stop slotd.service");
        let took = began.elapsed();
        println!("slotd stopped within {took:?}");
        assert!(took < Duration::from_secs(2), "{took:?}\n{}", world.journal());
        assert_eq!(world.host.ok("systemctl show -P Result slotd"), "success");
        assert_eq!(states(&world, "web web@1.0.0 web@2.0.0"), "active inactive active");
        assert_eq!(ask(&world), "2.0.0", "the candidate goes on");

        world.host.ok("systemctl start slotd.service");
        world.expect_status("web", "2.0.0 live", |status| {
            status["current"] == "2.0.0" && status["deployment"].is_null()
        });
        assert_eq!(endings(&world, "web"), ["2.0.0 done", "1.0.0 done"]);
        assert_eq!(world.host.ok("systemctl show -P InvocationID web@2.0.0"), run, "it was not started twice");
        let client = client.join().expect("the client ends");
        assert!(matches!(client.status.code(), Some(0 | 8)), "{}", shown(&client));
    });
    assert!(!world.host.sh("test -e /run/slotd/hold/web").status.success());

    // Killed, it is started again by systemd and goes on as well.
    let third = world.artifact("web", "3.0.0", "");
    world.fetch(&third);
    world.ok("deploy /root/web-3.0.0.tar.zst --app web --no-wait");
    until_deploying(&world, "web", "proving");
    world.host.ok("systemctl kill -s KILL slotd.service");
    world.expect_status("web", "3.0.0 live", |status| status["current"] == "3.0.0" && status["deployment"].is_null());
    assert_eq!(endings(&world, "web"), ["3.0.0 done", "2.0.0 done", "1.0.0 done"]);
    world.expect_serving(8080, "3.0.0");
}

#[test]
fn upgraded_while_it_runs_it_still_unpacks_and_a_second_one_is_refused() {
    let world = World::boot("upgrade", Root::Own);
    world.live("web", 8080, "1.0.0");
    // As a package does: a new file is renamed over the old one. This one can do nothing.
    world.host.write("/usr/bin/slotd.new", "#!/bin/sh\nexit 70\n");
    world.host.ok(
        "chmod 0755 /usr/bin/slotd.new && cp -p /usr/bin/slotd /root/slotd && mv /usr/bin/slotd.new /usr/bin/slotd",
    );
    let second = world.artifact("web", "2.0.0", "");
    let deployed = world.deploy("web", &second);
    assert_eq!(deployed.status.code(), Some(0), "{}\n{}", shown(&deployed), world.journal());
    world.expect_serving(8080, "2.0.0");
    world.host.ok("mv /root/slotd /usr/bin/slotd && systemctl restart slotd.service");
    until_word(&world, "web", "online");
    assert_eq!(endings(&world, "web"), ["2.0.0 done", "1.0.0 done"]);

    // A second one by hand, as root and as slotd, touches nothing and says who is there.
    let pid = world.host.ok("systemctl show -P MainPID slotd");
    for second in [world.host.sh("slotd"), world.host.run_unit(&["-p", "User=slotd"], &["slotd"])] {
        assert_eq!(second.status.code(), Some(5), "{}", shown(&second));
        let said = world.host.ok("journalctl -b -o cat -n 50") + &shown(&second);
        assert!(said.contains("another slotd works on /var/lib/slotd"), "{said}");
    }
    assert_eq!(world.host.ok("systemctl show -P MainPID slotd"), pid);
    assert_eq!(word(&world, "web"), "online");
}

#[test]
fn units_that_are_masked_or_missing_are_refused_before_anything_is_touched() {
    let world = World::boot("masked", Root::Own);
    world.live("web", 8080, "1.0.0");
    let run = world.host.ok("systemctl show -P InvocationID web@1.0.0");
    let next = world.artifact("web", "2.0.0", "");
    world.fetch(&next);
    let untouched = |what: &str| {
        assert_eq!(world.host.ok("systemctl show -P InvocationID web@1.0.0"), run, "{what}");
        assert_eq!(world.host.ok("readlink /var/lib/slotd/apps/web/current"), "slots/1.0.0", "{what}");
        assert!(!world.host.sh("test -e /run/slotd/hold/web").status.success(), "{what}");
        world.expect_serving(8080, "1.0.0");
    };
    let units = "/etc/systemd/system";
    world.host.ok(&format!("mkdir /root/kept && cp {units}/web* /root/kept"));
    // Each on top of those before, since what fails for the host's sake is tried again by itself in between.
    let mut said = String::new();
    let mut verb = "deploy /root/web-2.0.0.tar.zst --app web";
    for (unit, how, refusal) in [
        ("web.socket", "ln -sf /dev/null", "web.socket is masked (unit.masked)"),
        ("web.service", "ln -sf /dev/null", "web.service is masked (unit.masked)"),
        ("web@.service", "ln -sf /dev/null", "web@2.0.0.service is masked (unit.masked)"),
        ("web@.service", "rm", "systemd has no unit web@2.0.0.service (unit.missing)"),
    ] {
        world.host.ok(&format!("{how} {units}/{unit} && systemctl daemon-reload"));
        let refused = wait_until("its turn", PATIENCE, || match world.slotctl(verb) {
            busy if busy.status.code() == Some(6) => Err(shown(&busy)),
            other => Ok(other),
        });
        assert_eq!(refused.status.code(), Some(11), "{unit} {how}: {}", shown(&refused));
        assert!(shown(&refused).contains(refusal), "{unit} {how}: {}", shown(&refused));
        untouched(&format!("{unit} {how}"));
        let checked = world.slotctl("check web");
        let code = refusal.split(['(', ')']).nth(1).expect("a code");
        assert_eq!(checked.status.code(), Some(3), "{unit} {how}: {}", shown(&checked));
        assert!(shown(&checked).contains(code), "{unit} {how}: {}", shown(&checked));
        said = shown(&checked);
        verb = "activate web 2.0.0";
    }
    // It was nobody's fault but the host's: once that is repaired, as `check` says, it goes live by itself. systemd gives
    // up the listener of a socket unit that is masked while it listens, so it has to be stopped; and only with all units
    // back that stop reaches gate and slot.
    let steps = "systemctl stop web.socket and systemctl start web.service";
    assert!(said.contains(steps), "{said}");
    let mended = world.host.sh(&format!(
        "rm {units}/web.s* && cp /root/kept/* {units} && systemctl daemon-reload && {}",
        steps.replace(" and ", " && ")
    ));
    assert!(mended.status.success(), "{}\n{}", shown(&mended), told(&world));
    let listens = world.host.ok("ss -ltnpH sport = :8080");
    assert!(listens.contains("(\"systemd\",pid=1,"), "{listens}");
    world.expect_serving(8080, "2.0.0");
    world.expect_idle("web");
    assert_eq!(endings(&world, "web")[0], "2.0.0 done");
}
