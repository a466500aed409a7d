//! How traffic reaches instances: six verbs, whatever the kind.
//!
//! For `none` and `socket` with `accept = "ready"` nothing stands between users and instances: who runs, serves. The
//! route's set is the set of running instances, so switch and revert confirm it and never change it. With
//! `accept = "signal"` the instances themselves stand there, and are told (`signal`). On the other kinds each instance has a
//! port of its own, and the set is what slotd last wrote (`ports`).

mod haproxy;
mod ports;
mod signal;
#[cfg(test)]
mod signal_tests;
mod sock_diag;
mod socket;

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::config::AppSettings;
use crate::config::app::{self, Accept};
use crate::model::evidence::Evidence;
use crate::model::{Code, Fault, InstanceName, Layout, UnitName};
use crate::units::UnitControl;

use ports::OwnPorts;
use signal::BySignal;
pub use signal::SIGNAL_LIMIT;
use socket::Socket;

/// What a route sends users to: one instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backend {
    /// Which.
    pub instance: InstanceName,
    /// The unit that runs it.
    pub unit: UnitName,
    /// Its own port, where the route gives it one.
    pub port: Option<u16>,
    /// Its share beside the others, 1 to [`crate::model::route::MAX_WEIGHT`]; the same for all but canaries.
    pub weight: u32,
}

/// What became of the open connections of instances that were taken out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drained {
    /// How many ended by themselves.
    pub ended: u64,
    /// How many were still open at the deadline, and are left to the end of the app.
    pub open: u64,
}

/// How a route stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Whom it sends users to.
    pub set: RouteSet,
    /// What is wrong with it, though users may not have noticed yet.
    pub trouble: Option<Fault>,
}

/// Whom a route sends users to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteSet {
    /// Whoever runs; the units tell.
    Running,
    /// The instances of the live slot: nothing was said since the boot, or since the gate started it.
    Current,
    /// These.
    These(BTreeSet<Backend>),
}

/// The six verbs. Each ends within the limits of [`UnitControl`] or within its own argument.
pub trait Route: Clone + Send + Sync + 'static {
    /// Makes sure, before the first effect of a deployment, that the route can do its part.
    fn prepare(&self) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Sends users to exactly `to`, and confirms it. If it fails with [`Code::RouteNotQuiet`] all of `to` have users, and
    /// somebody else has, too. A user whom none of `to` takes goes to `standby` or waits, where the route can do that: the
    /// old slot during the soak, most often nobody.
    fn switch(
        &self,
        to: &BTreeSet<Backend>,
        standby: &BTreeSet<Backend>,
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Waits, for at most `at_most`, until `leaving` have no users any more.
    fn drain(
        &self,
        leaving: &BTreeSet<Backend>,
        at_most: Duration,
    ) -> impl Future<Output = Result<Drained, Fault>> + Send;

    /// Asks at the address that users call, for at most `at_most`.
    fn verify(&self, at_most: Duration) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Sends users back to exactly `to`, and confirms it.
    fn revert(&self, to: &BTreeSet<Backend>) -> impl Future<Output = Result<(), Fault>> + Send;

    /// How it stands.
    fn observe(&self) -> impl Future<Output = Result<Observed, Fault>> + Send;
}

/// The route of an app, of whatever kind.
#[derive(Debug, Clone)]
pub enum AnyRoute<U> {
    /// Not slotd's business.
    None(Running<U>),
    /// A shared socket unit.
    Socket(Socket<U>),
    /// Each instance has a port of its own.
    Ports(Box<OwnPorts<U>>),
}

/// The part that `none` and `socket` have in common: who runs, serves.
#[derive(Debug, Clone)]
pub struct Running<U> {
    units: U,
}

impl<U: UnitControl> AnyRoute<U> {
    /// The route of an app, as its settings name it.
    pub fn new(settings: &AppSettings, layout: &Layout, units: U) -> Self {
        let running = Running { units };
        let outside = settings.outside.as_ref().and_then(app::Outside::address).map(str::to_owned);
        match (&settings.route, settings.route.ports(), settings.routed()) {
            (_, Some(ports), Some(unit)) => AnyRoute::Ports(Box::new(OwnPorts::new(
                layout.clone(),
                unit.name.clone(),
                *ports,
                &settings.route,
                outside,
                running,
            ))),
            (app::Route::Socket { accept }, _, unit) => {
                let by_signal = unit
                    .filter(|_| *accept == Accept::Signal)
                    .map(|unit| BySignal::new(running.units.clone(), unit.name.clone()));
                AnyRoute::Socket(Socket::new(settings.name.socket_unit(), outside, running, by_signal))
            }
            _ => AnyRoute::None(running),
        }
    }
}

impl<U: UnitControl> AnyRoute<U> {
    /// The same, while users still come the other way too.
    #[must_use]
    pub fn beside(self, other: &AnyRoute<U>) -> Self {
        match (self, other) {
            (AnyRoute::Ports(to), AnyRoute::Ports(from)) => AnyRoute::Ports(Box::new(to.beside(from))),
            (to, _) => to,
        }
    }

    /// Whether it sends users to a set of its own, and not just to whoever runs.
    pub fn has_sets(&self) -> bool {
        match self {
            AnyRoute::None(_) => false,
            AnyRoute::Socket(socket) => socket.is_told_by_signals(),
            AnyRoute::Ports(_) => true,
        }
    }
}

impl<U: UnitControl> AnyRoute<U> {
    /// Sees, before the switch, that these candidates have no users yet, where an instance decides that itself. They are
    /// of a slot that `current` doesn't name: the live one takes users by itself.
    pub async fn confirm_candidate(&self, candidates: &BTreeSet<Backend>) -> Result<(), Fault> {
        match self {
            AnyRoute::None(_) | AnyRoute::Ports(_) => Ok(()),
            AnyRoute::Socket(socket) => socket.confirm_candidate(candidates).await,
        }
    }
}

impl Backend {
    /// An instance that gets the same share as the others, on whatever they share.
    pub fn new(unit: UnitName, instance: InstanceName) -> Self {
        Backend { instance, unit, port: None, weight: 1 }
    }
}

impl<U: UnitControl> Running<U> {
    /// Confirms that all of `set` are up.
    async fn confirm(&self, set: &BTreeSet<Backend>) -> Result<(), Fault> {
        for Backend { unit, .. } in set {
            let status = self.units.status(unit).await.map_err(|error| not_asked(&error))?;
            if !status.is_up() {
                let seen = status.seen(unit);
                let message = format!("{unit} should serve and is {}", seen.state);
                return Err(
                    Fault::new(Code::UnitExited, message).with(Evidence { unit: Some(seen), ..Evidence::default() })
                );
            }
        }
        Ok(())
    }
}

impl<U: UnitControl> Route for AnyRoute<U> {
    async fn prepare(&self) -> Result<(), Fault> {
        match self {
            AnyRoute::None(_) => Ok(()),
            AnyRoute::Socket(socket) => socket.prepare().await,
            AnyRoute::Ports(ports) => ports.prepare().await,
        }
    }

    async fn switch(&self, to: &BTreeSet<Backend>, standby: &BTreeSet<Backend>) -> Result<(), Fault> {
        match self {
            AnyRoute::None(running) => running.confirm(to).await,
            AnyRoute::Socket(socket) => socket.switch(to).await,
            AnyRoute::Ports(ports) => ports.switch(to, standby).await,
        }
    }

    /// Nothing counts connections on a shared socket, nor without a route: the app drains on its SIGTERM.
    async fn drain(&self, leaving: &BTreeSet<Backend>, at_most: Duration) -> Result<Drained, Fault> {
        match self {
            AnyRoute::None(_) | AnyRoute::Socket(_) => Ok(Drained::default()),
            AnyRoute::Ports(ports) => ports.drain(leaving, at_most).await,
        }
    }

    async fn verify(&self, at_most: Duration) -> Result<(), Fault> {
        match self {
            AnyRoute::None(_) => Ok(()),
            AnyRoute::Socket(socket) => socket.verify(at_most).await,
            AnyRoute::Ports(ports) => ports.verify(at_most).await,
        }
    }

    async fn revert(&self, to: &BTreeSet<Backend>) -> Result<(), Fault> {
        self.switch(to, &BTreeSet::new()).await
    }

    async fn observe(&self) -> Result<Observed, Fault> {
        match self {
            AnyRoute::None(_) => Ok(Observed { set: RouteSet::Running, trouble: None }),
            AnyRoute::Socket(socket) => socket.observe().await,
            AnyRoute::Ports(ports) => ports.observe().await,
        }
    }
}

/// A connection to the address that users call is accepted, if it is known.
async fn connects(address: Option<&str>, at_most: Duration) -> Result<(), Fault> {
    let Some(address) = address else { return Ok(()) };
    let why = match tokio::time::timeout(at_most, TcpStream::connect(address)).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("not accepted within {}", humantime::format_duration(at_most)),
    };
    Err(Fault::new(Code::RouteOutside, format!("connect to {address}, where users call: {why}")))
}

fn not_asked(error: &crate::units::UnitError) -> Fault {
    Fault::new(Code::UnitControl, error.to_string())
}
