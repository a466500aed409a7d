//! Telling somebody: once each, wherever slotd dies.

use slotd::config::Profile;

use crate::crash::Rig;
use crate::support::host::text;
use crate::support::wait_until;
use crate::support::world::PATIENCE;

const UNIT: &str = "[Service]\nType=oneshot\nRemainAfterExit=yes\nTimeoutStartSec=1min\n\
                    ExecStart=/bin/sh -c 'echo %i >>/root/told'\n";

#[test]
fn row15_kill() {
    let rig = Rig::boot("row15-kill", Profile::User);
    let world = &rig.world;
    world.host.write("/etc/systemd/system/slotd-notify@.service", UNIT);
    world.settings("web", "on_result = [\"done\", \"rolled-back\"]\n");
    // Its leave, which the app's settings ask for now.
    world.slotctl("new web --exec /srv/web/bin/web --port 8080 --health /health --write --force");
    let mut expected = Vec::new();
    for (round, point) in [
        "before:close",
        "after:close",
        "before:record",
        "before:note",
        "after:note",
        "before:tell",
        "after:tell",
        "before:told",
        "after:told",
    ]
    .into_iter()
    .enumerate()
    {
        let to = if round % 2 == 0 { "2.0.0" } else { "3.0.0" };
        rig.arm(point, 1);
        // Whoever waits for it is cut off at some of the points.
        world.host.sh(&format!("timeout 60 slotctl activate web {to}"));
        rig.expect_dead(point);
        world.expect_serving(8080, to);
        let status = world.expect_idle("web");
        expected.push(status["last"]["id"].as_str().expect("an id").to_owned());
        wait_until(&format!("{point}: each told once, and no unit left"), PATIENCE, || {
            let told = text(&world.host.sh("cat /root/told"));
            let units = text(&world.host.sh("systemctl list-units --plain --no-legend 'slotd-notify@*'"));
            match told.lines().eq(expected.iter().map(String::as_str)) && units.is_empty() {
                true => Ok(()),
                false => Err(format!("{told:?}, not {expected:?}; {units}; {}", world.journal())),
            }
        });
    }
}
