//! Probes as people read them, and what `{version}`, `{instance}` and `{port}` stand for.

use std::fmt;

use crate::config::app::{Address, Probe};

use super::Target;

/// As the settings name it: "http http://127.0.0.1:8080/health".
impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Notify => f.write_str("notify"),
            Probe::Http { address, path, .. } => f.write_str(&http(address, path)),
            Probe::Tcp { address } => write!(f, "tcp {address}"),
            Probe::Unix { path } => write!(f, "unix {path}"),
            Probe::Unit { name } => write!(f, "unit {name}"),
        }
    }
}

/// The text of a probe as it asks `target`.
pub(super) fn of(probe: &Probe, target: &Target) -> String {
    let asked = match probe {
        Probe::Http { address, path, .. } => http(address, path_of(path, target)),
        _ => probe.to_string(),
    };
    fill(&asked, target)
}

/// The path that is asked of `target`: its release's own, or that of the settings.
pub(super) fn path_of<'a>(path: &'a str, target: &'a Target) -> &'a str {
    target.health_path.as_deref().unwrap_or(path)
}

/// `text` with the target's version, name and port in it.
pub(super) fn fill(text: &str, target: &Target) -> String {
    let text = text.replace("{version}", target.version().as_str()).replace("{instance}", &target.instance.encoded());
    match target.port {
        Some(port) => text.replace("{port}", &port.to_string()),
        None => text,
    }
}

fn http(address: &Address, path: &str) -> String {
    match address {
        Address::Tcp(address) => format!("http http://{address}{path}"),
        Address::Unix(socket) => format!("http unix:{} {path}", socket.display()),
    }
}
