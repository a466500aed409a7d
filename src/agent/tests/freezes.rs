//! An app that goes forward no more for a time, and what is wanted at a time to come.

use super::*;
use crate::agent::alarm;
use crate::agent::turn::{Turn, TurnFile};
use crate::control::api::{FreezeRequest, Frozen, PruneQuery, RollbackRequest, ScaleRequest};
use crate::model::deployment::Say;
use crate::model::{DeploymentId, Freeze};
use crate::slots::{freeze_all, unfreeze_all};

/// Long enough for what is asked before it is over.
const SOON: u64 = 4000;

fn in_ms(millis: u64) -> Timestamp {
    Timestamp::from_unix_millis(Timestamp::now().unix_millis() + millis)
}

fn until(until: Option<Timestamp>) -> FreezeRequest {
    FreezeRequest { until, message: Some("sale".to_owned()) }
}

fn of_all(until: Option<Timestamp>) -> Freeze {
    Freeze { by: "root".into(), at: Timestamp::now(), until, message: None, all: true }
}

impl Lively<'_> {
    async fn freeze(&self, end: Option<Timestamp>) -> Result<Frozen, ApiError> {
        self.ask(|answer| Ask::Freeze(until(end), ann(), answer)).await
    }

    async fn activate_at(&self, version: &str, at: Timestamp, force: bool) -> Result<Accepted, ApiError> {
        let message = Some("the night".to_owned());
        let request = ActivateRequest { message, force, at: Some(at), ..activation(version) };
        self.ask(|answer| Ask::Activate(request, ann(), answer)).await
    }

    async fn cancel(&self) -> Result<Accepted, ApiError> {
        self.ask(|answer| Ask::Say(Say::Cancel, None, ann(), answer)).await
    }
}

/// The time of what is scheduled.
fn scheduled_for(site: &Site) -> Option<Timestamp> {
    let turn = TurnFile::scheduled(site.layout()).read().expect("read").expect("there");
    Some(turn.report.scheduled.expect("a time"))
}

fn id_of(accepted: Result<Accepted, ApiError>) -> DeploymentId {
    match accepted {
        Ok(Accepted::Scheduled { id, .. }) => id,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_comes_waits_until_the_freeze_is_lifted_or_over() {
    for lifted in [true, false] {
        let site = Site::serving(&["1", "2"]).automatic();
        let end = if lifted { None } else { Some(in_ms(SOON)) };
        still(&site).freeze(until(end), &ann()).expect("frozen");
        let lively = Lively::of(&site);
        let (uploaded, _) = lively.upload("web-2.tar", &artifact("2")).await;
        let not_live = uploaded.expect("taken in").not_live.expect("a reason");
        assert!(not_live.contains("frozen by ann") && not_live.contains(": sale"), "{not_live}");
        let view = lively.view().await;
        let pruned = |answer| Ask::Prune { query: PruneQuery { dry_run: true, message: None }, caller: ann(), answer };
        let pruned: Pruned = lively.ask(pruned).await.expect("told");
        let waits = pruned.slots.iter().find(|item| item.slot == slot("2")).expect("2");
        assert_eq!((waits.kept, waits.reason.as_str()), (true, "a queued deployment goes to it"));
        assert!(view.frozen.is_some() && view.waiting.len() == 1, "{:?}", view.waiting);
        assert_eq!(site.link(Link::Current), "1");
        if lifted {
            let unfrozen = lively.ask(|answer| Ask::Unfreeze(ann(), answer)).await.expect("lifted");
            assert!(unfrozen.changed && unfrozen.freeze.is_none());
        }
        assert!(lively.until_live("2").await.frozen.is_none());
    }
}

#[tokio::test]
async fn only_what_goes_forward_is_refused() {
    let site = Site::serving(&["1", "2", "3"]);
    let lively = Lively::of(&site);
    lively.activate("2").await.expect("accepted");
    lively.until_live("2").await;
    assert!(lively.freeze(None).await.expect("frozen").changed);
    assert!(!lively.freeze(Some(in_ms(60_000))).await.expect("frozen").changed, "a later one replaces it");
    let refused = lively.activate("3").await.expect_err("frozen");
    assert_eq!(refused.fault.code, Code::AppFrozen);
    assert!(refused.next.is_some_and(|next| next == "slotctl unfreeze web; slotctl activate web 3 --force"));
    let scale = ScaleRequest { instances: 2, unit: None, message: None };
    let refused = lively.ask(|answer| Ask::Scale(scale, ann(), answer)).await.expect_err("frozen");
    assert_eq!(refused.fault.code, Code::AppFrozen);
    lively.ask(|answer| Ask::Rollback(RollbackRequest::default(), ann(), answer)).await.expect("always possible");
    lively.until_live("1").await;
    let request = ActivateRequest { force: true, ..activation("3") };
    lively.ask(|answer| Ask::Activate(request, ann(), answer)).await.expect("heard");
    lively.until_live("3").await;
    let over = lively.freeze(Some(Timestamp::from_unix_millis(5))).await.expect_err("it is over");
    assert_eq!(over.fault.code, Code::RequestInvalid);
}

#[tokio::test]
async fn what_waited_for_its_turn_is_chosen_again_at_the_end_and_so_is_a_further_try() {
    let site = Site::serving(&["1", "2"]).automatic();
    site.units.unit("web@2").start_is_denied();
    let mut app = still(&site);
    app.choose();
    rest(&mut app).await;
    assert!(app.retry_at.is_some());
    app.freeze(until(None), &ann()).expect("frozen");
    assert!(app.retry_at.is_none() && app.queued.is_none());
    app.retry();
    assert!(app.queued.is_none(), "no further try while it is frozen");
    app.unfreeze(&ann()).expect("lifted");
    assert!(app.retry_at.is_some(), "it is tried again");
}

#[tokio::test]
async fn the_freeze_of_all_holds_for_each_and_the_one_that_ends_last_is_told() {
    let site = Site::serving(&["1", "2"]).automatic();
    let state = site.base.path().join("state");
    let mut app = still(&site);
    assert!(freeze_all(&state, &of_all(Some(in_ms(60_000)))).expect("frozen"));
    app.choose();
    assert!(app.queued.is_none());
    app.freeze(until(None), &ann()).expect("frozen");
    assert!(!app.ground.store.frozen().expect("frozen").all, "that without an end");
    let left = app.unfreeze(&ann()).expect("lifted");
    assert!(left.changed && left.freeze.is_some_and(|freeze| freeze.all), "all are frozen still");
    assert!(unfreeze_all(&state).expect("lifted") && !unfreeze_all(&state).expect("nothing to do"));
    app.go_on();
    rest(&mut app).await;
    assert_eq!(site.link(Link::Current), "2");
}

#[tokio::test]
async fn a_freeze_that_can_not_be_read_holds_and_can_be_lifted() {
    let site = Site::serving(&["1"]).automatic();
    std::fs::write(site.layout().frozen(), "{").expect("written");
    let mut app = still(&site);
    assert_eq!(app.ground.store.frozen().map(|freeze| freeze.by).as_deref(), Some("somebody"));
    assert!(app.unfreeze(&ann()).expect("lifted").changed && app.ground.store.frozen().is_none());
}

#[tokio::test]
async fn a_kill_between_a_pin_or_a_freeze_and_what_it_leaves_lets_nothing_through() {
    for pins in [true, false] {
        let site = Site::serving(&["1", "2"]).automatic();
        let mut app = still(&site);
        let word = Wanted { word: Word::Bringers, ..wanted(&mut app, "2", false) };
        app.queue(word);
        let store = app.ground.store.clone();
        match pins {
            true => store.pin(None, &crate::model::slot::Pin { by: "ann".into(), at: in_ms(0), message: None }),
            false => store.freeze(&Freeze { all: false, ..of_all(None) }),
        }
        .expect("written");
        drop(app);
        let mut app = still(&site);
        app.begin().await;
        assert!(app.queued.is_none() && matches!(app.work, Work::Nothing), "pins: {pins}");
        assert_eq!(site.link(Link::Current), "1");
    }
}

#[tokio::test]
async fn what_is_scheduled_begins_at_its_time_under_the_id_that_was_told() {
    let site = Site::serving(&["1", "2", "3"]);
    let lively = Lively::of(&site);
    let id = id_of(lively.activate_at("2", in_ms(SOON), false).await);
    let view = lively.view().await;
    let told = view.scheduled.expect("told");
    assert_eq!((&told.id, told.message.as_deref()), (&id, Some("the night")));
    assert!(
        view.waiting.iter().any(|item| item.what == "2" && item.reason.contains("slotctl cancel web")),
        "{:?}",
        view.waiting
    );
    let second = lively.activate_at("3", in_ms(SOON), false).await.expect_err("there is one place");
    assert!(second.fault.code == Code::RequestBusy && second.fault.message.contains("web-1"), "{second}");
    // Another one goes first, with a higher number.
    lively.activate("3").await.expect("accepted");
    assert_eq!(lively.until_live("3").await.last.map(|last| last.id.number), Some(2));
    let last = lively.until_live("2").await.last.expect("one");
    assert_eq!((&last.id, last.attempt, last.scheduled), (&id, 1, told.scheduled));
    assert!(TurnFile::scheduled(site.layout()).read().expect("read").is_none());
}

#[tokio::test]
async fn what_is_scheduled_is_taken_back_and_its_number_is_not_given_again() {
    let site = Site::serving(&["1", "2"]);
    let lively = Lively::of(&site);
    let id = id_of(lively.activate_at("2", in_ms(60_000), false).await);
    assert!(matches!(lively.cancel().await, Ok(Accepted::Cancelled { id: cancelled, .. }) if cancelled == id));
    assert_eq!(lively.cancel().await.expect_err("nothing").fault.code, Code::UnknownDeployment);
    assert!(lively.view().await.scheduled.is_none());
    let mut app = still(&site);
    app.begin().await;
    assert!(app.scheduled.as_ref().is_some_and(|it| it.report.ended.is_some()) && app.shown_schedule().is_none());
    assert_eq!(app.next_id().number, id.number + 1);
    let told = app.ground.shared.history.deployment(&id).await.expect("read").and_then(|told| told.ended);
    assert_eq!(told.map(|ended| ended.outcome), Some(Outcome::Cancelled));
}

#[tokio::test]
async fn its_slot_is_kept_and_it_is_taken_up_at_the_next_start() {
    let site = Site::serving(&["1", "2"]);
    let mut app = still(&site);
    let request = activation("2");
    let id = id_of(app.schedule(request, in_ms(100), &ann()));
    assert!(app.wanted_slots().contains(&slot("2")));
    drop(app);
    alarm::at(scheduled_for(&site)).await;
    let mut app = still(&site);
    app.begin().await;
    rest(&mut app).await;
    assert_eq!(app.last.as_ref().map(|last| &last.id), Some(&id));
    assert_eq!(site.link(Link::Current), "2");
}

#[tokio::test]
async fn a_kill_between_queue_and_schedule_has_it_begin_once() {
    let site = Site::serving(&["1", "2"]);
    let mut app = still(&site);
    let request = activation("2");
    let id = id_of(app.schedule(request, in_ms(100), &ann()));
    let scheduled = TurnFile::scheduled(site.layout()).read().expect("read").expect("there");
    drop(app);
    // It is in the queue, and another one with a higher number ended meanwhile.
    TurnFile::of(site.layout()).write(&scheduled).expect("written");
    alarm::at(scheduled_for(&site)).await;
    let mut app = still(&site);
    app.begin().await;
    assert!(app.scheduled.is_none());
    rest(&mut app).await;
    assert_eq!(app.last.as_ref().map(|last| &last.id), Some(&id));
    // And once it has an intent it isn't begun again, whatever lies about.
    TurnFile::scheduled(site.layout()).write(&scheduled).expect("written");
    TurnFile::of(site.layout()).write(&scheduled).expect("written");
    let mut app = still(&site);
    app.begin().await;
    assert!(app.queued.is_none() && app.scheduled.is_none() && matches!(app.work, Work::Nothing));
}

#[tokio::test]
async fn it_waits_in_the_queue_under_a_number_from_before() {
    let site = Site::serving(&["1", "2", "3"]);
    let mut app = still(&site);
    let request = activation("2");
    let id = id_of(app.schedule(request, in_ms(100), &ann()));
    site.units.unit("web@3").start_hangs();
    let word = wanted(&mut app, "3", true);
    app.queue(word);
    app.go_on();
    assert!(matches!(app.work, Work::Deploying(_)));
    alarm::at(scheduled_for(&site)).await;
    app.go_on();
    assert_eq!(app.queued.as_ref().map(|wanted| &wanted.report.id), Some(&id), "it waits for the one under way");
    // The one under way ends, with the higher number: what waits is still kept.
    app.unkeep(&DeploymentId { number: 2, ..id.clone() });
    let kept: Option<Turn> = TurnFile::of(site.layout()).read().expect("read");
    assert_eq!(kept.map(|turn| turn.report.id), Some(id));
}

#[tokio::test]
async fn what_can_not_be_at_its_time_is_refused_then_and_told() {
    let site = Site::serving(&["1", "2"]);
    let lively = Lively::of(&site);
    let id = id_of(lively.activate_at("2", in_ms(SOON / 2), false).await);
    std::fs::write(site.layout().paused(), "").expect("paused");
    let refused = |view: &View| view.scheduled.as_ref().is_some_and(|report| report.ended.is_some());
    let view = lively.until("refused", refused).await;
    let report = view.scheduled.expect("told");
    assert_eq!((&report.id, outcome(Some(&report))), (&id, Some((Outcome::Failed, Some(Code::AppPaused)))));
    std::fs::remove_file(site.layout().paused()).expect("unpaused");
    // What ends later is told in its place.
    lively.activate("2").await.expect("accepted");
    assert!(lively.until_live("2").await.scheduled.is_none());
    let id = id_of(lively.activate_at("2", in_ms(SOON / 2), false).await);
    lively.until("over", |view| view.waiting.is_empty()).await;
    let told = lively.until("told", |view| view.scheduled.is_none()).await;
    assert!(told.last.is_some_and(|last| last.id != id), "it was live already: nothing was done");
}

#[tokio::test]
async fn a_freeze_keeps_what_is_due_until_it_is_over_unless_it_is_forced() {
    for force in [false, true] {
        let site = Site::serving(&["1", "2"]);
        let lively = Lively::of(&site);
        id_of(lively.activate_at("2", in_ms(SOON / 2), force).await);
        lively.freeze(Some(in_ms(60_000))).await.expect("frozen");
        if !force {
            let due = |view: &View| view.waiting.iter().any(|item| item.reason.contains("was due at"));
            let view = lively.until("due", due).await;
            assert!(view.waiting[0].reason.contains("frozen by ann"), "{:?}", view.waiting);
            let within = lively.cancel().await.and(lively.activate_at("2", in_ms(30_000), false).await);
            assert_eq!(within.expect_err("within the freeze").fault.code, Code::AppFrozen);
            id_of(lively.activate_at("2", in_ms(61_000), false).await);
            lively.cancel().await.expect("taken back");
            id_of(lively.activate_at("2", in_ms(SOON / 2), true).await);
        }
        lively.until_live("2").await;
    }
}
