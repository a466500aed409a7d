//! What the root helper of a route, `slotd-gate route`, is told: by its command line, which the administrator's unit
//! holds, and by `/run/slotd/route/APP`, the set of backends that slotd wants.
//!
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
    /// The kernel, by a redirection of this port.
    Nftables {
        /// The one that users call.
        port: u16,
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
    #[error("{0:?} is no kind of route with a helper (nftables)")]
    Kind(String),
    /// An option that this kind doesn't know, or a second time.
    #[error("{0:?} is no option of such a route, or stands there twice")]
    Option(String),
    /// No port, or not a range of ports.
    #[error("{0:?} names no ports")]
    Ports(String),
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
                let port = text.parse().ok().filter(|port| *port > 0).ok_or(RouteCallError::Ports(text))?;
                if ports.contains(port) {
                    return Err(RouteCallError::PublicPort(port));
                }
                RouteKind::Nftables { port }
            }
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
            RouteKind::Nftables { port } => write!(f, "{app} nftables --port {port} --ports {ports} {template}"),
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

    fn finish(self) -> Result<(), RouteCallError> {
        match self.0.first() {
            Some((name, _)) => Err(RouteCallError::Option((*name).to_owned())),
            None => Ok(()),
        }
    }
}

/// The value of `PORT` in the text of an instance's environment file, as `slots` writes it: one quoted variable a line.
pub fn port_of_env(text: &str) -> Option<u16> {
    let value = text.lines().find_map(|line| line.strip_prefix("PORT="))?;
    value.strip_prefix('"')?.strip_suffix('"')?.parse().ok().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<RouteCall, RouteCallError> {
        RouteCall::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_port_of_an_environment_file() {
        assert_eq!(port_of_env("A=\"1\"\nPORT=\"20001\"\nZ=\"\"\n"), Some(20001));
        for none in ["", "PORT=20001\n", "PORT=\"0\"\n", "PORT=\"70000\"\n", "XPORT=\"1\"\n", "PORT=\"1\n"] {
            assert_eq!(port_of_env(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_command_line_comes_back() {
        let line = "web nftables --port 8080 --ports 20000-20099 web@";
        assert_eq!(parse(line).expect(line).to_string(), line);
        assert!(parse("web nftables --ports 20000-20099 --port 8080 web@").is_ok(), "options have no order");
    }

    #[test]
    fn what_is_no_command_line() {
        for (line, words) in [
            ("web", "missing"),
            ("web nftables", "missing"),
            ("web nftables web@", "missing"),
            ("web nftables --ports 20000-20099 web@", "missing"),
            ("web nftables --port 8080 --ports 20000-20099", "no unit template"),
            ("Web nftables --port 8080 --ports 20000-20099 web@", "no app name"),
            ("web ipvs --port 8080 --ports 20000-20099 web@", "no kind of route"),
            ("web nftables --port 0 --ports 20000-20099 web@", "\"0\" names no ports"),
            ("web nftables --port 80 --ports 20099-20000 web@", "names no ports"),
            ("web nftables --port 80 --ports 0-20 web@", "names no ports"),
            ("web nftables --port 80 --ports 20-70000 web@", "names no ports"),
            ("web nftables --port 20005 --ports 20000-20099 web@", "is one of the instances' own"),
            ("web nftables --port 80 --port 81 --ports 20-30 web@", "twice"),
            ("web nftables --port 80 --ports 20-30 --weight 3 web@", "no option"),
            ("web nftables --port 80 --ports 20-30 web@ web@", "no option"),
        ] {
            let error = parse(line).expect_err(line).to_string();
            assert!(error.contains(words), "{line:?}: {error}");
        }
    }

    #[test]
    fn ranges() {
        let range = |first, last| PortRange::new(first, last).expect("a range");
        assert!(range(20, 30).overlaps(range(30, 40)) && range(30, 40).overlaps(range(20, 30)));
        assert!(!range(20, 30).overlaps(range(31, 40)));
        assert_eq!(PortRange::of_kernel("32768\t60999\n"), Some(range(32768, 60999)));
        assert_eq!(PortRange::of_kernel("32768"), None);
        assert_eq!(range(20000, 29999).refused(range(32768, 60999)), None);
        assert!(range(20000, 32768).refused(range(32768, 60999)).expect("refused").contains("32768-60999"));
        assert!(range(20, 30).contains(30) && !range(20, 30).contains(31));
    }
}
