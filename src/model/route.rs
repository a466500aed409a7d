//! The set of backends that slotd wants: `/run/slotd/route/APP`, which the root helper `slotd-gate route` applies.
//!
//! The file is gone after a boot; then the set follows from `current` and the `PORT` of its instances.
//!
//! And what an instance on a shared socket with `accept = "signal"` is told about itself, since that too must hold after a
//! boot without slotd: `SLOTD_ACCEPT`.

use serde::{Deserialize, Serialize};

use super::names::InstanceName;

/// The format of the file that this version writes; another one is not read.
pub const ROUTE_FORMAT: u32 = 1;

/// Most backends of one app.
pub const MAX_BACKENDS: usize = 512;

/// The largest weight of a backend; the same as HAProxy's.
pub const MAX_WEIGHT: u32 = 256;

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
    /// Its own port, on 127.0.0.1.
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

/// The value of `PORT` in the text of an instance's environment file, as `slots` writes it: one quoted variable a line.
pub fn port_of_env(text: &str) -> Option<u16> {
    let value = text.lines().find_map(|line| line.strip_prefix("PORT="))?;
    value.strip_prefix('"')?.strip_suffix('"')?.parse().ok().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_an_environment_file() {
        assert_eq!(port_of_env("A=\"1\"\nPORT=\"20001\"\nZ=\"\"\n"), Some(20001));
        for none in ["", "PORT=20001\n", "PORT=\"0\"\n", "PORT=\"70000\"\n", "XPORT=\"1\"\n", "PORT=\"1\n"] {
            assert_eq!(port_of_env(none), None, "{none:?}");
        }
    }
}
