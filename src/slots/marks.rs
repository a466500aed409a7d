//! Marks: what people and deployments say of slots. Each is a file, beside the slot or beside the links.

use std::path::PathBuf;

use crate::durable::{create_dir, read_json, remove_file, write_atomic, write_json};
use crate::model::setting::{Inputs, Used};
use crate::model::slot::{Left, Mark, Pin, Quarantine};
use crate::model::{DeploymentId, Fault, SlotName, Timestamp, Version, VersionOrder};
use crate::points::{around, named};

use super::error::SlotError;
use super::store::{PIN_FILE, QUARANTINE_FILE, SlotStore};

const EVIDENCE_DIR: &str = "evidence";
const LEFT_FILE: &str = "left.json";
const USED_FILE: &str = "used.json";

named! {
    /// What an operator marks; for crash points.
    Marking {
        Pin = "pin",
        Unpin = "unpin",
        Choose = "choose",
        Freeze = "freeze",
        Unfreeze = "unfreeze",
        Schedule = "schedule",
    }
}

impl SlotStore {
    /// The slot failed by its own fault and isn't tried again unless forced. A later quarantine replaces an earlier.
    pub fn quarantine(&self, slot: &SlotName, quarantine: &Quarantine) -> Result<(), SlotError> {
        let written = write_json(&self.mark_of(slot, QUARANTINE_FILE)?, quarantine);
        written.map_err(SlotError::disk("quarantine", format!("slot {slot}")))
    }

    /// Lifts a quarantine, a damaged one too. Returns whether there was one.
    pub fn clear_quarantine(&self, slot: &SlotName) -> Result<bool, SlotError> {
        let removed = remove_file(&self.mark_of(slot, QUARANTINE_FILE)?);
        removed.map_err(SlotError::disk("lift the quarantine of", format!("slot {slot}")))
    }

    /// The slot is kept until it is unpinned; without one the app stays on what is live. A later pin replaces an earlier.
    /// Returns whether it wasn't pinned before.
    pub fn pin(&self, slot: Option<&SlotName>, pin: &Pin) -> Result<bool, SlotError> {
        let path = self.pin_file(slot)?;
        let is_new = !path.exists();
        let written = around(Marking::Pin.as_str(), || write_json(&path, pin));
        written.map(|()| is_new).map_err(SlotError::disk("pin", pinned_name(slot)))
    }

    /// The slot is kept no longer than others, or the app goes on. Returns whether it was pinned.
    pub fn unpin(&self, slot: Option<&SlotName>) -> Result<bool, SlotError> {
        let path = self.pin_file(slot)?;
        around(Marking::Unpin.as_str(), || remove_file(&path)).map_err(SlotError::disk("unpin", pinned_name(slot)))
    }

    /// The pin of a slot, or of the app. One that can't be read is an error: what somebody pinned stays pinned.
    pub fn pinned(&self, slot: Option<&SlotName>) -> Result<Option<Pin>, SlotError> {
        read_json(&self.pin_file(slot)?).map_err(SlotError::disk("read the pin of", pinned_name(slot)))
    }

    fn pin_file(&self, slot: Option<&SlotName>) -> Result<PathBuf, SlotError> {
        slot.map_or_else(|| Ok(self.layout.pinned()), |slot| self.mark_of(slot, PIN_FILE))
    }

    /// Users have left the slot for another one.
    pub fn mark_left(&self, slot: &SlotName, at: Timestamp) -> Result<(), SlotError> {
        let written = write_json(&self.mark_of(slot, LEFT_FILE)?, &Left { at });
        written.map_err(SlotError::disk("note when users left", format!("slot {slot}")))
    }

    /// When it was last live, as far as that was noted.
    pub fn last_live(&self, slot: &SlotName) -> Option<Timestamp> {
        read_json::<Left>(&self.layout.slot(slot).join(LEFT_FILE)).ok().flatten().map(|left| left.at)
    }

    /// Keeps what a deployment saw of the slot, as `evidence/ID.json`, for as long as the slot is kept.
    pub fn write_evidence(&self, slot: &SlotName, id: &DeploymentId, fault: &Fault) -> Result<(), SlotError> {
        let folder = self.mark_of(slot, EVIDENCE_DIR)?;
        let written = create_dir(&folder, 0o700).and_then(|_| write_json(&folder.join(format!("{id}.json")), fault));
        written.map_err(SlotError::disk("keep the evidence beside", format!("slot {slot}")))
    }

    /// What a deployment saw of the slot.
    pub fn evidence(&self, slot: &SlotName, id: &DeploymentId) -> Result<Option<Fault>, SlotError> {
        let path = self.layout.slot(slot).join(EVIDENCE_DIR).join(format!("{id}.json"));
        read_json(&path).map_err(SlotError::disk("read the evidence beside", format!("slot {slot}")))
    }

    /// The highest release that was ever live or tried; `None` where none was. A mark that can't be read is an
    /// error: without it automatic mode would bring back what an operator left.
    pub fn mark(&self) -> Result<Option<Mark>, SlotError> {
        read_json(&self.layout.mark()).map_err(SlotError::disk("read", "the mark"))
    }

    /// The mark is at least `version`, and `inputs`, if they are given, are no news any more. Returns whether it rose.
    pub fn raise_mark(
        &self,
        version: &Version,
        order: VersionOrder,
        inputs: Option<&Inputs>,
    ) -> Result<bool, SlotError> {
        let before = self.mark()?;
        let higher = before.as_ref().filter(|mark| order.compare(&mark.highest, version).is_ge());
        let known = before.as_ref().and_then(|mark| mark.inputs.as_ref());
        let mark =
            Mark { highest: higher.map_or(version, |mark| &mark.highest).clone(), inputs: inputs.or(known).cloned() };
        let rose = higher.is_none();
        if before.as_ref() == Some(&mark) {
            return Ok(false);
        }
        write_json(&self.layout.mark(), &mark).map(|()| rose).map_err(SlotError::disk("raise", "the mark"))
    }

    /// What operators chose is this from now on: the text of `settings.toml`.
    pub fn choose(&self, text: &str) -> Result<(), SlotError> {
        let written = around(Marking::Choose.as_str(), || write_atomic(&self.layout.chosen(), text.as_bytes()));
        written.map_err(SlotError::disk("write", "the chosen settings"))
    }

    /// Notes what the deployment that brought the slot live went by.
    pub fn write_used(&self, slot: &SlotName, used: &Used) -> Result<(), SlotError> {
        let written = write_json(&self.mark_of(slot, USED_FILE)?, used);
        written.map_err(SlotError::disk("note the settings of", format!("slot {slot}")))
    }

    /// What the deployment that brought the slot live last went by, if that was noted.
    pub fn used(&self, slot: &SlotName) -> Option<Used> {
        read_json(&self.layout.slot(slot).join(USED_FILE)).ok().flatten()
    }

    fn mark_of(&self, slot: &SlotName, file: &str) -> Result<PathBuf, SlotError> {
        let folder = self.layout.slot(slot);
        if folder.is_dir() { Ok(folder.join(file)) } else { Err(SlotError::Unknown(slot.clone())) }
    }
}

fn pinned_name(slot: Option<&SlotName>) -> String {
    slot.map_or_else(|| "the app".to_owned(), |slot| format!("slot {slot}"))
}
