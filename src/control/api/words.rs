//! What operators say with a verb, and `retry`.

use serde::{Deserialize, Serialize};

/// `POST /v1/apps/APP/cancel`, `…/promote` and `…/confirm`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SayRequest {
    /// Kept with the deployment.
    #[serde(default)]
    pub message: Option<String>,
}

/// `POST /v1/apps/APP/retry`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryRequest {
    /// Kept with the deployment.
    #[serde(default)]
    pub message: Option<String>,
    /// Also if it is quarantined.
    #[serde(default)]
    pub force: bool,
}

/// Query of `DELETE /v1/apps/APP/quarantine/SLOT`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageQuery {
    /// Kept with the event.
    #[serde(default)]
    pub message: Option<String>,
}

/// Query of `POST /v1/apps/APP/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PruneQuery {
    /// Only say what would be removed.
    #[serde(default)]
    pub dry_run: bool,
    /// Kept with the event.
    #[serde(default)]
    pub message: Option<String>,
}
