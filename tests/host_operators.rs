//! Words and hands of operators: cancel, go back, overrule, stop.

mod support;

use support::host::{Root, shown, text};
use support::wait_until;
use support::workshop::{expect_exit, expect_parts};
use support::world::{PATIENCE, World};

/// A proof that a release whose health is bad keeps trying for longer than any of these stories takes.
const PATIENT: &str = "[proof]\ninterval = \"100ms\"\nsuccesses = 2\ndeadline = \"100s\"\nstable_for = \"300ms\"\n";

#[test]
fn a_deployment_under_way_is_named_to_whoever_it_hinders_and_can_be_cancelled() {
    let world = World::boot("cancel", Root::Own);
    world.supply_server();
    world.send_live("web", "1.0.0");
    world.send_live("web", "1.1.0");
    world.settings("web", PATIENT);
    let id = world.begin_to_prove("2.0.0", "health-500");

    for words in ["activate web 1.0.0", "rollback web", "activate web 1.1.0", "prune web"] {
        let refused = world.slotctl(words);
        expect_exit(&refused, 6);
        expect_parts(&shown(&refused), &[&id, "request.busy", "slotctl cancel web"]);
    }
    world.ok("cancel web");
    let (exit, said) = world.exit_of("deploy");
    assert_eq!(exit, 12, "{said}");
    expect_parts(&said, &[&format!("{id} (deploy 2.0.0): cancelled"), "cancelled by root"]);
    world.expect_serving(8080, "1.1.0");
    assert_eq!(world.slots("web"), ["2.0.0 ready", "1.1.0 active", "1.0.0 ready"]);
    expect_parts(&world.ok("why web"), &["deployment.cancelled", "undid it: 1.1.0 serves as before", "nobody"]);
    // Nothing is under way any more.
    let nothing = world.slotctl("cancel web");
    expect_exit(&nothing, 4);
    expect_parts(&shown(&nothing), &["no deployment of web is under way", "slotctl history web"]);
}

#[test]
fn what_an_operator_stops_in_mid_deployment_stays_stopped() {
    let world = World::boot("stopped", Root::Own);
    world.supply_server();
    world.host.write("/etc/systemd/system/web@.service.d/stop.conf", "[Service]\nTimeoutStopSec=3s\n");
    world.host.ok("systemctl daemon-reload");
    world.send_live("web", "1.0.0");

    // The candidate alone: the old slot comes back.
    world.settings("web", PATIENT);
    world.begin_to_prove("1.9.0", "health-500");
    world.host.ok("systemctl stop web@1.9.0.service");
    world.expect_stopped_by_other();
    world.expect_serving(8080, "1.0.0");
    assert_eq!(world.slots("web"), ["1.9.0 ready", "1.0.0 active"]);

    // The whole app: nothing of it comes back by itself, in whatever step the hand comes. A client of the shared socket,
    // as a probe on it is one, would have systemd start the gate again: who probes there stops the socket.
    let own = "[[probe]]\nkind = \"http\"\naddress = \"/run/slots/web/{instance}/health.sock\"\npath = \"/health\"\n";
    let shared = "[[probe]]\nkind = \"http\"\naddress = \"127.0.0.1:8080\"\npath = \"/health\"\n";
    let mut live = "1.0.0".to_owned();
    for (major, probe, unit) in [(2, shared, "web.socket"), (3, own, "web.service")] {
        world.settings("web", probe);
        let version = |minor: u32| format!("{major}.{minor}.0");
        world.begin_to_prove(&version(0), "health-500");
        world.stop_all(unit, &live);
        world.begin_to(&format!("start web@{}.service", version(1)), &version(1), "never-ready");
        world.expect_unit(&format!("web@{}.service", version(1)), "activating");
        world.stop_all(unit, &live);

        live = version(2);
        expect_exit(&world.send("web", &world.make("web", &live, "hang-on-stop")), 0);
        world.begin_to(&format!("stop web@{live}.service"), &version(3), "");
        world.expect_unit(&format!("web@{live}.service"), "deactivating");
        world.stop_all(unit, &live);
    }
}

#[test]
fn going_back_and_overruling_a_quarantine_take_an_operators_word() {
    let world = World::boot("word", Root::Own);
    world.supply_server();
    world.settings("web", "[proof]\ninterval = \"100ms\"\nsuccesses = 2\ndeadline = \"3s\"\nstable_for = \"300ms\"\n");
    let refused = world.slotctl("rollback web");
    expect_exit(&refused, 5);
    expect_parts(&shown(&refused), &["rollback.no_target"]);
    for version in ["1.0.0", "2.0.0", "3.0.0"] {
        world.send_live("web", version);
    }
    let unchanged = world.slotctl("activate web 3.0.0");
    expect_exit(&unchanged, 0);
    expect_parts(&text(&unchanged), &["nothing to do, 3.0.0 is live already"]);
    let deployments = |world: &World| world.json("history web").as_array().map(Vec::len);
    assert_eq!(deployments(&world), Some(3));

    let back = world.slotctl("rollback web --to 1.0.0 -m oops");
    expect_exit(&back, 0);
    expect_parts(&text(&back), &["at most: ", "1.0.0 is live, 3.0.0 is the fallback"]);
    world.expect_serving(8080, "1.0.0");
    expect_parts(&world.ok("history web"), &["rollback", "oops", "root"]);
    expect_exit(&world.slotctl("rollback web"), 0);
    world.expect_serving(8080, "3.0.0");

    // Its own fault, as long as its health is asked; not any more once it isn't.
    expect_exit(&world.send("web", &world.make("web", "4.0.0", "health-500")), 10);
    let refused = world.slotctl("activate web 4.0.0");
    expect_exit(&refused, 5);
    expect_parts(&shown(&refused), &["release.quarantined", "slotctl why web-6", "--force"]);
    expect_exit(&world.slotctl("rollback web --to 4.0.0"), 5);
    expect_parts(&world.ok("quarantine list web"), &["4.0.0", "web-6", "probe.failed"]);
    world.ok("quarantine clear web 4.0.0");
    expect_exit(&world.slotctl("quarantine clear web 4.0.0"), 4);
    expect_exit(&world.slotctl("activate web 4.0.0"), 10);
    world.settings("web", "[[probe]]\nkind = \"notify\"\n");
    expect_exit(&world.slotctl("activate web 4.0.0 --force"), 0);
    world.expect_serving(8080, "4.0.0");
    assert_eq!(world.slots("web"), ["4.0.0 active", "3.0.0 ready", "2.0.0 ready", "1.0.0 ready"]);
    assert_eq!(world.json("quarantine list web"), serde_json::json!([]), "what proved itself isn't quarantined");
}

#[test]
fn who_may_use_the_socket_changes_without_a_restart_and_what_needs_one_is_named() {
    let world = World::boot("reload", Root::Own);
    let pid = world.host.ok("systemctl show -P MainPID slotd.service");
    world.host.ok("useradd --system --user-group ann");
    let ann = |words: &str| world.host.sh(&format!("runuser -u ann -- slotctl {words}"));
    expect_exit(&ann("status"), 7);
    let until = |what: &str, exit: i32, words: &str| {
        wait_until(what, PATIENCE, || {
            let answered = ann(words);
            if answered.status.code() == Some(exit) { Ok(()) } else { Err(shown(&answered)) }
        });
    };
    let file = "/etc/slotd/slotd.toml";
    world.host.write(file, "[access]\nread_group = \"ann\"\n");
    until("a reader", 0, "status");
    expect_exit(&ann("rollback web"), 7);
    world.host.write(file, "log = \"debug\"\n[access]\noperate_group = \"ann\"\n");
    until("an operator", 5, "rollback web");
    let level = "journalctl -u slotd -o cat | grep 'logged from the level debug on'";
    wait_until("the level", PATIENCE, || {
        world.host.sh(level).status.success().then_some(()).ok_or_else(|| world.journal())
    });
    world.host.write(file, "");
    until("nobody special", 7, "status");

    // Where things lie can't change under a daemon that runs.
    world.host.write(file, "state_dir = \"/srv/elsewhere\"\n");
    world.host.ok("systemctl reload slotd.service");
    let status = world.slotctl("status");
    expect_exit(&status, 3);
    let line = "state_dir is /var/lib/slotd, and /srv/elsewhere only after `systemctl restart slotd`";
    expect_parts(&text(&status), &[line, "history is /var/lib/slotd/history.db"]);
    expect_parts(&world.journal(), &[line]);
    world.live("web", 8080, "1.0.0");
    world.host.write(file, "");
    world.host.ok("systemctl reload slotd.service");
    expect_exit(&world.slotctl("status"), 0);
    assert_eq!(world.host.ok("systemctl show -P MainPID slotd.service"), pid);
}

impl World {
    /// Begins `slotctl deploy` of such a release, waits until it is asked whether it is ready, and returns the
    /// deployment's id.
    #[track_caller]
    fn begin_to_prove(&self, version: &str, behaviour: &str) -> String {
        self.begin_to(&format!("prove web@{version}.service"), version, behaviour)
    }

    /// Begins `slotctl deploy` of such a release, waits until it is at this step, and returns the deployment's id.
    #[track_caller]
    fn begin_to(&self, step: &str, version: &str, behaviour: &str) -> String {
        let file = self.make("web", version, behaviour);
        self.begin("deploy", &format!("deploy {file} --app web"));
        let status = self.expect_status("web", step, |status| status["deployment"]["waiting"]["what"] == step);
        status["deployment"]["id"].as_str().expect("an id").to_owned()
    }

    /// Waits until systemd says this of a unit.
    #[track_caller]
    fn expect_unit(&self, unit: &str, state: &str) {
        wait_until(&format!("{unit} {state}"), PATIENCE, || {
            let found = self.host.ok(&format!("systemctl is-active {unit} || true"));
            if found == state { Ok(()) } else { Err(found) }
        });
    }

    /// Stops the whole app by that unit in the middle of a deployment over the slot `live`, sees that it stays stopped,
    /// and starts it again.
    #[track_caller]
    fn stop_all(&self, unit: &str, live: &str) {
        self.host.ok(&format!("systemctl stop {unit}"));
        self.expect_rest(live);
        self.host.ok("systemctl start web.service");
        self.expect_serving(8080, live);
    }

    /// Sees that the deployment is given up, and that nothing of the app runs.
    #[track_caller]
    fn expect_rest(&self, current: &str) {
        self.expect_stopped_by_other();
        let status = self.expect_idle("web");
        assert_eq!((&status["state"], &status["current"]), (&"stopped".into(), &current.into()), "{status}");
        assert_eq!(self.host.ok("systemctl is-active web.service || true"), "inactive");
        assert_eq!(self.host.ok("systemctl list-units --plain --no-legend --state=active 'web@*'"), "");
    }

    /// Waits for the end of what [`World::begin_to_prove`] began: cancelled by a hand that wasn't slotd's.
    #[track_caller]
    fn expect_stopped_by_other(&self) {
        let (exit, said) = self.exit_of("deploy");
        assert_eq!(exit, 12, "{said}");
        expect_parts(&said, &["cancelled", "unit.stopped_by_other"]);
        assert_eq!(self.json("quarantine list web"), serde_json::json!([]));
    }
}
