//! The state of an app, as `status` shows it.

use serde::{Deserialize, Serialize};

use super::evidence::Fault;

/// How an app does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum AppState {
    /// Nothing is live yet.
    Empty,
    /// The live slot serves.
    Online,
    /// The live slot crash-loops, fails its probes or has fewer instances than it should.
    Degraded {
        /// Why.
        fault: Box<Fault>,
    },
    /// A deployment has stopped what was live; what comes isn't live yet, or what was isn't back.
    Deploying,
    /// Stopped by hand.
    Stopped,
    /// Told to rest.
    Paused,
    /// Deployments are held off.
    Frozen,
    /// Its settings file is gone, its slots aren't.
    Orphaned,
}

impl AppState {
    /// The one word.
    pub fn word(&self) -> &'static str {
        match self {
            AppState::Empty => "empty",
            AppState::Online => "online",
            AppState::Degraded { .. } => "degraded",
            AppState::Deploying => "deploying",
            AppState::Stopped => "stopped",
            AppState::Paused => "paused",
            AppState::Frozen => "frozen",
            AppState::Orphaned => "orphaned",
        }
    }
}
