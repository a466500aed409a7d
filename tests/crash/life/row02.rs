//! Strays: what runs beside the live slot is stopped though slotd dies as it does so.

use slotd::config::Profile;

use crate::crash::Rig;
use crate::support::wait_until;
use crate::support::world::PATIENCE;

#[test]
fn row02_kill() {
    let rig = Rig::boot("row02-kill", Profile::User);
    let world = &rig.world;
    for point in ["before:stop-stray", "after:stop-stray"] {
        // As a killed deployment leaves it whose record was lost.
        world.host.ok("systemctl stop slotd.socket slotd.service && systemctl start web@1.0.0.service");
        rig.arm(point, 1);
        world.host.ok("systemctl start slotd.socket slotd.service");
        rig.expect_dead(point);
        wait_until("the stray to be stopped", PATIENCE, || {
            let units =
                world.host.ok("systemctl list-units --plain --no-legend --full 'web@*.service' | awk '{print $1}'");
            if units == "web@3.0.0.service" { Ok(()) } else { Err(format!("{units}; {}", world.journal())) }
        });
        world.expect_serving(8080, "3.0.0");
    }
}
