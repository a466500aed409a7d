//! What was decided about the things in the inbox, kept in the fate files beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::model::{Fault, Timestamp};

use super::fate::{Fate, State};
use super::scan::{Scan, Seen, Stamp};

/// Decisions, by the names of what they are about.
#[derive(Debug, Default)]
pub(super) struct Memory {
    fates: BTreeMap<String, Remembered>,
    in_hand: BTreeMap<String, InHand>,
}

#[derive(Debug)]
struct Remembered {
    fate: Fate,
    /// The stamp of its file; `None` while it isn't known to have been written.
    on_disk: Option<Stamp>,
    /// Whether it was decided by this daemon, not by one before it.
    ours: bool,
}

/// Given out.
#[derive(Debug, Clone)]
enum InHand {
    /// And not decided yet.
    Undecided,
    /// And to be given out again.
    Again {
        /// Then.
        at: Instant,
        /// Why it couldn't be taken.
        why: String,
    },
}

/// What holds a thing back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// It was given out and nobody has said yet what became of it.
    InHand,
    /// It will be given out again.
    Again {
        /// In so long.
        after: Duration,
        /// Why it couldn't be taken.
        why: String,
    },
    /// It was decided, and hasn't changed.
    Decided,
}

impl Memory {
    /// The fate files that need no reading, by their stamps.
    pub(super) fn known(&self) -> BTreeMap<String, Stamp> {
        self.fates.iter().filter_map(|(name, held)| Some((name.clone(), held.on_disk?))).collect()
    }

    /// Brings it to what the fate files say. One that was removed is a person's word to try again.
    pub(super) fn refresh(&mut self, scan: &mut Scan) {
        let there = |name: &String| scan.seen.iter().any(|seen| seen.name == *name);
        self.in_hand.retain(|name, state| matches!(state, InHand::Undecided) || there(name));
        self.fates.retain(|name, held| there(name) && (held.on_disk.is_none() || scan.fates.contains_key(name)));
        for (name, loaded) in std::mem::take(&mut scan.loaded) {
            let before = self.fates.get(&name);
            let ours = before.is_some_and(|held| held.ours && Some(&held.fate) == loaded.as_ref());
            // What is remembered is newer where it couldn't be written.
            if let Some(fate) = loaded.filter(|fate| before.is_none_or(|held| fate.at >= held.fate.at)) {
                let on_disk = scan.fates.get(&name).copied();
                self.fates.insert(name, Remembered { fate, on_disk, ours });
            }
        }
    }

    /// Why `seen` is not to be given out; `keep` is whether accepted files stay in the inbox.
    pub(super) fn holds(&self, seen: &Seen, keep: bool, now: Instant) -> Option<Hold> {
        match self.in_hand.get(&seen.name) {
            Some(InHand::Undecided) => return Some(Hold::InHand),
            Some(InHand::Again { at, why }) if *at > now => {
                return Some(Hold::Again { after: at.duration_since(now), why: why.clone() });
            }
            Some(InHand::Again { .. }) | None => {}
        }
        let held = self.fates.get(&seen.name).filter(|held| held.fate.is_of(&seen.stamp, seen.checksum.as_ref()))?;
        match held.fate.state {
            State::Refused { .. } => Some(Hold::Decided),
            // One that shouldn't be there is given out once more by the next daemon: it is known then, and removed.
            State::Accepted { .. } if keep || held.ours => Some(Hold::Decided),
            State::Accepted { .. } | State::Waiting { .. } => None,
        }
    }

    /// Whether it was said already that this is overdue.
    pub(super) fn told_overdue(&self, name: &str) -> bool {
        self.fates.get(name).is_some_and(|held| matches!(held.fate.state, State::Waiting { .. }))
    }

    /// It was given out.
    pub(super) fn give(&mut self, name: &str) {
        self.in_hand.insert(name.to_owned(), InHand::Undecided);
    }

    /// It is to be given out again; `why` it couldn't be taken.
    pub(super) fn again(&mut self, name: &str, why: String, at: Instant) {
        self.in_hand.insert(name.to_owned(), InHand::Again { at, why });
    }

    /// Forgets what was refused, and what waits for its next try; gives their names.
    pub(super) fn forget(&mut self) -> Vec<String> {
        let refused = self.refused().map(|(name, _)| name.to_owned());
        let waiting = self.in_hand.iter().filter(|(_, state)| matches!(state, InHand::Again { .. }));
        let names: BTreeSet<String> = refused.chain(waiting.map(|(name, _)| name.clone())).collect();
        for name in &names {
            self.fates.remove(name);
            self.in_hand.remove(name);
        }
        names.into_iter().collect()
    }

    /// When, after `now`, something is to be given out again.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let at = |state: &InHand| match state {
            InHand::Undecided => None,
            InHand::Again { at, .. } => Some(*at),
        };
        self.in_hand.values().filter_map(at).filter(|at| *at > now).min()
    }

    /// It was decided; gives the fate's bytes, to be written beside it.
    pub(super) fn decide(&mut self, seen: &Seen, state: State) -> Vec<u8> {
        if !matches!(state, State::Waiting { .. }) {
            self.in_hand.remove(&seen.name);
        }
        let fate = Fate {
            file: seen.name.clone(),
            version: seen.verdict.as_ref().ok().cloned().flatten(),
            state,
            at: Timestamp::now(),
            stamp: seen.stamp,
            checksum: seen.checksum,
        };
        let bytes = fate.to_bytes();
        self.fates.insert(seen.name.clone(), Remembered { fate, on_disk: None, ours: true });
        bytes
    }

    /// What was refused, by name.
    pub(super) fn refused(&self) -> impl Iterator<Item = (&str, &Fault)> {
        self.fates.iter().filter_map(|(name, held)| match &held.fate.state {
            State::Refused { fault } => Some((name.as_str(), fault.as_ref())),
            State::Accepted { .. } | State::Waiting { .. } => None,
        })
    }
}

/// Where the fate of the thing at `path` is written.
pub(super) fn fate_path(path: &Path, name: &str) -> std::path::PathBuf {
    path.with_file_name(super::fate::name_of(name))
}
