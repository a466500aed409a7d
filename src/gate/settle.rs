//! `settle`: after an instance's end, stops a gate that is active over nothing.
//!
//! systemd counts an active gate as the service of the socket, so it starts nothing for new connections: they hang,
//! and `is-active` says that all is well. Once the gate is stopped, the next connection starts it again.
//!
//! It must not be hasty: under `systemctl restart web` the slot is down for a moment, and a stop of the gate would
//! replace the restart. So it acts only where nobody wants anything of gate or slot, and only if it sees that twice.

use crate::model::{AppName, Layout, UnitName};

use super::hold::{self, Waited};
use super::systemctl::{Seen, Systemctl, SystemctlError};
use super::{LOOK_EVERY, current, say, wait_for};

/// Why it couldn't be settled.
#[derive(Debug, thiserror::Error)]
#[error("{app}: settle after the end of {ended}: {cause}; see: systemctl status {app}.service")]
pub struct SettleError {
    app: AppName,
    ended: UnitName,
    cause: SystemctlError,
}

/// Waits out a hold mark, looks twice, and stops the gate if it is stranded.
///
/// Where the hold ran out, slotd ended in mid-deployment and isn't back: then the gate is restarted instead, so that
/// an app without a socket serves again too.
pub fn settle(layout: &Layout, ended: &UnitName, systemctl: &Systemctl) -> Result<(), SettleError> {
    let app = layout.app();
    let failed = |cause| SettleError { app: app.clone(), ended: ended.clone(), cause };
    let waited = hold::wait_out(layout);
    if !stranded(layout, systemctl).map_err(failed)? {
        return Ok(());
    }
    wait_for(LOOK_EVERY, || None::<()>);
    // A deployment that has begun between the looks will itself see to the gate.
    if hold::valid(layout).is_some() || !stranded(layout, systemctl).map_err(failed)? {
        return Ok(());
    }
    let gate = app.gate_unit();
    if waited == Waited::RanOut {
        say(app, &format!("slotd left a deployment unfinished and nothing of the live slot runs: restarting {gate}"));
        return systemctl.queue_restart(&gate).map_err(failed);
    }
    say(app, &format!("{ended} has ended and nothing of the live slot runs: stopping {gate}"));
    systemctl.stop(&[gate]).map_err(failed)
}

/// Whether the gate is `active (exited)` without a job, and nothing of the live slot runs, starts, stops or has a
/// job.
fn stranded(layout: &Layout, systemctl: &Systemctl) -> Result<bool, SystemctlError> {
    let gate = systemctl.show(&[layout.app().gate_unit()])?.into_iter().next().unwrap_or_default();
    if gate.active != "active" || gate.sub != "exited" || gate.job {
        return Ok(false);
    }
    let units = match current::read(layout) {
        Ok(live) => live.map(|live| live.all_units()).unwrap_or_default(),
        Err(error) => {
            // Which slot is live can't be told, so any that would be stopped with the gate counts as it.
            say(layout.app(), &error.to_string());
            gate.stops_with_it.iter().map(UnitName::new).collect()
        }
    };
    Ok(!systemctl.show(&units)?.iter().any(Seen::is_busy))
}
