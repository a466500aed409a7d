//! Quarantine, pins, evidence, the mark.

use super::*;
use crate::model::slot::{Phase, Quarantine};
use crate::model::{DeploymentId, Timestamp};

#[test]
fn marks_stand_beside_their_slots() {
    let world = World::new();
    world.publish("1.0");
    let name = slot("1.0");
    let entry = || world.store.slot(&name).expect("there");
    assert!(
        world.store.pin(Some(&name), &pin()).expect("pinned") && !world.store.pin(Some(&name), &pin()).expect("is so")
    );
    assert!(entry().pinned);
    assert_eq!(world.store.pinned(Some(&name)).expect("readable"), Some(pin()));
    assert!(world.store.unpin(Some(&name)).expect("unpinned") && !world.store.unpin(Some(&name)).expect("is so"));

    let quarantine = Quarantine {
        deployment: "web-7".into(),
        phase: Phase::Proving,
        fault: fault(Code::ProbeFailed),
        at: Timestamp::now(),
    };
    world.store.quarantine(&name, &quarantine).expect("quarantined");
    assert_eq!(entry().quarantine, Some(quarantine));
    std::fs::write(world.layout().slot(&name).join("quarantine.json"), "{").expect("damaged");
    assert!(matches!(entry().stored, Stored::Damaged(_)), "better not activated");
    assert!(world.store.clear_quarantine(&name).expect("lifted"));
    assert!(matches!(entry().stored, Stored::Slot(_)));

    let id: DeploymentId = "web-7".parse().expect("an id");
    world.store.write_evidence(&name, &id, &fault(Code::ProbeFailed)).expect("kept");
    assert_eq!(world.store.evidence(&name, &id).expect("read"), Some(fault(Code::ProbeFailed)));
    assert_eq!(world.store.pin(Some(&slot("2.0")), &pin()).expect_err("no slot").code(), Code::UnknownSlot);
}

#[test]
fn the_mark_only_rises_and_a_damaged_one_is_not_forgotten() {
    let world = World::new();
    let raise = |text: &str| world.store.raise_mark(&text.parse().expect("a version"), VersionOrder::Uapi, None);
    let raised = ["1.9", "1.10", "1.10", "1.2", "1.10~rc1"].map(|text| raise(text).expect("raised"));
    assert_eq!(raised, [true, true, false, false, false]);
    assert_eq!(world.store.mark().expect("read").map(|mark| mark.highest.to_string()).as_deref(), Some("1.10"));
    std::fs::write(world.layout().mark(), "").expect("damaged");
    assert!(world.store.mark().is_err() && raise("9").is_err());
}
