//! Breaking migrations: from which slot on the data that all slots share has a form that older ones don't know.
//!
//! The record goes with `current`: it is written before the link moves to the slot that migrated, and taken back once the
//! link names the slot before it again, its data restored.

use crate::durable::{read_json, remove_file, write_json};
use crate::model::slot::Break;
use crate::model::{DeploymentId, SlotName, VersionOrder};

use super::error::SlotError;
use super::store::SlotStore;

impl SlotStore {
    /// All of them. A record that can't be read is an error: nobody could say who is barred.
    pub fn breaks(&self) -> Result<Vec<Break>, SlotError> {
        let read = read_json(&self.layout.breaks());
        read.map(Option::unwrap_or_default).map_err(SlotError::disk("read", "the breaking migrations"))
    }

    /// The migration that bars `slot`: the highest above it.
    pub fn barred_by(&self, slot: &SlotName, order: VersionOrder) -> Result<Option<Break>, SlotError> {
        let above = |it: &Break| order.compare(&it.slot.version, &slot.version).is_gt();
        let breaks = self.breaks()?.into_iter().filter(above);
        Ok(breaks.max_by(|a, b| order.compare(&a.slot.version, &b.slot.version)))
    }

    /// The data gets the form that comes with `new.slot`.
    pub fn break_data(&self, new: Break) -> Result<(), SlotError> {
        self.change_breaks(|breaks| {
            breaks.retain(|it| it.slot.version != new.slot.version);
            breaks.push(new);
        })
    }

    /// What this deployment did to the data is undone.
    pub fn unbreak_data(&self, deployment: &DeploymentId) -> Result<(), SlotError> {
        self.change_breaks(|breaks| breaks.retain(|it| it.deployment != *deployment))
    }

    /// `slot` is live with this data, so no migration above it is in the way any more.
    pub fn bar_nothing_above(&self, slot: &SlotName, order: VersionOrder) -> Result<(), SlotError> {
        self.change_breaks(|breaks| breaks.retain(|it| order.compare(&it.slot.version, &slot.version).is_le()))
    }

    fn change_breaks(&self, change: impl FnOnce(&mut Vec<Break>)) -> Result<(), SlotError> {
        let before = self.breaks()?;
        let mut after = before.clone();
        change(&mut after);
        let path = self.layout.breaks();
        let written = match after.is_empty() {
            _ if after == before => return Ok(()),
            // Going back fits on a full disk.
            true => remove_file(&path).map(drop),
            false => write_json(&path, &after),
        };
        written.map_err(SlotError::disk("note", "the breaking migrations"))
    }
}
