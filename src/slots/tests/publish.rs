//! A release becomes a slot, an instance, or a refusal.

use super::*;
use crate::durable::DurableError;
use crate::model::Timestamp;
use crate::model::slot::{Phase, RefusedRecord};

#[test]
fn a_release_becomes_a_slot_with_a_frozen_tree_and_its_packed_bytes() {
    let world = World::new();
    let record = world.publish("1.4.2+b5");
    assert_eq!(world.store.record(&slot("1.4.2+b5")).expect("there"), record);
    assert_eq!(record.tree, tree_key(&record.artifact, None));
    assert_eq!(mode(&world.layout().root()), 0o700);
    assert_eq!(mode(&world.layout().inbox()), 0o2770);
    assert_eq!(mode(&world.layout().tree(&record.tree)), 0o555);
    assert_eq!(mode(&world.layout().slot(&record.slot)), 0o700);
    assert_eq!(std::fs::read(world.layout().artifact(&record.artifact)).expect("kept"), b"1.4.2+b5");
    assert_eq!(world.files(world.layout().slots()), ["1.4.2@bb5"]);
    let env = std::fs::read_to_string(world.layout().slot(&record.slot).join("env")).expect("a snapshot");
    assert_eq!(env, "GREETING=\"say \\\"hi\\\"\"\n");
    world.store.verify(&record.slot, &verify).expect("as published");
    assert!(world.files(world.layout().staging()).is_empty() && world.files(world.layout().spool()).is_empty());
}

#[test]
fn the_same_bytes_twice_are_one_tree_and_the_same_version_with_others_a_conflict() {
    let world = World::new();
    let first = world.drop_in("1.0", "x").expect("published");
    assert!(matches!(world.drop_in("1.0", "x").expect("again"), Published::Known(_)));
    world.drop_in("1.1", "x").expect("another version of the same bytes");
    assert_eq!(world.files(world.layout().trees()).len(), 2, "one tree, one manifest");
    let error = world.drop_in("1.0", "y").expect_err("other bytes");
    assert_eq!(error.code(), Code::ReleaseConflict);
    assert_eq!(first, Published::New(world.store.record(&slot("1.0")).expect("as it was")));
    assert_eq!(world.files(world.layout().slots()), ["1.0", "1.1"]);
}

#[test]
fn a_publication_cut_off_after_any_step_is_whole_or_absent_and_can_be_repeated() {
    for steps in 0..=PublishStep::ALL.len() {
        let mut world = World::new();
        let new = world.unpacked("1.0", "x");
        let record = world.store.new_record(&new, new.slot.clone());
        for step in &PublishStep::ALL[..steps] {
            world.store.publish_step(*step, &new, &record, &verify).expect("done");
        }
        world.restart();
        let there = world.names();
        assert_eq!(there.is_empty(), steps < PublishStep::ALL.len(), "after {steps} steps: {there:?}");
        assert!(world.files(world.layout().staging()).is_empty(), "swept");
        world.publish("0.9");
        world.drop_in("1.0", "x").expect("repeated");
        world.store.verify(&slot("1.0"), &verify).expect("whole");
        assert_eq!(mode(&world.layout().tree(&record.tree)), 0o555);
        assert!(world.prune(5).warnings.is_empty());
        assert_eq!(world.files(world.layout().trees()).len(), 4);
        assert_eq!(world.files(world.layout().artifacts()).len(), 2);
    }
}

#[test]
fn a_tree_that_was_cut_off_or_altered_is_replaced_unless_a_slot_uses_it() {
    let world = World::new();
    let new = world.unpacked("1.0", "x");
    let tree = world.layout().tree(&tree_key(&new.artifact, None));
    std::fs::create_dir_all(tree.join("bin")).expect("a tree of unknown origin");
    world.store.publish(&new, &verify).expect("published");
    world.store.verify(&slot("1.0"), &verify).expect("whole");

    durable::remove_tree(&tree).expect("lost");
    assert_eq!(world.store.verify(&slot("1.0"), &verify).expect_err("lost").code(), Code::FsIo);
    assert!(matches!(world.drop_in("1.0", "x").expect("brought again"), Published::Known(_)));
    world.store.verify(&slot("1.0"), &verify).expect("whole again");

    std::fs::set_permissions(tree.join("bin/web"), std::fs::Permissions::from_mode(0o600)).expect("chmod");
    std::fs::write(tree.join("bin/web"), "evil").expect("altered");
    assert_eq!(world.store.verify(&slot("1.0"), &verify).expect_err("altered").code(), Code::SlotTampered);
    assert_eq!(world.drop_in("1.1", "x").expect_err("its tree is in use").code(), Code::SlotTampered);
    assert_eq!(world.names(), ["1.0"]);
}

#[test]
fn a_refusal_is_kept_replaced_and_never_hides_a_slot() {
    let world = World::new();
    let refused = |message: &str| RefusedRecord {
        version: "2.0".parse().expect("a version"),
        redeployment: 1,
        inputs: None,
        artifact: None,
        origin: origin(),
        phase: Phase::Processing,
        fault: Fault::new(Code::ArchiveMode, message),
        at: Timestamp::now(),
    };
    for message in ["setuid", "sticky"] {
        assert!(world.store.record_refusal(&refused(message), None).expect("kept"));
    }
    let error = world.store.record(&slot("2.0")).expect_err("no slot");
    assert_eq!((error.code(), error.to_string()), (Code::ArchiveMode, "2.0 was refused: sticky".to_owned()));
    assert_eq!(world.store.link_next(&slot("2.0")).expect_err("no slot").code(), Code::UnknownSlot);
    assert!(matches!(world.drop_in("2.0", "good").expect("a good one"), Published::New(_)));
    assert_eq!(world.files(world.layout().slot(&slot("2.0"))), ["env", "slot.json"]);
    assert!(!world.store.record_refusal(&refused("late"), None).expect("not kept here"));
    assert!(world.store.record(&slot("2.0")).is_ok());
}

#[test]
fn an_instance_has_its_tree_and_its_environment_before_its_unit_starts() {
    let world = World::new();
    let record = world.publish("1.0~rc1");
    let instance = record.slot.instance(2);
    let port = |port: &str| vec![("PORT".to_owned(), port.to_owned()), ("SLOTD_SLOT".to_owned(), "mine".to_owned())];
    assert!(world.store.publish_instance(&instance, &port("8080")).expect("made"));
    assert!(!world.store.publish_instance(&instance, &port("8080")).expect("is so"));
    let place = world.layout().instance(&instance);
    assert_eq!(place.file_name().and_then(|name| name.to_str()), Some("1.0@trc1@2"));
    assert_eq!(std::fs::read(place.join("root/bin/web")).expect("by the link"), b"1.0~rc1");
    assert_eq!(
        std::fs::read_to_string(place.join("env")).expect("env"),
        "GREETING=\"say \\\"hi\\\"\"\nHEALTH_SOCKET=\"/run/slots/web/1.0@trc1@2/health.sock\"\nPORT=\"8080\"\n\
         SLOTD_APP=\"web\"\nSLOTD_INSTANCE=\"1.0@trc1@2\"\nSLOTD_SLOT=\"1.0~rc1\"\nSLOTD_VERSION=\"1.0~rc1\"\n"
    );
    assert!(world.store.publish_instance(&instance, &port("8081")).expect("changed"));
    assert!(std::fs::read_to_string(place.join("env")).expect("env").contains("8081"));
    let error = world.store.publish_instance(&instance, &port("80\n80")).expect_err("a newline");
    assert_eq!(error.code(), Code::ConfigInvalid);
    assert!(error.fault().message.contains("PORT"), "{}", error.fault());
    assert_eq!(world.store.instances().expect("listed"), vec![instance.clone()]);
    assert!(world.store.remove_instance(&instance).expect("removed"));
    assert!(!world.store.remove_instance(&instance).expect("gone is gone"));
    assert!(world.files(world.layout().staging()).is_empty());
}

#[test]
fn what_an_instance_is_told_about_accepting_changes_by_an_exchange() {
    use crate::model::route::AcceptAt;
    use std::os::unix::fs::MetadataExt;

    let world = World::new();
    let instance = world.publish("1").slot.instance(1);
    let place = world.layout().instance(&instance);
    let told = || {
        let text = std::fs::read_to_string(place.join("env")).expect("env");
        text.lines().find_map(|line| line.strip_prefix("SLOTD_ACCEPT=")).map(str::to_owned)
    };
    let inodes = || {
        let mut inodes = ["env", "env.other"].map(|file| std::fs::metadata(place.join(file)).expect("there").ino());
        inodes.sort_unstable();
        inodes
    };
    let publish = |at: AcceptAt| world.store.publish_instance(&instance, &[at.variable()]).expect("published");
    assert!(publish(AcceptAt::Signal));
    assert_eq!(told().as_deref(), Some("\"signal\""));
    let files = inodes();
    for (at, value) in [(AcceptAt::Now, "\"now\""), (AcceptAt::Signal, "\"signal\""), (AcceptAt::Now, "\"now\"")] {
        assert!(publish(at));
        assert!(!publish(at), "twice is once");
        assert_eq!((told().as_deref(), inodes()), (Some(value), files), "nothing was written");
    }
    // Another variable is written, and a lost half too.
    let port = ("PORT".to_owned(), "20001".to_owned());
    assert!(world.store.publish_instance(&instance, &[AcceptAt::Now.variable(), port.clone()]).expect("changed"));
    assert_eq!(told().as_deref(), Some("\"now\""));
    std::fs::remove_file(place.join("env.other")).expect("removed");
    assert!(world.store.publish_instance(&instance, &[port, AcceptAt::Now.variable()]).expect("mended"));
    assert!(place.join("env.other").exists());
    // A route without signals says nothing.
    assert!(world.store.publish_instance(&instance, &[]).expect("changed"));
    assert_eq!((told(), place.join("env.other").exists()), (None, false));
}

#[test]
fn a_damaged_slot_hides_no_other_and_is_told() {
    let world = World::new();
    for name in ["1", "2", "3", "4"] {
        world.publish(name);
    }
    let file = |name: &str| world.layout().slot(&slot(name)).join("slot.json");
    let text = std::fs::read_to_string(file("1")).expect("read");
    std::fs::write(file("2"), &text[..text.len() / 2]).expect("cut off");
    std::fs::write(file("3"), &text).expect("that of another slot");
    std::fs::write(file("4"), text.replacen("\"format\": 1", "\"format\": 2", 1)).expect("of a later slotd");
    let reasons: Vec<String> = world
        .store
        .slots()
        .expect("listed")
        .into_iter()
        .filter_map(|entry| match entry.stored {
            Stored::Damaged(reason) => Some(reason),
            Stored::Slot(_) | Stored::Refused(_) => None,
        })
        .collect();
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons[0].contains("damaged: EOF"), "{reasons:?}");
    assert_eq!(reasons[1..], ["its record is that of web/1", "its format is 2, this slotd knows 1"]);
    // What a damaged slot uses isn't known, so no tree goes.
    let swept = world.store.sweep_unreferenced(&[]);
    assert!(matches!(&swept[..], [SlotError::Unsure { .. }]), "{swept:?}");
    assert_eq!(world.files(world.layout().trees()).len(), 8);
    // One that no link names may be brought again.
    assert!(matches!(world.drop_in("2", "2").expect("brought again"), Published::New(_)));
}

#[test]
fn state_below_a_shared_folder_is_refused() {
    let layout = Layout::new("/tmp/slotd-state", "/run/slotd", "web".parse().expect("a name"));
    let error = SlotStore::open(layout).expect_err("shared");
    assert_eq!(error.code(), Code::ConfigInsecureDir);
    assert!(matches!(error, SlotError::Disk { source: DurableError::Insecure { .. }, .. }));
    assert!(!Path::new("/tmp/slotd-state").exists());
}
