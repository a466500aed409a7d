//! An app that stays on what is live: nothing begins by itself until it is unpinned.

use super::*;
use crate::control::api::{PinRequest, UnpinRequest};
use crate::model::Retention;
use crate::slots::keep_set;

fn of_app(message: &str) -> PinRequest {
    PinRequest { slot: None, message: Some(message.to_owned()) }
}

#[tokio::test]
async fn what_would_go_by_itself_waits_with_that_reason_and_goes_once_it_is_unpinned() {
    let site = Site::serving(&["1", "2"]).automatic();
    // Before slotd starts, which would let 2 go live at once.
    still(&site).pin(of_app("sale"), &ann()).expect("pinned");
    let lively = Lively::of(&site);
    let (uploaded, _) = lively.upload("web-2.tar", &artifact("2")).await;
    let uploaded = uploaded.expect("taken in");
    assert_eq!(uploaded.deployment, None);
    assert!(uploaded.not_live.as_deref().is_some_and(|why| why.contains("pinned by ann: sale")), "{uploaded:?}");
    let view = lively.view().await;
    assert_eq!(view.pinned.and_then(|pin| pin.message).as_deref(), Some("sale"));
    assert!(view.waiting.len() == 1 && view.waiting[0].reason.contains("slotctl unpin"), "{:?}", view.waiting);
    assert_eq!(site.link(Link::Current), "1");

    let unpinned = lively.ask(|answer| Ask::Unpin(UnpinRequest::default(), ann(), answer)).await.expect("unpinned");
    assert!(unpinned.changed);
    lively.until_live("2").await;
    let again = lively.ask(|answer| Ask::Unpin(UnpinRequest::default(), ann(), answer)).await.expect("nothing to do");
    assert!(!again.changed);
}

#[tokio::test]
async fn an_operators_word_is_heard_all_the_same() {
    let site = Site::serving(&["1", "2"]);
    let lively = Lively::of(&site);
    let pinned = lively.ask(|answer| Ask::Pin(of_app("sale"), ann(), answer)).await.expect("pinned");
    assert!(pinned.changed && pinned.slot.is_none());
    lively.activate("2").await.expect("accepted");
    lively.until_live("2").await;
}

#[tokio::test]
async fn what_waited_by_nobodys_word_waits_no_longer_and_an_operators_does() {
    for operators in [false, true] {
        let site = Site::serving(&["1", "2"]);
        let mut app = still(&site);
        let word = wanted(&mut app, "2", operators);
        app.queue(word);
        app.pin(of_app("sale"), &ann()).expect("pinned");
        assert_eq!(app.queued.is_some(), operators);
        rest(&mut app).await;
        assert_eq!(site.link(Link::Current), if operators { "2" } else { "1" });
    }
}

#[tokio::test]
async fn a_slot_that_is_pinned_is_kept_and_one_that_is_not_there_is_refused() {
    let site = Site::serving(&["1", "2", "3"]);
    let mut app = still(&site);
    let of = |slot: &str| PinRequest { slot: Some(slot.parse().expect("slot")), message: None };
    assert!(app.pin(of("2"), &ann()).expect("pinned").changed);
    assert!(!app.pin(of("2"), &ann()).expect("pinned").changed, "twice is once");
    let kept = |app: &App<_>| {
        let set = keep_set(
            &app.ground
                .store
                .keep_inputs(Retention { keep: 0, ..Retention::default() }, Default::default())
                .expect("inputs"),
        );
        !set.removable().any(|slot| slot.to_string() == "2")
    };
    assert!(kept(&app));
    let refused = app.pin(of("9"), &ann()).expect_err("there is none");
    assert_eq!(refused.fault.code, Code::UnknownSlot);
    app.unpin(UnpinRequest { slot: Some("2".parse().expect("slot")), message: None }, &ann()).expect("unpinned");
    assert!(!kept(&app));
}

#[tokio::test]
async fn a_pin_that_can_not_be_read_is_one() {
    let site = Site::serving(&["1"]).automatic();
    std::fs::write(site.layout().pinned(), "{").expect("written");
    let app = still(&site);
    assert!(app.is_pinned() && app.automatic().is_err());
    let notes = app.view().notes;
    assert!(notes.iter().any(|note| note.starts_with("nothing goes live by itself: ")), "{notes:?}");
}
