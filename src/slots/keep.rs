//! Which slots are kept, and why. Pure: what is live, running or wanted comes in, a verdict a slot comes out.
//!
//! "The highest" goes by the app's order of versions, so a clock that was set back, or a redeployment of something old,
//! changes nothing; only an age, where one is set, is told by the clock. Failed ones are kept for their evidence, in a
//! quota of their own, by when they failed.

use std::cmp::{Ordering, Reverse};
use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use crate::model::retention::age_text;
use crate::model::{Digest, Retention, SlotName, Timestamp, VersionOrder};

/// How many failed releases are kept, with their evidence, beside the others.
pub const KEEP_FAILED: usize = 5;

/// All that decides which slots are kept, as it is at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepInputs {
    /// What `current` names, be it whole or not; likewise the next two.
    pub current: Option<SlotName>,
    /// What `fallback` names.
    pub fallback: Option<SlotName>,
    /// What `next` names.
    pub next: Option<SlotName>,
    /// The slots that have a unit which isn't down.
    pub running: Vec<SlotName>,
    /// From where and to where the open deployment goes.
    pub intent: Option<(Option<SlotName>, SlotName)>,
    /// Where queued deployments go.
    pub queued: Vec<SlotName>,
    /// What is on disk.
    pub slots: Vec<Candidate>,
    /// How many, for how long and with how many bytes are kept beside all those.
    pub retention: Retention,
    /// By the wall clock.
    pub now: Timestamp,
    /// Which version is the higher.
    pub order: VersionOrder,
}

/// A slot on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub slot: SlotName,
    /// Whether an operator wants it kept.
    pub pinned: bool,
    /// Refused, quarantined or damaged: since when. `None` for one that can be activated.
    pub failed: Option<Timestamp>,
    /// When it was last live, or else was published.
    pub left: Timestamp,
    /// What it has on the disk, shared with others or not: tree and artifact, each with its bytes.
    pub parts: Vec<(Digest, u64)>,
}

/// Which slots are kept: a verdict on each that was on disk when it was computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepSet {
    verdicts: Vec<Verdict>,
}

/// What becomes of a slot, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The slot.
    pub slot: SlotName,
    /// Why it stays, or goes.
    pub reason: Reason,
}

/// Why a slot stays, or goes; displayed as people read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// `current` names it.
    Current,
    /// `fallback` names it.
    Fallback,
    /// `next` names it.
    Next,
    /// A unit of it runs.
    Running,
    /// The open deployment comes from it or goes to it.
    Deployment,
    /// A queued deployment goes to it.
    Queued,
    /// An operator wants it kept.
    Pinned,
    /// One of the highest, of this many.
    Highest(u32),
    /// Not one of them: it goes.
    BeyondHighest(u32),
    /// It was last live longer ago than this: it goes.
    TooOld(Duration),
    /// With it, and with what is higher or stays anyhow, slots would have more bytes than these: it goes.
    BeyondBytes(u64),
    /// One of the [`KEEP_FAILED`] that failed last.
    FailedLast,
    /// Not one of them: it goes.
    BeyondFailedLast,
}

/// Judges every slot on disk, highest version first.
pub fn keep_set(inputs: &KeepInputs) -> KeepSet {
    let mut slots: Vec<&Candidate> = inputs.slots.iter().collect();
    slots.sort_by(|a, b| higher_first(inputs.order, &a.slot, &b.slot));
    let free = |candidate: &&&Candidate| inputs.protection(candidate).is_none();

    let Retention { keep, max_age, max_bytes } = inputs.retention;
    let highest = slots.iter().filter(free).filter(|candidate| candidate.failed.is_none());
    let highest: Vec<&&Candidate> = highest.take(usize::try_from(keep).unwrap_or(usize::MAX)).collect();
    let too_old = |candidate: &Candidate| max_age.filter(|max_age| candidate.left.until(inputs.now) > *max_age);

    let mut failed: Vec<&&Candidate> =
        slots.iter().filter(free).filter(|candidate| candidate.failed.is_some()).collect();
    // Stable: of those that failed at once the higher ones come first.
    failed.sort_by_key(|candidate| Reverse(candidate.failed));
    failed.truncate(KEEP_FAILED);

    // What stays whatever its bytes; then the highest, as long as they fit.
    let mut bytes = Bytes::default();
    slots.iter().filter(|candidate| !free(candidate)).chain(failed.iter().copied()).for_each(|it| bytes.add(it));
    let fitting = highest.iter().filter(|it| too_old(it).is_none());
    let fitting = fitting.take_while(|it| max_bytes.is_none_or(|most| bytes.with(it) <= most));
    let fitting: Vec<&SlotName> = fitting.map(|candidate| &candidate.slot).collect();

    let is_one_of = |set: &[&&Candidate], candidate: &Candidate| set.iter().any(|it| it.slot == candidate.slot);
    let reason = |candidate: &Candidate| match (inputs.protection(candidate), too_old(candidate), max_bytes) {
        (Some(reason), ..) => reason,
        _ if is_one_of(&failed, candidate) => Reason::FailedLast,
        _ if candidate.failed.is_some() => Reason::BeyondFailedLast,
        _ if !is_one_of(&highest, candidate) => Reason::BeyondHighest(keep),
        (_, Some(max_age), _) => Reason::TooOld(max_age),
        (_, _, Some(most)) if !fitting.contains(&&candidate.slot) => Reason::BeyondBytes(most),
        _ => Reason::Highest(keep),
    };
    let verdict = |candidate: &&Candidate| Verdict { slot: candidate.slot.clone(), reason: reason(candidate) };
    KeepSet { verdicts: slots.iter().map(verdict).collect() }
}

impl KeepSet {
    /// The verdicts, highest version first.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    /// Those that go, lowest version first: what is left by a kill in the middle is the better part.
    pub fn removable(&self) -> impl Iterator<Item = &SlotName> {
        self.verdicts.iter().rev().filter(|verdict| !verdict.reason.keeps()).map(|verdict| &verdict.slot)
    }

    /// Why a slot may not go; `None` if it may. A slot that came later has no verdict, and may not.
    pub fn bars(&self, slot: &SlotName) -> Option<String> {
        match self.verdicts.iter().find(|verdict| verdict.slot == *slot) {
            Some(verdict) => verdict.reason.keeps().then(|| verdict.reason.to_string()),
            None => Some("it wasn't there when the keep-set was computed".to_owned()),
        }
    }
}

impl KeepInputs {
    /// Why a slot stays whatever the quotas.
    fn protection(&self, candidate: &Candidate) -> Option<Reason> {
        let slot = &candidate.slot;
        let named = |link: &Option<SlotName>| link.as_ref() == Some(slot);
        let in_deployment = self.intent.as_ref().is_some_and(|(from, to)| named(from) || to == slot);
        let reasons = [
            (named(&self.current), Reason::Current),
            (named(&self.fallback), Reason::Fallback),
            (named(&self.next), Reason::Next),
            (in_deployment, Reason::Deployment),
            (self.running.contains(slot), Reason::Running),
            (self.queued.contains(slot), Reason::Queued),
            (candidate.pinned, Reason::Pinned),
        ];
        reasons.into_iter().find_map(|(is_so, reason)| is_so.then_some(reason))
    }
}

impl Reason {
    /// Whether a slot stays for it.
    pub fn keeps(self) -> bool {
        use Reason::{BeyondBytes, BeyondFailedLast, BeyondHighest, TooOld};
        !matches!(self, BeyondHighest(_) | TooOld(_) | BeyondBytes(_) | BeyondFailedLast)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Current => f.write_str("current"),
            Reason::Fallback => f.write_str("fallback"),
            Reason::Next => f.write_str("next"),
            Reason::Running => f.write_str("a unit of it runs"),
            Reason::Deployment => f.write_str("in the open deployment"),
            Reason::Queued => f.write_str("a queued deployment goes to it"),
            Reason::Pinned => f.write_str("pinned"),
            Reason::Highest(keep) => write!(f, "one of the {keep} highest"),
            Reason::BeyondHighest(keep) => write!(f, "beyond the {keep} highest"),
            Reason::TooOld(max_age) => write!(f, "last live more than {} ago", age_text(*max_age)),
            Reason::BeyondBytes(most) => write!(f, "beyond {most} bytes of all slots"),
            Reason::FailedLast => write!(f, "one of the {KEEP_FAILED} that failed last"),
            Reason::BeyondFailedLast => write!(f, "beyond the {KEEP_FAILED} that failed last"),
        }
    }
}

/// Bytes on the disk, shared ones once.
#[derive(Default)]
struct Bytes {
    counted: HashSet<Digest>,
    all: u64,
}

impl Bytes {
    fn add(&mut self, candidate: &Candidate) {
        for (digest, bytes) in &candidate.parts {
            if self.counted.insert(*digest) {
                self.all = self.all.saturating_add(*bytes);
            }
        }
    }

    /// All of them, with the candidate's.
    fn with(&mut self, candidate: &Candidate) -> u64 {
        self.add(candidate);
        self.all
    }
}

fn higher_first(order: VersionOrder, a: &SlotName, b: &SlotName) -> Ordering {
    order.compare(&b.version, &a.version).then(b.redeployment.cmp(&a.redeployment))
}

#[cfg(test)]
#[path = "keep_tests.rs"]
mod tests;
