//! `slotctl freeze`, `unfreeze` and `activate --at` against a scripted daemon.

mod control_fake;

use control_fake::*;
use slotd::control::api::*;
use slotd::model::{AppState, Code, Fault, Freeze, Outcome, SlotState, Timestamp};

fn freeze(all: bool) -> Freeze {
    let until = Some("2030-12-24T18:00:00Z".to_owned().try_into().expect("a time"));
    Freeze { by: "bob".into(), at: Timestamp::now(), until, message: Some("sale".into()), all }
}

#[test]
fn freezes_are_set_lifted_and_shown() {
    let world = with_app();
    let until = "2030-12-24 18:00+01:00";
    let ran = world.slotctl(&["freeze", "web", "--until", until, "-m", "Christmas"]);
    contains(&ran.stdout, &["web: nothing goes forward until 2030-12-24T17:00:00Z"]);
    contains(&world.slotctl(&["freeze"]).stdout, &["all apps: nothing goes forward until `slotctl unfreeze`"]);
    contains(
        &world.slotctl(&["unfreeze", "web"]).stdout,
        &["web: not frozen", "still frozen with all apps, by bob", "next: slotctl unfreeze"],
    );
    contains(&world.slotctl(&["unfreeze"]).stdout, &["all apps: no longer frozen"]);
    let frozen: Frozen = document(&world.slotctl(&["freeze", "web", "--json"]));
    assert!(frozen.changed && frozen.freeze.is_some_and(|freeze| freeze.until.is_none()));
    assert_eq!(
        world.fake.calls(),
        [
            "freeze Some(web) Some(2030-12-24T17:00:00.000Z) Some(\"Christmas\")",
            "freeze None None None",
            "unfreeze Some(web)",
            "unfreeze None",
            "freeze Some(web) None None"
        ]
    );
    for wrong in ["2030-12-24 18:00", "tomorrow"] {
        let ran = world.slotctl(&["freeze", "web", "--until", wrong]);
        assert_eq!(ran.code, 2, "{ran:?}");
    }

    world.fake.set(|script| {
        script.frozen = Some(freeze(true));
        let app = AppStatus { state: AppState::Frozen, frozen: Some(freeze(true)), ..online() };
        script.apps.insert(app_name(), app);
    });
    let status = world.slotctl(&["status", "web"]);
    assert_eq!(status.code, 0, "frozen is no trouble: {status:?}");
    contains(
        &status.stdout,
        &["web: frozen on 2.0.0", "with all apps, by bob, ", ", until 2030-12-24 18:00:00Z: sale"],
    );
    contains(
        &world.slotctl(&["status"]).stdout,
        &["all apps are frozen, by bob, ", "next: slotctl unfreeze", "frozen"],
    );
}

#[test]
fn what_is_scheduled_is_told_with_its_time_and_how_to_take_it_back() {
    let world = with_app();
    let at: Timestamp = "2030-12-24T18:00:00Z".to_owned().try_into().expect("a time");
    world.fake.set(|script| script.accepted.push_back(Ok(Accepted::Scheduled { id: id(7), to: slot("3.0.0"), at })));
    let ran = world.slotctl(&["activate", "web", "3.0.0", "--at", "2030-12-24T18:00Z", "-m", "the night"]);
    assert_eq!(ran.code, 0, "it doesn't wait for the end: {ran:?}");
    contains(&ran.stdout, &["web-7: 3.0.0 goes live at 2030-12-24 18:00:00Z, in ", "slotctl cancel web takes it back"]);
    assert_eq!(world.fake.calls(), ["activate web 3.0.0 Some(\"the night\") false at 2030-12-24T18:00:00Z"]);

    let waits = slotd::model::Report { scheduled: Some(at), ..queued(7) };
    world.fake.set(|script| {
        script.apps.insert(app_name(), AppStatus { scheduled: Some(waits.clone()), ..online() });
        script.reports.insert(id(7), waits.clone());
    });
    let told = "web-7 deploy 3.0.0, by ann, at 2030-12-24 18:00:00Z, in ";
    contains(&world.slotctl(&["status", "web"]).stdout, &["scheduled", told, ": the new page"]);
    contains(&world.slotctl(&["why", "web-7"]).stdout, &["scheduled", "for 2030-12-24 18:00:00Z"]);
    // Refused at its time.
    let past = Timestamp::from_unix_millis(Timestamp::now().unix_millis() - 90_000);
    let fault = Fault::new(Code::AppPaused, "web is paused");
    let refused = ended(slotd::model::Report { scheduled: Some(past), ..waits }, Outcome::Failed, Some(fault), None);
    world.fake.set(|script| script.apps.insert(app_name(), AppStatus { scheduled: Some(refused), ..online() }));
    contains(&world.slotctl(&["status", "web"]).stdout, &["at 1 min ago", "; web is paused (app.paused)"]);
}

#[test]
fn the_list_says_why_a_slot_waits() {
    let world = with_app();
    let waits = Some("the app is frozen by bob: sale; it waits for `slotctl unfreeze`".to_owned());
    let info = SlotInfo {
        slot: slot("3.0.0"),
        state: SlotState::Ready,
        fallback: false,
        pinned: None,
        waits,
        barred: None,
        artifact: None,
        created: Timestamp::now(),
        bytes: 1,
        by: "inbox".into(),
        message: None,
        release: Default::default(),
    };
    world.fake.set(|script| script.slots = vec![info]);
    contains(&world.slotctl(&["list", "web"]).stdout, &["3.0.0", "the app is frozen by bob: sale"]);
}
