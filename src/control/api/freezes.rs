//! Freezes, and what is wanted at a time to come.

use serde::{Deserialize, Serialize};

use crate::model::{AppName, Freeze, Timestamp};

/// `POST /v1/apps/APP/freeze`, and `POST /v1/freeze` for all apps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeRequest {
    /// Its end; until it is lifted unless said.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// Kept with it.
    #[serde(default)]
    pub message: Option<String>,
}

/// The answer to these, and to `…/unfreeze`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// The app; none where it is about all.
    pub app: Option<AppName>,
    /// What keeps it from going forward now: an app may be frozen with all others though its own freeze is lifted.
    pub freeze: Option<Freeze>,
    /// Whether it wasn't so before.
    pub changed: bool,
}
