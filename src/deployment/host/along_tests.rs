//! What goes down with an app's units, on a scripted systemd.

use super::super::super::facts::{Along, Facts};
use super::super::super::site::Site;
use crate::model::{Outcome, UnitName};
use crate::units::UnitControl as _;

/// 1 serves, and 2 is a slot. metrics goes down with 1, tail with metrics; idle would, and doesn't run.
fn site() -> Site {
    let site = Site::serving(&["1", "2"]);
    site.units.unit("metrics").goes_with("web@1").runs();
    site.units.unit("tail").is_bound_to("metrics").runs();
    site.units.unit("idle").goes_with("web@1");
    site
}

#[tokio::test(start_paused = true)]
async fn what_went_down_with_the_old_slot_is_up_after_success_and_after_a_rollback() {
    let site = site();
    site.units.unit("web@2").start_fails("exited with status 3");
    let driven = site.deploy("2").await;
    assert_eq!((driven.ruling.outcome, &driven.ruling.warnings), (Outcome::RolledBack, &Vec::<String>::new()));
    assert_eq!(site.units.up(), ["metrics", "tail", "web", "web@1"]);
    let calls = site.units.calls();
    assert!(calls.contains(&"start metrics".to_owned()) && !calls.contains(&"start idle".to_owned()), "{calls:?}");

    assert_eq!(site.deploy("2").await.ruling.outcome, Outcome::Done);
    assert_eq!(site.units.up(), ["metrics", "tail", "web", "web@2"]);
}

#[tokio::test(start_paused = true)]
async fn what_would_start_the_old_slot_again_stays_down_and_is_told() {
    let site = site();
    site.units.unit("bound").is_bound_to("web@1").runs();
    // An instance of the slot that was left goes as the slot does.
    site.units.unit("web-log@1").is_bound_to("web@1").runs();
    let driven = site.deploy("2").await;
    assert_eq!(driven.ruling.outcome, Outcome::Done);
    assert_eq!(site.units.up(), ["metrics", "tail", "web", "web@2"]);
    let told =
        "unit.start: bound.service went down with web@1.service and stays so: to start it would start web@1.service";
    assert_eq!(driven.ruling.warnings.len(), 1, "{:?}", driven.ruling.warnings);
    assert!(
        driven.ruling.warnings[0].contains(told.trim_start_matches("unit.start: ")),
        "{:?}",
        driven.ruling.warnings
    );
}

#[tokio::test(start_paused = true)]
async fn what_slotd_may_not_start_is_told() {
    let site = site();
    site.units.unit("metrics").start_is_denied();
    let driven = site.deploy("2").await;
    assert_eq!(driven.ruling.outcome, Outcome::Done);
    let warnings = driven.ruling.warnings.join("\n");
    assert!(
        warnings.contains("metrics.service went down with web@1.service: slotd may not start metrics.service"),
        "{warnings}"
    );
}

/// The facts of a deployment to 2, with what was learned of the units of others.
async fn learned(site: &Site) -> Facts {
    let facts = site.facts("2");
    let along = site.host().learn_along(&facts).await;
    Facts { along, ..facts }
}

#[tokio::test(start_paused = true)]
async fn what_somebody_stopped_by_hand_stays_so() {
    let site = site();
    site.units.unit("side").is_bound_to("web").runs();
    let facts = learned(&site).await;
    let names: Vec<&str> = facts.along.iter().map(|Along { unit, .. }| unit.as_str()).collect();
    assert_eq!(names, ["metrics.service", "side.service", "tail.service"], "not what doesn't run");
    // Neither web@1 nor the gate has gone down.
    for unit in ["metrics.service", "side.service"] {
        site.units.stop(&UnitName::new(unit), std::time::Duration::from_secs(1)).await.expect("stopped");
    }
    site.host().rejoin(&facts).await.expect("nothing is wrong");
    assert_eq!(site.units.up(), ["web", "web@1"]);

    // Nor does anything come up beside an app that was stopped as a whole.
    let facts = learned(&site).await;
    for unit in ["web@1.service", "web.service"] {
        site.units.stop(&UnitName::new(unit), std::time::Duration::from_secs(1)).await.expect("stopped");
    }
    site.host().rejoin(&facts).await.expect("nothing is wrong");
    assert_eq!(site.units.up(), Vec::<String>::new());
}
