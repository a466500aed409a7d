//! An app that is told to rest: nothing of it is deployed until the mark is gone, and then what waited is.

use super::*;
use crate::control::api::RollbackRequest;

fn pause(site: &Site) {
    std::fs::write(site.layout().paused(), "").expect("written");
}

fn go_on(site: &Site) {
    std::fs::remove_file(site.layout().paused()).expect("removed");
}

#[tokio::test]
async fn an_operators_word_is_refused_with_the_next_command() {
    let site = Site::serving(&["1", "2"]);
    pause(&site);
    let lively = Lively::of(&site);
    let refused = lively.activate("2").await.expect_err("paused");
    assert_eq!(refused.fault.code, Code::AppPaused);
    let mark = site.layout().paused().display().to_string();
    assert_eq!(refused.next, Some(format!("rm {mark}; systemctl start web.service")));
    let back = lively
        .ask(|answer| Ask::Rollback(RollbackRequest { to: Some(slot("2")), ..Default::default() }, ann(), answer));
    assert_eq!(back.await.expect_err("paused").fault.code, Code::AppPaused);
    assert!(matches!(lively.activate("1").await, Ok(Accepted::Unchanged { .. })));
    go_on(&site);
    lively.activate("2").await.expect("accepted");
    lively.until_live("2").await;
}

#[tokio::test(start_paused = true)]
async fn what_would_go_by_itself_waits_with_that_reason_and_goes_when_the_mark_is_gone() {
    let site = Site::serving(&["1", "2"]).automatic();
    pause(&site);
    let lively = Lively::of(&site);
    let (uploaded, _) = lively.upload("web-2.tar", &artifact("2")).await;
    let uploaded = uploaded.expect("taken in");
    assert_eq!(uploaded.deployment, None);
    assert!(uploaded.not_live.as_deref().is_some_and(|why| why.contains("the app is paused")), "{uploaded:?}");
    let waiting = lively.view().await.waiting;
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    assert!(waiting[0].what == "2" && waiting[0].reason.contains("the app is paused"), "{waiting:?}");
    assert_eq!(site.link(Link::Current), "1");
    go_on(&site);
    lively.until_live("2").await;
    assert!(lively.view().await.waiting.is_empty());
}

#[tokio::test]
async fn what_was_queued_before_waits_too() {
    let site = Site::serving(&["1", "2"]);
    let mut app = still(&site);
    let word = wanted(&mut app, "2", true);
    app.queue(word);
    pause(&site);
    app.go_on();
    assert!(matches!(app.work, Work::Nothing) && app.queued.is_some());
    let waiting = app.view().waiting;
    assert!(waiting[0].reason.starts_with("web-1 waits: the app is paused until"), "{waiting:?}");
    go_on(&site);
    rest(&mut app).await;
    assert_eq!(site.link(Link::Current), "2");
}
