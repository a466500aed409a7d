//! Pacing: how long the gate pauses after a failure, and the count behind it.
//!
//! The start limits of gate and socket are off, or a failing slot would take the socket down. So the gate itself
//! holds a broken slot to one start a step: it pauses while still `activating`, in which state a waiting connection
//! starts nothing. The count belongs to a slot (another one begins anew), lies in the runtime folder (so does a
//! boot), and is removed by a success.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::model::AppName;

use super::current::read_bounded;

/// The first pause; each further one is twice as long.
const FIRST: Duration = Duration::from_secs(1);

/// No pause is longer.
pub const LONGEST: Duration = Duration::from_secs(30);

/// Longest count file that is read.
const MAX_COUNT_BYTES: u64 = 4096;

/// Where an app's failures are counted.
#[derive(Debug)]
pub struct Pacing {
    folder: PathBuf,
    app: AppName,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Count {
    /// What failed: the text of `current`, empty where there is none.
    what: String,
    failures: u32,
}

impl Pacing {
    /// The app's count below the runtime folder: `gate/APP`. Only root may write there.
    pub fn new(run: &Path, app: &AppName) -> Pacing {
        Pacing { folder: run.join("gate"), app: app.clone() }
    }

    /// Counts a failure of `what` and says how long to pause. A count that can't be kept gives the longest pause:
    /// without one nothing else bounds the starts.
    pub fn failed(&self, what: &str) -> (Duration, io::Result<()>) {
        let before = self.read().filter(|count| count.what == what).map_or(0, |count| count.failures);
        let failures = before.saturating_add(1);
        match self.write(&Count { what: what.to_owned(), failures }) {
            Ok(()) => (pause(failures), Ok(())),
            Err(error) => (LONGEST, Err(error)),
        }
    }

    /// Forgets the failures.
    pub fn succeeded(&self) {
        if let Ok(folder) = self.open_folder() {
            // Absent is what is wanted; a count that stays only makes a later pause longer.
            let _ = rustix::fs::unlinkat(&folder, self.app.as_str(), AtFlags::empty());
        }
    }

    fn read(&self) -> Option<Count> {
        let folder = self.open_folder().ok()?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(folder, self.app.as_str(), flags, Mode::empty()).ok()?;
        serde_json::from_slice(&read_bounded(File::from(file), MAX_COUNT_BYTES).ok()?).ok()
    }

    fn write(&self, count: &Count) -> io::Result<()> {
        // tmpfiles makes the folder; a host that hasn't run it yet has none.
        if let Err(error) = std::fs::create_dir_all(&self.folder) {
            return Err(io::Error::new(error.kind(), format!("can't make {}: {error}", self.folder.display())));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let mut file = File::from(rustix::fs::openat(self.open_folder()?, self.app.as_str(), flags, mode)?);
        file.write_all(&serde_json::to_vec(count)?)
    }

    fn open_folder(&self) -> io::Result<std::os::fd::OwnedFd> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::open(&self.folder, flags, Mode::empty())?)
    }
}

/// 1, 2, 4 … 30 s after the first, second, third … failure in a row.
fn pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (FIRST * (1 << doublings)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(pacing: &Pacing, what: &str) -> u64 {
        let (pause, kept) = pacing.failed(what);
        kept.expect("counted");
        pause.as_secs()
    }

    #[test]
    fn pauses_double_up_to_thirty_seconds_and_begin_anew() {
        let run = tempfile::tempdir().expect("a folder");
        let pacing = Pacing::new(run.path(), &"web".parse().expect("app"));
        let row: Vec<u64> = (0..8).map(|_| seconds(&pacing, "slots/1")).collect();
        assert_eq!(row, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(seconds(&pacing, "slots/2"), 1, "another slot");
        assert_eq!(seconds(&pacing, "slots/2"), 2);
        pacing.succeeded();
        assert_eq!(seconds(&pacing, "slots/2"), 1, "after a success");
        assert_eq!(pause(u32::MAX), LONGEST);
    }

    #[test]
    fn what_cannot_be_counted_pauses_longest() {
        let run = tempfile::tempdir().expect("a folder");
        std::fs::write(run.path().join("gate"), "in the way").expect("a file");
        let (pause, kept) = Pacing::new(run.path(), &"web".parse().expect("app")).failed("slots/1");
        assert_eq!(pause, LONGEST);
        assert!(kept.is_err());
    }

    #[test]
    fn a_link_in_the_counts_place_is_not_written_through() {
        let run = tempfile::tempdir().expect("a folder");
        let other = run.path().join("other");
        std::fs::write(&other, "mine").expect("a file");
        std::fs::create_dir(run.path().join("gate")).expect("a folder");
        std::os::unix::fs::symlink(&other, run.path().join("gate/web")).expect("link");
        let (_, kept) = Pacing::new(run.path(), &"web".parse().expect("app")).failed("slots/1");
        assert!(kept.is_err());
        assert_eq!(std::fs::read_to_string(&other).expect("readable"), "mine");
    }
}
