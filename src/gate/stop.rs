//! `stop`: stops every instance of the app's templates, whatever slot it runs, and waits.
//!
//! By name, and not by systemd's propagation alone: on systemd 252 `restart` leaves a candidate alone, on 257 it
//! stops it.

use crate::model::{AppName, Template, UnitName};

use super::say;
use super::systemctl::{Systemctl, SystemctlError};

/// Why something still runs.
#[derive(Debug, thiserror::Error)]
#[error("{app}: stop: {cause}; see: systemctl list-units {pattern}")]
pub struct StopError {
    app: AppName,
    pattern: String,
    cause: SystemctlError,
}

/// Stops them all at once, so that it takes no longer than the slowest.
pub fn stop(app: &AppName, templates: &[Template], systemctl: &Systemctl) -> Result<(), StopError> {
    let pattern = || templates.iter().map(|template| format!("'{template}*'")).collect::<Vec<_>>().join(" ");
    let failed = |cause| StopError { app: app.clone(), pattern: pattern(), cause };
    let mut units: Vec<UnitName> = Vec::new();
    for template in templates {
        units.extend(systemctl.instances(template).map_err(failed)?);
    }
    if !units.is_empty() {
        let names: Vec<&str> = units.iter().map(UnitName::as_str).collect();
        say(app, &format!("stopping {}", names.join(" ")));
    }
    systemctl.stop(&units).map_err(failed)
}
