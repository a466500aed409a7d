//! Probes as people read them, and what `{version}` and `{instance}` stand for.

use std::fmt;

use crate::config::app::{Address, Probe};

use super::Target;

/// As the settings name it: "http http://127.0.0.1:8080/health".
impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Notify => f.write_str("notify"),
            Probe::Http { address: Address::Tcp(address), path, .. } => write!(f, "http http://{address}{path}"),
            Probe::Http { address: Address::Unix(socket), path, .. } => {
                write!(f, "http unix:{} {path}", socket.display())
            }
            Probe::Tcp { address } => write!(f, "tcp {address}"),
            Probe::Unix { path } => write!(f, "unix {path}"),
            Probe::Unit { name } => write!(f, "unit {name}"),
        }
    }
}

/// The text of a probe as it asks `target`.
pub(super) fn of(probe: &Probe, target: &Target) -> String {
    fill(&probe.to_string(), target)
}

/// `text` with the target's version and name in it.
pub(super) fn fill(text: &str, target: &Target) -> String {
    text.replace("{version}", target.version().as_str()).replace("{instance}", &target.instance.encoded())
}
