//! Clean-up must not delete what lives: each story is one that somebody else's users lived through.

use super::*;
use crate::model::slot::{Phase, Quarantine};
use crate::model::{DeploymentId, Timestamp};

#[test]
fn killed_between_the_switch_and_the_close_then_pruned_the_live_version_stays() {
    let mut world = World::new();
    world.deploy("1");
    world.deploy("2");
    world.publish("3");
    world.store.link_next(&slot("3")).expect("next");
    world.store.ensure_current(&slot("3")).expect("switched");
    world.restart();
    assert!(world.prune(0).removed.is_empty(), "3 is live, 2 was left, 1 is the fallback");
    assert_eq!(world.links(), ["3", "1", "2"]);
}

#[test]
fn a_keep_count_of_one_and_an_old_version_redeployed_keeps_current_and_fallback() {
    let world = World::new();
    for name in ["1", "2", "3", "4", "5"] {
        world.deploy(name);
    }
    world.store.link_next(&slot("1")).expect("next");
    world.store.ensure_current(&slot("1")).expect("back to the oldest");
    world.store.retire_next().expect("done");
    assert_eq!(world.prune(1).removed, [slot("2"), slot("3")]);
    assert_eq!(world.names(), ["1", "4", "5"]);
    assert_eq!(world.files(world.layout().trees()).len(), 6);
    assert_eq!(world.files(world.layout().artifacts()).len(), 3);
    world.assert_current_is_whole();
}

#[test]
fn a_failed_removal_is_a_warning_and_the_others_still_go() {
    let world = World::new();
    for name in ["1", "2", "3"] {
        world.publish(name);
    }
    // Deeper than anything that slotd makes or removes.
    let deep: PathBuf = std::iter::repeat_n("d", 300).collect();
    std::fs::create_dir_all(world.layout().slot(&slot("2")).join(deep)).expect("a stranger's folders");
    let pruned = world.prune(0);
    assert_eq!(pruned.removed, [slot("1"), slot("3")]);
    assert!(matches!(&pruned.warnings[..], [SlotError::Disk { .. }]), "{:?}", pruned.warnings);
    assert!(world.names().is_empty(), "a half-removed slot has no name");
}

#[test]
fn failed_releases_go_by_their_own_quota_with_their_evidence() {
    let world = World::new();
    let id: DeploymentId = "web-1".parse().expect("an id");
    world.publish("1");
    for number in 0..8u64 {
        let name = slot(&format!("2.{number}"));
        world.publish(&name.to_string());
        let at = Timestamp::from_unix_millis(number);
        let quarantine =
            Quarantine { deployment: "web-1".into(), phase: Phase::Proving, fault: fault(Code::UnitExited), at };
        world.store.quarantine(&name, &quarantine).expect("quarantined");
        world.store.write_evidence(&name, &id, &fault(Code::UnitExited)).expect("kept");
    }
    let pruned = world.prune(1);
    assert_eq!(pruned.removed, [slot("2.0"), slot("2.1"), slot("2.2")]);
    assert!(world.names().contains(&"1".to_owned()), "failures don't push out what works");
    assert!(world.store.evidence(&slot("2.3"), &id).expect("read").is_some());
    assert!(world.store.evidence(&slot("2.2"), &id).expect("read").is_none());
}

#[test]
fn what_came_to_be_kept_after_the_keep_set_was_computed_is_not_removed() {
    let world = World::new();
    world.publish("1");
    world.publish("2");
    world.publish("3");
    let set = keep_set(&world.store.keep_inputs(keeping(0), VersionOrder::Uapi).expect("inputs"));
    world.store.pin(Some(&slot("1")), &pin()).expect("pinned");
    world.store.link_next(&slot("2")).expect("next");
    world.publish("4");
    for name in ["1", "2", "4"] {
        let error = world.store.remove_slot(&slot(name), &set).expect_err("kept");
        assert!(matches!(error, SlotError::Kept { .. }), "{error}");
    }
    world.store.remove_slot(&slot("3"), &set).expect("removed");
    assert_eq!(world.names(), ["1", "2", "4"]);
}

#[test]
fn a_running_instance_keeps_its_tree_even_without_its_slot() {
    let world = World::new();
    let record = world.publish("1");
    world.store.publish_instance(&record.slot.instance(1), &[]).expect("made");
    durable::remove_tree(&world.layout().slot(&record.slot)).expect("removed by a stranger");
    assert!(world.store.sweep_unreferenced(std::slice::from_ref(&record.slot)).is_empty());
    assert!(world.layout().tree(&record.tree).exists());
    assert!(world.store.sweep_unreferenced(&[]).is_empty());
    assert!(world.files(world.layout().trees()).is_empty() && world.files(world.layout().instances()).is_empty());
}
