//! Strategies: names for two numbers, how many instances more than N may run and how many fewer may be ready.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name for two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StrategyName {
    /// (0, N): all old instances stop, then all new ones start.
    StopStart,
    /// (N, 0): all new instances start beside the old ones, then users move in one step.
    BlueGreen,
    /// (1, 0) unless other numbers are given: batch by batch.
    Rolling,
}

/// The two numbers of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    /// How many more than N may run at once.
    pub max_surge: u32,
    /// How many fewer than N may be ready.
    pub max_unavailable: u32,
}

/// Not the name of a strategy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no strategy: stop-start, blue-green or rolling")]
pub struct NoStrategy(String);

impl StrategyName {
    /// All of them.
    pub const ALL: [StrategyName; 3] = [StrategyName::StopStart, StrategyName::BlueGreen, StrategyName::Rolling];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            StrategyName::StopStart => "stop-start",
            StrategyName::BlueGreen => "blue-green",
            StrategyName::Rolling => "rolling",
        }
    }

    /// Its numbers for a unit with `instances` instances.
    pub fn numbers(self, instances: u32) -> Numbers {
        match self {
            StrategyName::StopStart => Numbers::stop_start(instances),
            StrategyName::BlueGreen => Numbers { max_surge: instances, max_unavailable: 0 },
            StrategyName::Rolling => Numbers { max_surge: 1, max_unavailable: 0 },
        }
    }
}

impl Numbers {
    /// Everything old stops, then everything new starts.
    pub fn stop_start(instances: u32) -> Self {
        Numbers { max_surge: 0, max_unavailable: instances }
    }
}

impl fmt::Display for StrategyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for StrategyName {
    type Err = NoStrategy;

    fn from_str(text: &str) -> Result<Self, NoStrategy> {
        StrategyName::ALL.into_iter().find(|name| name.as_str() == text).ok_or_else(|| NoStrategy(text.to_owned()))
    }
}
