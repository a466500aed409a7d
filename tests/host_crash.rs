//! slotd killed before and after each step that changes the host, on a real systemd: each time the next start brings
//! everything to one side by itself, and `status` agrees with systemd.
//!
//! The points are the machine's own list of effects, prune's list of removals and what is done to the queue's record.
//! `make test` kills at each of them once, the scenarios taking turns; `make check-all` at each passing of each point in
//! each scenario.

mod crash;
mod support;

use crash::{Death, Rig, Scenario, passings, tell};
use slotd::agent::turn::Step;
use slotd::config::Profile;
use slotd::deployment::effect::Kind;
use slotd::slots::Removal;
use support::host::text;
use support::wait_until;
use support::world::PATIENCE;

/// All points that there are, but for those of what operators mark: `host_crash_life.rs` kills at them.
fn points() -> Vec<String> {
    let names = Kind::ALL.iter().map(|kind| kind.as_str()).chain(Removal::ALL.iter().map(|removal| removal.as_str()));
    let names = names.chain(Step::ALL.iter().map(|step| step.as_str()));
    names.flat_map(|name| [format!("before:{name}"), format!("after:{name}")]).collect()
}

/// Two hosts at once, each with two of the scenarios: most of a death is waiting.
const HALVES: [[Scenario; 2]; 2] = [[Scenario::Good, Scenario::Prune], [Scenario::ProbeFails, Scenario::Rollback]];

/// `work` on both halves at once.
fn both<T: Send>(work: impl Fn(usize) -> T + Sync) -> [T; 2] {
    std::thread::scope(|scope| {
        let threads = [0, 1].map(|half| {
            let work = &work;
            scope.spawn(move || work(half))
        });
        threads.map(|thread| thread.join().expect("a failure is told above"))
    })
}

#[test]
fn killed_at_every_point_once() {
    let rigs = both(|_| Rig::boot("crash", Profile::User));
    let passed: Vec<(Scenario, Death)> = both(|half| {
        let record = |scenario| passings(&rigs[half].record(scenario)).into_iter().map(move |death| (scenario, death));
        HALVES[half].into_iter().flat_map(record).collect::<Vec<_>>()
    })
    .concat();
    let points = points();
    let mut deaths = Vec::new();
    for (number, point) in points.iter().filter(|point| !OWN.contains(&point.as_str())).enumerate() {
        let ways: Vec<_> = passed.iter().filter(|(_, (passed, _))| passed == point).collect();
        assert!(!ways.is_empty(), "no scenario passes {point}");
        // The scenarios, and the passings of a point in each, take turns.
        deaths.push(ways[number % ways.len()]);
    }
    let fired = both(|half| {
        let mut fired = 0;
        for scenario in HALVES[half] {
            for (_, (point, passing)) in deaths.iter().filter(|(of, _)| *of == scenario) {
                rigs[half].die_at(scenario, point, *passing);
                fired += 1;
            }
        }
        fired
    });
    drop(rigs);
    let own = both(|half| OWN_STORIES[half].map(|story| story()).iter().sum::<usize>());
    let fired = fired.iter().chain(&own).sum::<usize>();
    tell(&format!("killed at every point once: points={} fired={fired}", points.len()));
    assert_eq!(points.len(), fired);
}

/// What none of the scenarios has: the wait for an operator's word, the way back to a slot that runs on warm, and hooks.
const WAITS: [&str; 2] = ["before:await", "after:await"];
const RETURNS: [&str; 2] = ["before:return", "after:return"];
const HOOKS: [&str; 4] = ["before:hook", "after:hook", "before:end-hooks", "after:end-hooks"];
/// What concerns others: the apps that this one needs, and the units that go down with it.
const OTHERS: [&str; 4] = ["before:ask-needs", "after:ask-needs", "before:rejoin", "after:rejoin"];
const OWN: [&str; 12] = [
    WAITS[0], WAITS[1], RETURNS[0], RETURNS[1], HOOKS[0], HOOKS[1], HOOKS[2], HOOKS[3], OTHERS[0], OTHERS[1],
    OTHERS[2], OTHERS[3],
];

/// They, on hosts of their own: two at once, too.
const OWN_STORIES: [[fn() -> usize; 2]; 2] = [
    [killed_while_it_waits_for_a_word, killed_around_a_hook],
    [killed_on_the_way_back_to_a_warm_slot, killed_where_others_are_concerned],
];

/// A deployment that waits behind its canary goes on waiting after each death, and then goes live by that word.
fn killed_while_it_waits_for_a_word() -> usize {
    let rig = Rig::empty("crash-waits", Profile::User);
    let world = &rig.world;
    world.add_app("web", 8080);
    let own = "[[probe]]\nkind = \"http\"\naddress = \"/run/slots/web/{instance}/health.sock\"\npath = \"/health\"\n";
    world.settings("web", &format!("strategy = \"rolling\"\npause_after = 1\n[soak]\ntime = \"0s\"\n{own}"));
    for version in ["1.0.0", "2.0.0", "3.0.0"] {
        world.fetch(&world.artifact("web", version, ""));
    }
    world.ok("deploy /root/web-1.0.0.tar.zst --app web");
    for (point, version) in WAITS.into_iter().zip(["2.0.0", "3.0.0"]) {
        rig.arm(point, 1);
        world.begin("deploy", &format!("deploy /root/web-{version}.tar.zst --app web"));
        let waits = |status: &serde_json::Value| status["deployment"]["state"] == "waiting";
        if point == "after:await" {
            world.expect_status("web", "waiting", waits);
            world.slotctl("promote web");
        }
        rig.expect_dead(point);
        world.expect_status("web", "waiting again", waits);
        world.ok("promote web");
        let (exit, said) = world.exit_of("deploy");
        assert_eq!(exit, 0, "{point}: {said}");
        world.expect_serving(8080, version);
    }
    WAITS.len()
}

/// An operator goes back while the new slot is watched: after each death the old one, which never stopped, has the users.
fn killed_on_the_way_back_to_a_warm_slot() -> usize {
    let rig = Rig::empty("crash-warm", Profile::User);
    let world = &rig.world;
    world.add_app_with("web", "--port 8080 --route nftables");
    world.settings("web", "strategy = \"blue-green\"\n[soak]\ntime = \"0s\"\n");
    for version in ["1.0.0", "2.0.0"] {
        world.fetch(&world.artifact("web", version, ""));
    }
    world.ok("deploy /root/web-1.0.0.tar.zst --app web");
    world.settings("web", "strategy = \"blue-green\"\n[soak]\ntime = \"10m\"\n");
    world.ok("deploy /root/web-2.0.0.tar.zst --app web --no-wait");
    let run = || world.host.ok("systemctl show -P InvocationID web@1.0.0.service");
    let before = run();
    for point in RETURNS {
        if point == RETURNS[1] {
            world.ok("activate web 2.0.0 --no-wait");
        }
        world.expect_status("web", "2.0.0 to be watched", |status| status["deployment"]["state"] == "soaking");
        rig.arm(point, 1);
        world.slotctl("rollback web");
        rig.expect_dead(point);
        let status = world.expect_idle("web");
        assert_eq!(
            (&status["current"], &status["last"]["ended"]["outcome"]),
            (&"1.0.0".into(), &"cancelled".into()),
            "{status}"
        );
        world.expect_serving(8080, "1.0.0");
        assert_eq!(run(), before, "{point}: 1.0.0 was to run on");
    }
    RETURNS.len()
}

/// A release with a hook goes live whenever slotd dies around it, if only at the next try; one whose hook fails is undone, and
/// nothing of the hook stays.
fn killed_around_a_hook() -> usize {
    let rig = Rig::empty("crash-hooks", Profile::User);
    let world = &rig.world;
    world.add_app("web", 8080);
    world.live("web", 8080, "1.0.0");
    crash::hooks::add(world, &["deploy"]);
    for (point, version) in HOOKS.into_iter().zip(["2.0.0", "3.0.0", "4.0.0", "5.0.0"]) {
        let fails = point.ends_with("end-hooks");
        let scripts: &[_] = if fails { &[("deploy", "exit 3")] } else { &[] };
        world.fetch(&crash::hooks::release(world, version, scripts));
        rig.arm(point, 1);
        world.host.sh(&format!("timeout 60 slotctl deploy /root/web-{version}.tar.zst --app web"));
        rig.expect_dead(point);
        world.expect_serving(8080, if fails { "3.0.0" } else { version });
        let last = world.expect_idle("web")["last"].clone();
        let told = (&last["to"], &last["ended"]["fault"]["code"]);
        assert_eq!(
            told,
            (&version.into(), &if fails { "hook.failed".into() } else { serde_json::Value::Null }),
            "{last}"
        );
        let left =
            world.host.ok("systemctl list-units --all --plain --no-legend 'web-deploy@*' | grep -c failed || true");
        assert_eq!(left, "0", "{point}");
    }
    HOOKS.len()
}

/// An app that needs another one, and takes a unit down with it: each deployment goes on, and the unit is up again.
fn killed_where_others_are_concerned() -> usize {
    let rig = Rig::empty("crash-others", Profile::User);
    let world = &rig.world;
    world.supply_server();
    for (app, port) in [("api", 8081), ("web", 8080)] {
        world.add_app(app, port);
        world.send_live(app, "1.0.0");
    }
    world.settings("web", "depends_on = [\"api\"]\n");
    let parts: String = (1..=OTHERS.len()).map(|version| format!("PartOf=web@{version}.0.0.service\n")).collect();
    let unit = format!("[Unit]\n{parts}[Service]\nExecStart=/bin/sleep infinity\n");
    world.host.write("/etc/systemd/system/metrics.service", unit);
    let rule = "polkit.addRule(function(action, subject) {\n    \
                if (subject.user == \"slotd\" && action.lookup(\"unit\") == \"metrics.service\")\n        \
                return polkit.Result.YES;\n});\n";
    world.host.write("/etc/polkit-1/rules.d/60-metrics.rules", rule);
    world.host.ok("systemctl daemon-reload && systemctl start metrics");
    for (point, version) in OTHERS.into_iter().zip(2..) {
        let file = world.make("web", &format!("{version}.0.0"), "");
        rig.arm(point, 1);
        world.begin("deploy", &format!("deploy {file} --app web"));
        rig.expect_dead(point);
        let (exit, said) = world.exit_of("deploy");
        assert_eq!(exit, 0, "{point}: {said}");
        world.expect_serving(8080, &format!("{version}.0.0"));
        world.expect_idle("web");
        world.host.ok("systemctl is-active metrics");
    }
    OTHERS.len()
}

#[test]
fn killed_as_root() {
    let rig = Rig::boot("crash-root", Profile::Root);
    let user = rig.world.host.ok("ps -o user= -p $(systemctl show -P MainPID slotd.service)");
    assert_eq!(user, "root");
    for (scenario, deaths) in [
        (Scenario::Good, ["before:start", "after:switch", "before:retire"]),
        (Scenario::ProbeFails, ["after:prove", "before:restore", "after:close"]),
        (Scenario::Rollback, ["after:stop", "before:switch", "before:unhold"]),
        (Scenario::Prune, ["after:remove-instances", "before:remove-slot", "before:sweep"]),
    ] {
        for point in deaths {
            rig.die_at(scenario, point, 1);
        }
    }
    tell("killed as root: points=12 fired=12");
}

#[test]
fn a_release_whose_deployment_was_not_begun_yet_goes_live_after_the_restart() {
    let rig = Rig::empty("crash-drop", Profile::User);
    rig.world.add_app("web", 8080);
    rig.world.live("web", 8080, "1.0.0");
    rig.arm("before:announce", 1);
    // Taken in and gone from the inbox: nothing but the ready slot speaks for it.
    rig.world.mv("web", &rig.world.artifact("web", "2.0.0", ""));
    rig.expect_dead("before:announce");
    rig.world.expect_serving(8080, "2.0.0");
    let status = rig.world.expect_idle("web");
    assert_eq!((status["current"].as_str(), status["fallback"].as_str()), (Some("2.0.0"), Some("1.0.0")), "{status}");
}

#[test]
fn a_first_release_that_fails_leaves_nothing_running_wherever_slotd_dies() {
    let rig = Rig::empty("crash-first", Profile::User);
    let world = &rig.world;
    world.add_app("web", 8080);
    let broken = world.artifact("web", "1.0.0", "exit-before-accept 3");
    let deaths = ["after:gate", "after:start", "before:stop-others", "before:close", "after:close", "before:rest"];
    for (number, point) in deaths.into_iter().enumerate() {
        rig.arm(point, 1);
        match number {
            0 => drop(world.deploy("web", &broken)),
            _ => drop(world.slotctl("activate web 1.0.0 --force")),
        }
        rig.expect_dead(point);
        // Its settle unit stops a gate that slotd had no time to stop.
        wait_until(&format!("an app at rest after {point}"), PATIENCE, || {
            let status = world.expect_idle("web");
            let seen = world.host.sh(
                "systemctl is-active web.service; systemctl is-active 'web@1.0.0.service'; cd /var/lib/slotd/apps/web;
                 ls -d current next fallback intent.json /run/slotd/hold/web 2>/dev/null",
            );
            let (seen, state) = (text(&seen), status["state"].as_str().unwrap_or_default());
            let at_rest = seen == "inactive\ninactive" && state == "empty";
            if at_rest { Ok(()) } else { Err(format!("{point}: {seen:?}; {status}")) }
        });
    }
    // And it can still go forward.
    world.live("web", 8080, "2.0.0");
}

/// Every passing of every point in one scenario.
fn everywhere(scenario: Scenario) {
    let rig = Rig::boot("crash-all", Profile::User);
    let passings = passings(&rig.record(scenario));
    for (point, passing) in &passings {
        rig.die_at(scenario, point, *passing);
    }
    tell(&format!("{scenario:?}: points={} fired={}", passings.len(), passings.len()));
}

#[test]
#[ignore = "takes minutes: make check-all"]
fn killed_everywhere_while_a_good_release_goes_live() {
    everywhere(Scenario::Good);
}

#[test]
#[ignore = "takes minutes: make check-all"]
fn killed_everywhere_while_a_release_fails_its_probe() {
    everywhere(Scenario::ProbeFails);
}

#[test]
#[ignore = "takes minutes: make check-all"]
fn killed_everywhere_while_an_operator_goes_back() {
    everywhere(Scenario::Rollback);
}

#[test]
#[ignore = "takes minutes: make check-all"]
fn killed_everywhere_while_retention_removes() {
    everywhere(Scenario::Prune);
}
