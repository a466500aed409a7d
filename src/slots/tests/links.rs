//! `current`, `fallback` and `next` move.

use super::*;

#[test]
fn links_move_by_asking_for_what_is() {
    let world = World::new();
    assert_eq!(world.links(), ["-", "-", "-"]);
    for name in ["1", "2", "3"] {
        world.deploy(name);
    }
    assert_eq!(world.links(), ["3", "2", "-"]);
    // A rollback and its repetition.
    for _ in 0..2 {
        world.store.ensure_current(&slot("2")).expect("back");
        assert_eq!(world.links(), ["2", "3", "-"]);
    }
    // A deployment that goes back after the switch.
    world.publish("4");
    world.store.link_next(&slot("4")).expect("next");
    world.store.ensure_current(&slot("4")).expect("switched");
    assert_eq!(world.links(), ["4", "3", "2"]);
    world.store.ensure_current(&slot("2")).expect("back");
    world.store.drop_next().and_then(|()| world.store.drop_next()).expect("dropped, and dropped");
    assert_eq!(world.links(), ["2", "3", "-"]);
    // To a slot that no link names: what was current is named by next until it is the fallback.
    world.store.ensure_current(&slot("1")).expect("switched");
    assert_eq!(world.links(), ["1", "3", "2"]);
    world.store.retire_next().and_then(|()| world.store.retire_next()).expect("retired, and retired");
    assert_eq!(world.links(), ["1", "2", "-"]);
    // A next that names what is current is no way back.
    world.store.link_next(&slot("1")).expect("next");
    world.store.retire_next().expect("dropped");
    assert_eq!(world.links(), ["1", "2", "-"]);
    assert_eq!(world.store.ensure_current(&slot("9")).expect_err("unknown").code(), Code::UnknownSlot);
    assert_eq!(world.links(), ["1", "2", "-"]);
}

#[test]
fn a_link_that_names_no_slot_dangles_and_is_never_followed() {
    let world = World::new();
    world.publish("1");
    let current = world.layout().link(Link::Current);
    for text in ["slots/2", "slots/./1", "slots/1/", "/etc", "../web/slots/1", "slots/1@1", "1"] {
        durable::symlink_atomic(Path::new(text), &current).expect("a stranger's link");
        assert_eq!(world.link(Link::Current), format!("dangling {text}"));
    }
    durable::remove_link(&current).expect("removed");
    std::fs::create_dir(&current).expect("a folder instead");
    assert_eq!(world.link(Link::Current), "dangling not a symbolic link");
    std::fs::remove_dir(&current).expect("removed");
    durable::symlink_atomic(Path::new("slots/9"), &current).expect("dangles");
    world.store.ensure_current(&slot("1")).expect("exchanged");
    assert_eq!(world.links(), ["1", "-", "dangling slots/9"]);
    world.store.retire_next().expect("dropped: nothing to go back to");
    assert_eq!(world.links(), ["1", "-", "-"]);
}
