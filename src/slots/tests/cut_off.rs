//! Whatever is done, in whatever order, and wherever a kill cuts it off.

use std::rc::Rc;

use proptest::prelude::*;

use super::*;

/// What somebody does; each may be cut off after some of its steps.
#[derive(Debug, Clone)]
enum Deed {
    Publish(u32),
    Deploy(u32),
    Rollback,
    Pin(u32),
    Unpin(u32),
    Prune(u32),
}

fn deed() -> impl Strategy<Value = Deed> {
    let number = 1u32..8;
    prop_oneof![
        2 => number.clone().prop_map(Deed::Publish),
        4 => number.clone().prop_map(Deed::Deploy),
        1 => Just(Deed::Rollback),
        1 => number.clone().prop_map(Deed::Pin),
        1 => number.prop_map(Deed::Unpin),
        3 => (0u32..3).prop_map(Deed::Prune),
    ]
}

type Step = Box<dyn FnOnce(&World)>;

/// A deed as the steps between which a kill can come.
fn steps(world: &World, deed: &Deed) -> Vec<Step> {
    let name = |number: &u32| slot(&number.to_string());
    let known = |number: &u32| world.store.record(&name(number)).is_ok();
    match deed.clone() {
        Deed::Publish(number) if !known(&number) => {
            let content: &'static str = ["0", "1", "2", "3", "4", "5", "6", "7"][number as usize];
            let new = world.unpacked(content, content);
            let record = world.store.new_record(&new, new.slot.clone());
            let job = Rc::new((new, record));
            let step = |step: PublishStep| -> Step {
                let job = Rc::clone(&job);
                Box::new(move |world| world.store.publish_step(step, &job.0, &job.1, &verify).expect("done"))
            };
            PublishStep::ALL.into_iter().map(step).collect()
        }
        Deed::Deploy(number) if known(&number) => {
            let slot = name(&number);
            let (a, b) = (slot.clone(), slot.clone());
            vec![
                Box::new(move |world| world.store.link_next(&a).expect("next")),
                Box::new(move |world| {
                    world.store.publish_instance(&b.instance(1), &[]).expect("an instance");
                }),
                Box::new(move |world| world.store.ensure_current(&slot).expect("current")),
                Box::new(|world| world.store.retire_next().expect("retired")),
            ]
        }
        Deed::Rollback => match world.store.link(Link::Fallback).expect("readable") {
            LinkState::Slot(slot) => vec![Box::new(move |world| world.store.ensure_current(&slot).expect("back"))],
            _ => vec![],
        },
        Deed::Pin(number) if known(&number) => {
            let slot = name(&number);
            vec![Box::new(move |world| assert!(world.store.pin(Some(&slot), &pin()).is_ok()))]
        }
        Deed::Unpin(number) if known(&number) => {
            let slot = name(&number);
            vec![Box::new(move |world| assert!(world.store.unpin(Some(&slot)).is_ok()))]
        }
        Deed::Prune(keep) => {
            let set = keep_set(&world.store.keep_inputs(keeping(keep), VersionOrder::Uapi).expect("inputs"));
            let mut steps: Vec<Step> = vec![];
            for slot in set.removable() {
                let (a, b) = ((slot.clone(), set.clone()), (slot.clone(), set.clone()));
                steps.push(Box::new(move |world| world.store.remove_instances(&a.0, &a.1).expect("removed")));
                steps.push(Box::new(move |world| world.store.remove_slot(&b.0, &b.1).expect("removed")));
            }
            steps.push(Box::new(|world| assert!(world.store.sweep_unreferenced(&[]).is_empty())));
            steps
        }
        _ => vec![],
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_done_and_wherever_it_is_cut_off_current_names_one_whole_slot(
        deeds in prop::collection::vec((deed(), prop::option::of(0usize..8)), 1..24)
    ) {
        let mut world = World::new();
        let mut lived = false;
        for (deed, cut) in deeds {
            let steps = steps(&world, &deed);
            let named = world.store.links().expect("links");
            let count = cut.unwrap_or(steps.len());
            for step in steps.into_iter().take(count) {
                step(&world);
                world.assert_current_is_whole();
                let links = world.store.links().expect("links");
                prop_assert!(!lived || links.current.slot().is_some(), "{:?} left no current", deed);
                for link in Link::ALL {
                    prop_assert!(!matches!(links.get(link), LinkState::Dangling(_)), "{:?} {:?}", deed, links);
                }
                lived |= links.current.slot().is_some();
            }
            if matches!(deed, Deed::Prune(_)) {
                prop_assert_eq!(&world.store.links().expect("links"), &named, "pruning moves no link");
            }
            if cut.is_some() {
                world.restart();
                world.assert_current_is_whole();
            }
        }
        // Whatever is listed is whole, and a last prune leaves nothing that no slot uses.
        prop_assert!(world.prune(9).warnings.is_empty());
        let slots = world.store.slots().expect("slots");
        for entry in &slots {
            prop_assert!(matches!(entry.stored, Stored::Slot(_)), "{:?}", entry);
            world.store.verify(&entry.name, &verify).expect("whole");
        }
        prop_assert_eq!(world.files(world.layout().trees()).len(), 2 * slots.len());
        prop_assert_eq!(world.files(world.layout().artifacts()).len(), slots.len());
    }
}
