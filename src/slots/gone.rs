//! Versions whose slots were removed. What stays of each is its record, in `gone/VERSION/slot.json`: a version means the
//! same bytes for good, and what they were is told where the release is told of.
//!
//! A slot that is removed is renamed to there, and then everything but the record goes. So nothing has to be written, and
//! removing works on a full disk.

use crate::durable::{DurableError, names, read_json, remove_tree, rename_noreplace};
use crate::model::{Digest, SlotName, SlotRecord, Version};

use super::error::SlotError;
use super::store::{SLOT_FILE, SlotStore, Stored};

/// Most versions whose bytes are remembered after their slots are gone; beyond them those that were made first are
/// forgotten.
pub const MOST_GONE: usize = 500;

impl SlotStore {
    /// The record of the removed slot of a version. One that can't be read is an error: nobody knows what its bytes were.
    pub fn gone(&self, version: &Version) -> Result<Option<SlotRecord>, SlotError> {
        let file = self.layout.gone_slot(version).join(SLOT_FILE);
        read_json(&file).map_err(SlotError::disk("read", file.display().to_string()))
    }

    /// The records of all removed slots that can be read.
    pub fn all_gone(&self) -> Result<Vec<SlotRecord>, SlotError> {
        let folder = self.layout.gone();
        let names = names(&folder).map_err(SlotError::disk("list", "the removed slots"))?;
        Ok(names.iter().filter_map(|name| read_json(&folder.join(name).join(SLOT_FILE)).ok().flatten()).collect())
    }

    /// What `version` is on this host: the slot that has it, or had it, and its artifact. A refused release has no bytes.
    pub fn claim(&self, version: &Version) -> Result<Option<Claim>, SlotError> {
        let there = self.slots()?.into_iter().filter(|entry| entry.name.version == *version);
        let there = there.filter_map(|entry| match entry.stored {
            Stored::Slot(record) => Some(Claim::Slot(record)),
            Stored::Refused(_) | Stored::Damaged(_) => None,
        });
        match there.min_by_key(|claim| claim.record().slot.redeployment) {
            Some(claim) => Ok(Some(claim)),
            None => Ok(self.gone(version)?.map(|record| Claim::Gone(Box::new(record)))),
        }
    }

    /// Refuses bytes other than those that `version` means.
    pub fn check_claim(&self, version: &Version, new: &Digest) -> Result<(), SlotError> {
        match self.claim(version)? {
            Some(Claim::Slot(record)) if record.artifact != *new => {
                Err(SlotError::Conflict { slot: record.slot.clone(), there: record.artifact, new: *new })
            }
            Some(Claim::Gone(record)) if record.artifact != *new => {
                Err(SlotError::Taken { version: version.clone(), there: record.artifact, new: *new })
            }
            _ => Ok(()),
        }
    }

    /// Takes a slot away, and keeps its record. What has none goes as a whole.
    pub(super) fn bury(&self, slot: &SlotName) -> Result<(), DurableError> {
        let (from, to) = (self.layout.slot(slot), self.layout.gone_slot(&slot.version));
        let record = read_json::<SlotRecord>(&from.join(SLOT_FILE)).ok().flatten();
        // Another slot of the version may have gone before: it had the same bytes.
        let known = read_json::<SlotRecord>(&to.join(SLOT_FILE)).is_ok_and(|known| known.is_some());
        if record.is_none() || known {
            return remove_tree(&from).map(drop);
        }
        remove_tree(&to)?;
        rename_noreplace(&from, &to)?;
        strip(&to)
    }

    /// Brings to its end what a kill cut off.
    pub(super) fn strip_gone(&self) -> Result<(), DurableError> {
        let folder = self.layout.gone();
        names(&folder)?.iter().try_for_each(|name| strip(&folder.join(name)))
    }

    /// Forgets the versions beyond the bound.
    pub(super) fn forget_gone(&self) -> Result<(), SlotError> {
        let mut gone = self.all_gone()?;
        let surplus = gone.len().saturating_sub(MOST_GONE);
        gone.sort_by_key(|record| record.created);
        gone.iter().take(surplus).try_for_each(|record| {
            let version = &record.slot.version;
            let removed = remove_tree(&self.layout.gone_slot(version)).map(drop);
            removed.map_err(SlotError::disk("forget", format!("version {version}")))
        })
    }
}

/// What a version is already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// A slot.
    Slot(Box<SlotRecord>),
    /// One that was removed.
    Gone(Box<SlotRecord>),
}

impl Claim {
    /// Its record.
    pub fn record(&self) -> &SlotRecord {
        match self {
            Claim::Slot(record) | Claim::Gone(record) => record,
        }
    }
}

fn strip(folder: &std::path::Path) -> Result<(), DurableError> {
    let rest = names(folder)?.into_iter().filter(|name| name != SLOT_FILE);
    rest.map(|name| folder.join(name)).try_for_each(|path| remove_tree(&path).map(drop))
}
