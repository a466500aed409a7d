//! What stays and what goes, by links, plans, numbers, ages and bytes.

use super::*;
use proptest::prelude::*;

fn slot(text: &str) -> SlotName {
    text.parse().expect("a slot")
}

fn ready(text: &str) -> Candidate {
    Candidate { slot: slot(text), pinned: false, failed: None, left: Timestamp::from_unix_millis(0), parts: vec![] }
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
        retention: Retention { keep, ..Retention::default() },
        now: Timestamp::from_unix_millis(0),
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

/// `now` is the hundredth day.
fn aged(keep: u32, slots: &[(&str, u64)]) -> KeepInputs {
    let day = |number: u64| Timestamp::from_unix_millis(number * 86_400_000);
    let mut inputs = inputs(keep, &[]);
    inputs.now = day(100);
    inputs.slots = slots.iter().map(|(name, left)| Candidate { left: day(*left), ..ready(name) }).collect();
    inputs
}

#[test]
fn what_was_last_live_too_long_ago_goes_unless_somebody_needs_it() {
    let mut inputs = aged(5, &[("1", 1), ("2", 69), ("3", 70), ("4", 99), ("5", 2), ("6", 3)]);
    inputs.retention.max_age = Some(Duration::from_secs(30 * 86_400));
    (inputs.current, inputs.fallback) = (Some(slot("5")), Some(slot("1")));
    inputs.slots[5].pinned = true;
    assert_eq!(removed(&inputs), ["2"]);
    let told = keep_set(&inputs).bars(&slot("2"));
    assert_eq!(told, None);
    let verdict = |name: &str| {
        let set = keep_set(&inputs);
        let found = set.verdicts().iter().find(|verdict| verdict.slot == slot(name)).expect("a verdict");
        found.reason.to_string()
    };
    assert_eq!(verdict("2"), "last live more than 30 days ago");
    // A clock that was set back makes nothing old.
    inputs.now = Timestamp::from_unix_millis(0);
    assert_eq!(removed(&inputs), [""; 0]);
}

#[test]
fn the_highest_stay_as_long_as_they_fit_and_shared_bytes_count_once() {
    let mut inputs = inputs(5, &["1", "2", "2@r2", "3", "4"]);
    let tree = |number: u8, bytes| (Digest::from_bytes([number; 32]), bytes);
    for (number, candidate) in (0u8..).zip(&mut inputs.slots) {
        // 2 and 2@r2 are of one tree.
        let number = if number == 2 { 1 } else { number };
        candidate.parts = vec![tree(number, 10)];
    }
    inputs.current = Some(slot("1"));
    for (most, gone) in [
        (40, vec![]),
        (39, vec!["2", "2@r2"]),
        (29, vec!["2", "2@r2", "3"]),
        (20, vec!["2", "2@r2", "3"]),
        (0, vec!["2", "2@r2", "3", "4"]),
    ] {
        inputs.retention.max_bytes = Some(most);
        assert_eq!(removed(&inputs), gone, "{most}");
    }
    let set = keep_set(&inputs);
    assert_eq!(set.verdicts()[0].reason.to_string(), "beyond 0 bytes of all slots");
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
            ..ready("1")
        };
        let inputs = KeepInputs {
            current: links[0].map(name),
            fallback: links[1].map(name),
            next: links[2].map(name),
            running: running.iter().copied().map(name).collect(),
            intent: intent.map(|(from, to)| (from.map(name), name(to))),
            queued: vec![],
            slots: slots.iter().map(candidate).collect(),
            retention: Retention { keep, ..Retention::default() },
            now: Timestamp::from_unix_millis(0),
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
