//! Ports of instances.

use super::*;
use crate::model::route::PortRange;

fn ports(first: u16, last: u16) -> PortRange {
    PortRange::new(first, last).expect("a range")
}

/// A range in which this machine listens nowhere, beyond what other tests bind.
const FIRST: u16 = 21300;

#[test]
fn an_instance_keeps_its_port_and_no_two_have_the_same() {
    let world = World::new();
    for name in ["1", "2"] {
        world.publish(name);
    }
    let (one, second, two) = (slot("1").instance(1), slot("1").instance(2), slot("2").instance(1));
    let range = ports(FIRST, FIRST + 9);
    let publish = |instance: &crate::model::InstanceName| {
        world.store.publish_instance_with_port(instance, range, true).expect("published");
        world.store.port(instance).expect("a port")
    };
    let first = publish(&one);
    let mut all = vec![first, publish(&second), publish(&two)];
    assert!(all.iter().all(|port| range.contains(*port)));
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 3);
    assert_eq!(publish(&one), first, "it may be running");
    let changed = world.store.publish_instance_with_port(&one, range, false).expect("published");
    assert!(!changed, "nothing was left to do");
    // Out of a range that was changed meanwhile: it may be running all the same.
    let moved = ports(FIRST + 20, FIRST + 29);
    world.store.publish_instance_with_port(&one, moved, true).expect("published");
    assert_eq!(world.store.port(&one), Some(first));
    world.store.publish_instance_with_port(&one, moved, false).expect("published");
    assert!(world.store.port(&one).is_some_and(|port| moved.contains(port)), "nothing runs there");
}

#[test]
fn instances_of_other_apps_count_and_a_range_has_an_end() {
    let world = World::new();
    world.publish("1");
    let other = world.base.path().join("state/apps/other/instances/9");
    std::fs::create_dir_all(&other).expect("folders");
    std::fs::write(other.join("env"), format!("PORT=\"{}\"\n", FIRST + 30)).expect("written");
    let one = slot("1").instance(1);
    let error =
        world.store.publish_instance_with_port(&one, ports(FIRST + 30, FIRST + 30), false).expect_err("none is left");
    assert_eq!(error.code(), Code::RouteUnsupported);
    assert!(error.to_string().contains("no port"), "{error}");
    world.store.publish_instance_with_port(&one, ports(FIRST + 30, FIRST + 31), false).expect("published");
    assert_eq!(world.store.port(&one), Some(FIRST + 31));
}
