//! What the root helper of a route, `slotd-gate route`, is told: by its command line, which the administrator's unit
//! holds, and by `/run/slotd/route/APP`, the set of backends that slotd wants.
//!
//! The file is gone after a boot; then the set follows from `current` and the `PORT` of its instances. Whatever the file
//! says, the command line bounds it.
//!
//! And what an instance on a shared socket with `accept = "signal"` is told about itself, since that too must hold after a
//! boot without slotd: `SLOTD_ACCEPT`.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::names::{AppName, InstanceName, NameError, Template, UnitName};

/// The format of the file that this version writes; another one is not read.
pub const ROUTE_FORMAT: u32 = 1;

/// Most backends of one app.
pub const MAX_BACKENDS: usize = 512;

/// The largest weight of a backend; the same as HAProxy's.
pub const MAX_WEIGHT: u32 = 256;

/// From which ports the kernel takes those of connections that this host makes (ip-sysctl).
pub const EPHEMERAL_PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// What stands in `/run/slotd/route/APP`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteFile {
    /// [`ROUTE_FORMAT`].
    pub format: u32,
    /// Whom users are sent to; nobody is a set too.
    pub backends: Vec<RouteBackend>,
    /// Who still runs without users, and would serve one whom none of `backends` takes: slotd is watching those, and goes
    /// back to these if one of them ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standby: Vec<RouteBackend>,
    /// The ports that users call, where the kernel redirects them: of several that the command line allows, these. None are
    /// named: those of the command line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub public: Vec<u16>,
}

/// The part of `slots/SLOT/route.json` that the helper reads.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SlotRoute {
    /// `[route]`.
    pub route: SlotRoutePort,
}

/// Of that the port that users call, where the route has one of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SlotRoutePort {
    /// It.
    #[serde(default)]
    pub port: Option<u16>,
}

/// One instance that gets users.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RouteBackend {
    /// Which.
    pub instance: InstanceName,
    /// Its own port.
    pub port: u16,
    /// Its share beside the others, 1 to [`MAX_WEIGHT`].
    pub weight: u32,
}

/// The variable by which an instance knows whether to take connections when it starts.
pub const ACCEPT_VARIABLE: &str = "SLOTD_ACCEPT";

/// From when on an instance takes connections: the value of [`ACCEPT_VARIABLE`].
///
/// The instances of the slot that `current` names say [`AcceptAt::Now`] at every instant: it is written before the link
/// moves to them, and the other one only after it has left them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptAt {
    /// From its start on.
    Now,
    /// On SIGUSR1.
    Signal,
}

impl AcceptAt {
    /// The variable's value.
    pub fn as_str(self) -> &'static str {
        match self {
            AcceptAt::Now => "now",
            AcceptAt::Signal => "signal",
        }
    }

    /// The other one.
    pub fn other(self) -> AcceptAt {
        match self {
            AcceptAt::Now => AcceptAt::Signal,
            AcceptAt::Signal => AcceptAt::Now,
        }
    }

    /// The variable with its value.
    pub fn variable(self) -> (String, String) {
        (ACCEPT_VARIABLE.to_owned(), self.as_str().to_owned())
    }

    /// What a list of variables says.
    pub fn of(variables: &[(String, String)]) -> Option<AcceptAt> {
        let (_, value) = variables.iter().rfind(|(name, _)| name == ACCEPT_VARIABLE)?;
        [AcceptAt::Now, AcceptAt::Signal].into_iter().find(|at| at.as_str() == value)
    }
}

/// The command line of a helper behind `slotd-gate route`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteCall {
    /// The app.
    pub app: AppName,
    /// What is to send users to its instances.
    pub kind: RouteKind,
    /// The ports that instances may have.
    pub ports: PortRange,
    /// The unit that users are sent to.
    pub template: Template,
}

/// What sends users to instances that have ports of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteKind {
    /// The kernel, by a redirection.
    Nftables {
        /// The ports that users may call. Which of several is in force slotd says, and after a boot the live slot's record.
        public: Vec<u16>,
    },
    /// HAProxy, by the servers s1 to sN of one backend.
    Haproxy {
        /// The backend in its configuration.
        backend: String,
        /// Its runtime socket, level admin.
        socket: PathBuf,
        /// N.
        servers: u16,
    },
    /// nginx, by a file that an upstream includes.
    Nginx {
        /// The file.
        include: PathBuf,
    },
}

/// A range of ports, both ends in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// Why a command line is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteCallError {
    /// A word too few.
    #[error("something is missing after `route`")]
    Missing,
    /// An app or template that can't be one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A kind that there isn't.
    #[error("{0:?} is no kind of route with a helper (nftables, haproxy, nginx)")]
    Kind(String),
    /// An option that this kind doesn't know, or a second time.
    #[error("{0:?} is no option of such a route, or stands there twice")]
    Option(String),
    /// No port, or not a range of ports.
    #[error("{0:?} names no ports")]
    Ports(String),
    /// Not the name of a backend.
    #[error("{0:?} names no backend: letters, digits and -_.:")]
    Backend(String),
    /// Not an absolute path.
    #[error("{0:?} is no path: it begins with /")]
    Path(String),
    /// Not a number of servers.
    #[error("{0:?} is no number of servers (1 to {MAX_BACKENDS})")]
    Servers(String),
    /// The public port is one of the instances'.
    #[error("the public port {0} is one of the instances' own")]
    PublicPort(u16),
}

impl AppName {
    /// The unit of the route's root helper: `slotd-route@web.service`.
    pub fn route_unit(&self) -> UnitName {
        UnitName::new(format!("slotd-route@{self}.service"))
    }
}

impl PortRange {
    /// From `first` to `last`; `None` if there is none between them, or port 0 is.
    pub fn new(first: u16, last: u16) -> Option<Self> {
        (1..=last).contains(&first).then_some(PortRange { first, last })
    }

    /// A range that is known to be one.
    pub const fn between(first: u16, last: u16) -> Self {
        assert!(first > 0 && first <= last);
        PortRange { first, last }
    }

    /// Whether `port` lies in it.
    pub fn contains(self, port: u16) -> bool {
        self.all().contains(&port)
    }

    /// Whether both have a port in common.
    pub fn overlaps(self, other: PortRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The ephemeral ports as the kernel says them: the text of [`EPHEMERAL_PORTS`].
    pub fn of_kernel(text: &str) -> Option<Self> {
        let mut ends = text.split_whitespace().map(str::parse);
        PortRange::new(ends.next()?.ok()?, ends.next()?.ok()?)
    }

    /// Why a range of instances' ports can't be had while the kernel uses `ephemeral`, if it can't.
    pub fn refused(self, ephemeral: PortRange) -> Option<String> {
        self.overlaps(ephemeral).then(|| {
            format!(
                "ports = \"{self}\" overlaps net.ipv4.ip_local_port_range, {ephemeral}, from which the kernel takes ports for \
                 connections that this host makes: an instance may find its port in use"
            )
        })
    }

    /// Every port of it.
    pub fn all(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl RouteCall {
    /// Reads the words behind `route`: `APP KIND [--OPTION VALUE]... TEMPLATE@`.
    pub fn parse(words: &[String]) -> Result<Self, RouteCallError> {
        let [app, kind, rest @ ..] = words else { return Err(RouteCallError::Missing) };
        let app = app.parse()?;
        let (template, options) = rest.split_last().ok_or(RouteCallError::Missing)?;
        let template = template.parse()?;
        let mut options = Options::new(options)?;
        let ports: PortRange = options.take("--ports")?.parse()?;
        let kind = match kind.as_str() {
            "nftables" => {
                let text = options.take("--port")?;
                let one = |text: &str| text.parse().ok().filter(|port| *port > 0);
                let public: Option<Vec<u16>> = text.split(',').map(one).collect();
                let public = public.ok_or(RouteCallError::Ports(text))?;
                if let Some(port) = public.iter().find(|port| ports.contains(**port)) {
                    return Err(RouteCallError::PublicPort(*port));
                }
                RouteKind::Nftables { public }
            }
            "haproxy" => {
                let backend = options.take("--backend")?;
                if !is_backend(&backend) {
                    return Err(RouteCallError::Backend(backend));
                }
                let text = options.take("--servers")?;
                let most = 1..=u16::try_from(MAX_BACKENDS).unwrap_or(u16::MAX);
                let servers = text.parse().ok().filter(|servers| most.contains(servers));
                let servers = servers.ok_or(RouteCallError::Servers(text))?;
                RouteKind::Haproxy { backend, socket: options.path("--socket")?, servers }
            }
            "nginx" => RouteKind::Nginx { include: options.path("--include")? },
            other => return Err(RouteCallError::Kind(other.to_owned())),
        };
        options.finish()?;
        Ok(RouteCall { app, kind, ports, template })
    }
}

impl FromStr for PortRange {
    type Err = RouteCallError;

    fn from_str(text: &str) -> Result<Self, RouteCallError> {
        let ends = text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        ends.and_then(|(first, last)| PortRange::new(first, last)).ok_or(RouteCallError::Ports(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for PortRange {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// The words that [`RouteCall::parse`] reads.
impl fmt::Display for RouteCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RouteCall { app, kind, ports, template } = self;
        match kind {
            RouteKind::Nftables { public } => {
                let public: Vec<String> = public.iter().map(u16::to_string).collect();
                write!(f, "{app} nftables --port {} --ports {ports} {template}", public.join(","))
            }
            RouteKind::Haproxy { backend, socket, servers } => write!(
                f,
                "{app} haproxy --backend {backend} --socket {} --servers {servers} --ports {ports} {template}",
                socket.display()
            ),
            RouteKind::Nginx { include } => {
                write!(f, "{app} nginx --include {} --ports {ports} {template}", include.display())
            }
        }
    }
}

/// `--OPTION VALUE`, each once.
struct Options<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Options<'a> {
    fn new(words: &'a [String]) -> Result<Self, RouteCallError> {
        let pairs = words.chunks(2).map(|pair| match pair {
            [name, value] if name.starts_with("--") => Ok((name.as_str(), value.as_str())),
            _ => Err(RouteCallError::Option(pair.join(" "))),
        });
        Ok(Options(pairs.collect::<Result<_, _>>()?))
    }

    fn take(&mut self, name: &str) -> Result<String, RouteCallError> {
        let at = self.0.iter().position(|(known, _)| *known == name).ok_or(RouteCallError::Missing)?;
        Ok(self.0.remove(at).1.to_owned())
    }

    fn path(&mut self, name: &str) -> Result<PathBuf, RouteCallError> {
        let text = self.take(name)?;
        if text.starts_with('/') { Ok(text.into()) } else { Err(RouteCallError::Path(text)) }
    }

    fn finish(self) -> Result<(), RouteCallError> {
        match self.0.first() {
            Some((name, _)) => Err(RouteCallError::Option((*name).to_owned())),
            None => Ok(()),
        }
    }
}

/// Whether HAProxy takes it for the name of a backend.
pub fn is_backend(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
}

/// Columns of a table as HAProxy's runtime socket shows it: a line with `#` names them, a row a line follows. `None` where
/// there is no such table.
pub fn haproxy_columns<'a, const N: usize>(text: &'a str, names: [&str; N]) -> Option<Vec<[&'a str; N]>> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with('#'));
    let heading: Vec<&str> = lines.next()?.trim_start_matches('#').split_whitespace().collect();
    let mut places = [0; N];
    for (place, name) in places.iter_mut().zip(names) {
        *place = heading.iter().position(|known| known.starts_with(name))?;
    }
    let row = |line: &'a str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut row = [""; N];
        for (word, place) in row.iter_mut().zip(places) {
            *word = words.get(place)?;
        }
        Some(row)
    };
    Some(lines.filter_map(row).collect())
}

/// The value of `PORT` in the text of an instance's environment file, as `slots` writes it: one quoted variable a line.
pub fn port_of_env(text: &str) -> Option<u16> {
    let value = text.lines().find_map(|line| line.strip_prefix("PORT="))?;
    value.strip_prefix('"')?.strip_suffix('"')?.parse().ok().filter(|port| *port > 0)
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
