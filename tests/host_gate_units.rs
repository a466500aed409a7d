//! The units that are shipped or proposed, on a real systemd: what polkit's rule and the daemon's sandbox allow.

mod running_support;
mod support;

use running_support::{on_both, told};
use support::host::text;
use support::wait_until;
use support::world::PATIENCE;

#[test]
fn the_polkit_rule_gives_slotd_its_app_and_nothing_else() {
    on_both("polkit", |world| {
        world.live("web", 8080, "1.0.0");
        for other in ["web2", "webs@", "myweb"] {
            let unit = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\n";
            world.host.write(&format!("/etc/systemd/system/{other}.service"), unit);
        }
        world.host.ok("systemctl daemon-reload");
        let may = |words: &[&str]| {
            let command = [&["systemctl", "--no-ask-password"], words].concat();
            world.host.run_unit(&["-p", "User=slotd"], &command).status.success()
        };
        // polkitd reads a new rule when the kernel tells it to.
        wait_until("the rule", PATIENCE, || if may(&["start", "web@1.0.0"]) { Ok(()) } else { Err(told(world)) });
        for good in [
            &["restart", "web@1.0.0"][..],
            &["kill", "-s", "HUP", "web@1.0.0"],
            &["reset-failed", "web@1.0.0"],
            &["stop", "web@1.0.0"],
            &["start", "web.service"],
            &["stop", "web.socket"],
            &["start", "web.socket"],
        ] {
            assert!(may(good), "{good:?}\n{}", told(world));
        }
        for bad in [
            &["start", "web2.service"][..],
            &["start", "webs@1"],
            &["start", "myweb"],
            &["start", "slotd-settle@web:web@1.0.0"],
            &["restart", "web.socket"],
            &["enable", "web@1.0.0"],
            &["mask", "web.service"],
            &["daemon-reload"],
            &["set-property", "web@1.0.0", "CPUWeight=1"],
        ] {
            assert!(!may(bad), "{bad:?}");
        }

        // What a probe runs is told by the settings; check finds that the rule lacks it, and new makes one that has it.
        let check = "[Service]\nType=oneshot\nTimeoutStartSec=5s\nExecStart=test %i = 2.0.0\n";
        world.host.write("/etc/systemd/system/web-check@.service", check);
        world.host.ok("systemctl daemon-reload");
        world.settings("web", "[[probe]]\nkind = \"unit\"\nname = \"web-check@\"\n");
        let found = text(&world.slotctl("check web"));
        assert!(found.contains("no rule of polkit names web-check@"), "{found}");
        assert!(!may(&["start", "web-check@2.0.0"]));
        world.ok("new web --exec /srv/web/bin/web --port 8080 --health /health --write --force");
        wait_until("the new rule", PATIENCE, || match may(&["start", "web-check@2.0.0"]) {
            true => Ok(()),
            false => Err(told(world)),
        });
        assert!(!may(&["start", "web-check2@2.0.0"]) && !may(&["restart", "web-check@2.0.0"]));
        world.live("web", 8080, "2.0.0");
    });
}

/// Stands in for the daemon: tries what its unit must let it do, and what not.
const DAEMON: &str = r#"#!/usr/bin/python3 -I
import os, socket, subprocess

def tell(state):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(os.environ["NOTIFY_SOCKET"])
        sock.send(state)

def attempt(what, action):
    try:
        print(what, action(), flush=True)
    except OSError as error:
        print(what, error.strerror, flush=True)

def make_inbox():
    os.mkdir("/var/lib/slotd/inbox/new", 0o770)
    return oct(os.stat("/var/lib/slotd/inbox/new").st_mode)

def systemctl(*words):
    return subprocess.run(["systemctl", "--no-ask-password", *words], capture_output=True).returncode

def journal():
    line = ["journalctl", "-b", "-o", "cat", "-u", "web@1.0.0.service"]
    return "Started" in subprocess.run(line, capture_output=True, text=True).stdout

attempt("inbox", make_inbox)
attempt("state", lambda: os.mkdir("/var/lib/slotd/apps/new", 0o700))
attempt("hold", lambda: open("/run/slotd/hold/new", "w").close())
attempt("gate", lambda: open("/run/slotd/gate/new", "w"))
attempt("run", lambda: os.symlink("/etc", "/run/slotd/new"))
attempt("etc", lambda: open("/etc/slotd/new", "w"))
attempt("boot", lambda: open("/proc/sys/kernel/random/boot_id").read().strip())
attempt("start", lambda: systemctl("start", "web@1.0.0.service"))
attempt("stop", lambda: systemctl("stop", "dbus.service"))
attempt("journal", journal)
attempt("listener", lambda: os.environ["LISTEN_FDS"])
tell(b"READY=1")
while True:
    tell(b"WATCHDOG=1")
    subprocess.run(["sleep", "5"])
"#;

#[test]
fn the_daemons_unit_lets_it_do_its_work_and_no_more() {
    on_both("daemon", |world| {
        let host = &world.host;
        world.live("web", 8080, "1.0.0");
        host.ok("systemctl stop slotd.service");
        host.write("/usr/bin/slotd", DAEMON);
        let units = "/usr/lib/systemd/system/slotd* /etc/systemd/system/web*";
        // Where a slot's program lies only its own mount namespace shows.
        let verified =
            host.sh(&format!("systemd-analyze verify --man=no {units} 2>&1 | grep -v ': Command /srv/web/'"));
        assert_eq!(text(&verified), "");

        host.ok("systemctl start slotd.service");
        let run = host.ok("systemctl show -P InvocationID slotd");
        let tried = host.ok(&format!("journalctl -o cat -t slotd _SYSTEMD_INVOCATION_ID={run}"));
        let wanted = [
            "inbox 0o42770".to_owned(),
            "state None".to_owned(),
            "hold None".to_owned(),
            "gate Read-only file system".to_owned(),
            "run Read-only file system".to_owned(),
            "etc Read-only file system".to_owned(),
            format!("boot {}", host.boot_id()),
            "start 0".to_owned(),
            "stop 1".to_owned(),
            "journal True".to_owned(),
            "listener 1".to_owned(),
        ];
        assert_eq!(tried.lines().collect::<Vec<_>>(), wanted);
        assert_eq!(host.ok("stat -c '%a %U' /run/slotd/slotd.sock"), "666 root");
        assert_eq!(
            host.ok("stat -c '%a %U:%G' /var/lib/slotd/inbox/web /run/slotd"),
            "2770 slotd:slotd-deploy\n755 root:root"
        );
        println!(
            "{}",
            host.ok("systemd-analyze security slotd.service slotd-settle@x.service --no-pager | grep Overall")
        );
    });
}
