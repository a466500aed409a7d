//! An operator's orders about what is live.

use serde::{Deserialize, Serialize};

use crate::model::{Migration, SlotName, StrategyName, Template, Timestamp};

/// `POST /v1/apps/APP/activate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivateRequest {
    /// A slot, or a version.
    pub slot: SlotName,
    /// Kept with the deployment.
    #[serde(default)]
    pub message: Option<String>,
    /// Also if it is quarantined, the data was migrated since, or the app is frozen.
    #[serde(default)]
    pub force: bool,
    /// Another strategy than the app's, for this deployment alone.
    #[serde(default)]
    pub strategy: Option<StrategyName>,
    /// Another word for what it does to the data than its release's.
    #[serde(default)]
    pub migration: Option<Migration>,
    /// When; at once unless said.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// The token of an approved plan: refused if anything of it has moved.
    #[serde(default)]
    pub plan: Option<String>,
    /// Nothing of the apps that it depends on is deployed before; they have to be up.
    #[serde(default)]
    pub without_dependencies: bool,
}

/// `POST /v1/apps/APP/rollback`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// Where to; the fallback unless said.
    #[serde(default)]
    pub to: Option<SlotName>,
    /// Kept with the deployment.
    #[serde(default)]
    pub message: Option<String>,
    /// Also to a quarantined slot, or one from before a breaking migration.
    #[serde(default)]
    pub force: bool,
}

/// `POST /v1/apps/APP/scale`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleRequest {
    /// How many instances there are to be, 1 to 99.
    pub instances: u32,
    /// Of which unit; the first unless said.
    #[serde(default)]
    pub unit: Option<Template>,
    /// Kept with the slot and the deployment.
    #[serde(default)]
    pub message: Option<String>,
}
