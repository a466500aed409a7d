//! `route`: sends users to a set of instances, and to nobody else. Called by `slotd-route@APP.service`, as root.
//!
//! The set is slotd's file or, where there is none, the live slot (see [`set`]). Which kind of route, which ports and
//! which unit, the administrator's unit says. What is applied is read back. A call that fails has changed nothing.

pub mod file;
pub mod haproxy;
pub mod nftables;
pub mod nginx;
pub mod set;
pub mod timeouts;

use crate::model::route::{RouteBackend, RouteCall, RouteKind};
use crate::model::{AppName, Layout};

use super::systemctl::Systemctl;
use super::{current, hold, say};
use haproxy::{Haproxy, HaproxyError};
use nftables::{NftError, Table};
use nginx::{Nginx, NginxError};
use set::{SetError, Source};
use timeouts::Timeouts;

/// Why users aren't sent where they should be.
#[derive(Debug, thiserror::Error)]
#[error("{app}: the route stays as it was: {cause}")]
pub struct RouteError {
    app: AppName,
    cause: Cause,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Set(#[from] SetError),
    #[error(transparent)]
    Nftables(#[from] NftError),
    #[error(transparent)]
    Haproxy(#[from] HaproxyError),
    #[error(transparent)]
    Nginx(#[from] NginxError),
}

impl Cause {
    /// Whether the proxy's own configuration lacks the lines for the app.
    fn is_set_up_missing(&self) -> bool {
        matches!(self, Cause::Haproxy(HaproxyError::Servers { .. }) | Cause::Nginx(NginxError::NotIncluded(_)))
    }
}

/// Brings the route to the set.
pub fn route(layout: &Layout, call: &RouteCall, systemctl: &Systemctl) -> Result<(), RouteError> {
    let app = layout.app();
    let apply = || -> Result<(), Cause> {
        let set = set::read(layout, call)?;
        let backends = &set.backends;
        match &call.kind {
            RouteKind::Nftables { .. } => {
                let (public, ports, standby) = (&set.public, call.ports, !set.standby.is_empty());
                let timeouts = &Timeouts::of_host();
                Table { app, public, ports, backends, standby, timeouts }.apply()?;
            }
            RouteKind::Haproxy { backend, socket, servers } => {
                let states = layout.server_states();
                Haproxy { backend, socket, servers: *servers, states, backends }.apply(systemctl)?;
            }
            RouteKind::Nginx { include } => {
                Nginx { include, told: layout.told_to_nginx(), backends, standby: &set.standby }.apply()?;
            }
        }
        let standby = match set.standby.as_slice() {
            [] => String::new(),
            standby => format!("; {} stand by", shown(standby)),
        };
        // Where there is only one to come by, its unit says it.
        let by = match &call.kind {
            RouteKind::Nftables { public } if public.len() > 1 => {
                let by: Vec<String> = set.public.iter().map(|port| format!("port {port}")).collect();
                format!(", by {}", by.join(" and "))
            }
            _ => String::new(),
        };
        say(app, &format!("users are sent to {}{standby} ({}){by}", shown(backends), said_by(&set.source)));
        Ok(())
    };
    match apply() {
        Err(cause) if cause.is_set_up_missing() && nobody(layout, call) => {
            // `slotctl new` starts the helper before the administrator can have added the proxy's lines.
            say(app, &format!("nobody is to get users yet, and then: {cause}"));
            Ok(())
        }
        other => other.map_err(|cause| RouteError { app: app.clone(), cause }),
    }
}

/// Whether the set is empty.
fn nobody(layout: &Layout, call: &RouteCall) -> bool {
    set::read(layout, call).is_ok_and(|set| set.backends.is_empty())
}

fn said_by(source: &Source) -> String {
    match source {
        Source::Slotd => "as slotd wants it".to_owned(),
        Source::Current(slot) => format!("the live slot {slot}"),
        Source::Nothing => "nothing is deployed".to_owned(),
    }
}

/// After the gate has brought up the live slot by itself: what slotd wanted before is past, and the helper, where the app
/// has one, goes by the live slot.
pub fn follow_current(layout: &Layout, systemctl: &Systemctl) {
    // A deployment that has begun meanwhile says itself where users go.
    if hold::valid(layout).is_some() {
        return;
    }
    let (app, path) = (layout.app(), layout.route());
    if current::exists(&path)
        && let Err(error) = std::fs::remove_file(&path)
    {
        say(app, &format!("{} stays, and the route may not be the live slot's: {error}", path.display()));
    }
    let unit = app.route_unit();
    match systemctl.show(std::slice::from_ref(&unit)) {
        Ok(seen) if seen.iter().any(|seen| seen.load == "loaded") => {
            if let Err(error) = systemctl.queue_reload(&unit) {
                say(app, &format!("the route may not be the live slot's: {error}"));
            }
        }
        Ok(_) => {}
        Err(error) => say(app, &format!("whether the app has a route of its own isn't known: {error}")),
    }
}

fn shown(backends: &[RouteBackend]) -> String {
    let one = |it: &RouteBackend| match it.weight {
        1 => format!("{} on port {}", it.instance, it.port),
        weight => format!("{} on port {} with weight {weight}", it.instance, it.port),
    };
    match backends {
        [] => "nobody".to_owned(),
        all => all.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}
