//! The apps that another one depends on, as `plan`, deployments and their answers show them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::app::AppState;
use super::deployment::DeploymentId;
use super::names::{AppName, SlotName};

/// An app that has to be up for another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// The app.
    pub app: AppName,
    /// How it does.
    pub state: DependencyState,
    /// Its live slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<SlotName>,
    /// What waits for it and goes live first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<SlotName>,
    /// The deployment of it that goes first, or went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentId>,
    /// Where its users call it, if that is known: `HOST:PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// How an app does that another one depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DependencyState {
    /// Its live slot serves.
    Online,
    /// It runs and doesn't answer as it should.
    Degraded,
    /// Nothing of it runs.
    Stopped,
    /// Nothing of it is live yet.
    Empty,
    /// A deployment of it is under way.
    Deploying,
    /// It is told to rest.
    Paused,
    /// Deployments of it are held off.
    Frozen,
    /// Its settings file is gone.
    Orphaned,
    /// There is no such app.
    Unknown,
    /// The deployment of it that had to go first didn't end well.
    Failed,
}

impl DependencyState {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            DependencyState::Online => "online",
            DependencyState::Degraded => "degraded",
            DependencyState::Stopped => "stopped",
            DependencyState::Empty => "empty",
            DependencyState::Deploying => "deploying",
            DependencyState::Paused => "paused",
            DependencyState::Frozen => "frozen",
            DependencyState::Orphaned => "orphaned",
            DependencyState::Unknown => "unknown",
            DependencyState::Failed => "failed",
        }
    }
}

impl From<&AppState> for DependencyState {
    fn from(state: &AppState) -> Self {
        match state {
            AppState::Empty => DependencyState::Empty,
            AppState::Online => DependencyState::Online,
            AppState::Degraded { .. } => DependencyState::Degraded,
            AppState::Deploying => DependencyState::Deploying,
            AppState::Stopped => DependencyState::Stopped,
            AppState::Paused => DependencyState::Paused,
            AppState::Frozen => DependencyState::Frozen,
            AppState::Orphaned => DependencyState::Orphaned,
        }
    }
}

impl fmt::Display for DependencyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
