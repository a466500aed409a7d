//! Blue-green and rolling on a real systemd, on a shared socket whose instances take connections by signal.

mod support;

use support::host::{Root, shown, text};
use support::wait_until;
use support::workshop::{expect_exit, expect_parts};
use support::world::{PATIENCE, World};

const PROOF: &str =
    "[proof]\ninterval = \"100ms\"\ntimeout = \"2s\"\nsuccesses = 2\ndeadline = \"20s\"\nstable_for = \"300ms\"\n";

#[test]
fn blue_green_keeps_the_old_slot_warm_and_going_back_is_a_switch() {
    let world = World::by_signal("bluegreen", Root::Own);
    world.settings("web", "strategy = \"blue-green\"\n[soak]\ntime = \"5s\"\n");
    world.send_live("web", "1.0.0");
    let run = world.run_of("web@1.0.0");

    // While it is watched both run, and the new one alone is answered by.
    world.begin("deploy", &format!("deploy {} --app web", world.make("web", "2.0.0", "")));
    world.expect_status("web", "soaking", |status| status["deployment"]["state"] == "soaking");
    assert_eq!(world.running(), ["web@1.0.0.service", "web@2.0.0.service"]);
    world.expect_answers("2.0.0");
    assert_eq!(world.host.ok("readlink /var/lib/slotd/apps/web/current"), "slots/2.0.0");

    // Somebody wants it back: the old one was never stopped.
    world.ok("cancel web");
    let (exit, said) = world.exit_of("deploy");
    assert_eq!(exit, 12, "{said}");
    // Users had an answer each time that slotd asked in their place.
    let measured = &world.json("history web -n 1")[0]["measured"];
    let [asked, failed] = ["asked", "failed"].map(|key| measured["asked"][key].as_u64());
    assert!(asked >= Some(5) && failed == Some(0), "{measured}");
    assert!(measured["gap_ms"].as_u64() < Some(2000) && measured["down_ms"].is_null(), "{measured}");
    world.expect_answers("1.0.0");
    assert_eq!((world.running(), world.run_of("web@1.0.0")), (vec!["web@1.0.0.service".to_owned()], run));

    // What will be done is told before.
    let live = world.slotctl("plan web 1.0.0");
    expect_exit(&live, slotd::model::Exit::Unchanged as i32);
    expect_parts(&shown(&live), &["1.0.0 is live already"]);
    expect_parts(
        &world.ok("plan web 2.0.0"),
        &["2.0.0 over 1.0.0, blue-green", "start and prove web@2.0.0.service", "watched for 5s"],
    );

    // To its end: the old one goes when the soak is over.
    expect_exit(&world.slotctl("activate web 2.0.0"), 0);
    world.expect_answers("2.0.0");
    assert_eq!(world.running(), ["web@2.0.0.service"]);
    assert_eq!(world.slots("web"), ["2.0.0 active", "1.0.0 ready"]);
    let summary = world.json("history web --measured");
    let known = |what: &str| summary["times"].as_array().is_some_and(|all| all.iter().any(|it| it["what"] == what));
    assert!(["ready", "switch", "gap", "drain", "total"].into_iter().all(known), "{summary}");
    expect_parts(&world.ok("why web"), &["measured", "ready ", "switch ", "asked from outside "]);

    // Who goes back while the new one is watched means just that, and has it at once.
    world.begin("deploy", "activate web 1.0.0");
    world.expect_status("web", "soaking", |status| status["deployment"]["state"] == "soaking");
    let back = world.slotctl("rollback web");
    expect_exit(&back, 0);
    expect_parts(&shown(&back), &["is being undone: 2.0.0 serves again", "undone, 2.0.0 is live"]);
    assert_eq!(world.exit_of("deploy").0, 12);
    world.expect_answers("2.0.0");

    // One that fails while it proves itself is never seen by anybody, and one that dies in the soak takes nothing along.
    let run = world.run_of("web@2.0.0");
    expect_exit(&world.send("web", &world.make("web", "3.0.0", "exit-before-accept 3")), 10);
    expect_parts(&world.ok("why web"), &["unit.exited", "3.0.0"]);
    world.expect_answers("2.0.0");
    let deploy = format!("deploy {} --app web --strategy rolling", world.make("web", "4.0.0", ""));
    world.begin("deploy", &deploy);
    world.expect_status("web", "soaking", |status| status["deployment"]["state"] == "soaking");
    world.host.ok("systemctl kill -s KILL web@4.0.0.service");
    let (exit, said) = world.exit_of("deploy");
    assert_eq!(exit, 10, "{said}");
    assert_eq!(world.json("history web -n 1")[0]["strategy"], "rolling");
    world.expect_answers("2.0.0");
    assert_eq!((world.running(), world.run_of("web@2.0.0")), (vec!["web@2.0.0.service".to_owned()], run));

    // After a boot without slotd the live slot takes connections by itself.
    world.host.ok("systemctl mask slotd.service slotd.socket");
    world.host.reboot();
    world.expect_answers("2.0.0");
}

#[test]
fn rolling_moves_one_after_the_other_and_waits_for_a_word() {
    let world = World::by_signal("rolling", Root::Own);
    world.settings(
        "web",
        "strategy = \"rolling\"\npause_after = 1\n[[unit]]\nname = \"web@\"\ninstances = 3\n[soak]\ntime = \"0s\"\n",
    );
    world.send_live("web", "1.0.0");
    assert_eq!(world.running().len(), 3);

    world.begin("deploy", &format!("deploy {} --app web", world.make("web", "2.0.0", "")));
    world
        .expect_status("web", "waiting", |status| status["deployment"]["waiting"]["what"] == "an operator's `promote`");
    assert_eq!(world.running(), ["web@1.0.0@2.service", "web@1.0.0@3.service", "web@2.0.0.service"]);
    let refused = world.slotctl("confirm web");
    expect_exit(&refused, 5);
    expect_parts(&shown(&refused), &["doesn't wait for `confirm`"]);
    // It goes on waiting over a restart of slotd.
    world.host.ok("systemctl restart slotd.service");
    world
        .expect_status("web", "waiting", |status| status["deployment"]["waiting"]["what"] == "an operator's `promote`");
    expect_exit(&world.slotctl("promote web"), 0);
    world.expect_answers("2.0.0");
    assert_eq!(world.running(), ["web@2.0.0.service", "web@2.0.0@2.service", "web@2.0.0@3.service"]);

    // Undone behind the canary: the first of the old ones is back.
    world.begin("deploy", &format!("deploy {} --app web", world.make("web", "3.0.0", "")));
    world
        .expect_status("web", "waiting", |status| status["deployment"]["waiting"]["what"] == "an operator's `promote`");
    world.ok("cancel web");
    world.expect_idle("web");
    world.expect_answers("2.0.0");
    assert_eq!(world.running(), ["web@2.0.0.service", "web@2.0.0@2.service", "web@2.0.0@3.service"]);

    let wished = world.slotctl("activate web 3.0.0 --strategy blue-green");
    expect_exit(&wished, 0);
    world.expect_answers("3.0.0");

    // Another number of instances: of what is live, batch by batch as well, and of what comes after a restart.
    world.ok("scale web 2 --no-wait -m quieter");
    world.expect_status("web", "waiting", |status| status["deployment"]["state"] == "waiting");
    expect_exit(&world.slotctl("promote web"), 0);
    world.expect_answers("3.0.0");
    assert_eq!(world.running(), ["web@3.0.0@r2.service", "web@3.0.0@r2@2.service"]);
    assert_eq!(world.json("history web -n 1")[0]["message"], "quieter");
    expect_parts(&world.ok("scale web 2"), &["nothing to do, 3.0.0@r2 is live already"]);
    world.host.ok("systemctl restart slotd.service");
    expect_exit(&world.slotctl("scale web 2 --unit job@"), 5);
    // Without a word on it, the new slot is watched as the strategy of the deployment has it.
    world.host.ok("sed -i '/^\\[soak\\]/,/^time/d' /etc/slotd/apps/web.toml");
    world.settings("web", "strategy = \"stop-start\"\n");
    assert_eq!(world.json("plan web 3.0.0")["soak"], "0s");
    assert_eq!(world.json("plan web 3.0.0 --strategy blue-green")["soak"], "1m");
    world.settings("web", "strategy = \"stop-start\"\n[soak]\ntime = \"0s\"\n");
    world.begin("deploy", &format!("deploy {} --app web --strategy blue-green", world.make("web", "4.0.0", "")));
    let (exit, said) = world.exit_of("deploy");
    assert_eq!(exit, 0, "{said}");
    assert_eq!(world.running(), ["web@4.0.0.service", "web@4.0.0@2.service"]);
    // Where it came from has the number of before.
    world.ok("rollback web --to 3.0.0");
    assert_eq!(world.running(), ["web@3.0.0.service", "web@3.0.0@2.service", "web@3.0.0@3.service"]);
}

#[test]
fn instances_told_by_signals_are_moved_and_brought_back_on_debian_13() {
    let world = World::by_signal("trixie-signal", Root::Trixie);
    world.settings("web", "strategy = \"rolling\"\n[[unit]]\nname = \"web@\"\ninstances = 2\n[soak]\ntime = \"0s\"\n");
    world.send_live("web", "1.0.0");
    world.send_live("web", "2.0.0");
    world.expect_answers("2.0.0");
    assert_eq!(world.running(), ["web@2.0.0.service", "web@2.0.0@2.service"]);
    expect_exit(&world.send("web", &world.make("web", "3.0.0", "exit-before-accept 3")), 10);
    expect_exit(&world.slotctl("rollback web"), 0);
    world.expect_answers("1.0.0");
    assert_eq!(world.running(), ["web@1.0.0.service", "web@1.0.0@2.service"]);
}

impl World {
    /// slotd with the app `web` on a shared socket whose instances are told by signals, asked on their own sockets.
    #[track_caller]
    fn by_signal(hint: &str, root: Root) -> World {
        let world = World::installed(hint, root);
        world.host.ok("systemctl enable --now slotd.socket slotd.service");
        world.supply_server();
        world.ok("new web --exec /srv/web/bin/web --port 8080 --health /health --accept signal --write");
        world.settings("web", PROOF);
        world
    }

    /// The app's units that run.
    fn running(&self) -> Vec<String> {
        let listed = self.host.ok("systemctl list-units --plain --no-legend --state=active 'web@*' | cut -d' ' -f1");
        listed.lines().map(str::to_owned).collect()
    }

    fn run_of(&self, unit: &str) -> String {
        self.host.ok(&format!("systemctl show -P InvocationID {unit}"))
    }

    /// Waits until ten answers in a row come from this version.
    #[track_caller]
    fn expect_answers(&self, version: &str) {
        wait_until(&format!("ten answers of {version}"), PATIENCE, || {
            let ask = "for i in 1 2 3 4 5 6 7 8 9 10; do curl -s -m 5 http://127.0.0.1:8080/; done";
            let answers = text(&self.host.sh(ask));
            let good = answers.matches(&format!("version {version} ")).count();
            if good == 10 { Ok(()) } else { Err(format!("{answers}; {}", text(&self.slotctl("status")))) }
        });
    }
}
