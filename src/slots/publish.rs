//! From an unpacked artifact to a slot: a row of steps, each of which can be the last one before a power loss.
//!
//! The tree comes before the record that names it, and everything is flushed before it gets its name. So
//! whatever is cut off leaves at most a tree that no slot names, which the next publication takes up or the next
//! sweep removes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::durable::{
    DurableError, aside_in, exchange, freeze_dir, make_dir, read_bytes, remove_tree, rename_noreplace, rename_over,
    sync_dir, sync_tree, write_atomic, write_json, write_new,
};
use crate::model::release::Release;
use crate::model::setting::{BuildInputs, Inputs};
use crate::model::slot::{Built, Origin, RefusedRecord, SLOT_FORMAT, SlotRecord, UnitCount};
use crate::model::{Digest, Fault, SlotName, Timestamp};

use super::build::LOG_FILE;
use super::env;
use super::error::SlotError;
use super::store::{ENV_FILE, FAILED_FILE, SLOT_FILE, SlotStore, Stored};

/// Checks a tree against a content manifest's bytes.
pub type Verify<'a> = &'a dyn Fn(&Path, &[u8]) -> Result<(), Box<Fault>>;

/// What a slot is made of.
#[derive(Debug, Clone)]
pub struct NewSlot<'a> {
    /// Its name; a redeployment gets the next number that is free.
    pub slot: SlotName,
    /// Digest of the packed bytes.
    pub artifact: Digest,
    /// The units that run it, in the order of starting.
    pub units: Vec<UnitCount>,
    /// What the release says of itself.
    pub release: Release,
    /// Where it came from.
    pub origin: Origin,
    /// The snapshot of the app's `[env]`.
    pub env: BTreeMap<String, String>,
    /// The unpacked tree: a folder in the app's `staging`. `None`: that which was made before of the same artifact by the
    /// same build.
    pub staging: Option<PathBuf>,
    /// The content manifest of that tree, as it is to be stored.
    pub manifest: &'a [u8],
    /// Bytes of the tree's files.
    pub tree_bytes: u64,
    /// What built it, if anything did.
    pub build: Option<Built>,
    /// What the build said.
    pub log: Option<&'a str>,
    /// The packed bytes: a file in the app's `spool`. `None`: they are kept already.
    pub packed: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// A slot that wasn't there.
    New(SlotRecord),
    /// The slot was there, with the same bytes; it is as it was.
    Known(SlotRecord),
}

/// One step of a publication. A power loss after any of them costs the publication, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishStep {
    /// A tree of the same key that is there already is checked; a bad one that no slot names goes.
    Check,
    /// All that was unpacked and spooled reaches the disk.
    Flush,
    /// The content manifest stands beside the tree's future place.
    Manifest,
    /// The tree gets its name.
    Tree,
    /// Its top folder is frozen: only now, since an ordinary user can't move a frozen folder.
    Freeze,
    /// The packed bytes get their name.
    Packed,
    /// The slot gets its name.
    Slot,
}

impl PublishStep {
    /// All, in their order.
    pub const ALL: [PublishStep; 7] = [
        PublishStep::Check,
        PublishStep::Flush,
        PublishStep::Manifest,
        PublishStep::Tree,
        PublishStep::Freeze,
        PublishStep::Packed,
        PublishStep::Slot,
    ];
}

/// The key of the tree that an artifact becomes: the digest of the artifact's and of all inputs of its build.
pub fn tree_key(artifact: &Digest, build: Option<&Built>) -> Digest {
    let mut hash = Sha256::new();
    hash.update(b"slotd tree 1\n");
    hash.update(format!("artifact {artifact}\n"));
    if let Some(Built { inputs: BuildInputs { unit, env }, text }) = build {
        hash.update(format!("build {unit} {text}\n"));
        for (name, value) in env {
            // With its length, so that no value reads as another variable.
            hash.update(format!("env {name} {} {value}\n", value.len()));
        }
    }
    Digest::from_bytes(hash.finalize().into())
}

impl SlotStore {
    /// Makes a slot of an unpacked artifact. `staging` and `packed` are moved away; after an error they may still
    /// be there, for the caller or the next start to remove.
    ///
    /// [`SlotError::Conflict`] where a slot of this version has other bytes, [`SlotError::Taken`] where one had. A refused release of this name is replaced.
    /// A slot that is known gets back a tree that it had lost.
    pub fn publish(&self, new: &NewSlot<'_>, verify: Verify<'_>) -> Result<Published, SlotError> {
        let _held = self.lock_trees();
        let known = self.known(new)?;
        let record = match &known {
            Some(record) => record.clone(),
            None => self.new_record(new, self.next_name(&new.slot)?),
        };
        let needed = |step: &&PublishStep| match step {
            PublishStep::Slot => known.is_none(),
            PublishStep::Manifest | PublishStep::Tree => new.staging.is_some(),
            PublishStep::Packed => new.packed.is_some(),
            _ => true,
        };
        for step in PublishStep::ALL.iter().filter(needed) {
            self.publish_step(*step, new, &record, verify)?;
        }
        Ok(if known.is_some() { Published::Known(record) } else { Published::New(record) })
    }

    /// Makes a slot of the same files and release as `of`, with an environment and units of its own: its next redeployment.
    pub fn redeploy(
        &self,
        of: &SlotName,
        inputs: Inputs,
        by: &str,
        message: Option<String>,
    ) -> Result<SlotName, SlotError> {
        let _held = self.lock_trees();
        let record = self.record(of)?;
        let slot = self.next_redeployment(of)?;
        let origin = Origin { by: by.to_owned(), message, ..record.origin };
        // Its tree is what it was, however a build would be done now.
        let Inputs { env, units, build: _ } = inputs;
        let (name, created) = (slot.clone(), Timestamp::now());
        let log = self.build_log(of)?;
        self.publish_record(&SlotRecord { slot: name, env, units, origin, created, ..record }, log.as_deref())?;
        Ok(slot)
    }

    /// The name of the next redeployment of a release.
    pub fn next_redeployment(&self, of: &SlotName) -> Result<SlotName, SlotError> {
        let same = self.slots()?.into_iter().map(|entry| entry.name).filter(|name| name.version == of.version);
        let redeployment = same.map(|name| name.redeployment).max().unwrap_or(1) + 1;
        Ok(SlotName { version: of.version.clone(), redeployment })
    }

    fn next_name(&self, wanted: &SlotName) -> Result<SlotName, SlotError> {
        if wanted.redeployment == 1 { Ok(wanted.clone()) } else { self.next_redeployment(wanted) }
    }

    /// Keeps the record of a release that was refused. A slot of its version that could be activated stays,
    /// and the refusal is kept by whoever keeps the file's fate. Returns whether the record was kept here.
    ///
    /// `log`: what its build said.
    pub fn record_refusal(&self, refused: &RefusedRecord, log: Option<&str>) -> Result<bool, SlotError> {
        let slot = SlotName { version: refused.version.clone(), redeployment: refused.redeployment };
        let failed = || SlotError::disk("record the refusal of", slot.to_string());
        match self.slot(&slot).map(|entry| entry.stored) {
            Some(Stored::Slot(_) | Stored::Damaged(_)) => Ok(false),
            Some(Stored::Refused(_)) | None => {
                let aside = aside_in(&self.layout.staging());
                let made = || -> Result<(), DurableError> {
                    make_dir(&aside, 0o700)?;
                    write_json(&aside.join(FAILED_FILE), refused)?;
                    put_log(&aside, log)?;
                    self.put(&aside, &self.layout.slot(&slot))
                };
                made().map(|()| true).map_err(failed())
            }
        }
    }

    pub(super) fn publish_step(
        &self,
        step: PublishStep,
        new: &NewSlot<'_>,
        record: &SlotRecord,
        verify: Verify<'_>,
    ) -> Result<(), SlotError> {
        let failed = || SlotError::disk("publish", format!("slot {}", new.slot));
        let (tree, manifest) = (self.layout.tree(&record.tree), self.layout.manifest(&record.tree));
        match step {
            PublishStep::Check => self.check_tree(&record.tree, new, verify),
            PublishStep::Flush => sync_tree(&self.layout.staging()).map_err(failed()),
            PublishStep::Manifest => write_changed(&manifest, new.manifest).map_err(failed()),
            PublishStep::Tree => match &new.staging {
                Some(staging) => match rename_noreplace(staging, &tree) {
                    // The same bytes gave the same tree: it was checked, and one is enough.
                    Err(error) if error.is_exists() => remove_tree(staging).map(drop).map_err(failed()),
                    done => done.map_err(failed()),
                },
                None => Ok(()),
            },
            PublishStep::Freeze => freeze_dir(&tree).map_err(failed()),
            PublishStep::Packed => match &new.packed {
                Some(packed) => rename_over(packed, &self.layout.artifact(&new.artifact)).map_err(failed()),
                None => Ok(()),
            },
            PublishStep::Slot => self.publish_record(record, new.log),
        }
    }

    /// The slot of this name if it has the same bytes; an error if it has others.
    fn known(&self, new: &NewSlot<'_>) -> Result<Option<SlotRecord>, SlotError> {
        let slot = &new.slot;
        self.check_claim(&slot.version, &new.artifact)?;
        if slot.redeployment > 1 {
            return Ok(None);
        }
        match self.slot(slot).map(|entry| entry.stored) {
            None | Some(Stored::Refused(_)) => Ok(None),
            Some(Stored::Slot(record)) => Ok(Some(*record)),
            // What a link names is somebody's way back, however it looks.
            Some(Stored::Damaged(reason)) if self.links()?.names(slot) => {
                Err(SlotError::Damaged { slot: slot.clone(), reason })
            }
            Some(Stored::Damaged(_)) => Ok(None),
        }
    }

    pub(super) fn new_record(&self, new: &NewSlot<'_>, slot: SlotName) -> SlotRecord {
        SlotRecord {
            format: SLOT_FORMAT,
            app: self.layout.app().clone(),
            slot,
            artifact: new.artifact,
            tree: tree_key(&new.artifact, new.build.as_ref()),
            units: new.units.clone(),
            release: new.release.clone(),
            origin: new.origin.clone(),
            env: new.env.clone(),
            created: Timestamp::now(),
            tree_bytes: Some(new.tree_bytes),
            build: new.build.clone(),
        }
    }

    fn check_tree(&self, key: &Digest, new: &NewSlot<'_>, verify: Verify<'_>) -> Result<(), SlotError> {
        let tree = self.layout.tree(key);
        if !tree.exists() {
            let reason = || format!("the tree {key} was there, and is gone");
            return match new.staging {
                Some(_) => Ok(()),
                None => Err(SlotError::Damaged { slot: new.slot.clone(), reason: reason() }),
            };
        }
        let failed = || SlotError::disk("publish", format!("slot {}", new.slot));
        // A power loss may have come between the tree's name and its freezing.
        freeze_dir(&tree).map_err(failed())?;
        match verify(&tree, new.manifest) {
            Ok(()) => Ok(()),
            Err(fault) if new.staging.is_none() || self.is_used(key)? => {
                Err(SlotError::Unverified { tree: *key, fault })
            }
            Err(_) => remove_tree(&tree).map(drop).map_err(failed()),
        }
    }

    fn is_used(&self, key: &Digest) -> Result<bool, SlotError> {
        let uses = |stored: &Stored| match stored {
            Stored::Slot(record) => record.tree == *key,
            Stored::Refused(_) => false,
            Stored::Damaged(_) => true,
        };
        Ok(self.slots()?.iter().any(|entry| uses(&entry.stored)))
    }

    fn publish_record(&self, record: &SlotRecord, log: Option<&str>) -> Result<(), SlotError> {
        let slot = &record.slot;
        let env = env::encode(&record.env).map_err(|source| SlotError::Env { slot: slot.clone(), source })?;
        let aside = aside_in(&self.layout.staging());
        let made = || -> Result<(), DurableError> {
            make_dir(&aside, 0o700)?;
            write_new(&aside.join(ENV_FILE), env.as_bytes())?;
            write_json(&aside.join(SLOT_FILE), record)?;
            put_log(&aside, log)?;
            self.put(&aside, &self.layout.slot(slot))
        };
        made().map_err(SlotError::disk("publish", format!("slot {slot}")))
    }

    /// Gives a finished folder its name, in the place of what may stand there.
    pub(super) fn put(&self, aside: &Path, place: &Path) -> Result<(), DurableError> {
        sync_dir(aside)?;
        match rename_noreplace(aside, place) {
            Err(error) if error.is_exists() => {
                exchange(aside, place)?;
                // The old one: if it can't go now, the next start sweeps it.
                let _ = remove_tree(aside);
                Ok(())
            }
            done => done,
        }
    }
}

/// The digest of a unit's files, in systemd's order; `None` where there are none, or one can't be read.
pub fn unit_digest(files: &[String]) -> Option<Digest> {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(file.as_bytes());
        hash.update(std::fs::read(file).ok()?);
    }
    (!files.is_empty()).then(|| Digest::from_bytes(hash.finalize().into()))
}

/// The digest of a text.
pub fn text_digest(text: &str) -> Digest {
    Digest::from_bytes(Sha256::digest(text).into())
}

fn put_log(aside: &Path, log: Option<&str>) -> Result<(), DurableError> {
    log.map_or(Ok(()), |log| write_new(&aside.join(LOG_FILE), log.as_bytes()))
}

fn write_changed(path: &Path, bytes: &[u8]) -> Result<(), DurableError> {
    match read_bytes(path, bytes.len() as u64) {
        Ok(Some(there)) if there == bytes => Ok(()),
        _ => write_atomic(path, bytes),
    }
}
