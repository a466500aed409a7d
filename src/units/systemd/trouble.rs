//! What can go wrong on the bus, sorted into what is worth another try and what is an answer.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::UnitName;
use crate::units::UnitError;

/// How long a lost connection is tried anew before the call gives up. A restart of the bus or of systemd itself
/// takes well under a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// Errors of the bus, not of systemd: the call got no answer, and may be made again.
const UNANSWERED: [&str; 6] = [
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.Disconnected",
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.Timeout",
    "org.freedesktop.DBus.Error.Spawn.ChildExited",
];

/// polkit, the bus policy, or systemd itself says no.
const DENIED: [&str; 3] = [
    "org.freedesktop.DBus.Error.AccessDenied",
    "org.freedesktop.DBus.Error.AuthFailed",
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
];

/// Why a call didn't succeed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No answer: the connection is gone, or nobody is at the other end.
    Lost(String),
    /// The connection is gone and there is no way to another one.
    Final(String),
    /// systemd answered with an error: its name and its words.
    Answer(String, String),
}

impl Trouble {
    /// The connection ended.
    pub(super) fn gone() -> Self {
        Trouble::Lost("the connection to the bus is gone".to_owned())
    }

    /// Whether systemd says that there is no such unit.
    pub(super) fn no_such_unit(&self) -> bool {
        matches!(self, Trouble::Answer(name, _) if name == "org.freedesktop.systemd1.NoSuchUnit")
    }

    /// As the caller sees it.
    pub(super) fn of(self, verb: &'static str, unit: &UnitName) -> UnitError {
        let unit = unit.clone();
        match self {
            Trouble::Lost(why) | Trouble::Final(why) => UnitError::Bus(why),
            Trouble::Answer(name, message) => match name.strip_prefix("org.freedesktop.systemd1.") {
                Some("NoSuchUnit") => UnitError::NotFound(unit),
                Some("UnitMasked") => UnitError::Masked(unit),
                Some("TransactionIsDestructive") => UnitError::Conflict { verb, unit, message },
                _ if DENIED.contains(&name.as_str()) => UnitError::Denied { verb, unit, message },
                _ => UnitError::Refused { verb, unit, message },
            },
        }
    }
}

impl From<zbus::Error> for Trouble {
    fn from(error: zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, message, _) if !UNANSWERED.contains(&name.as_str()) => {
                Trouble::Answer(name.to_string(), message.unwrap_or_else(|| name.to_string()))
            }
            other => Trouble::Lost(other.to_string()),
        }
    }
}

/// Counts down while a lost connection is tried anew.
#[derive(Debug)]
pub(super) struct Patience {
    until: Instant,
}

impl Patience {
    /// From now on.
    pub(super) fn new() -> Self {
        Patience { until: Instant::now() + PATIENCE }
    }

    /// Waits a moment after `trouble`, if it is worth another try; gives it back if not.
    pub(super) async fn again(&self, trouble: Trouble) -> Result<(), Trouble> {
        match trouble {
            Trouble::Lost(_) if Instant::now() < self.until => {
                tokio::time::sleep(PAUSE).await;
                Ok(())
            }
            other => Err(other),
        }
    }
}
