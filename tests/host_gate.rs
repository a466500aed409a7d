//! What the gate and settle do beside a deployment, and where systemd's bus is gone, on a real systemd. slotd isn't there;
//! its hold mark is written by hand.

mod running_support;
mod support;

use running_support::{ask, drop_in, mask_slotd, on_both, states, told, until, until_settled};
use support::host::Root;
use support::wait_until;
use support::world::{PATIENCE, World};

/// Sets the hold mark of a deployment under way, for so many milliseconds.
fn hold(world: &World, millis: u64) {
    let boottime = "python3 -c 'import time; print(time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000000)'";
    let now: u64 = world.host.ok(boottime).parse().expect("a number");
    let mark = format!(r#"{{"boot":"{}","until_ms":{},"deployment":"web-7"}}"#, world.host.boot_id(), now + millis);
    world.host.write("/run/slotd/hold/.web", mark);
    world.host.ok("mv /run/slotd/hold/.web /run/slotd/hold/web");
}

/// Lets `current` name a slot, by a rename.
fn make_current(world: &World, slot: &str) {
    world.host.ok(&format!("cd /var/lib/slotd/apps/web && ln -s slots/{slot} next && mv -T next current"));
}

#[test]
fn a_deployment_holds_gate_and_settle_and_what_is_left_of_it_ends_with_the_hold() {
    on_both("hold", |world| {
        world.live("web", 8080, "1.0.0");
        world.live("web", 8080, "2.0.0");
        mask_slotd(world);
        make_current(world, "1.0.0");
        world.host.ok("systemctl restart web");
        hold(world, 120_000);
        world.host.ok("systemctl stop web@1.0.0");
        // Settle has begun, and waits.
        until(world, "slotd-settle@web:web@1.0.0", "activating");
        world.host.ok("systemctl stop web && systemctl start web");
        assert_eq!(states(world, "web web@1.0.0"), "active inactive", "{}", told(world));
        assert!(told(world).contains("deployment web-7 holds the app"), "{}", told(world));
        std::thread::scope(|scope| {
            let client = scope.spawn(|| ask(world));
            // The deployment's own slot serves the client that waits; the deployment ends well.
            world.host.ok("systemctl start web@2.0.0");
            assert_eq!(client.join().expect("the client ends"), "2.0.0", "{}", told(world));
            make_current(world, "2.0.0");
            world.host.ok("rm /run/slotd/hold/web");
        });
        until_settled(world);
        assert_eq!(states(world, "web web@2.0.0"), "active active", "{}", told(world));

        // A deployment that is left before it has started or stopped anything: no unit's end calls settle, the gate
        // itself does.
        world.host.ok("systemctl stop web");
        hold(world, 2_000);
        world.host.ok("systemctl start web");
        assert_eq!(states(world, "web web@2.0.0"), "active inactive", "{}", told(world));
        until(world, "web web@2.0.0", "active active");
        // What ran out belongs to the past: a stop by hand is one.
        world.host.ok("systemctl stop web@2.0.0");
        until(world, "web", "inactive");
    });
}

#[test]
fn without_a_bus_the_gate_starts_stops_and_settles() {
    on_both("nobus", |world| {
        world.live("web", 8080, "1.0.0");
        mask_slotd(world);
        world.host.ok("systemctl stop dbus.socket dbus.service");
        world.host.ok("systemctl stop web && systemctl start web && systemctl restart web");
        assert_eq!(states(world, "web web@1.0.0"), "active active", "{}", told(world));
        world.host.ok("systemctl stop web@1.0.0");
        until(world, "web", "inactive");
        assert_eq!(ask(world), "1.0.0");
    });
}

#[test]
fn reload_reaches_the_live_slot_or_says_why_not() {
    let world = World::boot("reload", Root::Own);
    world.live("web", 8080, "1.0.0");
    let refused = world.host.sh("systemctl reload web");
    assert!(!refused.status.success());
    let why = "reload: `systemctl reload web@1.0.0.service` failed";
    assert!(told(&world).contains(why), "{}", told(&world));
    assert_eq!(states(&world, "web web@1.0.0"), "active active");
    drop_in(&world, "web@.service", "[Service]\nExecReload=/bin/sh -c 'echo told to reload $MAINPID'\n");
    let pid = world.host.ok("systemctl show -P MainPID web@1.0.0");
    world.host.ok("systemctl reload web");
    wait_until("the reload", PATIENCE, || match told(&world) {
        lines if lines.contains(&format!("told to reload {pid}")) => Ok(()),
        lines => Err(lines),
    });
}
