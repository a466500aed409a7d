//! `NAME.slotd.json` beside an artifact: what became of it.
//!
//! For the person who dropped it, and for slotd itself: a refused file is known by the stamp that stands there, over
//! restarts too, and tried again only when it changes or when its fate file is removed.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc;
use serde::{Deserialize, Serialize};

use crate::model::{Digest, Fault, SlotName, Timestamp, Version};

use super::scan::Stamp;

/// The ending of a fate file.
pub const ENDING: &str = ".slotd.json";

/// How many fate files outlive their artifacts.
pub const MAX_ORPHANS: usize = 50;

/// For how many days a fate file outlives its artifact.
pub const MAX_ORPHAN_DAYS: i64 = 30;

/// Largest fate file: the evidence of a fault is bounded, and this is above its bound.
const MAX_BYTES: u64 = 256 * 1024;

/// What became of a dropped file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fate {
    /// The file's name.
    pub file: String,
    /// The version that it claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// What became of it.
    #[serde(flatten)]
    pub state: State,
    /// When that was.
    pub at: Timestamp,
    /// The file to which it happened; another stamp is another file.
    pub stamp: Stamp,
    /// The `.sha256` that lay beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Stamp>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// It is a slot now.
    Accepted {
        /// Which.
        slot: SlotName,
        /// The packed bytes.
        digest: Digest,
    },
    /// It can't become one.
    Refused {
        /// Why.
        fault: Box<Fault>,
    },
    /// It isn't complete, for longer than the grace time.
    Waiting {
        /// `ingest.incomplete`, and what is missing.
        fault: Box<Fault>,
    },
}

impl Fate {
    /// Whether it is about a file of these stamps.
    pub fn is_of(&self, stamp: &Stamp, checksum: Option<&Stamp>) -> bool {
        let same_checksum = match (&self.checksum, checksum) {
            (Some(then), Some(now)) => then.is_same_as(now),
            (then, now) => then.is_none() && now.is_none(),
        };
        same_checksum && self.stamp.is_same_as(stamp)
    }

    /// Its bytes on disk.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

/// The name of the fate file of the artifact `name`.
pub fn name_of(name: &str) -> String {
    format!("{name}{ENDING}")
}

/// Whether `path` has the name of a fate file.
pub(super) fn is_fate(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(ENDING.as_bytes())
}

/// What stands in `path`; `None` for anything but a plain file that this version wrote. Whoever may drop artifacts may
/// write here, so nothing is believed that costs more than one artifact not being tried.
pub(super) fn read(path: &Path) -> Option<Fate> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Which fate files without an artifact are too many or too old. Times are nanoseconds since 1970.
pub(super) fn to_sweep(mut orphans: Vec<(PathBuf, i64)>, now_ns: i64) -> Vec<PathBuf> {
    let oldest = now_ns.saturating_sub(MAX_ORPHAN_DAYS * 24 * 60 * 60 * 1_000_000_000);
    orphans.sort_by_key(|(_, at)| std::cmp::Reverse(*at));
    let spared = orphans.iter().take(MAX_ORPHANS).take_while(|(_, at)| *at >= oldest).count();
    orphans.split_off(spared).into_iter().map(|(path, _)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 60 * 60 * 1_000_000_000;

    #[test]
    fn the_newest_orphans_stay_for_a_while() {
        let orphans = |count: i64| (0..count).map(|i| (PathBuf::from(i.to_string()), (100 + i) * DAY)).collect();
        assert!(to_sweep(orphans(10), 110 * DAY).is_empty());
        assert_eq!(to_sweep(orphans(10), 131 * DAY), [PathBuf::from("0")]);
        let many = (0..60).map(|i| (PathBuf::from(i.to_string()), i)).collect();
        assert_eq!(to_sweep(many, 60).len(), 10);
    }

    #[test]
    fn it_is_about_one_file_as_it_was() {
        let stamp = Stamp { dev: 1, inode: 2, size: 3, mtime_ns: 4, ctime_ns: 5 };
        let fault = Box::new(Fault::new(crate::model::Code::ArchiveDamaged, "cut short"));
        let fate = Fate {
            file: "web-1.tar".into(),
            version: None,
            state: State::Refused { fault },
            at: Timestamp::from_unix_millis(0),
            stamp,
            checksum: None,
        };
        let back: Fate = serde_json::from_slice(&fate.to_bytes()).expect("JSON");
        assert_eq!(back, fate);
        assert!(back.is_of(&Stamp { dev: 9, ..stamp }, None), "another mount of the same file system");
        assert!(!back.is_of(&Stamp { ctime_ns: 6, ..stamp }, None));
        assert!(!back.is_of(&stamp, Some(&stamp)), "a checksum that wasn't there");
    }
}
