//! The test host keeps what the other tests of a booted host build on.

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use support::host::{Host, Root, shown, text};
use support::wait_until;

#[test]
fn two_hosts_run_side_by_side_with_systemd_bus_and_polkit() {
    let own = Host::boot("two", Root::Own);
    let trixie = Host::boot("two", Root::Trixie);
    assert_ne!(own.boot_id(), trixie.boot_id());

    for host in [&own, &trixie] {
        assert_eq!(host.ok("hostname"), host.name());
        assert_eq!(host.ok("systemctl is-system-running"), "running");
        assert_eq!(host.ok("systemctl --failed --plain --no-legend"), "");
        host.ok("busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ListNames");
        assert!(
            host.ok("pkaction").contains("org.freedesktop.systemd1.manage-units"),
            "polkit knows systemd's actions"
        );
    }
}

#[test]
fn a_unit_has_its_own_status_output_and_cgroup() {
    let host = Host::boot("unit", Root::Own);
    let ran =
        host.run_unit(&["-p", "User=nobody"], &["sh", "-c", "id -un; cat /proc/self/cgroup; echo no >&2; exit 7"]);
    assert_eq!(ran.status.code(), Some(7), "{}", shown(&ran));
    assert_eq!(ran.stderr, b"no\n");
    let output = text(&ran);
    assert!(output.starts_with("nobody\n"), "{output}");
    assert!(output.contains("0::/system.slice/run-"), "{output}");
}

#[test]
fn nothing_of_the_machine_is_inside() {
    let host = Host::boot("empty", Root::Own);
    let checkout = env!("CARGO_MANIFEST_DIR");
    assert!(!host.sh(&format!("test -e {checkout}")).status.success());
    assert_eq!(host.ok("find /home /srv /opt /mnt /var/lib/slotd /etc/systemd/system -mindepth 1"), "");
}

#[test]
fn polkit_lets_an_ordinary_user_start_the_one_unit_that_a_rule_names() {
    for root in [Root::Own, Root::Trixie] {
        let host = Host::boot("polkit", root);
        host.ok("useradd --system agent");
        for unit in ["mine@", "other@"] {
            host.write(
                &format!("/etc/systemd/system/{unit}.service"),
                "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\n",
            );
        }
        host.write(
            "/etc/polkit-1/rules.d/50-agent.rules",
            r#"polkit.addRule(function(action, subject) {
                if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == "agent" &&
                    /^mine@[0-9.]+\.service$/.test(action.lookup("unit")) && action.lookup("verb") == "start")
                    return polkit.Result.YES;
            });"#,
        );
        host.ok("systemctl daemon-reload");

        let start = |unit| {
            let command = ["systemctl", "--no-ask-password", "start", unit];
            host.run_unit(&["-p", "User=agent"], &command)
        };
        // polkitd reads a new rule when the kernel tells it to.
        wait_until("the rule", Duration::from_secs(5), || {
            let started = start("mine@1.service");
            if started.status.success() { Ok(()) } else { Err(shown(&started)) }
        });
        assert!(!start("other@1.service").status.success(), "{root:?}");
        assert_eq!(host.ok("systemctl is-active mine@1 other@1 || true"), "active\ninactive");
    }
}

#[test]
fn files_outlive_a_reboot_and_a_crash() {
    for root in [Root::Own, Root::Trixie] {
        let host = Host::boot("power", root);
        let files = ["/etc/slotd/kept", "/var/lib/slotd/kept", "/usr/local/bin/kept"];
        for file in files {
            host.write(file, file);
        }
        let inode = host.ok("stat -c %i /var/lib/slotd/kept");
        let mut boots = vec![host.boot_id()];
        for again in [Host::reboot, Host::crash] {
            host.ok("touch /run/gone");
            again(&host);
            boots.push(host.boot_id());
            for file in files {
                assert_eq!(host.read(file), file.as_bytes(), "{root:?}");
            }
            assert_eq!(host.ok("stat -c %i /var/lib/slotd/kept"), inode);
            assert!(!host.sh("test -e /run/gone").status.success(), "{root:?}");
        }
        boots.sort();
        boots.dedup();
        assert_eq!(boots.len(), 3, "{root:?}: each boot has its own id: {boots:?}");
        assert_eq!(host.ok("journalctl --list-boots --no-pager -q | grep -c ' '"), "3", "{root:?}");
    }
}

#[test]
fn a_reboot_from_inside_brings_it_up_again() {
    let host = Host::boot("inside", Root::Own);
    let before = host.boot_id();
    // Commands that are under way when all processes are stopped and killed must not hold it up.
    host.sh("systemctl reboot; while :; do :; done");
    wait_until("another boot", Duration::from_secs(30), || {
        let seen = host.sh("cat /proc/sys/kernel/random/boot_id && systemctl is-system-running");
        let lines = text(&seen);
        match lines.strip_suffix("\nrunning") {
            Some(id) if id != before => Ok(()),
            _ => Err(shown(&seen)),
        }
    });
}

#[test]
fn files_and_folders_go_in_and_out() {
    let host = Host::boot("copy", Root::Own);
    let local = tempfile::tempdir().expect("a folder");
    let tree = local.path().join("tree");
    std::fs::create_dir(&tree).expect("a folder in it");
    std::fs::write(tree.join("file"), b"one\0two").expect("a file in that");

    host.push(&tree, "/srv/as");
    host.push(tree.join("file"), "/srv/as");
    assert_eq!(host.ok("cd /srv && find . -type f"), "./as/file");
    host.push(&tree, "/srv/");
    assert_eq!(host.read("/srv/tree/file"), b"one\0two");
    assert_eq!(host.ok("stat -c %u:%g /srv/tree/file"), "0:0");

    host.pull("/srv/tree", local.path().join("back"));
    assert_eq!(std::fs::read(local.path().join("back/file")).expect("it came back"), b"one\0two");
    let large = vec![b'x'; 1 << 20];
    host.write("/srv/large", &large);
    assert_eq!(host.read("/srv/large"), large);
}

#[test]
fn a_killed_host_leaves_nothing() {
    let host = Host::boot("gone", Root::Own);
    let name = host.name().to_owned();
    assert!(!remains(&name).is_empty(), "what is looked for is there while it runs");
    host.kill();
    assert_eq!(remains(&name), Vec::<String>::new());
}

/// Mounts, cgroups, processes and folders of a host.
fn remains(name: &str) -> Vec<String> {
    let mut remains = Vec::new();
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    remains.extend(mounts.lines().filter(|mount| mount.contains(name)).map(str::to_owned));
    folders_named(name, Path::new("/sys/fs/cgroup"), 4, &mut remains);
    folders_named(name, Path::new("/run"), 3, &mut remains);
    for process in std::fs::read_dir("/proc").expect("processes").flatten() {
        // A process that has ended by now has no command line.
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(name) {
            remains.push(format!("{:?} {command}", process.file_name()));
        }
    }
    remains
}

fn folders_named(name: &str, below: &Path, depth: u32, found: &mut Vec<String>) {
    let folders = std::fs::read_dir(below).into_iter().flatten().flatten();
    let folders: Vec<PathBuf> =
        folders.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect();
    for folder in folders {
        if folder.to_string_lossy().contains(name) {
            found.push(folder.display().to_string());
        } else if depth > 1 {
            folders_named(name, &folder, depth - 1, found);
        }
    }
}
