//! Trees on their way through a build: `builds/NAME`, with the tree that is lent to the build's user and the environment
//! that its unit reads; and what a build said, which stays with the slot.
//!
//! What lies there is nobody's slot. While a tree is lent its files are the build's, and only the root helper can take them
//! back; so nothing is swept here before it has.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::durable::{
    DurableError, make_dir, names, read_bytes, remove_tree, rename_noreplace, unfreeze_tree, write_new,
};
use crate::model::{Digest, SlotName};

use super::env;
use super::error::SlotError;
use super::store::{ENV_FILE, MAX_MANIFEST_BYTES, SlotStore};

/// What a build said, beside the slot's record.
pub(super) const LOG_FILE: &str = "build.log";

/// The most bytes of it that are read.
const MAX_LOG_BYTES: u64 = 16 << 20;

/// The tree, in the folder of a build.
const TREE: &str = "tree";

impl SlotStore {
    /// Lays an unpacked tree out for a build, with the environment of its unit. Returns where the tree lies.
    pub fn lay_out(
        &self,
        slot: &SlotName,
        staging: &Path,
        variables: &BTreeMap<String, String>,
    ) -> Result<PathBuf, SlotError> {
        let variables = env::encode(variables).map_err(|source| SlotError::Env { slot: slot.clone(), source })?;
        let folder = self.layout.build(slot);
        let tree = folder.join(TREE);
        let failed = || SlotError::disk("lay out the build of", slot.to_string());
        let made = || -> Result<(), DurableError> {
            make_dir(&folder, 0o700)?;
            write_new(&folder.join(ENV_FILE), variables.as_bytes())?;
            unfreeze_tree(staging)?;
            rename_noreplace(staging, &tree)
        };
        made().map_err(failed())?;
        Ok(tree)
    }

    /// The builds that lie there.
    pub fn builds(&self) -> Result<Vec<SlotName>, SlotError> {
        let names = names(&self.layout.builds()).map_err(SlotError::disk("list", "the builds"))?;
        Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
    }

    /// Whether files of a build may belong to somebody else. The top folder changes its owner first, and comes back last.
    pub fn is_lent(&self, slot: &SlotName) -> bool {
        let tree = self.layout.build(slot).join(TREE);
        tree.symlink_metadata().is_ok_and(|meta| meta.uid() != nix::unistd::geteuid().as_raw())
    }

    /// Removes what a build leaves, once the tree isn't lent any more.
    pub fn clear_build(&self, slot: &SlotName) -> Result<(), SlotError> {
        let failed = SlotError::disk("remove the build of", slot.to_string());
        remove_tree(&self.layout.build(slot)).map(drop).map_err(failed)
    }

    /// What the build of a slot said, or that of a release which failed in it; `None` where there was none.
    pub fn build_log(&self, slot: &SlotName) -> Result<Option<String>, SlotError> {
        let bytes = read_bytes(&self.layout.slot(slot).join(LOG_FILE), MAX_LOG_BYTES);
        let bytes = bytes.map_err(SlotError::disk("read the build's log of", slot.to_string()))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The content manifest of a tree that is there.
    pub fn manifest_of(&self, key: &Digest) -> Result<Option<Vec<u8>>, SlotError> {
        if !self.layout.tree(key).is_dir() {
            return Ok(None);
        }
        read_bytes(&self.layout.manifest(key), MAX_MANIFEST_BYTES)
            .map_err(SlotError::disk("read", "a content manifest"))
    }
}
