//! An app's folders: opened, swept, and the slots in them read.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::durable::{self, DurableError, create_dir, read_bytes, read_json, secure_dir, secure_dir_below, sweep};
use crate::model::slot::{Quarantine, RefusedRecord, SLOT_FORMAT, SlotRecord};
use crate::model::{Layout, SlotName};

use super::error::SlotError;
use super::publish::Verify;

/// Largest content manifest that is read, in bytes: half a million entries of 500 bytes.
pub(super) const MAX_MANIFEST_BYTES: u64 = 256 << 20;

pub(super) const SLOT_FILE: &str = "slot.json";
pub(super) const FAILED_FILE: &str = "failed.json";
pub(super) const QUARANTINE_FILE: &str = "quarantine.json";
pub(super) const PIN_FILE: &str = "pinned";
pub(super) const ENV_FILE: &str = "env";

/// The slots of one app. Holds nothing but where they lie; clones are handles to the same.
#[derive(Debug, Clone)]
pub struct SlotStore {
    pub(super) layout: Layout,
    /// Held by what adds trees and by what removes unused ones: a tree is unused until its slot is there.
    trees: Arc<Mutex<()>>,
}

/// What stands in `slots/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: SlotName,
    /// What it is.
    pub stored: Stored,
    /// Its quarantine, if it is.
    pub quarantine: Option<Quarantine>,
    /// Whether an operator wants it kept.
    pub pinned: bool,
}

/// What a folder of `slots` holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// A slot that can be activated.
    Slot(Box<SlotRecord>),
    /// A release that was refused before it became one.
    Refused(Box<RefusedRecord>),
    /// Neither, or its marks can't be read; the reason for a person.
    Damaged(String),
}

impl SlotStore {
    /// Opens the app's folders: makes what is missing and sweeps what a kill left half made or half removed.
    ///
    /// The folders must be safe from others ([`DurableError::Insecure`]). What couldn't be swept comes back beside
    /// the store; it is in nobody's way. To be called once, before anything else works on the app.
    pub fn open(layout: Layout) -> Result<(SlotStore, Vec<SlotError>), SlotError> {
        SlotStore::open_checked(layout, secure_dir)
    }

    /// [`SlotStore::open`] of a state that lies below a folder which the caller made and answers for, as a test
    /// does below `/tmp`.
    pub fn open_below(base: &Path, layout: Layout) -> Result<(SlotStore, Vec<SlotError>), SlotError> {
        SlotStore::open_checked(layout, |path| secure_dir_below(base, path))
    }

    fn open_checked(
        layout: Layout,
        secure: impl Fn(&Path) -> Result<(), DurableError>,
    ) -> Result<(SlotStore, Vec<SlotError>), SlotError> {
        let store = SlotStore { layout, trees: Arc::default() };
        let (root, inbox) = (store.layout.root(), store.layout.inbox());
        // The inbox itself is shared on purpose, what leads to it must not be.
        let safe = secure(&root).and_then(|()| secure(durable::parent(&inbox)));
        let opened = safe.and_then(|()| store.make_folders());
        opened.map_err(SlotError::disk("open the folders of", store.layout.app().as_str()))?;
        let warnings = store.sweep_leftovers();
        Ok((store, warnings))
    }

    /// Where everything lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// All that stands in `slots`, in the order of their names. One that can't be read is [`Stored::Damaged`]
    /// and hides no other.
    pub fn slots(&self) -> Result<Vec<Entry>, SlotError> {
        let folder = self.layout.slots();
        let names = durable::names(&folder).map_err(SlotError::disk("list", "the slots"))?;
        let mut slots: Vec<Entry> = names
            .iter()
            .filter_map(|name| {
                let slot: SlotName = name.to_str()?.parse().ok()?;
                // Names have one spelling on disk; another one is nobody's slot.
                (*slot.encoded() == **name).then(|| self.entry(slot))
            })
            .collect();
        slots.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(slots)
    }

    /// What stands in `slots/NAME`; `None` where there is no such folder.
    pub fn slot(&self, slot: &SlotName) -> Option<Entry> {
        self.layout.slot(slot).is_dir().then(|| self.entry(slot.clone()))
    }

    /// The record of a slot that can be activated; for anything else the error says why not.
    pub fn record(&self, slot: &SlotName) -> Result<SlotRecord, SlotError> {
        match self.slot(slot).ok_or_else(|| SlotError::Unknown(slot.clone()))?.stored {
            Stored::Slot(record) => Ok(*record),
            Stored::Refused(refused) => Err(SlotError::Refused { slot: slot.clone(), fault: Box::new(refused.fault) }),
            Stored::Damaged(reason) => Err(SlotError::Damaged { slot: slot.clone(), reason }),
        }
    }

    /// Checks a slot's files against the content manifest that was published with them.
    pub fn verify(&self, slot: &SlotName, verify: Verify<'_>) -> Result<(), SlotError> {
        let tree = self.record(slot)?.tree;
        let path = self.layout.manifest(&tree);
        let manifest = read_bytes(&path, MAX_MANIFEST_BYTES);
        let manifest = manifest.map_err(SlotError::disk("verify", format!("slot {slot}")))?;
        let damaged =
            |what: &str| SlotError::Damaged { slot: slot.clone(), reason: format!("{what} of {tree} is gone") };
        if !self.layout.tree(&tree).is_dir() {
            return Err(damaged("the tree"));
        }
        let manifest = manifest.ok_or_else(|| damaged("the content manifest"))?;
        verify(&self.layout.tree(&tree), &manifest).map_err(|fault| SlotError::Unverified { tree, fault })
    }

    pub(super) fn lock_trees(&self) -> MutexGuard<'_, ()> {
        // It guards no data, so a thread that panicked under it left nothing half done in memory.
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, name: SlotName) -> Entry {
        let folder = self.layout.slot(&name);
        let pinned = folder.join(PIN_FILE).exists();
        let stored = self.stored(&name, &folder);
        let (stored, quarantine) = match read_json(&folder.join(QUARANTINE_FILE)) {
            Ok(quarantine) => (stored, quarantine),
            // Better not activated than activated although it is known to be bad.
            Err(error) => (Stored::Damaged(error.fault().message), None),
        };
        Entry { name, stored, quarantine, pinned }
    }

    fn stored(&self, name: &SlotName, folder: &Path) -> Stored {
        match read_json::<SlotRecord>(&folder.join(SLOT_FILE)) {
            Ok(Some(record)) if record.format != SLOT_FORMAT => {
                Stored::Damaged(format!("its format is {}, this slotd knows {SLOT_FORMAT}", record.format))
            }
            Ok(Some(record)) if record.slot != *name || record.app != *self.layout.app() => {
                Stored::Damaged(format!("its record is that of {}/{}", record.app, record.slot))
            }
            Ok(Some(record)) => Stored::Slot(Box::new(record)),
            Ok(None) => match read_json::<RefusedRecord>(&folder.join(FAILED_FILE)) {
                Ok(Some(refused)) => Stored::Refused(Box::new(refused)),
                Ok(None) => Stored::Damaged("it has no record".to_owned()),
                Err(error) => Stored::Damaged(error.fault().message),
            },
            Err(error) => Stored::Damaged(error.fault().message),
        }
    }

    fn make_folders(&self) -> Result<(), DurableError> {
        let (root, inbox) = (self.layout.root(), self.layout.inbox());
        for folder in [&root, &inbox] {
            let missing: Vec<&Path> = folder.ancestors().skip(1).take_while(|path| !path.exists()).collect();
            for above in missing.into_iter().rev() {
                create_dir(above, 0o755)?;
            }
        }
        create_dir(&root, 0o700)?;
        // Who may drop is the administrator's word: a folder that is there keeps its group and mode.
        create_dir(&inbox, 0o2770)?;
        for folder in self.folders().into_iter().chain([self.layout.spool(), self.layout.staging()]) {
            create_dir(&folder, 0o700)?;
        }
        Ok(())
    }

    fn sweep_leftovers(&self) -> Vec<SlotError> {
        let mut folders = vec![(self.layout.spool(), true), (self.layout.staging(), true), (self.layout.root(), false)];
        folders.extend(self.folders().map(|folder| (folder, false)));
        let slots = self.slots().unwrap_or_default();
        folders.extend(slots.iter().map(|entry| (self.layout.slot(&entry.name), false)));
        let swept = folders.into_iter().map(|(folder, all)| {
            let what = format!("the leftovers in {}", folder.display());
            sweep(&folder, all).map_err(SlotError::disk("sweep", what))
        });
        let stripped = self.strip_gone().map_err(SlotError::disk("sweep", "the records of removed slots"));
        swept.chain([stripped]).filter_map(Result::err).collect()
    }

    fn folders(&self) -> [std::path::PathBuf; 6] {
        let layout = &self.layout;
        [layout.artifacts(), layout.trees(), layout.slots(), layout.gone(), layout.builds(), layout.instances()]
    }
}
