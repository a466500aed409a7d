//! Who is barred by a breaking migration, and who no longer.

use super::*;
use crate::model::slot::Break;

#[test]
fn a_migration_bars_what_is_below_it_until_it_is_undone_or_left() {
    let (world, order) = (World::new(), VersionOrder::Uapi);
    let store = &world.store;
    let broken = |of: &str, id: &str| Break {
        slot: slot(of),
        deployment: id.parse().expect("an id"),
        at: Timestamp::from_unix_millis(0),
    };
    let barred = |of: &str| store.barred_by(&slot(of), order).expect("readable").map(|broken| broken.slot.to_string());
    assert_eq!(barred("1.0"), None);
    for (of, id) in [("2.0", "web-3"), ("3.0", "web-5"), ("3.0@r2", "web-6")] {
        store.break_data(broken(of, id)).expect("written");
    }
    assert_eq!(barred("1.0").as_deref(), Some("3.0@r2"), "the last word for a version");
    assert_eq!((barred("2.5").as_deref(), barred("3.0"), barred("3.0@r3")), (Some("3.0@r2"), None, None));
    store.unbreak_data(&"web-6".parse().expect("an id")).expect("written");
    assert_eq!((barred("1.0").as_deref(), barred("2.0")), (Some("2.0"), None));
    store.bar_nothing_above(&slot("1.0"), order).expect("written");
    assert_eq!((barred("0.5"), world.layout().breaks().exists()), (None, false));
    std::fs::write(world.layout().breaks(), "[{").expect("written");
    assert!(store.barred_by(&slot("1.0"), order).is_err(), "nobody can say");
}
