//! Routes on which each instance has a port of its own. slotd says whom it wants users to be sent to, in
//! `/run/slotd/route/APP`, and has the root helper `slotd-route@APP.service` apply it; open connections are counted at the
//! instances' own ports.
//!
//! The file is written first: should anything else make the helper run again (a firewall that is reloaded), it goes by
//! what is wanted.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::app::{Ports, Route};
use crate::durable;
use crate::model::evidence::Evidence;
use crate::model::route::{
    EPHEMERAL_PORTS, MAX_BACKENDS, PortRange, ROUTE_FORMAT, RouteBackend, RouteCall, RouteFile, RouteKind, port_of_env,
};
use crate::model::{Code, Fault, Layout, Template, UnitName};
use crate::units::{JobResult, Load, UnitControl, UnitError, UnitStatus};

use super::haproxy::HaproxyView;
use super::{Backend, Drained, Observed, RouteSet, Running, connects, not_asked, sock_diag};

/// How long the helper may take: some tens of milliseconds as a rule. Its own limit is shorter.
const HELPER_LIMIT: Duration = Duration::from_secs(45);

/// Between two counts of what is still open.
const COUNT_EVERY: Duration = Duration::from_millis(50);

/// How often connections are counted anew at once, where some came or went meanwhile.
const RECOUNTS: usize = 5;

/// When a client sends its first packet again that got no answer (RFC 6298, 2.1), and a little more. It was sent to the
/// instance before the switch, so the kernel sends its second try there as well, and nothing counts it meanwhile.
const SECOND_TRY: Duration = Duration::from_millis(1200);

/// Of the helper's journal: it says what is wrong in one or two lines.
const JOURNAL_LINES: usize = 10;

/// Longest environment file of an instance that is read.
const MAX_ENV_BYTES: u64 = 4 << 20;

/// A route over own ports.
#[derive(Debug, Clone)]
pub struct OwnPorts<U> {
    layout: Layout,
    /// The unit whose instances get users.
    template: Template,
    ports: Ports,
    /// The ports that users call, where the kernel redirects them; it then sends a client's packets to where it sent the
    /// first one.
    public: Vec<u16>,
    /// HAProxy's own word on connections that it keeps without a user.
    haproxy: Option<HaproxyView>,
    /// `HOST:PORT` that users call, where it is known.
    outside: Option<String>,
    running: Running<U>,
}

impl<U: UnitControl> OwnPorts<U> {
    pub(super) fn new(
        layout: Layout,
        template: Template,
        ports: Ports,
        route: &Route,
        outside: Option<String>,
        running: Running<U>,
    ) -> Self {
        let haproxy = match route {
            Route::Haproxy { backend, socket, .. } => {
                Some(HaproxyView { backend: backend.clone(), socket: socket.clone() })
            }
            _ => None,
        };
        let public = match route {
            Route::Nftables { port, .. } => vec![*port],
            _ => Vec::new(),
        };
        OwnPorts { layout, template, ports, public, haproxy, outside, running }
    }

    /// The same, while users still come by the port of `other` too.
    pub(super) fn beside(mut self, other: &OwnPorts<U>) -> Self {
        let others = other.public.iter().filter(|port| !self.public.contains(port));
        self.public = others.chain(&self.public).copied().collect();
        self
    }

    /// The helper is there, and the ports are nobody else's.
    pub(super) async fn prepare(&self) -> Result<(), Fault> {
        let (unit, status) = (self.helper(), self.status().await?);
        match &status.load {
            Load::Loaded => {}
            Load::NotFound => return Err(Fault::new(Code::UnitMissing, format!("{unit} doesn't exist"))),
            Load::Masked => return Err(Fault::new(Code::UnitMasked, format!("{unit} is masked"))),
            Load::Error(why) => return Err(Fault::new(Code::ConfigUnit, format!("{unit} can't be loaded: {why}"))),
        }
        // Where it can't be read nothing is known against the range.
        let ephemeral = std::fs::read_to_string(EPHEMERAL_PORTS).ok().and_then(|text| PortRange::of_kernel(&text));
        if let Some(why) = ephemeral.and_then(|ephemeral| self.ports.range.refused(ephemeral)) {
            return Err(Fault::new(Code::RouteUnsupported, why));
        }
        if let Some(why) = self.led_elsewhere(&status) {
            return Err(Fault::new(Code::RouteUnsupported, why));
        }
        if let Some(haproxy) = &self.haproxy {
            haproxy.idle().await.map_err(|error| haproxy.not_asked(&error))?;
        }
        let wanted = self.wanted().await?.unwrap_or_default();
        match wanted.iter().find(|backend| !self.ports.range.contains(backend.port)) {
            Some(RouteBackend { instance, port, .. }) => {
                let message = format!(
                    "instance {instance} has users at port {port}, outside of ports = \"{}\": there would be no way back to \
                     it; let the range, of settings and helper, hold it too until it is gone",
                    self.ports.range
                );
                Err(Fault::new(Code::RouteUnsupported, message))
            }
            None => Ok(()),
        }
    }

    /// Users go to those of `to` that are the routed unit's; all of it has to run.
    pub(super) async fn switch(&self, to: &BTreeSet<Backend>, standby: &BTreeSet<Backend>) -> Result<(), Fault> {
        self.running.confirm(to).await?;
        let backends = self.routed(to).map(|backend| self.resolve(backend)).collect::<Result<Vec<_>, _>>()?;
        if backends.len() > MAX_BACKENDS {
            let message = format!("{} instances, and users can be sent to {MAX_BACKENDS} at most", backends.len());
            return Err(Fault::new(Code::RouteUnsupported, message));
        }
        // One without a port can't be gone back to without a start either.
        let standby = self.routed(standby).filter_map(|backend| self.resolve(backend).ok()).collect();
        let (path, file) =
            (self.layout.route(), RouteFile { format: ROUTE_FORMAT, backends, standby, public: self.public.clone() });
        blocking(move || durable::write_json(&path, &file).map_err(|error| error.fault())).await?;
        self.apply().await
    }

    /// Waits until nobody is connected to `leaving` any more, nor about to be.
    pub(super) async fn drain(&self, leaving: &BTreeSet<Backend>, at_most: Duration) -> Result<Drained, Fault> {
        // One without a port never had users.
        let ports: Vec<u16> = self.routed(leaving).filter_map(|backend| self.port(backend)).collect();
        let began = Instant::now();
        let (end, least) =
            (began + at_most, if ports.is_empty() || self.public.is_empty() { began } else { began + SECOND_TRY });
        let mut most = 0;
        loop {
            let open = self.users(&ports).await?;
            most = most.max(open);
            let now = Instant::now();
            if now >= end || (open == 0 && now >= least) {
                return Ok(Drained { ended: most - open, open });
            }
            tokio::time::sleep(COUNT_EVERY).await;
        }
    }

    /// How many connections to these ports have a user.
    async fn users(&self, ports: &[u16]) -> Result<u64, Fault> {
        let mut open = count(ports).await?;
        let mut users = open;
        for _ in 0..RECOUNTS {
            let (Some(haproxy), 1..) = (&self.haproxy, open) else { return Ok(open) };
            // Asked after the count: one that comes back to rest in between has no user any more, and one that goes to
            // work is counted. While HAProxy doesn't answer, all count.
            let idle = haproxy.idle().await.unwrap_or_default();
            users = open.saturating_sub(ports.iter().filter_map(|port| idle.get(port)).sum());
            // One that HAProxy closed between the two was counted, and is none that rests: it would pass for a user's.
            let now = count(ports).await?;
            if now == open {
                break;
            }
            open = now;
        }
        Ok(users)
    }

    /// The address that users call accepts.
    pub(super) async fn verify(&self, at_most: Duration) -> Result<(), Fault> {
        connects(self.outside.as_deref(), at_most).await
    }

    pub(super) async fn observe(&self) -> Result<Observed, Fault> {
        let set = match self.wanted().await? {
            Some(backends) => RouteSet::These(backends.into_iter().map(|backend| self.backend(backend)).collect()),
            None => RouteSet::Current,
        };
        let status = self.status().await?;
        let good = status.is_up() && !status.reload_failed;
        let elsewhere = self.led_elsewhere(&status).map(|why| Fault::new(Code::RouteUnsupported, why));
        Ok(Observed { set, trouble: if good { elsewhere } else { Some(self.trouble(&status).await) } })
    }

    /// Why the helper, as its unit is loaded, can't lead users as the settings in force have it; `None` where it can, or its
    /// unit can't be read by whoever isn't root.
    fn led_elsewhere(&self, status: &UnitStatus) -> Option<String> {
        let words: Vec<String> = status.command.as_ref()?.split(' ').map(str::to_owned).collect();
        let at = words.iter().position(|word| word == "route")?;
        let call = RouteCall::parse(words.get(at + 1..)?).ok()?;
        let unit = self.helper();
        match (&call.kind, &self.haproxy) {
            (RouteKind::Nftables { public: allowed }, None) if !self.public.is_empty() => {
                let port = self.public.iter().find(|port| !allowed.contains(port))?;
                let list =
                    |ports: &mut dyn Iterator<Item = &u16>| ports.map(u16::to_string).collect::<Vec<_>>().join(",");
                let more = allowed.iter().filter(|port| !self.public.contains(port));
                Some(format!(
                    "users come by port {port}, and {unit} leads --port {} alone: let it have --port {} until they have moved",
                    list(&mut allowed.iter()),
                    list(&mut self.public.iter().chain(more))
                ))
            }
            (RouteKind::Haproxy { backend, .. }, Some(view)) if *backend != view.backend => {
                Some(format!("users come by HAProxy's backend {}, and {unit} leads that of {backend}", view.backend))
            }
            (RouteKind::Haproxy { .. }, Some(_)) => None,
            (RouteKind::Nginx { .. }, None) if self.public.is_empty() => None,
            _ => Some(format!("{unit} isn't of the route by which users come")),
        }
    }

    /// Has the helper bring the kernel, or the proxy, to the file.
    async fn apply(&self) -> Result<(), Fault> {
        match self.running.units.reload(&self.helper(), HELPER_LIMIT).await {
            Ok(JobResult::Done) => match self.status().await? {
                status if status.is_up() => Ok(()),
                status => Err(self.trouble(&status).await),
            },
            Ok(_) => Err(self.trouble(&self.status().await?).await),
            Err(error @ UnitError::Timeout { .. }) => Err(Fault::new(Code::RouteHelper, error.to_string())),
            Err(error) => Err(not_asked(&error)),
        }
    }

    fn helper(&self) -> UnitName {
        self.layout.app().route_unit()
    }

    async fn status(&self) -> Result<UnitStatus, Fault> {
        self.running.units.status(&self.helper()).await.map_err(|error| not_asked(&error))
    }

    /// The helper's own words beside it.
    async fn trouble(&self, status: &UnitStatus) -> Fault {
        let unit = self.helper();
        let seen = status.seen(&unit);
        let journal = match &status.invocation {
            Some(run) => self.running.units.journal(run, JOURNAL_LINES).await,
            None => Vec::new(),
        };
        let state = match status.is_up() {
            true => "its last run failed".to_owned(),
            false => format!("it is {}", seen.state),
        };
        let why = journal.iter().rev().find(|line| line.text.starts_with("slotd-gate: "));
        let why = why.map(|line| format!(": {}", line.text.trim_start_matches("slotd-gate: "))).unwrap_or_default();
        let message =
            format!("{unit} should send users to the live slot, and {state}{why}; see: systemctl status {unit}");
        Fault::new(Code::RouteHelper, message).with(Evidence { unit: Some(seen), journal, ..Evidence::default() })
    }

    /// What the file says now.
    async fn wanted(&self) -> Result<Option<Vec<RouteBackend>>, Fault> {
        let path = self.layout.route();
        blocking(move || match durable::read_json::<RouteFile>(&path) {
            Ok(file) => Ok(file.map(|file| file.backends)),
            // It is written anew at the next switch.
            Err(error) if error.is_damage() => Ok(None),
            Err(error) => Err(error.fault()),
        })
        .await
    }

    /// Units of one slot share its instances by number, ports included: only the routed unit listens there.
    fn routed<'a>(&self, set: &'a BTreeSet<Backend>) -> impl Iterator<Item = &'a Backend> {
        set.iter().filter(|backend| backend.unit == self.template.unit(&backend.instance))
    }

    fn backend(&self, backend: RouteBackend) -> Backend {
        let RouteBackend { instance, port, weight } = backend;
        Backend { unit: self.template.unit(&instance), instance, port: Some(port), weight }
    }

    fn resolve(&self, backend: &Backend) -> Result<RouteBackend, Fault> {
        let instance = backend.instance.clone();
        match self.port(backend) {
            Some(port) => Ok(RouteBackend { instance, port, weight: backend.weight }),
            None => Err(Fault::new(Code::RouteUnsupported, format!("instance {instance} has no port of its own"))),
        }
    }

    /// As the caller says, else as the instance's environment does.
    fn port(&self, backend: &Backend) -> Option<u16> {
        backend.port.or_else(|| {
            let path = self.layout.instance(&backend.instance).join("env");
            let bytes = durable::read_bytes(&path, MAX_ENV_BYTES).ok()??;
            port_of_env(&String::from_utf8_lossy(&bytes))
        })
    }
}

/// How many connections to these ports are open.
async fn count(ports: &[u16]) -> Result<u64, Fault> {
    let ports = ports.to_vec();
    blocking(move || sock_diag::open_connections(&ports).map_err(|error| not_counted(&error))).await
}

fn not_counted(error: &io::Error) -> Fault {
    Fault::new(Code::RouteHelper, format!("open connections can't be counted (sock_diag): {error}"))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => Err(Fault::new(Code::Internal, format!("work on the route was torn: {panic}"))),
    }
}
