//! Pins: a slot that is kept, an app that stays on what is live.

use serde::{Deserialize, Serialize};

use crate::model::SlotName;
use crate::model::slot::Pin;

/// `POST /v1/apps/APP/pin`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinRequest {
    /// The slot that is to be kept; without one nothing goes live by itself any more.
    #[serde(default)]
    pub slot: Option<SlotName>,
    /// Kept with the pin.
    #[serde(default)]
    pub message: Option<String>,
}

/// `POST /v1/apps/APP/unpin`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnpinRequest {
    /// The slot; the app unless said.
    #[serde(default)]
    pub slot: Option<SlotName>,
    /// Kept with the event.
    #[serde(default)]
    pub message: Option<String>,
}

/// The answer to `POST /v1/apps/APP/pin` and `…/unpin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// The slot; none where it is about the app.
    pub slot: Option<SlotName>,
    /// How it stands now.
    pub pin: Option<Pin>,
    /// Whether it wasn't so before.
    pub changed: bool,
}
