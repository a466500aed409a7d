//! The checker of what tests leave behind: on a tidy host it finds nothing, and each kind of thing where it was put.

use super::world;
use crate::support::leftovers::{Kind, expect_nothing_left, leftovers};
use crate::support::world::World;

const WEB: &str = "/var/lib/slotd/apps/web";

/// Puts something onto the host, which the checker names; takes it away again.
#[track_caller]
fn expect_found(world: &World, (kind, part): (Kind, &str), put: &str, take_away: &str) {
    world.host.ok(put);
    let found = leftovers(world);
    world.host.ok(take_away);
    assert!(found.iter().any(|left| left.kind == kind && left.what.contains(part)), "{put}: {part:?}: {found:?}");
    expect_nothing_left(world);
}

#[test]
fn the_checker_finds_each_kind_of_leftover() {
    let world = world("tidy");
    world.add_app_with("api", "--port 9090 --route nftables");
    for version in ["1.0.0", "2.0.0"] {
        world.live("web", 8080, version);
        world.live("api", 9090, version);
    }
    expect_nothing_left(&world);
    // What is put there is to stay as it is.
    world.host.ok("systemctl stop slotd.socket slotd.service");
    expect_nothing_left(&world);

    let stray = "systemd-run -q --uid=web --unit=stray sleep 1000";
    expect_found(&world, (Kind::Process, "of user web, in \"stray.service\""), stray, "systemctl stop stray.service");
    let worker = "systemd-run -q --uid=slotd --unit=stray sh -c 'sleep 1000; : unpack-worker'";
    expect_found(&world, (Kind::Process, "an unpack worker"), worker, "systemctl stop stray.service");

    expect_found(
        &world,
        (Kind::Unit, "web@1.0.0.service is active/running"),
        "systemctl start web@1.0.0.service",
        "systemctl stop web@1.0.0.service",
    );
    let hook = "printf '[Service]\\nType=oneshot\\nExecStart=/bin/false\\n' >/etc/systemd/system/web-hook@.service \
                && systemctl daemon-reload && ! systemctl start web-hook@2.0.0.service";
    let without = "rm /etc/systemd/system/web-hook@.service && systemctl reset-failed web-hook@2.0.0.service \
                   && systemctl daemon-reload";
    expect_found(&world, (Kind::Unit, "web-hook@2.0.0.service is failed/failed"), hook, without);
    let waits = "printf '[Service]\\nType=oneshot\\nExecStart=sleep 1000\\n' >/etc/systemd/system/web-hook@.service \
                 && systemctl daemon-reload && systemctl start --no-block web-hook@2.0.0.service";
    let stopped = "systemctl stop web-hook@2.0.0.service; systemctl reset-failed; \
                   rm /etc/systemd/system/web-hook@.service && systemctl daemon-reload";
    expect_found(&world, (Kind::Unit, "web-hook@2.0.0.service has a job"), waits, stopped);

    let range = "sed -n 's/.*--ports \\([0-9]*\\)-.*/\\1/p' /etc/systemd/system/slotd-route@api.service";
    let first: u16 = world.host.ok(&format!("{range} | head -n 1")).parse().expect("a port");
    let listen = format!(
        "systemd-run -q --unit=stray systemd-socket-activate -l {0} cat; until ss -Hltn | grep -q ':{0} '; do :; done",
        first + 50
    );
    expect_found(&world, (Kind::Port, &format!(":{}", first + 50)), &listen, "systemctl stop stray.service");
    let route = "/run/slotd/route/api";
    expect_found(
        &world,
        (Kind::Port, "leads to [\"1.0.0 on "),
        &format!("cp {route} /root/route && sed -i 's/2\\.0\\.0/1.0.0/' {route}"),
        &format!("cp /root/route {route}"),
    );

    let digest = "0".repeat(64);
    for (name, part) in [
        ("spool/x", "spool/x"),
        ("staging/x", "staging/x"),
        ("builds/1.0.0", "builds/1.0.0"),
        ("slots/.slotd-gone-1-1", "half made or half removed"),
        ("slots/2.0.0/.slotd-new-1-1", "half made or half removed"),
        ("slots/9.0.0", "which has no record"),
        ("instances/9.0.0", "an instance of no slot"),
        ("instances/2.0.0@2", "an instance of no slot"),
        (&format!("trees/{digest}"), "which no slot names"),
        (&format!("artifacts/{digest}"), "which no slot names"),
    ] {
        let path = format!("{WEB}/{name}");
        expect_found(&world, (Kind::Folder, part), &format!("mkdir {path}"), &format!("rmdir {path}"));
    }
    let run = "/run/slots/web/1.0.0";
    expect_found(&world, (Kind::Folder, run), &format!("mkdir -p {run}"), &format!("rmdir {run}"));

    for (put, path, part) in [
        ("touch", "/run/slotd/hold/web", "holds the gate"),
        (
            "echo '{\"what\":\"slots/2.0.0\",\"failures\":1}' >",
            "/run/slotd/gate/web",
            "counts failures of the live slot",
        ),
        ("ln -s slots/1.0.0", &format!("{WEB}/next"), "though nothing is under way"),
        ("echo '{}' >", &format!("{WEB}/queued.json"), "a deployment waits"),
    ] {
        expect_found(&world, (Kind::Mark, part), &format!("{put} {path}"), &format!("rm {path}"));
    }
    let gone = format!("mv {WEB}/slots/1.0.0 /root/1.0.0 && mv {WEB}/instances/1.0.0 /root/instance");
    let back = format!("mv /root/1.0.0 {WEB}/slots/ && mv /root/instance {WEB}/instances/1.0.0");
    world.host.ok(&gone);
    let found = leftovers(&world);
    world.host.ok(&back);
    assert!(found.iter().any(|left| left.kind == Kind::Mark && left.what.contains("fallback -> ")), "{found:?}");
    let intent = format!("{WEB}/intent.json");
    expect_found(&world, (Kind::Intent, &intent), &format!("echo '{{}}' >{intent}"), &format!("rm {intent}"));
}
