//! Bounds on what comes in, and the meter that keeps them.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::model::time::duration_text;

use super::error::ArtifactError;

/// The ratio is judged only from here on: small archives of repetitive text compress better than any bomb needs.
pub const RATIO_FROM_BYTES: u64 = 10 << 20;
/// Bytes of the stream that an entry may cost beside its content: headers, long names, padding.
pub const OVERHEAD_BYTES: u64 = 16 << 10;
/// Bytes of all paths and targets together, which stay in memory: 500 for each of 500,000 entries.
pub const MAX_NAME_BYTES: u64 = 256 << 20;
/// Between two looks at the free space while something is written: a part of the reserve, which must not go in between.
const LOOK_AGAIN_BYTES: u64 = 16 << 20;

/// Bounds on one artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of the packed artifact.
    pub packed_bytes: u64,
    /// Bytes of all unpacked files together.
    pub unpacked_bytes: u64,
    /// Bytes of one unpacked file.
    pub file_bytes: u64,
    /// Entries: files, links and folders, those included that only a path implies.
    pub entries: u64,
    /// Unpacked bytes for one packed byte.
    pub ratio: u64,
    /// Time to unpack.
    #[serde(with = "duration_text")]
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        const GIB: u64 = 1 << 30;
        Limits {
            packed_bytes: 2 * GIB,
            unpacked_bytes: 8 * GIB,
            file_bytes: 4 * GIB,
            entries: 500_000,
            ratio: 200,
            time: Duration::from_secs(600),
        }
    }
}

/// What must stay free on the file system of the state, so that slotd and the apps can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserve {
    /// Bytes.
    pub bytes: u64,
    /// Inodes, where the file system counts them.
    pub inodes: u64,
}

impl Default for Reserve {
    fn default() -> Self {
        Reserve { bytes: 64 << 20, inodes: 1000 }
    }
}

/// Which bound was reached.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LimitError {
    /// `packed_bytes`.
    #[error("the artifact has {bytes} bytes, and at most {limit} are taken")]
    Packed {
        /// What it has.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// `unpacked_bytes`.
    #[error("the files have more than {0} bytes together")]
    Unpacked(u64),
    /// `file_bytes`.
    #[error("the file has {bytes} bytes, and at most {limit} are taken")]
    File {
        /// What it has.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// `entries`.
    #[error("the archive has more than {0} entries")]
    Entries(u64),
    /// `ratio`.
    #[error("the archive grows to more than {0} times its packed size")]
    Ratio(u64),
    /// `time`.
    #[error("unpacking took longer than {}", humantime::format_duration(*.0))]
    Time(Duration),
    /// Headers and padding without end.
    #[error("the archive has more headers and padding than its entries can need")]
    Overhead,
    /// Names of more than [`MAX_NAME_BYTES`].
    #[error("the paths and link targets have more than {MAX_NAME_BYTES} bytes together")]
    Names,
    /// An extended header of more than is read.
    #[error("an extended header has {0} bytes, and at most {max} are read", max = super::archive::MAX_EXTENDED_BYTES)]
    Extended(u64),
    /// Zeros behind the end.
    #[error("more than {0} bytes of padding follow the end of the archive")]
    Padding(u64),
    /// zstd's window.
    #[error("zstd wants a window of more than 2^{0} bytes")]
    Window(u32),
    /// xz's memory.
    #[error("xz wants more than {0} bytes of memory")]
    Memory(u64),
}

/// Counts what an archive costs.
#[derive(Debug)]
pub(super) struct Meter {
    limits: Limits,
    packed: u64,
    started: Instant,
    stream: u64,
    files: u64,
    entries: u64,
    names: u64,
}

impl Meter {
    /// Starts the clock on an artifact of `packed` bytes.
    pub(super) fn new(limits: Limits, packed: u64) -> Result<Self, LimitError> {
        if packed > limits.packed_bytes {
            return Err(LimitError::Packed { bytes: packed, limit: limits.packed_bytes });
        }
        Ok(Meter { limits, packed, started: Instant::now(), stream: 0, files: 0, entries: 0, names: 0 })
    }

    /// `bytes` more came out of the decompressor.
    pub(super) fn stream(&mut self, bytes: u64) -> Result<(), LimitError> {
        let limits = &self.limits;
        self.stream = self.stream.saturating_add(bytes);
        if self.started.elapsed() > limits.time {
            return Err(LimitError::Time(limits.time));
        }
        if self.stream > RATIO_FROM_BYTES && self.stream > self.packed.saturating_mul(limits.ratio) {
            return Err(LimitError::Ratio(limits.ratio));
        }
        let overhead = limits.entries.saturating_mul(OVERHEAD_BYTES);
        if self.stream > limits.unpacked_bytes.saturating_add(overhead) {
            return Err(LimitError::Overhead);
        }
        Ok(())
    }

    /// One entry more.
    pub(super) fn entry(&mut self) -> Result<(), LimitError> {
        self.entries += 1;
        if self.entries > self.limits.entries { Err(LimitError::Entries(self.limits.entries)) } else { Ok(()) }
    }

    /// A name of `bytes` is kept.
    pub(super) fn name(&mut self, bytes: usize) -> Result<(), LimitError> {
        self.names = self.names.saturating_add(bytes as u64);
        if self.names > MAX_NAME_BYTES { Err(LimitError::Names) } else { Ok(()) }
    }

    /// A file of `bytes` is about to be written.
    pub(super) fn file(&mut self, bytes: u64) -> Result<(), LimitError> {
        if bytes > self.limits.file_bytes {
            return Err(LimitError::File { bytes, limit: self.limits.file_bytes });
        }
        self.files = self.files.saturating_add(bytes);
        if self.files > self.limits.unpacked_bytes {
            return Err(LimitError::Unpacked(self.limits.unpacked_bytes));
        }
        Ok(())
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    pub(super) fn packed(&self) -> u64 {
        self.packed
    }

    /// Bytes of the files so far.
    pub(super) fn unpacked(&self) -> u64 {
        self.files
    }
}

/// Looks at the free space, first and now and then.
#[derive(Debug)]
pub(super) struct Room {
    reserve: Reserve,
    since: u64,
}

impl Room {
    /// Looks whether `bytes` and one entry have room on the file system of `dir`.
    pub(super) fn first_look(dir: &Path, bytes: u64, reserve: Reserve) -> Result<Self, ArtifactError> {
        look_for_room(dir, bytes, reserve)?;
        Ok(Room { reserve, since: 0 })
    }

    /// The same, with another reserve.
    #[cfg(test)]
    pub(super) fn with(self, reserve: Reserve) -> Self {
        Room { reserve, ..self }
    }

    /// `bytes` are about to be written; looks again if it is time to.
    pub(super) fn before(&mut self, dir: &Path, bytes: u64) -> Result<(), ArtifactError> {
        // An entry costs about a block even where it is empty.
        self.since = self.since.saturating_add(bytes).saturating_add(4096);
        if self.since < LOOK_AGAIN_BYTES {
            return Ok(());
        }
        self.since = 0;
        look_for_room(dir, bytes, self.reserve)
    }
}

/// Whether `bytes` more have room on the file system of `dir`, and the reserve stays.
///
/// # Errors
/// `disk.full`, or `fs.io` where that can't be told.
pub fn look_for_room(dir: &Path, bytes: u64, reserve: Reserve) -> Result<(), ArtifactError> {
    let stat = rustix::fs::statvfs(dir).map_err(ArtifactError::os("ask the free space of", dir))?;
    let no_room = |unit, free, needed| ArtifactError::NoRoom { path: dir.to_owned(), unit, free, needed };
    let (free, needed) = (stat.f_bavail.saturating_mul(stat.f_frsize), bytes.saturating_add(reserve.bytes));
    if free < needed {
        return Err(no_room("bytes", free, needed));
    }
    // btrfs and others make inodes as they need them, and count none.
    if stat.f_files > 0 && stat.f_favail < reserve.inodes {
        return Err(no_room("inodes", stat.f_favail, reserve.inodes));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Code;

    fn meter(limits: Limits, packed: u64) -> Meter {
        Meter::new(limits, packed).expect("within")
    }

    #[test]
    fn every_bound_holds_at_its_edge() {
        let limits = Limits { packed_bytes: 10, unpacked_bytes: 100, file_bytes: 60, entries: 2, ..Limits::default() };
        assert!(Meter::new(limits, 11).is_err());
        let mut meter = meter(limits, 10);
        assert_eq!(meter.file(60), Ok(()));
        assert_eq!(meter.file(40), Ok(()));
        assert_eq!(meter.file(1), Err(LimitError::Unpacked(100)));
        assert_eq!(meter.file(61), Err(LimitError::File { bytes: 61, limit: 60 }));
        assert_eq!((meter.entry(), meter.entry()), (Ok(()), Ok(())));
        assert_eq!(meter.entry(), Err(LimitError::Entries(2)));
        assert_eq!((meter.name(MAX_NAME_BYTES as usize), meter.name(1)), (Ok(()), Err(LimitError::Names)));
    }

    #[test]
    fn the_ratio_counts_from_ten_mebibytes() {
        let limits = Limits { ratio: 10, ..Limits::default() };
        assert_eq!(meter(limits, 1).stream(RATIO_FROM_BYTES), Ok(()));
        assert_eq!(meter(limits, 1).stream(RATIO_FROM_BYTES + 1), Err(LimitError::Ratio(10)));
        let mut large = meter(limits, RATIO_FROM_BYTES);
        assert_eq!(large.stream(RATIO_FROM_BYTES * 10), Ok(()));
        assert_eq!(large.stream(1), Err(LimitError::Ratio(10)));
    }

    #[test]
    fn headers_without_files_end_too() {
        let limits = Limits { unpacked_bytes: 100, entries: 1, ..Limits::default() };
        assert_eq!(meter(limits, 10).stream(100 + OVERHEAD_BYTES), Ok(()));
        assert_eq!(meter(limits, 10).stream(101 + OVERHEAD_BYTES), Err(LimitError::Overhead));
        let limits = Limits { time: Duration::ZERO, ..Limits::default() };
        assert_eq!(meter(limits, 10).stream(1), Err(LimitError::Time(Duration::ZERO)));
    }

    #[test]
    fn room_is_asked_for_with_the_reserve() {
        let dir = tempfile::tempdir().expect("folder");
        assert!(Room::first_look(dir.path(), 0, Reserve { bytes: 0, inodes: 0 }).is_ok());
        for (bytes, reserve) in
            [(u64::MAX, Reserve { bytes: 0, inodes: 0 }), (0, Reserve { bytes: u64::MAX, inodes: 0 })]
        {
            let error = Room::first_look(dir.path(), bytes, reserve).expect_err("no disk is that large");
            assert_eq!(error.code(), Code::DiskFull);
        }
    }
}
