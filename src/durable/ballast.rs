//! A record that can be written on a full disk.
//!
//! Beside the record lie three spare files whose blocks are allocated. A write fills a spare in place, flushes it and
//! exchanges it with the record: it needs no new block, and what was the record is a spare again. A
//! record's file is always as long as a spare; the rest is white space, which JSON doesn't mind.
//!
//! Three files can go on for ever: the open record, the one closed last, and a spare to exchange with. Hence three
//! spares where there is neither record yet. It holds where a file system
//! overwrites in place (ext4, xfs, tmpfs); one that copies on write needs room even then.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, OFlags};
use serde::Serialize;

use super::error::DurableError;
use super::file::{remove_file, sync_dir, to_json, write_atomic};
use super::rename::{exchange, rename_noreplace, rename_over};

/// A record with its spares.
///
/// One writer at a time. A reader must open the file anew each time: what it holds open may become a spare.
#[derive(Debug, Clone)]
pub struct Ballast {
    record: PathBuf,
    spares: [PathBuf; 3],
    size: usize,
}

impl Ballast {
    /// The spares of `record` (`.NAME.spare1` to `3` beside it), `size` bytes each. Touches nothing yet.
    pub fn new(record: PathBuf, size: usize) -> Self {
        let name = record.file_name().unwrap_or_default().to_string_lossy();
        let spares = [1, 2, 3].map(|number| record.with_file_name(format!(".{name}.spare{number}")));
        Ballast { record, spares, size }
    }

    /// Sees to it that the spares are there. To be called at start and after a close; that it fails on a full
    /// disk is worth a warning, the record can still be written as long as one is left.
    pub fn refill(&self) -> Result<(), DurableError> {
        for spare in self.spares.iter().filter(|spare| !self.is_whole(spare)) {
            let made = self.allocate(spare);
            if made.is_err() {
                // A part of a spare is of no use, and its blocks are wanted.
                let _ = std::fs::remove_file(spare);
            }
            made?;
        }
        Ok(())
    }

    /// Puts a record in its place, durably. Without a spare, or where it doesn't fit into one, as any other file.
    pub fn write<T: Serialize + ?Sized>(&self, record: &T) -> Result<(), DurableError> {
        let mut bytes = to_json(&self.record, record)?;
        let spare = self.spares.iter().find(|spare| self.is_whole(spare));
        let (Some(spare), true) = (spare, bytes.len() <= self.size) else {
            return write_atomic(&self.record, &bytes);
        };
        bytes.resize(self.size, b' ');
        let mut file = open(spare)?;
        file.rewind().and_then(|()| file.write_all(&bytes)).map_err(DurableError::io("write", spare))?;
        file.sync_all().map_err(DurableError::io("flush", spare))?;
        match exchange(spare, &self.record) {
            Err(error) if error.is_absent() => rename_noreplace(spare, &self.record),
            done => done,
        }
    }

    /// Moves the record to `to`, durably, whatever was there; a spare that is missing is taken from it.
    /// Between the two renames nothing stands at `to`, and the record is still in its place.
    /// Without a record nothing is done. Returns whether there was one.
    pub fn retire(&self, to: &Path) -> Result<bool, DurableError> {
        if !self.record.exists() {
            return Ok(false);
        }
        let missing = self.spares.iter().find(|spare| !self.is_whole(spare));
        if let (Some(missing), true) = (missing, self.is_whole(to)) {
            rename_over(to, missing)?;
        }
        rename_over(&self.record, to).map(|()| true)
    }

    /// Takes the record away, durably; a spare that is missing is made of it. Returns whether there was one.
    pub fn clear(&self) -> Result<bool, DurableError> {
        if !self.record.exists() {
            return Ok(false);
        }
        match self.spares.iter().find(|spare| !self.is_whole(spare)) {
            Some(missing) if self.is_whole(&self.record) => rename_over(&self.record, missing).map(|()| true),
            _ => remove_file(&self.record),
        }
    }

    /// Whether a file has all its blocks, so far as the file system tells.
    fn is_whole(&self, path: &Path) -> bool {
        let size = self.size as u64;
        std::fs::symlink_metadata(path)
            .is_ok_and(|meta| meta.is_file() && meta.len() == size && meta.blocks() * 512 >= size)
    }

    fn allocate(&self, spare: &Path) -> Result<(), DurableError> {
        let mut file = open(spare)?;
        file.set_len(0).map_err(DurableError::io("empty", spare))?;
        // Reserved in one piece where that is possible, and written in any case: only a written block needs
        // nothing more when it is written again.
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, self.size as u64) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
            Err(error) => return Err(DurableError::io("allocate", spare)(error)),
        }
        file.write_all(&vec![b' '; self.size]).map_err(DurableError::io("write", spare))?;
        file.sync_all().map_err(DurableError::io("flush", spare))?;
        sync_dir(super::file::parent(spare))
    }
}

fn open(spare: &Path) -> Result<File, DurableError> {
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
    options.open(spare).map_err(DurableError::io("open", spare))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::read_json;

    const SIZE: usize = 8192;

    #[test]
    fn records_and_spares_change_places() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("intent.json");
        let ballast = Ballast::new(path.clone(), SIZE);
        ballast.refill().expect("filled");
        let inodes = || {
            let mut all: Vec<u64> = std::fs::read_dir(dir.path())
                .expect("list")
                .map(|entry| entry.expect("entry").metadata().expect("meta").ino())
                .collect();
            all.sort_unstable();
            all
        };
        let before = inodes();
        for state in ["preparing", "starting", "proving"] {
            ballast.write(state).expect("written");
            assert_eq!(read_json::<String>(&path).expect("read").as_deref(), Some(state));
        }
        assert_eq!(inodes(), before, "nothing was allocated");
        let last = dir.path().join("last.json");
        ballast.retire(&last).expect("closed");
        for number in 2..6 {
            for state in ["preparing", "starting", "proving"] {
                ballast.write(&format!("{number} {state}")).expect("written");
            }
            ballast.retire(&last).expect("closed");
            assert_eq!(inodes(), before, "deployment {number}");
            assert_eq!(read_json::<String>(&last).expect("read"), Some(format!("{number} proving")));
            assert!(!path.exists());
            assert!(!ballast.retire(&last).expect("closed is closed"));
        }
    }

    #[test]
    fn a_record_that_is_taken_away_is_a_spare_again() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("queued.json");
        let ballast = Ballast::new(path.clone(), SIZE);
        ballast.refill().expect("filled");
        assert!(!ballast.clear().expect("nothing there"));
        for _ in 0..3 {
            ballast.write("waits").expect("written");
            assert!(ballast.clear().expect("cleared") && !path.exists());
            assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 3, "the spares");
        }
        ballast.write(&"x".repeat(SIZE)).expect("written");
        assert!(ballast.clear().expect("cleared") && !path.exists());
    }

    #[test]
    fn without_a_spare_or_too_large_it_is_a_file_like_any_other() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("intent.json");
        let ballast = Ballast::new(path.clone(), SIZE);
        ballast.write("no spare").expect("written");
        assert_eq!(read_json::<String>(&path).expect("read").as_deref(), Some("no spare"));
        ballast.refill().expect("filled");
        let long = "x".repeat(SIZE);
        ballast.write(&long).expect("written");
        assert_eq!(read_json::<String>(&path).expect("read"), Some(long));
    }
}
