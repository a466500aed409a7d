//! How an app moves from slot to slot, and how users reach its instances meanwhile: the part of its settings that a
//! deployment goes by.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::route::PortRange;
use crate::model::time::duration_text;
use crate::model::{Numbers, StrategyName};

use super::app::Unit;

/// How an app moves from slot to slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strategy {
    /// A name for two numbers.
    pub name: StrategyName,
    /// Another number than that of the name.
    pub max_surge: Option<u32>,
    /// Another number than that of the name.
    pub max_unavailable: Option<u32>,
    /// After how many batches it waits for `promote`.
    pub pause_after: Option<u32>,
    /// The share of users, in per cent, that the new instances get while it waits.
    pub weight: Option<u32>,
    /// Who gives the word for the switch.
    pub switch: SwitchMode,
}

/// Who gives the word for the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SwitchMode {
    /// The proof.
    #[default]
    Automatic,
    /// An operator, by `promote`: the proven candidate waits warm.
    Manual,
}

/// How the new slot is watched after the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Soak {
    /// For how long; if nothing is said, as long as the strategy of the deployment has it ([`Soak::time_under`]).
    #[serde(default, with = "said_or_not", skip_serializing_if = "Option::is_none")]
    pub time: Option<Duration>,
    /// Whether it goes back at the end of that time unless an operator has said `confirm`.
    pub confirm: bool,
}

/// How long a new slot is watched where the old one still runs beside it.
const BESIDE_THE_OLD: Duration = Duration::from_secs(60);

/// How traffic reaches the instances of the first unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Route {
    /// Not slotd's business.
    None,
    /// A shared socket unit, `APP.socket`.
    Socket {
        /// From when on an instance takes connections from it.
        accept: Accept,
    },
    /// Each instance listens on a port of its own, and the kernel redirects the public one.
    Nftables {
        /// The port that users call.
        port: u16,
        /// The instances' own.
        ports: Ports,
    },
    /// Each instance listens on a port of its own, behind HAProxy.
    Haproxy {
        /// The backend in HAProxy's configuration.
        backend: String,
        /// A runtime socket of it on which slotd may look: level user is enough.
        socket: PathBuf,
        /// The instances' own.
        ports: Ports,
    },
    /// Each instance listens on a port of its own, behind nginx.
    Nginx {
        /// The instances' own.
        ports: Ports,
    },
}

/// From when on an instance takes connections from a shared socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accept {
    /// From `READY=1` on.
    Ready,
    /// It starts quiet, takes them on SIGUSR1, and no more on SIGUSR2.
    Signal,
}

/// The instances' own ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Which.
    pub range: PortRange,
    /// How long open connections of an instance that is taken out may go on before it is stopped.
    #[serde(with = "duration_text")]
    pub drain: Duration,
}

impl Default for Strategy {
    fn default() -> Self {
        Strategy::named(StrategyName::StopStart)
    }
}

impl Strategy {
    /// The strategy of this name, with its own numbers.
    pub fn named(name: StrategyName) -> Self {
        Strategy {
            name,
            max_surge: None,
            max_unavailable: None,
            pause_after: None,
            weight: None,
            switch: SwitchMode::Automatic,
        }
    }

    /// The two numbers of `unit`. What may not overlap is replaced at once.
    pub fn numbers(&self, unit: &Unit) -> Numbers {
        if !unit.overlap {
            return Numbers::stop_start(unit.instances);
        }
        let of_name = self.name.numbers(unit.instances);
        Numbers {
            max_surge: self.max_surge.unwrap_or(of_name.max_surge),
            max_unavailable: self.max_unavailable.unwrap_or(of_name.max_unavailable),
        }
    }
}

impl Soak {
    /// For how long under this strategy. Where the old slot runs on beside the new one, watching costs nobody anything,
    /// and is the default.
    pub fn time_under(&self, strategy: StrategyName) -> Duration {
        self.time.unwrap_or(match strategy {
            StrategyName::StopStart => Duration::ZERO,
            StrategyName::BlueGreen | StrategyName::Rolling => BESIDE_THE_OLD,
        })
    }

    /// The longest that it can be.
    pub fn longest(&self) -> Duration {
        self.time.unwrap_or(BESIDE_THE_OLD)
    }
}

/// A duration as [`duration_text`] has it, where there is one.
mod said_or_not {
    use std::time::Duration;

    use super::duration_text;

    pub fn serialize<S: serde::Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => duration_text::serialize(time, to),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        duration_text::deserialize(from).map(Some)
    }
}

impl Route {
    /// The instances' own ports, if they have some.
    pub fn ports(&self) -> Option<&Ports> {
        match self {
            Route::None | Route::Socket { .. } => None,
            Route::Nftables { ports, .. } | Route::Haproxy { ports, .. } | Route::Nginx { ports } => Some(ports),
        }
    }

    /// The word of the settings.
    pub fn as_str(&self) -> &'static str {
        match self {
            Route::None => "none",
            Route::Socket { .. } => "socket",
            Route::Nftables { .. } => "nftables",
            Route::Haproxy { .. } => "haproxy",
            Route::Nginx { .. } => "nginx",
        }
    }
}
