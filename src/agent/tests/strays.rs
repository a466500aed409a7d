//! What runs beside the live slot.

use super::*;
use crate::model::UnitName;

/// A look at what runs, and what comes of it.
async fn look(app: &mut App<FakeUnits>) {
    app.look_for_strays();
    rest(app).await;
}

/// The job that the app hears of next, and how soon it looks then.
async fn heard(app: &mut App<FakeUnits>) -> (Option<UnitName>, Duration) {
    let heard = tokio::time::timeout(LONG, app.strays.heard()).await.expect("something to be heard");
    app.heard_of_job(heard.clone());
    (heard, app.strays.look_at - Instant::now())
}

#[tokio::test(start_paused = true)]
async fn what_is_started_beside_the_live_slot_is_told_at_once_and_stopped_later() {
    let site = Site::serving(&["1", "2"]);
    let mut app = still(&site);
    app.watch_live().await;
    look(&mut app).await;
    let every = app.strays.look_at - Instant::now();
    assert!(every > Duration::from_secs(20), "{every:?}");

    drop(site.units.unit("web@1").change(|status| status.restarts += 1));
    let live = Some(UnitName::new("web@1.service"));
    assert_eq!(heard(&mut app).await, (live, every), "the live slot may crash as often as it likes");

    site.units.unit("web@2").runs();
    let (unit, soon) = heard(&mut app).await;
    assert!(unit == Some(UnitName::new("web@2.service")) && soon < Duration::from_secs(1), "{unit:?} {soon:?}");
    look(&mut app).await;
    let named = "web@2.service runs though it is none of the live slot's";
    assert!(app.stray_notes().any(|note| note.contains(named)), "{:?}", app.stray_notes().collect::<Vec<_>>());
    // Whatever else makes it look: who started it can read why.
    look(&mut app).await;
    assert!(site.units.calls().is_empty(), "{:?}", site.units.calls());
    let grace = app.strays.look_at - Instant::now();
    assert!((5..20).contains(&grace.as_secs()), "{grace:?}");
    tokio::time::advance(grace).await;
    look(&mut app).await;
    assert_eq!(site.units.calls(), ["stop web@2"]);
    assert_eq!(app.stray_notes().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn where_jobs_may_have_been_missed_it_looks_and_listens_again() {
    let site = Site::serving(&["1", "2"]);
    let mut app = still(&site);
    look(&mut app).await;
    site.units.reload();
    site.units.unit("web@2").runs();
    let (lost, soon) = heard(&mut app).await;
    assert!(lost.is_none() && soon < Duration::from_secs(10), "{lost:?} {soon:?}");
    look(&mut app).await;
    assert_eq!(app.stray_notes().count(), 1);
    drop(site.units.unit("web@2").change(|_| {}));
    assert!(heard(&mut app).await.0.is_some());
}
