//! The gate on a real systemd: boot, stop, restart, a slot that dies, a slot that is broken, a deployment that is left.
//!
//! slotd itself is not there: these are the promises that hold without it.

mod gate_site;
mod support;

use std::time::{Duration, Instant};

use gate_site::{SOON, Site, on_both};
use support::host::{Root, shown, text};
use support::wait_until;

#[test]
fn a_boot_brings_up_the_live_slot_and_no_other() {
    on_both("boot", Some(8080), |site| {
        site.deploy("1.4.2+b5");
        site.publish("2", "good");
        site.host.ok("systemctl start web.service web@2.service");
        assert_eq!(site.state("web@1.4.2@bb5 web@2 web"), "active\nactive\nactive");
        for _ in 0..2 {
            site.host.reboot();
            site.until("web.service", "active");
            assert_eq!(site.state("web.socket web@1.4.2@bb5 web@2"), "active\nactive\ninactive", "{}", site.journal());
            assert_eq!(site.ask(), "1.4.2+b5");
            // Right after a boot too, all of it can be stopped and started at once.
            site.host.ok("systemctl stop web.socket && systemctl start web");
            assert_eq!(site.ask(), "1.4.2+b5");
        }
        site.host.crash();
        site.until("web.service", "active");
        assert_eq!(site.ask(), "1.4.2+b5");
        assert_eq!(site.host.ok("systemctl --failed --plain --no-legend"), "");
    });
}

#[test]
fn a_hundred_restarts_all_end_active() {
    on_both("restart", Some(8080), |site| {
        site.deploy("1");
        site.host.ok("systemctl start web");
        for n in 1..=100 {
            let restarted = site.host.sh("systemctl restart web && systemctl is-active web web@1");
            assert_eq!(text(&restarted), "active\nactive", "restart {n}: {}\n{}", shown(&restarted), site.journal());
        }
        assert_eq!(site.ask(), "1");
        // Each has left a settle unit behind that looked; none of them acted.
        wait_until("settle to have ended", SOON, || {
            match site.host.ok("systemctl list-units --plain --no-legend 'slotd-settle@*'").as_str() {
                "" => Ok(()),
                left => Err(left.to_owned()),
            }
        });
        assert_eq!(site.state("web web@1"), "active\nactive", "{}", site.journal());
        // And a restart takes no candidate along to the other side.
        site.publish("2", "good");
        site.host.ok("systemctl start web@2 && systemctl restart web");
        assert_eq!(site.state("web web@1 web@2"), "active\nactive\ninactive", "{}", site.journal());
    });
}

#[test]
fn a_slot_that_is_gone_for_good_shows_and_the_next_connection_starts_it() {
    on_both("gone", Some(8080), |site| {
        site.deploy("1");
        site.host.ok("systemctl start web");
        for _ in 0..3 {
            site.host.ok("systemctl stop web@1");
            site.until("web.service", "inactive");
            assert_eq!(site.ask(), "1");
            assert_eq!(site.state("web web@1"), "active\nactive", "{}", site.journal());
        }
        // A crash is no end for good: the template's Restart= brings it back, and settle leaves the gate alone.
        let pid = site.host.ok("systemctl show -P MainPID web@1");
        site.host.ok(&format!("kill -9 {pid}"));
        wait_until("another process", SOON, || {
            match site.host.ok("systemctl show -P MainPID,ActiveState web@1").replace('\n', " ") {
                now if now.contains(" active") || now.starts_with("active ") && !now.contains(&pid) => Ok(()),
                now => Err(now),
            }
        });
        assert_eq!(site.state("web"), "active", "{}", site.journal());
    });
}

#[test]
fn a_broken_slot_with_a_waiting_client_starts_once_a_step() {
    on_both("broken", Some(8080), |site| {
        site.publish("1", "broken");
        site.make_current("1");
        let began = Instant::now();
        std::thread::scope(|scope| {
            let client = scope.spawn(|| site.ask());
            // Starts at 0, 1, 3 and 7 s, and what starting and stopping takes besides.
            wait_until("three starts", SOON, || match site.starts("web@1") {
                n if n >= 3 => Ok(()),
                n => Err(format!("{n} starts\n{}", site.journal())),
            });
            let elapsed = began.elapsed();
            let most = [0, 1, 3, 7].iter().filter(|second| elapsed >= Duration::from_secs(**second)).count();
            let starts = site.starts("web@1");
            assert!(starts <= most, "{starts} starts in {elapsed:?}\n{}", site.journal());
            assert_eq!(site.state("web.socket"), "active", "{}", site.journal());
            assert!(site.journal().contains("slot 1 didn't start"), "{}", site.journal());

            // Another current ends the pause, and the client that waited all the time is served.
            site.deploy("2");
            assert_eq!(client.join().expect("the client ends"), "2", "{}", site.journal());
        });
        assert_eq!(site.state("web web@2"), "active\nactive");
        assert_eq!(
            site.host.sh("test -e /run/slotd/gate/web").status.code(),
            Some(1),
            "a success forgets the failures"
        );
    });
}

#[test]
fn an_app_with_nothing_deployed_says_so_and_serves_its_first_client_once_there_is() {
    let site = Site::new("empty", Root::Own, Some(8080));
    assert!(!site.host.sh("systemctl start web").status.success());
    assert!(site.journal().contains("nothing is deployed yet"), "{}", site.journal());
    std::thread::scope(|scope| {
        let client = scope.spawn(|| site.ask());
        wait_until("a gate that pauses", SOON, || match site.state("web") {
            now if now == "activating" => Ok(()),
            now => Err(now),
        });
        site.deploy("1");
        assert_eq!(client.join().expect("the client ends"), "1", "{}", site.journal());
    });
    assert_eq!(site.state("web web@1"), "active\nactive");
}

#[test]
fn a_deployment_holds_gate_and_settle() {
    on_both("hold", Some(8080), |site| {
        site.deploy("1");
        site.host.ok("systemctl start web");
        site.hold(60_000);
        site.host.ok("systemctl stop web@1");
        // Settle has begun, and waits.
        site.until("slotd-settle@web:web@1", "activating");
        site.host.ok("systemctl stop web && systemctl start web");
        assert_eq!(site.state("web web@1"), "active\ninactive", "{}", site.journal());
        assert!(site.journal().contains("deployment web-7 holds the app"), "{}", site.journal());
        std::thread::scope(|scope| {
            let client = scope.spawn(|| site.ask());
            // The deployment's own slot serves the client that waits; the deployment ends well.
            site.publish("2", "good");
            site.host.ok("systemctl start web@2");
            assert_eq!(client.join().expect("the client ends"), "2", "{}", site.journal());
            site.make_current("2");
            site.host.ok("rm /run/slotd/hold/web");
        });
        wait_until("settle to have judged", SOON, || {
            match site.host.ok("systemctl list-units --plain --no-legend 'slotd-settle@*'").as_str() {
                "" => Ok(()),
                left => Err(left.to_owned()),
            }
        });
        assert_eq!(site.state("web web@2"), "active\nactive", "{}", site.journal());
    });
}

#[test]
fn a_deployment_that_is_left_in_the_middle_ends_with_its_hold() {
    for port in [Some(8080), None] {
        let site = Site::new("left", Root::Own, port);
        site.deploy("1");
        site.host.ok("systemctl start web");
        site.hold(2_000);
        site.host.ok("systemctl stop web@1");
        assert_eq!(site.state("web web@1"), "active\ninactive", "{}", site.journal());
        site.until("web@1.service", "active");
        site.until("web.service", "active");
        if port.is_some() {
            assert_eq!(site.ask(), "1");
        }

        // Nothing was started or stopped yet, so no unit's end calls settle: the gate itself does.
        site.host.ok("rm /run/slotd/hold/web; systemctl stop web");
        site.hold(2_000);
        site.host.ok("systemctl start web");
        assert_eq!(site.state("web web@1"), "active\ninactive", "{}", site.journal());
        site.until("web@1.service", "active");
        // What ran out belongs to the past: a stop by hand is one.
        site.host.ok("systemctl stop web@1");
        site.until("web.service", "inactive");
    }
}

#[test]
fn stop_stops_every_slot_and_the_socket_takes_all_along() {
    on_both("stop", Some(8080), |site| {
        site.deploy("1");
        site.publish("2", "good");
        site.host.ok("systemctl start web web@2 && systemctl stop web");
        assert_eq!(
            site.state("web web@1 web@2 web.socket"),
            "inactive\ninactive\ninactive\nactive",
            "{}",
            site.journal()
        );
        assert_eq!(site.ask(), "1");
        site.host.ok("systemctl start web@2 && systemctl stop web.socket");
        assert_eq!(
            site.state("web web@1 web@2 web.socket"),
            "inactive\ninactive\ninactive\ninactive",
            "{}",
            site.journal()
        );
        // Right after a stop the address is free.
        for n in 0..10 {
            let started = site.host.sh("systemctl start web && systemctl stop web.socket");
            assert!(started.status.success(), "{n}: {}\n{}", shown(&started), site.journal());
        }
    });
}

#[test]
fn without_a_bus_the_gate_starts_stops_and_settles() {
    on_both("nobus", Some(8080), |site| {
        site.deploy("1");
        site.host.ok("systemctl stop dbus.socket dbus.service");
        site.host.ok("systemctl start web && systemctl restart web");
        assert_eq!(site.state("web web@1"), "active\nactive", "{}", site.journal());
        site.host.ok("systemctl stop web@1");
        site.until("web.service", "inactive");
        assert_eq!(site.ask(), "1");
    });
}

#[test]
fn without_a_socket_a_slot_that_was_stopped_leaves_the_app_stopped() {
    let site = Site::new("none", Root::Own, None);
    site.deploy("1");
    site.host.ok("systemctl start web");
    assert_eq!(site.state("web web@1"), "active\nactive");
    site.host.ok("systemctl stop web@1");
    site.until("web.service", "inactive");
    site.host.reboot();
    site.until("web@1.service", "active");
}

#[test]
fn reload_reaches_the_live_slot_or_says_why_not() {
    let site = Site::new("reload", Root::Own, Some(8080));
    site.deploy("1");
    site.host.ok("systemctl start web");
    let refused = site.host.sh("systemctl reload web");
    assert!(!refused.status.success());
    assert!(site.journal().contains("reload is not applicable"), "{}", site.journal());
    assert_eq!(site.state("web web@1"), "active\nactive");
    let reload = "[Service]\nExecReload=/bin/kill -HUP $MAINPID\n";
    site.host.write("/etc/systemd/system/web@.service.d/reload.conf", reload);
    site.host.ok("systemctl daemon-reload && systemctl reload web");
    wait_until("the reload", SOON, || match site.journal() {
        lines if lines.contains("reloaded") => Ok(()),
        lines => Err(lines),
    });
}
