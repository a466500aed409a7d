//! Slots on a shared socket that are told by signals who accepts, under a real systemd: 252 and 257.
//!
//! slotd rests, and the test does what a deployment does, by slotd's user and in its order: what a start goes by is
//! written, the new slot is told to accept and says so, then the old one is told to be quiet and says so.

mod running_support;
mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use running_support::{BRIEF_PROOF, ask, mask_slotd, states, told, until, wanted_at_boot};
use support::host::{Root, shown, text};
use support::wait_until;
use support::world::{PATIENCE, World};

const SLOTS: [&str; 2] = ["1.0.0", "2.0.0"];

/// How `systemctl kill` reaches the main process alone, as slotd's KillUnit does: by slotd's user, so by its polkit rule.
const KILL: &str = "runuser -u slotd -- systemctl kill --kill-who=main --signal";

/// Two slots of a program that were live, the second of which is; slotd is gone.
fn two_slots(root: Root, change: impl Fn(&Path)) -> World {
    let world = World::installed("signal", root);
    world.host.ok("systemctl enable --now slotd.socket slotd.service");
    world.ok("new web --exec /srv/web/bin/web --port 8080 --health /health --accept signal --write");
    world.settings("web", BRIEF_PROOF);
    for version in SLOTS {
        world.mv("web", &world.artifact_with("web", version, ".tar.zst", &change));
        world.expect_serving(8080, version);
        world.expect_idle("web");
    }
    mask_slotd(&world);
    for version in SLOTS {
        world.starts(version, if version == SLOTS[1] { "now" } else { "signal" });
    }
    world.host.ok("systemctl restart web.service");
    world.says(SLOTS[1], "accepting");
    world.host.ok("runuser -u slotd -- systemctl start web@1.0.0.service");
    world.says(SLOTS[0], "quiet");
    world
}

/// A release that runs the server of Python in place of the one of Rust.
fn python(tree: &Path) {
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python-server/server.py");
    std::fs::copy(server, tree.join("server.py")).expect("copied");
    let program = tree.join("bin/web");
    std::fs::write(&program, "#!/bin/sh\nexec python3 /srv/web/server.py\n").expect("written");
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).expect("set");
}

impl World {
    /// What the next start of a slot goes by.
    fn starts(&self, version: &str, accept: &str) {
        let env = format!("/var/lib/slotd/apps/web/instances/{version}/env");
        self.host.ok(&format!("sed -i '/^SLOTD_ACCEPT=/d' {env} && echo 'SLOTD_ACCEPT=\"{accept}\"' >>{env}"));
    }

    /// Waits until the slot says that.
    #[track_caller]
    fn says(&self, version: &str, word: &str) {
        wait_until(&format!("{version} to be {word}"), PATIENCE, || {
            let said = self.host.ok(&format!("systemctl show -P StatusText web@{version}.service"));
            if said == word { Ok(()) } else { Err(format!("{said:?}; {}", told(self))) }
        });
    }

    /// Tells a slot, and waits until it says so.
    #[track_caller]
    fn tell(&self, version: &str, signal: &str, word: &str) {
        self.host.ok(&format!("{KILL}={signal} web@{version}.service"));
        self.says(version, word);
    }

    /// Users from one slot to the other.
    #[track_caller]
    fn swap(&self, from: &str, to: &str) {
        self.tell(to, "SIGUSR1", "accepting");
        self.tell(from, "SIGUSR2", "quiet");
    }

    /// All who come are answered by this slot.
    #[track_caller]
    fn is_answered_by(&self, version: &str) {
        let answers = self.host.ok("for n in 1 2 3 4 5; do curl -sS --max-time 20 http://127.0.0.1:8080/; done");
        let others = answers.lines().filter(|line| !line.starts_with(&format!("version {version} ")));
        assert_eq!(others.collect::<Vec<_>>(), [""; 0], "{}", told(self));
    }
}

/// Twenty moves to and fro under as many requests as are answered.
fn swaps_at_saturation(world: &World) {
    let wrk = "wrk -t1 -c64 -d1h http://127.0.0.1:8080/ >/root/wrk.out 2>&1";
    world.host.ok(&format!("({wrk} & echo $! >/root/wrk.pid) </dev/null >/dev/null 2>&1"));
    for round in 0..20 {
        let (from, to) = if round % 2 == 0 { (SLOTS[1], SLOTS[0]) } else { (SLOTS[0], SLOTS[1]) };
        world.swap(from, to);
        world.is_answered_by(to);
    }
    // The one without users goes, and nobody notices.
    world.host.ok("runuser -u slotd -- systemctl stop web@1.0.0.service");
    world.is_answered_by(SLOTS[1]);
    world.host.ok("kill -INT $(cat /root/wrk.pid)");
    let report = wait_until("the report of wrk", PATIENCE, || {
        let report = world.host.ok("cat /root/wrk.out");
        if report.contains("Transfer/sec") { Ok(report) } else { Err(report) }
    });
    let requests: u64 = report
        .lines()
        .find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok())
        .unwrap_or_else(|| panic!("{report}"));
    assert!(requests > 1000, "{report}");
    assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}\n{}", told(world));
    println!("20 swaps, {requests} requests, 0 failed");
}

#[test]
fn twenty_swaps_at_saturation_fail_no_request() {
    swaps_at_saturation(&two_slots(Root::Own, |_| {}));
}

#[test]
fn twenty_swaps_of_the_python_server_at_saturation_fail_no_request() {
    swaps_at_saturation(&two_slots(Root::Own, python));
}

#[test]
fn a_boot_without_slotd_comes_up_accepting_and_restarts_go_by_what_is_written() {
    let world = two_slots(Root::Own, |_| {});
    // The start of a second slot leaves the listener as the first one needs it: O_NONBLOCK, 04000, is one for both.
    let flags = world.host.ok(
        "for slot in 1.0.0 2.0.0; do sed -n 's/^flags:\\s*//p' /proc/$(systemctl show -P MainPID web@$slot)/fdinfo/3; done",
    );
    for flags in flags.lines() {
        let bits = u32::from_str_radix(flags, 8).expect("octal");
        assert!(bits & 0o4000 != 0, "{flags}");
    }
    assert_eq!(flags.lines().count(), 2, "{flags}");

    // A crash: the live one accepts again by itself, the fallback stays quiet.
    for (version, word) in [(SLOTS[1], "accepting"), (SLOTS[0], "quiet")] {
        let run = world.host.ok(&format!("systemctl show -P InvocationID web@{version}"));
        world.host.ok(&format!("systemctl kill --signal=SIGKILL web@{version}.service"));
        wait_until("another run", PATIENCE, || {
            match world.host.ok(&format!("systemctl show -P InvocationID -P ActiveState web@{version}")) {
                now if now.contains("active") && !now.contains("activating") && !now.contains(&run) => Ok(()),
                now => Err(now),
            }
        });
        world.says(version, word);
    }
    world.is_answered_by(SLOTS[1]);

    wanted_at_boot(&world, "web.service");
    world.host.reboot();
    until(&world, "web web@2.0.0 web@1.0.0 slotd", "active active inactive inactive");
    world.says(SLOTS[1], "accepting");
    assert_eq!(ask(&world), SLOTS[1]);
}

#[test]
fn the_live_program_of_an_app_is_tried_as_its_user() {
    let world = two_slots(Root::Own, |_| {});
    let tried = world.slotctl("probe --contract web");
    assert_eq!(tried.status.code(), Some(0), "{}", shown(&tried));
    assert!(text(&tried).contains("ok        accepts         STATUS=accepting after "), "{}", shown(&tried));
    // Nothing of it is left, and users were served by the real ones all the time.
    assert_eq!(world.host.ok("ls /tmp | grep slotctl-probe || true"), "");
    assert_eq!(states(&world, "web web@1.0.0 web@2.0.0"), "active active active");
    let unknown = world.slotctl("probe --contract nobody");
    assert_eq!(unknown.status.code(), Some(4), "{}", shown(&unknown));
}

#[test]
fn swaps_on_debian_13() {
    let world = two_slots(Root::Trixie, |_| {});
    world.is_answered_by(SLOTS[1]);
    for (from, to) in [(SLOTS[1], SLOTS[0]), (SLOTS[0], SLOTS[1])] {
        world.swap(from, to);
        world.is_answered_by(to);
    }
    // slotd's user may signal no unit that isn't the app's.
    let refused = world.host.sh(&format!("{KILL}=SIGUSR1 dbus.service"));
    assert!(!refused.status.success(), "{}", shown(&refused));
}
