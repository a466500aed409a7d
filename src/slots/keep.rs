//! Which slots are kept, and why. Pure: what is live, running or wanted comes in, a verdict a slot comes out.
//!
//! The rule reads no clock for slots that can be activated: "the highest" goes by the app's order of versions, so a
//! clock that was set back, or a redeployment of something old, changes nothing. Failed ones are kept for their
//! evidence, in a quota of their own, by when they failed.

use std::cmp::{Ordering, Reverse};
use std::fmt;

use crate::model::{SlotName, Timestamp, VersionOrder};

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
    /// How many are kept beside all those.
    pub keep: u32,
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

    let highest = slots.iter().filter(free).filter(|candidate| candidate.failed.is_none());
    let highest: Vec<&SlotName> =
        highest.take(usize::try_from(inputs.keep).unwrap_or(usize::MAX)).map(|candidate| &candidate.slot).collect();

    let mut failed: Vec<&&Candidate> =
        slots.iter().filter(free).filter(|candidate| candidate.failed.is_some()).collect();
    // Stable: of those that failed at once the higher ones come first.
    failed.sort_by_key(|candidate| Reverse(candidate.failed));
    let failed: Vec<&SlotName> = failed.iter().take(KEEP_FAILED).map(|candidate| &candidate.slot).collect();

    let reason = |candidate: &Candidate| match inputs.protection(candidate) {
        Some(reason) => reason,
        None if failed.contains(&&candidate.slot) => Reason::FailedLast,
        None if candidate.failed.is_some() => Reason::BeyondFailedLast,
        None if highest.contains(&&candidate.slot) => Reason::Highest(inputs.keep),
        None => Reason::BeyondHighest(inputs.keep),
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
        !matches!(self, Reason::BeyondHighest(_) | Reason::BeyondFailedLast)
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
            Reason::FailedLast => write!(f, "one of the {KEEP_FAILED} that failed last"),
            Reason::BeyondFailedLast => write!(f, "beyond the {KEEP_FAILED} that failed last"),
        }
    }
}

fn higher_first(order: VersionOrder, a: &SlotName, b: &SlotName) -> Ordering {
    order.compare(&b.version, &a.version).then(b.redeployment.cmp(&a.redeployment))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slot(text: &str) -> SlotName {
        text.parse().expect("a slot")
    }

    fn ready(text: &str) -> Candidate {
        Candidate { slot: slot(text), pinned: false, failed: None }
    }

    fn inputs(keep: u32, slots: &[&str]) -> KeepInputs {
        KeepInputs {
            current: None,
            fallback: None,
            next: None,
            running: vec![],
            intent: None,
            queued: vec![],
            slots: slots.iter().map(|text| ready(text)).collect(),
            keep,
            order: VersionOrder::Uapi,
        }
    }

    fn removed(inputs: &KeepInputs) -> Vec<String> {
        keep_set(inputs).removable().map(ToString::to_string).collect()
    }

    #[test]
    fn the_highest_stay_beside_current_and_fallback() {
        let mut inputs = inputs(2, &["1.9", "1.10", "2.0~rc1", "2.0", "2.0@r2", "1.8"]);
        inputs.current = Some(slot("1.10"));
        inputs.fallback = Some(slot("1.8"));
        assert_eq!(removed(&inputs), ["1.9", "2.0~rc1"]);
        let reasons: Vec<String> =
            keep_set(&inputs).verdicts().iter().map(|v| format!("{}: {}", v.slot, v.reason)).collect();
        assert_eq!(
            reasons,
            [
                "2.0@r2: one of the 2 highest",
                "2.0: one of the 2 highest",
                "2.0~rc1: beyond the 2 highest",
                "1.10: current",
                "1.9: beyond the 2 highest",
                "1.8: fallback",
            ]
        );
    }

    #[test]
    fn keep_none_and_redeploy_an_old_version_keeps_what_lives() {
        let mut inputs = inputs(0, &["1", "2", "3", "4"]);
        inputs.current = Some(slot("1"));
        inputs.fallback = Some(slot("4"));
        assert_eq!(removed(&inputs), ["2", "3"]);
    }

    #[test]
    fn killed_between_the_switch_and_the_close_nothing_of_the_deployment_goes() {
        let mut inputs = inputs(0, &["1", "2", "3"]);
        // After the exchange: current is the candidate, next the slot that was left, fallback older still.
        (inputs.current, inputs.next, inputs.fallback) = (Some(slot("3")), Some(slot("2")), Some(slot("1")));
        assert_eq!(removed(&inputs), [""; 0]);
        // Even with every link lost the intent and the running units speak.
        (inputs.current, inputs.next, inputs.fallback) = (None, None, None);
        inputs.intent = Some((Some(slot("2")), slot("3")));
        inputs.running = vec![slot("1")];
        assert_eq!(removed(&inputs), [""; 0]);
    }

    #[test]
    fn failed_releases_have_a_quota_of_their_own_by_when_they_failed() {
        let mut inputs = inputs(1, &["1"]);
        let failed = |number: u64, at: u64| Candidate {
            failed: Some(Timestamp::from_unix_millis(at)),
            ..ready(&format!("9.{number}"))
        };
        // The lowest failed last: it is the one that somebody will ask about.
        inputs.slots.extend((1..=7).map(|number| failed(number, 100 - number)));
        assert_eq!(removed(&inputs), ["9.6", "9.7"]);
        inputs.slots[7].pinned = true;
        assert_eq!(removed(&inputs), ["9.6"], "a pinned one takes nobody's place");
    }

    #[test]
    fn what_came_later_may_not_go() {
        let set = keep_set(&inputs(0, &["1"]));
        assert_eq!(set.bars(&slot("1")), None);
        assert!(set.bars(&slot("2")).is_some());
    }

    proptest! {
        #[test]
        fn what_lives_or_is_wanted_never_goes(
            slots in prop::collection::btree_map(1u32..20, (any::<bool>(), prop::option::of(0u64..9)), 0..16),
            links in prop::array::uniform3(prop::option::of(1u32..20)),
            running in prop::collection::vec(1u32..20, 0..4),
            intent in prop::option::of((prop::option::of(1u32..20), 1u32..20)),
            keep in 0u32..6,
        ) {
            let name = |number: u32| slot(&number.to_string());
            let candidate = |(number, (pinned, failed)): (&u32, &(bool, Option<u64>))| Candidate {
                slot: name(*number),
                pinned: *pinned,
                failed: failed.map(Timestamp::from_unix_millis),
            };
            let inputs = KeepInputs {
                current: links[0].map(name),
                fallback: links[1].map(name),
                next: links[2].map(name),
                running: running.iter().copied().map(name).collect(),
                intent: intent.map(|(from, to)| (from.map(name), name(to))),
                queued: vec![],
                slots: slots.iter().map(candidate).collect(),
                keep,
                order: VersionOrder::Uapi,
            };
            let set = keep_set(&inputs);
            prop_assert_eq!(set.verdicts().len(), slots.len());
            let wanted = links.into_iter().flatten().chain(running).chain(intent.map(|(_, to)| to));
            let wanted = wanted.chain(intent.and_then(|(from, _)| from));
            let pinned = slots.iter().filter(|(_, (pinned, _))| *pinned).map(|(number, _)| *number);
            let wanted: Vec<u32> = wanted.chain(pinned).collect();
            for number in &wanted {
                prop_assert!(set.bars(&name(*number)).is_some(), "{} of {:?}", number, set);
            }
            // Of the rest exactly the quotas stay.
            let rest = slots.iter().filter(|(number, _)| !wanted.contains(number));
            let (failed, ready): (Vec<_>, Vec<_>) = rest.partition(|(_, (_, failed))| failed.is_some());
            let goes = ready.len().saturating_sub(keep as usize) + failed.len().saturating_sub(KEEP_FAILED);
            prop_assert_eq!(set.removable().count(), goes);
        }
    }
}
