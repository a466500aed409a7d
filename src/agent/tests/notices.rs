//! Telling somebody how deployments ended: the unit is started once, and nothing waits for it.

use super::*;
use crate::agent::notices::{Standing, notify_unit};
use crate::model::DeploymentId;
use crate::units::{Active, Load, UnitControl};

/// An app that wants to be told of these.
fn telling(site: Site, on_result: &[Outcome]) -> Site {
    let settings = crate::config::AppSettings { on_result: on_result.to_vec(), ..(*site.settings).clone() };
    Site { settings: settings.into(), ..site }
}

fn id(number: u64) -> DeploymentId {
    DeploymentId { app: "web".parse().expect("app"), number }
}

/// How often the unit of this deployment was asked to start.
fn starts(site: &Site, number: u64) -> usize {
    let start = format!("start slotd-notify@web-{number}");
    site.units.calls().iter().filter(|call| **call == start).count()
}

/// Waits until the first notice that isn't passed is as `is` says.
async fn until_told(lively: &Lively<'_>, what: &str, is: impl Fn(&str) -> bool) {
    lively
        .until(what, |_| {
            let book = std::fs::read_to_string(lively.site.layout().told()).unwrap_or_default();
            is(&book)
        })
        .await;
}

#[tokio::test]
async fn an_end_that_is_wanted_is_told_once_and_the_unit_is_stopped() {
    let site = telling(Site::serving(&["1", "2"]), &[Outcome::Done]);
    site.units.unit("slotd-notify@web-1").change(|status| status.load = Load::Loaded);
    let lively = Lively::of(&site);
    lively.activate("2").await.expect("accepted");
    lively.until_live("2").await;
    until_told(&lively, "told", |book| book.contains("\"told\"")).await;
    let unit = notify_unit(&id(1));
    lively.until("stopped", |_| !site.units.up().contains(&"slotd-notify@web-1".to_owned())).await;
    assert!(site.units.status(&unit).await.is_ok_and(|status| status.is_down()));
    // Neither at the next start.
    drop(lively);
    let lively = Lively::of(&site);
    lively.until("at rest", |view| view.deployment.is_none() && view.last.is_some()).await;
    assert_eq!(starts(&site, 1), 1);
}

#[tokio::test]
async fn what_ran_before_a_kill_is_not_started_again() {
    for (active, told) in [(Active::Active, "\"told\""), (Active::Failed, "\"failed\"")] {
        let site = telling(Site::serving(&["1", "2"]), &[Outcome::Failed]);
        let app = still(&site);
        app.teller.notices.note(&failed(&site, "2", Blame::Environment), &[Outcome::Failed], &[]).expect("noted");
        drop(app);
        let number = site.facts("2").id.number;
        let unit = format!("slotd-notify@web-{number}");
        site.units.unit(&unit).change(|status| (status.load, status.active) = (Load::Loaded, active));
        let lively = Lively::of(&site);
        until_told(&lively, told, |book| book.contains(told)).await;
        assert_eq!(starts(&site, number), 0, "{active:?}");
        let notes = lively.view().await.notes;
        assert_eq!(notes.iter().any(|note| note.contains("systemctl restart")), active == Active::Failed, "{notes:?}");
    }
}

#[tokio::test]
async fn a_unit_that_is_missing_is_told_and_tried_again_and_delays_nothing() {
    let site = telling(Site::serving(&["1", "2", "3"]), &[Outcome::Done]);
    for number in 1..3 {
        site.units.unit(&format!("slotd-notify@web-{number}")).is_missing();
    }
    let lively = Lively::of(&site);
    for version in ["2", "3"] {
        lively.activate(version).await.expect("accepted");
        lively.until_live(version).await;
    }
    let missing = "slotd-notify@web-1.service doesn't exist";
    let told = |view: &View| view.notes.iter().any(|note| note.contains(missing) && note.contains("slotctl check web"));
    lively.until("a note", told).await;
}

#[tokio::test]
async fn what_ended_before_anybody_asked_is_told_to_nobody() {
    let site = Site::serving(&["1", "2"]);
    let mut app = still(&site);
    app.begin().await;
    let word = wanted(&mut app, "2", true);
    app.queue(word);
    rest(&mut app).await;
    drop(app);
    let site = telling(site, &[Outcome::Done]);
    let mut app = still(&site);
    app.begin().await;
    assert!(app.teller.notices.due().is_none());
    // Nor where what was noted is gone, or can't be read.
    for broken in [None, Some("{")] {
        std::fs::remove_file(site.layout().told()).expect("there");
        if let Some(text) = broken {
            std::fs::write(site.layout().told(), text).expect("written");
        }
        let mut app = still(&site);
        app.begin().await;
        assert!(app.teller.notices.due().is_none(), "{broken:?}");
        assert!(app.teller.notices.load().expect("read").is_some(), "and it is noted from now on");
    }
}

#[tokio::test]
async fn an_end_that_slotd_died_over_is_told_at_the_next_start() {
    let site = telling(Site::serving(&["1", "2"]), &[Outcome::Done]);
    let mut app = still(&site);
    app.begin().await;
    let word = wanted(&mut app, "2", true);
    app.queue(word);
    app.go_on();
    let Work::Deploying(running) = &mut app.work else { panic!("it begins") };
    (&mut running.task).await.expect("driven");
    // Killed here: it is closed, and not noted.
    drop(app);
    site.units.unit("slotd-notify@web-1").is_missing();
    let mut app = still(&site);
    app.begin().await;
    let due = app.teller.notices.due().expect("due");
    assert_eq!((due.id.number, due.outcome, due.standing), (1, Outcome::Done, Standing::Due));
}
