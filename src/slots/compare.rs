//! A tree compared with the content manifest that was published with it.

use std::path::Path;

use crate::artifact::Manifest;
use crate::model::{Code, Fault};

/// Compares `tree` with `manifest`, the bytes of a content manifest; the first difference is `slot.tampered`.
pub fn compare(tree: &Path, manifest: &[u8]) -> Result<(), Box<Fault>> {
    let manifest: Manifest = serde_json::from_slice(manifest)
        .map_err(|error| Fault::new(Code::SlotTampered, format!("the content manifest can't be read: {error}")))?;
    manifest.verify(tree).map_err(|error| Box::new(error.fault()))
}
