//! Freezes on disk: of one app, beside its links; of all apps, in the state folder.
//!
//! Whether one is over is asked each time, of the wall clock. What is over stays until it is lifted or replaced.

use std::path::Path;

use crate::durable::{DurableError, read_json, remove_file, write_json};
use crate::model::layout::all_frozen;
use crate::model::{Freeze, Timestamp};
use crate::points::around;

use super::error::SlotError;
use super::marks::Marking;
use super::store::SlotStore;

const ALL: &str = "all apps";

impl SlotStore {
    /// Nothing moves the app forward any more. A later freeze replaces an earlier. Returns whether it could before, as
    /// far as the app's own freeze goes.
    pub fn freeze(&self, freeze: &Freeze) -> Result<bool, SlotError> {
        set(&self.layout().frozen(), freeze).map_err(SlotError::disk("freeze", "the app"))
    }

    /// Lifts the app's own freeze. Returns whether it still held.
    pub fn unfreeze(&self) -> Result<bool, SlotError> {
        lift(&self.layout().frozen()).map_err(SlotError::disk("unfreeze", "the app"))
    }

    /// What keeps the app from going forward, its own freeze or that of all: the one that ends last. One that can't be
    /// read holds: what somebody froze stays frozen.
    pub fn frozen(&self) -> Option<Freeze> {
        let own = held(&self.layout().frozen(), false);
        match (own, held(&self.layout().all_frozen(), true)) {
            (Some(own), Some(all)) => Some(if all.outlasts(&own) { all } else { own }),
            (own, all) => own.or(all),
        }
    }
}

/// No app goes forward any more. As [`SlotStore::freeze`].
pub fn freeze_all(state: &Path, freeze: &Freeze) -> Result<bool, SlotError> {
    set(&all_frozen(state), freeze).map_err(SlotError::disk("freeze", ALL))
}

/// Lifts the freeze of all apps; those of single ones stay. As [`SlotStore::unfreeze`].
pub fn unfreeze_all(state: &Path) -> Result<bool, SlotError> {
    lift(&all_frozen(state)).map_err(SlotError::disk("unfreeze", ALL))
}

/// What keeps all apps from going forward.
pub fn frozen_all(state: &Path) -> Option<Freeze> {
    held(&all_frozen(state), true)
}

fn set(path: &Path, freeze: &Freeze) -> Result<bool, DurableError> {
    let is_new = held(path, freeze.all).is_none();
    around(Marking::Freeze.as_str(), || write_json(path, freeze)).map(|()| is_new)
}

fn lift(path: &Path) -> Result<bool, DurableError> {
    let held = held(path, false).is_some();
    around(Marking::Unfreeze.as_str(), || remove_file(path)).map(|removed| removed && held)
}

fn held(path: &Path, all: bool) -> Option<Freeze> {
    let freeze = read_json(path).unwrap_or_else(|error| {
        let message = Some(error.fault().to_string());
        Some(Freeze { by: "somebody".into(), at: Timestamp::from_unix_millis(0), until: None, message, all })
    });
    freeze.filter(|freeze| freeze.holds(Timestamp::now()))
}
