//! `slotctl pin` and `unpin` against a scripted daemon.

mod control_fake;

use control_fake::*;
use slotd::control::api::*;
use slotd::model::Timestamp;
use slotd::model::slot::Pin;

#[test]
fn pins_are_set_lifted_and_shown() {
    let world = with_app();
    let ran = world.slotctl(&["pin", "web", "1.0.0", "-m", "the last without cookies"]);
    contains(&ran.stdout, &["web: 1.0.0 is kept until it is unpinned"]);
    contains(&world.slotctl(&["unpin", "web", "1.0.0"]).stdout, &["web: 1.0.0 is no longer pinned"]);
    contains(&world.slotctl(&["pin", "web"]).stdout, &["nothing goes live by itself until it is unpinned"]);
    contains(&world.slotctl(&["unpin", "web"]).stdout, &["web wasn't pinned"]);
    let pinned: Pinned = document(&world.slotctl(&["pin", "web", "--json"]));
    assert!(pinned.changed && pinned.slot.is_none() && pinned.pin.is_some(), "{pinned:?}");
    assert_eq!(
        world.fake.calls(),
        [
            "pin web 1.0.0 Some(\"the last without cookies\")",
            "unpin web 1.0.0",
            "pin web None",
            "unpin web",
            "pin web None"
        ]
    );
    let pin = Pin { by: "bob".into(), at: Timestamp::now(), message: Some("sale".into()) };
    world.fake.set(|script| script.apps.insert(app_name(), AppStatus { pinned: Some(pin), ..online() }));
    contains(&world.slotctl(&["status", "web"]).stdout, &["pinned", "by bob, ", ": sale"]);
}
