//! The gate's binary against a scripted `systemctl`: which units it asks for, in which order, and when it holds still.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Answers from files: `show/UNIT` is a unit's block, `list/PATTERN` the lines of a listing, `fail/UNIT` makes its
/// start fail. What was asked, the variables and descriptors that came along, stand in `calls` and `inherited`.
const SYSTEMCTL: &str = r#"#!/bin/sh
world=$(dirname "$0")
env | grep -E '^(LISTEN_|NOTIFY_)' >>"$world/inherited"
for fd in 3 4; do [ ! -e "/proc/$$/fd/$fd" ] || readlink "/proc/$$/fd/$fd" | grep listener >>"$world/inherited"; done
verb= options= code=0
while [ $# -gt 0 ]; do
    word=$1
    shift
    case $word in
        --) break ;;
        --no-pager | --no-ask-password | --quiet | --property=*) ;;
        -*) options="$options $word" ;;
        *) verb=$word ;;
    esac
done
echo "$verb$options $*" >>"$world/calls"
for unit in "$@"; do
    case $verb in
        show) cat "$world/show/$unit"; echo ;;
        list-units) cat "$world/list/$unit" ;;
        start) [ ! -e "$world/fail/$unit" ] || code=1 ;;
    esac
done
exit $code
"#;

/// Takes what it is given into `nft.taken`, lists what `nft.listed` says, and refuses where `nft.refuses` is there.
const NFT: &str = r#"#!/bin/sh
world=$(dirname "$0")
[ ! -e "$world/nft.refuses" ] || { echo "Error: Could not process rule" >&2; exit 1; }
case $1 in -f) cat >"$world/nft.taken" ;; *) cat "$world/nft.listed" ;; esac
"#;

struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let world = World { folder: tempfile::tempdir().expect("a folder") };
        for name in ["show", "list", "fail", "run/hold", "run/route", "state/apps/web/slots"] {
            std::fs::create_dir_all(world.path(name)).expect("folder");
        }
        for (name, script) in [("systemctl", SYSTEMCTL), ("nft", NFT)] {
            world.write(name, script);
            std::fs::set_permissions(world.path(name), PermissionsExt::from_mode(0o755)).expect("mode");
        }
        world.write("calls", "");
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("write");
    }

    fn deploy(&self, slot: &str, units: &[(&str, u32)]) {
        let units: Vec<String> =
            units.iter().map(|(name, n)| format!(r#"{{"name":"{name}","instances":{n}}}"#)).collect();
        let record = format!(r#"{{"format":1,"app":"web","slot":"{slot}","units":[{}]}}"#, units.join(","));
        std::fs::create_dir_all(self.path(&format!("state/apps/web/slots/{slot}"))).expect("slot");
        self.write(&format!("state/apps/web/slots/{slot}/slot.json"), &record);
        std::fs::remove_file(self.path("state/apps/web/current")).ok();
        symlink(format!("slots/{slot}"), self.path("state/apps/web/current")).expect("link");
    }

    /// How `systemctl show` sees a unit: "active/running", with " job" where one is queued.
    fn show(&self, unit: &str, state: &str) {
        let (active, sub) = state.trim_end_matches(" job").split_once('/').expect("ACTIVE/SUB");
        let job = if state.ends_with(" job") { "Job=7\n" } else { "" };
        let text = format!("Id={unit}\nLoadState=loaded\nActiveState={active}\nSubState={sub}\nResult=success\n{job}");
        self.write(&format!("show/{unit}"), &text);
    }

    fn hold(&self, for_millis: u64) {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).expect("clock");
        let until = Duration::from(now).as_millis() + u128::from(for_millis);
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("boot id");
        let mark = format!(r#"{{"boot":"{}","until_ms":{until},"deployment":"web-7"}}"#, boot.trim());
        self.write("run/hold/web", &mark);
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slotd-gate"));
        let path = format!("{}:{}", self.folder.path().display(), std::env::var("PATH").expect("PATH"));
        command.args(line.split_whitespace()).env("PATH", path);
        command.env("SLOTD_STATE_DIR", self.path("state")).env("SLOTD_RUN_DIR", self.path("run"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn gate(&self, line: &str) -> Output {
        self.command(line).output().expect("runs")
    }

    fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("calls")).expect("calls");
        text.lines().map(str::to_owned).collect()
    }
}

#[track_caller]
fn says(output: &Output, code: i32, words: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(code) && text.contains(words), "{}: {text}", output.status);
}

#[test]
fn templates_start_in_the_units_order_and_all_stop_after_a_failure() {
    let world = World::new();
    world.deploy("1.4.2", &[("worker@", 1), ("web@", 2)]);
    world.show("web@1.4.2.service", "active/running");
    world.show("web@1.4.2@2.service", "active/running");
    world.show("worker@1.4.2.service", "failed/failed");
    world.write("fail/worker@1.4.2.service", "");
    let began = Instant::now();
    let output = world.gate("start web web@ worker@");
    says(&output, 1, "slot 1.4.2 didn't start");
    says(&output, 1, "worker@1.4.2.service is failed/failed");
    says(&output, 1, "slotctl rollback web");
    assert!(began.elapsed() >= Duration::from_secs(1), "it paused");
    assert_eq!(
        world.calls(),
        [
            "start web@1.4.2.service web@1.4.2@2.service",
            "show web@1.4.2.service web@1.4.2@2.service",
            "start worker@1.4.2.service",
            "show worker@1.4.2.service",
            "stop web@1.4.2.service web@1.4.2@2.service worker@1.4.2.service",
        ]
    );
    let count = std::fs::read_to_string(world.path("run/gate/web")).expect("a count");
    assert!(count.contains("\"failures\":1"), "{count}");

    world.show("worker@1.4.2.service", "active/running");
    std::fs::remove_file(world.path("fail/worker@1.4.2.service")).expect("remove");
    says(&world.gate("start web web@ worker@"), 0, "starting worker@1.4.2.service");
    assert!(!world.path("run/gate/web").exists(), "a success forgets the failures");
}

#[test]
fn a_unit_that_systemctl_is_content_with_and_that_is_not_up_is_a_failure() {
    let world = World::new();
    world.deploy("1", &[("web@", 1)]);
    world.show("web@1.service", "inactive/dead");
    says(&world.gate("start web web@"), 1, "systemd started it, and it isn't up: web@1.service is inactive/dead");
    assert_eq!(world.calls().last().expect("a call"), "stop web@1.service");
}

#[test]
fn under_a_hold_nothing_is_started_and_settle_is_asked_to_look_later() {
    let world = World::new();
    world.deploy("1", &[("web@", 1)]);
    world.hold(60_000);
    says(&world.gate("start web web@"), 0, "deployment web-7 holds the app");
    assert_eq!(world.calls(), ["start --no-block slotd-settle@web:web.service"]);
}

#[test]
fn a_hold_that_comes_ends_the_pause_with_success_and_a_new_current_without() {
    for (held, code) in [(true, 0), (false, 1)] {
        let world = World::new();
        // With so many failures behind it, the pause would be the longest.
        std::fs::create_dir_all(world.path("run/gate")).expect("folder");
        world.write("run/gate/web", r#"{"what":"","failures":9}"#);
        let began = Instant::now();
        let gate = world.command("start web web@").spawn().expect("runs");
        let counted = || std::fs::read_to_string(world.path("run/gate/web")).is_ok_and(|text| text.contains("10"));
        while !counted() && began.elapsed() < Duration::from_secs(10) {
            std::thread::yield_now();
        }
        if held {
            world.hold(60_000)
        } else {
            world.deploy("1", &[("web@", 1)])
        }
        let output = gate.wait_with_output().expect("ends");
        says(&output, code, "nothing is deployed yet");
        assert!(began.elapsed() < Duration::from_secs(20), "the pause was cut short");
    }
}

#[test]
fn what_is_not_of_the_list_is_refused_before_anything_starts() {
    let world = World::new();
    world.deploy("1", &[("web@", 1), ("sshd@", 1)]);
    says(&world.gate("start web web@"), 1, "wants sshd@, which the gate's unit doesn't list");
    assert_eq!(world.calls(), [""; 0]);
}

#[test]
fn stop_names_every_instance_of_the_templates() {
    let world = World::new();
    let line = "loaded active running web, slot";
    let listed = format!("web@1.service {line}\n  web@2@r2@3.service {line}\nweb.service x\nother@1.service {line}\n");
    world.write("list/web@*.service", &listed);
    world.write("list/worker@*.service", "");
    says(&world.gate("stop web web@ worker@"), 0, "stopping web@1.service web@2@r2@3.service");
    let calls = world.calls();
    assert_eq!(calls.last().expect("a call"), "stop web@1.service web@2@r2@3.service");
    assert_eq!(calls.len(), 3, "{calls:?}");
}

#[test]
fn settle_acts_only_on_a_gate_that_nobody_wants_anything_of() {
    for (gate, slot, acts) in [
        ("active/exited", "inactive/dead", true),
        ("active/exited", "failed/failed", true),
        ("active/exited", "deactivating/final-sigterm", false),
        ("active/exited", "inactive/dead job", false),
        ("active/exited", "activating/auto-restart", false),
        ("active/exited", "active/running", false),
        ("active/exited job", "inactive/dead", false),
        ("activating/start", "inactive/dead", false),
        ("deactivating/stop", "inactive/dead", false),
        ("inactive/dead", "inactive/dead", false),
        ("failed/failed", "inactive/dead", false),
    ] {
        let world = World::new();
        world.deploy("1", &[("web@", 2)]);
        world.show("web.service", gate);
        world.show("web@1.service", "inactive/dead");
        world.show("web@1@2.service", slot);
        says(&world.gate("settle web:web@1"), 0, "");
        let calls = world.calls();
        let stopped = calls.iter().any(|call| call == "stop web.service");
        assert_eq!(stopped, acts, "{gate} {slot}: {calls:?}");
        let looks = calls.iter().filter(|call| *call == "show web.service").count();
        assert_eq!(looks, if acts { 2 } else { 1 }, "{calls:?}");
    }
}

#[test]
fn settle_without_a_readable_record_spares_what_runs() {
    for (slot, acts) in [("active/running", false), ("inactive/dead", true)] {
        let world = World::new();
        world.deploy("1", &[("web@", 1)]);
        world.write("state/apps/web/slots/1/slot.json", "{");
        world.show("web.service", "active/exited");
        let text = std::fs::read_to_string(world.path("show/web.service")).expect("readable");
        world.write("show/web.service", &format!("{text}PropagatesStopTo=web@1.service\n"));
        world.show("web@1.service", slot);
        says(&world.gate("settle web:web@1"), 0, "not the record of a slot");
        assert_eq!(world.calls().iter().any(|call| call == "stop web.service"), acts);
    }
}

#[test]
fn settle_waits_out_a_hold_and_restarts_what_slotd_left() {
    let world = World::new();
    world.deploy("1", &[("web@", 1)]);
    world.show("web.service", "active/exited");
    world.show("web@1.service", "inactive/dead");
    world.hold(700);
    let began = Instant::now();
    says(&world.gate("settle web:web@1"), 0, "left a deployment unfinished");
    assert!(began.elapsed() >= Duration::from_millis(700));
    assert_eq!(world.calls().last().expect("a call"), "restart --no-block web.service");
}

/// What nft lists once port 8080 leads to port 20001.
const LISTED: &str = r#"{"nftables":[
    {"rule":{"chain":"prerouting","expr":[{"match":{"op":"==","left":{"payload":{"field":"dport"}},"right":8080}},{"ct timeout":"@TIMEOUT@"},{"redirect":{"port":20001}}]}},
    {"rule":{"chain":"output","expr":[{"match":{"op":"==","left":{"payload":{"field":"dport"}},"right":8080}},{"ct timeout":"@TIMEOUT@"},{"redirect":{"port":20001}}]}},
    {"rule":{"chain":"input","expr":[{"match":{"op":"==","left":{"payload":{"field":"dport"}},"right":{"range":[20000,20099]}}},{"drop":null}]}},
    {"rule":{"chain":"refusals","expr":[{"match":{"op":"==","left":{"payload":{"field":"sport"}},"right":{"range":[20000,20099]}}},
        {"match":{"op":"!=","left":{"payload":{"field":"sport"}},"right":{"set":[20001]}}},{"drop":null}]}}
]}"#;

const ROUTE: &str = "route web nftables --port 8080 --ports 20000-20099 web@";

#[test]
fn a_route_is_applied_and_read_back() {
    let world = World::new();
    world.deploy("1", &[("web@", 1)]);
    std::fs::create_dir_all(world.path("state/apps/web/instances/1")).expect("folder");
    world.write("state/apps/web/instances/1/env", "PORT=\"20001\"\n");
    world.write("nft.listed", "{\"nftables\":[]}");
    says(&world.gate(ROUTE), 1, "nft took the table, and lists another one");
    let taken = std::fs::read_to_string(world.path("nft.taken")).expect("taken");
    // How long connections are remembered is this host's to say, and stands in the name.
    let (_, named) = taken.split_once("tcp dport 8080 ct timeout set \"").expect("a rule");
    let (timeout, rest) = named.split_once('"').expect("a name");
    assert!(rest.starts_with(" redirect to :20001\n"), "{taken}");
    world.write("nft.listed", &LISTED.replace("@TIMEOUT@", timeout));
    says(&world.gate(ROUTE), 0, "users are sent to 1 on port 20001 (the live slot 1)");

    world.write("run/route/web", r#"{"format":1,"backends":[{"instance":"2@2","port":20001,"weight":3}]}"#);
    says(&world.gate(ROUTE), 0, "users are sent to 2@2 on port 20001 with weight 3 (as slotd wants it)");
    world.write("run/route/web", r#"{"format":1,"backends":[{"instance":"2","port":20002,"weight":1}]}"#);
    says(&world.gate(ROUTE), 1, "the route stays as it was: nft took the table, and lists another one");
    world.write("nft.refuses", "");
    says(&world.gate(ROUTE), 1, "nft refuses: Error: Could not process rule");
    std::fs::remove_file(world.path("nft")).expect("removed");
    says(&world.command(ROUTE).env("PATH", world.path("run")).output().expect("runs"), 1, "can't run nft");
}

#[test]
fn a_set_that_is_not_believed_reaches_no_kernel() {
    let world = World::new();
    for (set, words) in [
        ("{", "is no set of backends"),
        (r#"{"format":1,"backends":[{"instance":"1","port":22,"weight":1}]}"#, "port 22, outside of 20000-20099"),
    ] {
        world.write("run/route/web", set);
        says(&world.gate(ROUTE), 1, words);
        assert!(!world.path("nft.taken").exists());
    }
    says(&world.gate("route web nftables --port 20001 --ports 20000-20099 web@"), 2, "one of the instances' own");
}

#[test]
fn after_a_start_by_the_gate_the_route_follows_what_is_live() {
    let world = World::new();
    world.deploy("1", &[("web@", 1)]);
    world.show("web@1.service", "active/running");
    world.write("run/route/web", "what was wanted before");
    says(&world.gate("start web web@"), 0, "");
    assert_eq!(world.calls().last().expect("a call"), "show slotd-route@web.service", "an app without a helper");
    assert!(!world.path("run/route/web").exists());

    world.show("slotd-route@web.service", "active/exited");
    world.write("run/route/web", "what was wanted before");
    says(&world.gate("start web web@"), 0, "");
    assert_eq!(world.calls().last().expect("a call"), "reload-or-restart --no-block slotd-route@web.service");
    assert!(!world.path("run/route/web").exists());

    world.write("run/route/web", "a deployment says itself where users go");
    world.hold(60_000);
    says(&world.gate("start web web@"), 0, "deployment web-7 holds the app");
    assert!(world.path("run/route/web").exists());
}

#[test]
fn listeners_stay_with_the_gate() {
    let world = World::new();
    world.deploy("1", &[("web@", 1)]);
    world.show("web@1.service", "active/running");
    world.write("listener", "");
    let script =
        r#"LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=a:b NOTIFY_SOCKET=/x exec "$0" start web web@ 3<"$1" 4<"$1""#;
    let gate = world.command("");
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(gate.get_program()).arg(world.path("listener"));
    shell.envs(gate.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = shell.output().expect("runs");
    says(&output, 0, "starting web@1.service");
    let inherited = std::fs::read_to_string(world.path("inherited")).expect("readable");
    assert_eq!(inherited, "", "systemctl was handed what is the gate's");
}

#[test]
fn a_missing_systemctl_and_a_wrong_command_line_are_named() {
    let world = World::new();
    world.deploy("1", &[("web@", 1)]);
    let output = world.command("stop web web@").env("PATH", world.path("run")).output().expect("runs");
    says(&output, 1, "can't run systemctl: No such file");
    says(&world.gate("start web"), 2, "usage: slotd-gate");
}

#[test]
fn the_gate_has_no_runtime_no_bus_and_no_database() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--no-default-features", "--edges", "normal", "--prefix", "none"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8_lossy(&tree.stdout);
    for name in ["tokio", "zbus", "rusqlite", "libsqlite3-sys", "hyper", "clap"] {
        assert!(!tree.lines().any(|line| line.split(' ').next() == Some(name)), "{name} in\n{tree}");
    }
}
