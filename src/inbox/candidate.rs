//! A complete artifact, as it is given out, and its removal once it is accepted.

use std::io;

use crate::model::Version;

use super::scan::{CHECKSUM, Kind, Seen, stamp_now};

/// A complete artifact.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The version that its name claims, if it claims one.
    pub version: Option<Version>,
    /// The rest. Its kind is a file or a directory.
    pub seen: Seen,
}

impl Candidate {
    /// Removes the artifact and its `.sha256`, but only if it is still the one that was given out; `false` if it isn't.
    /// Blocks.
    ///
    /// # Errors
    /// It can't be removed; a directory may be gone in part.
    pub fn remove(&self) -> io::Result<bool> {
        match stamp_now(&self.seen.path) {
            Ok(now) if now == self.seen.stamp => {}
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error),
        }
        match self.seen.kind {
            Kind::Directory => std::fs::remove_dir_all(&self.seen.path)?,
            Kind::File | Kind::Other(_) => std::fs::remove_file(&self.seen.path)?,
        }
        let checksum = self.seen.path.with_file_name(format!("{}{CHECKSUM}", self.seen.name));
        match std::fs::remove_file(checksum) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(true),
        }
    }
}
