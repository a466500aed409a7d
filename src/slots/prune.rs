//! What isn't kept goes: a slot's instances, the slot, then what no slot uses any more.
//!
//! In this order a kill at any place leaves every slot either whole or without a name. The keep-set is
//! computed anew for each slot that goes, and what a link or a pin says at that instant is asked once more.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::durable::{names, remove_tree};
use crate::model::{Digest, InstanceName, Retention, SlotName, Timestamp, VersionOrder};
use crate::points::{around, named};

use super::error::SlotError;
use super::keep::{Candidate, KeepInputs, KeepSet, keep_set};
use super::store::{Entry, SlotStore, Stored};

/// What a prune did. Whatever stands in `warnings`, the app is as well as before.
#[derive(Debug, Default)]
pub struct Pruned {
    /// The slots that went.
    pub removed: Vec<SlotName>,
    /// What couldn't be removed, and why.
    pub warnings: Vec<SlotError>,
}

named! {
    /// What a prune does, in this order; for crash points.
    Removal {
        Instances = "remove-instances",
        Slot = "remove-slot",
        Unreferenced = "sweep",
    }
}

impl SlotStore {
    /// What the disk says for the keep-set, now; the caller adds what runs and what is wanted.
    pub fn keep_inputs(&self, retention: Retention, order: VersionOrder) -> Result<KeepInputs, SlotError> {
        let links = self.links()?;
        Ok(KeepInputs {
            current: links.current.meant(),
            fallback: links.fallback.meant(),
            next: links.next.meant(),
            running: Vec::new(),
            intent: None,
            queued: Vec::new(),
            slots: self.slots()?.iter().map(|entry| self.candidate(entry)).collect(),
            retention,
            now: Timestamp::now(),
            order,
        })
    }

    /// Removes every slot that isn't kept, and then what no slot uses. `inputs` is asked anew before each removal.
    /// What can't be removed is a warning; only not knowing what to keep is an error, and then nothing goes.
    pub fn prune<E>(&self, mut inputs: impl FnMut() -> Result<KeepInputs, E>) -> Result<Pruned, E> {
        let mut pruned = Pruned::default();
        let mut tried = HashSet::new();
        loop {
            let now = inputs()?;
            let set = keep_set(&now);
            let Some(slot) = set.removable().find(|slot| !tried.contains(*slot)).cloned() else {
                pruned
                    .warnings
                    .extend(around(Removal::Unreferenced.as_str(), || self.sweep_unreferenced(&now.running)));
                pruned.warnings.extend(self.forget_gone().err());
                return Ok(pruned);
            };
            let removed = around(Removal::Instances.as_str(), || self.remove_instances(&slot, &set))
                .and_then(|()| around(Removal::Slot.as_str(), || self.remove_slot(&slot, &set)));
            match removed {
                Ok(()) => pruned.removed.push(slot.clone()),
                Err(error) => pruned.warnings.push(error),
            }
            tried.insert(slot);
        }
    }

    /// Removes the instances of a slot that isn't kept. The first step of its removal.
    pub fn remove_instances(&self, slot: &SlotName, guard: &KeepSet) -> Result<(), SlotError> {
        self.check_not_kept(slot, guard)?;
        self.instances()?.iter().filter(|instance| instance.slot == *slot).try_for_each(|instance| {
            self.remove_instance(instance)?;
            Ok(())
        })
    }

    /// Removes a slot that isn't kept, its marks and evidence with it; its record stays, beside the slots. The second step;
    /// one that is gone is removed.
    pub fn remove_slot(&self, slot: &SlotName, guard: &KeepSet) -> Result<(), SlotError> {
        self.check_not_kept(slot, guard)?;
        self.bury(slot).map_err(SlotError::disk("remove", format!("slot {slot}")))
    }

    /// Removes instances, trees and artifacts that no slot on disk uses; `running` are the slots whose instances are
    /// in use even so. The last step. Returns what couldn't be removed, or told.
    pub fn sweep_unreferenced(&self, running: &[SlotName]) -> Vec<SlotError> {
        let _held = self.lock_trees();
        let mut warnings = Vec::new();
        let unused = self.unused(running, &mut warnings).unwrap_or_else(|error| {
            warnings.push(error);
            Vec::new()
        });
        for (path, what) in unused {
            if let Err(source) = remove_tree(&path) {
                warnings.push(SlotError::disk("remove", what)(source));
            }
        }
        warnings
    }

    /// What no slot uses, each with its name for people. A tree that a used instance leads to is in use.
    fn unused(&self, running: &[SlotName], warnings: &mut Vec<SlotError>) -> Result<Vec<(PathBuf, String)>, SlotError> {
        let slots = self.slots()?;
        let is_used = |slot: &SlotName| running.contains(slot) || slots.iter().any(|entry| entry.name == *slot);
        let (used, unused): (Vec<InstanceName>, Vec<InstanceName>) =
            self.instances()?.into_iter().partition(|instance| is_used(&instance.slot));
        let instance = |name: &InstanceName| (self.layout.instance(name), format!("instance {name}"));
        let mut gone: Vec<_> = unused.iter().map(instance).collect();
        let damaged = slots.iter().find(|entry| matches!(entry.stored, Stored::Damaged(_)));
        if let Some(entry) = damaged {
            warnings.push(SlotError::Unsure { slot: entry.name.clone() });
            return Ok(gone);
        }

        let records = slots.iter().filter_map(|entry| match &entry.stored {
            Stored::Slot(record) => Some(record),
            Stored::Refused(_) | Stored::Damaged(_) => None,
        });
        let (mut trees, mut artifacts) = (HashSet::new(), HashSet::new());
        for record in records {
            trees.insert(record.tree);
            artifacts.insert(record.artifact);
        }
        trees.extend(used.iter().filter_map(|name| self.tree_of(name)));
        for (folder, in_use, what) in
            [(self.layout.trees(), &trees, "tree"), (self.layout.artifacts(), &artifacts, "artifact")]
        {
            for name in names(&folder).map_err(SlotError::disk("list", format!("the {what}s")))? {
                let text = name.to_string_lossy();
                let digest = text.strip_suffix(".json").unwrap_or(&text).parse::<Digest>();
                if digest.is_ok_and(|digest| !in_use.contains(&digest)) {
                    gone.push((folder.join(&name), format!("{what} {text}")));
                }
            }
        }
        // A tree goes before its manifest: "DIGEST" sorts before "DIGEST.json".
        gone.sort();
        Ok(gone)
    }

    fn tree_of(&self, instance: &InstanceName) -> Option<Digest> {
        let target = std::fs::read_link(self.layout.instance(instance).join("root")).ok()?;
        target.file_name()?.to_str()?.parse().ok()
    }

    fn candidate(&self, entry: &Entry) -> Candidate {
        let failed = match (&entry.stored, &entry.quarantine) {
            (Stored::Refused(refused), _) => Some(refused.at),
            (_, Some(quarantine)) => Some(quarantine.at),
            // Nobody knows since when: the first to go.
            (Stored::Damaged(_), None) => Some(Timestamp::from_unix_millis(0)),
            (Stored::Slot(_), None) => None,
        };
        let (created, parts) = match &entry.stored {
            Stored::Slot(record) => {
                // Of a tree from before its size was kept no more is known than that of its artifact.
                let tree = record.tree_bytes.unwrap_or(record.origin.bytes);
                (record.created, vec![(record.tree, tree), (record.artifact, record.origin.bytes)])
            }
            Stored::Refused(refused) => (refused.at, Vec::new()),
            Stored::Damaged(_) => (Timestamp::from_unix_millis(0), Vec::new()),
        };
        let left = self.last_live(&entry.name).map_or(created, |left| left.max(created));
        Candidate { slot: entry.name.clone(), pinned: entry.pinned, failed, left, parts }
    }

    fn check_not_kept(&self, slot: &SlotName, guard: &KeepSet) -> Result<(), SlotError> {
        let kept = |reason: String| Err(SlotError::Kept { slot: slot.clone(), reason });
        if let Some(reason) = guard.bars(slot) {
            return kept(reason);
        }
        if self.links()?.names(slot) {
            return kept("a link names it by now".to_owned());
        }
        match self.slot(slot) {
            Some(Entry { pinned: true, .. }) => kept("pinned by now".to_owned()),
            _ => Ok(()),
        }
    }
}
