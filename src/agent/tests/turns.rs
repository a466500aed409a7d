//! What waits for its turn when slotd ends: whoever was told an id finds it again, and nothing happens twice.

use super::super::intake_queue::{News, news_of};
use super::*;
use crate::agent::queue::Brought;
use crate::units::Load;

/// An app in which a prune never ends, so that everything else waits.
fn busy(site: &Site) -> App<FakeUnits> {
    let mut app = still(site);
    app.work = Work::Pruning(tokio::spawn(std::future::pending::<Result<Pruned, Fault>>()), None);
    app
}

async fn asked<T>(app: &mut App<FakeUnits>, ask: impl FnOnce(oneshot::Sender<Result<T, ApiError>>) -> Ask) -> T {
    let (answer, answered) = oneshot::channel();
    app.asked(ask(answer)).await;
    answered.await.expect("answered").expect("accepted")
}

/// An operator's word for this version; the id that he was told.
async fn told(app: &mut App<FakeUnits>, version: &str) -> String {
    let request = ActivateRequest { message: Some("now".into()), ..activation(version) };
    match asked(app, |answer| Ask::Activate(request, ann(), answer)).await {
        Accepted::Deployment { id, .. } => id.to_string(),
        other => panic!("{other:?}"),
    }
}

/// As the next slotd begins.
async fn next_start(site: &Site) -> App<FakeUnits> {
    let mut app = still(site);
    app.begin().await;
    app
}

fn id_of(report: Option<&Report>) -> Option<String> {
    report.map(|report| report.id.to_string())
}

#[tokio::test]
async fn an_operators_word_that_waits_is_taken_up_by_the_next_start() {
    let site = Site::serving(&["1", "2", "3"]).automatic();
    let id = told(&mut busy(&site), "2").await;
    let mut app = next_start(&site).await;
    assert_eq!(id_of(app.view().deployment.as_ref()).as_deref(), Some(id.as_str()));
    let Work::Deploying(running) = &mut app.work else { panic!("it begins: {:?}", app.queued) };
    let driven = (&mut running.task).await;
    app.driven(driven).await;
    let last = app.last.as_ref().expect("ended");
    assert_eq!((last.id.to_string(), last.by.as_str(), last.message.as_deref()), (id, "ann", Some("now")));
    assert_eq!(outcome(Some(last)), Some((Outcome::Done, None)));
    assert_eq!(site.links(), ["2", "1", "-"]);
    assert!(!site.layout().queued().exists());
    rest(&mut app).await;
    assert_eq!(site.link(Link::Current), "3", "and then the higher one, which waited for it");
}

#[tokio::test]
async fn killed_before_its_first_announcement_it_is_begun_anew() {
    let site = Site::serving(&["1", "2"]);
    let mut app = still(&site);
    let id = told(&mut app, "2").await;
    app.go_on();
    assert!(matches!(app.work, Work::Deploying(_)));
    // As a kill would leave it.
    app.ground.shared.stopping.send_replace(true);
    drop(app);
    assert!(!site.layout().intent().exists());
    let mut app = next_start(&site).await;
    rest(&mut app).await;
    assert_eq!(id_of(app.last.as_ref()), Some(id));
    assert_eq!(site.links(), ["2", "1", "-"]);
}

#[tokio::test]
async fn what_has_begun_is_not_begun_again_though_its_record_is_there_still() {
    let site = Site::serving(&["1", "2"]);
    let mut app = still(&site);
    told(&mut app, "2").await;
    let record = std::fs::read(site.layout().queued()).expect("the record");
    rest(&mut app).await;
    let mut app = next_start(&site).await;
    assert_eq!(told(&mut app, "1").await, "web-2");
    rest(&mut app).await;
    assert_eq!(site.links(), ["1", "2", "-"]);

    // As if it couldn't be removed; known by the intent that was closed last, or by the history.
    for last in [true, false] {
        std::fs::write(site.layout().queued(), &record).expect("written");
        if !last {
            std::fs::remove_file(site.layout().last()).expect("removed");
        }
        let mut app = next_start(&site).await;
        assert!(app.queued.is_none(), "{:?}", app.queued);
        rest(&mut app).await;
        assert_eq!(site.links(), ["1", "2", "-"]);
        assert!(!site.layout().queued().exists());
    }
}

#[tokio::test]
async fn what_was_cancelled_before_it_began_stays_so_over_a_restart() {
    let site = Site::serving(&["1", "2"]);
    let mut app = busy(&site);
    let id = told(&mut app, "2").await;
    asked(&mut app, |answer| Ask::Say(crate::model::deployment::Say::Cancel, None, ann(), answer)).await;
    let mut app = next_start(&site).await;
    assert!(app.queued.is_none() && matches!(app.work, Work::Nothing));
    let history = &app.ground.shared.history;
    let past = history.deployment(&id.parse().expect("an id")).await.expect("a history");
    assert_eq!(outcome(past.as_ref()), Some((Outcome::Cancelled, Some(Code::Cancelled))));
    assert_eq!(told(&mut app, "2").await, "web-2", "no id is given twice");
}

#[tokio::test]
async fn a_next_try_that_is_cancelled_does_not_come_by_itself_nor_over_a_restart() {
    for queued in [false, true] {
        let site = Site::serving(&["1", "2"]).automatic();
        site.units.unit("web@2").is_masked();
        let mut app = still(&site);
        app.choose();
        rest(&mut app).await;
        assert!(app.retry_at.is_some(), "masked, it is tried again");
        if queued {
            // Its time came while a prune was at work.
            app.work = Work::Pruning(tokio::spawn(std::future::pending::<Result<Pruned, Fault>>()), None);
            app.retry();
            assert!(app.queued.is_some());
        }
        let cancelled =
            asked(&mut app, |answer| Ask::Say(crate::model::deployment::Say::Cancel, None, ann(), answer)).await;
        let (first, second) = ("web-1".parse().expect("an id"), "web-2".parse().expect("an id"));
        assert_eq!(cancelled, Accepted::Cancelled { id: second, to: slot("2"), again: Some(first) });
        site.units.unit("web@2").change(|status| status.load = Load::Loaded);
        let mut next = next_start(&site).await;
        for app in [&mut app, &mut next] {
            app.work = Work::Nothing;
            app.choose();
            app.plan_retry();
            assert!(app.retry_at.is_none() && app.queued.is_none(), "{:?} {:?}", app.retry_at, app.queued);
            assert!(app.view().waiting.is_empty(), "{:?}", app.view().waiting);
            let last = app.last.as_ref().expect("told");
            assert_eq!((last.id.number, outcome(Some(last))), (2, Some((Outcome::Cancelled, Some(Code::Cancelled)))));
            assert!(
                last.ended.as_ref().and_then(|ended| ended.next.as_ref()).is_some_and(|it| it.contains("why web-1"))
            );
        }
        let (answer, answered) = oneshot::channel();
        next.asked(Ask::Say(crate::model::deployment::Say::Cancel, None, ann(), answer)).await;
        assert_eq!(answered.await.expect("answered").expect_err("nothing").fault.code, Code::UnknownDeployment);
        assert_eq!(told(&mut next, "2").await, "web-3");
        rest(&mut next).await;
        assert_eq!(site.link(Link::Current), "2", "an operator's word brings it");
    }
}

#[tokio::test]
async fn whoever_brought_a_release_finds_its_deployment_after_a_restart() {
    let site = Site::serving(&["1", "2"]).automatic();
    let mut app = busy(&site);
    // Chosen by itself before anybody sent it, it waits; from the answer on it is promised.
    app.choose();
    assert!(!site.layout().queued().exists(), "nobody was told");
    let path = site.layout().spool().join("uploaded");
    std::fs::write(&path, artifact("2")).expect("written");
    let query = UploadQuery {
        file: "web-2.tar".into(),
        version: None,
        message: None,
        sha256: None,
        strategy: None,
        migration: None,
        without_dependencies: false,
    };
    let (answer, mut answered) = oneshot::channel();
    app.asked(Ask::Upload(path, query, ann(), answer)).await;
    app.begin_intake();
    let taken = loop {
        if let News::Ended(taken) = news_of(&mut app.taking).await {
            break taken;
        }
    };
    app.taken_in(taken).await;
    let uploaded: Uploaded = answered.try_recv().expect("answered").expect("taken in");
    let id = uploaded.deployment.expect("a deployment").to_string();
    let mut app = next_start(&site).await;
    assert_eq!(id_of(app.view().deployment.as_ref()), Some(id.clone()));
    rest(&mut app).await;
    assert_eq!((id_of(app.last.as_ref()), site.link(Link::Current)), (Some(id), "2".into()));
}

#[tokio::test]
async fn a_higher_release_takes_the_place_of_one_that_was_brought_and_that_is_known_after_a_restart() {
    let site = Site::serving(&["1", "2"]).automatic();
    let mut app = busy(&site);
    app.choose_for(
        "ann",
        Some(Brought { slot: &slot("2"), message: None, otherwise: Otherwise::default(), ahead: Ahead::Nothing }),
    );
    site.publish("3");
    let mut app = next_start(&site).await;
    rest(&mut app).await;
    assert_eq!(site.link(Link::Current), "3");
    let past = app.ground.shared.history.deployment(&"web-1".parse().expect("an id")).await.expect("a history");
    assert_eq!(outcome(past.as_ref()), Some((Outcome::Superseded, Some(Code::Superseded))));
}

#[tokio::test]
async fn a_word_that_cannot_be_kept_is_carried_out_and_said_to_be_lost_by_a_restart() {
    let site = Site::serving(&["1", "2"]);
    std::fs::create_dir_all(site.layout().queued().join("in-the-way")).expect("made");
    let mut app = busy(&site);
    told(&mut app, "2").await;
    let notes = app.view().notes;
    assert!(notes.iter().any(|note| note.contains("web-1 is forgotten if slotd is restarted now")), "{notes:?}");
    app.work = Work::Nothing;
    rest(&mut app).await;
    assert_eq!(site.links(), ["2", "1", "-"]);

    std::fs::remove_dir_all(site.layout().queued()).expect("removed");
    std::fs::write(site.layout().queued(), "{").expect("written");
    let notes = next_start(&site).await.view().notes;
    assert!(notes.iter().any(|note| note.contains("can't be read and is forgotten")), "{notes:?}");
}
