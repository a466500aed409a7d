//! Strays: what runs of an app though it is none of the live slot's, and no deployment is under way that wants it.
//!
//! A deployment stops what it started, and recovery what a killed one had; so a stray is what no record tells of: left when
//! an intent was lost, or started by a hand. Behind a shared socket it would take its share of the users. So it is looked
//! for, named in `status` and by an event, and stopped: at once at the start of the app's task, else at the second look that
//! finds it, so that whoever started it can read why.

use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use crate::control::api::EventKind;
use crate::model::{Template, UnitName};
use crate::points::{self, named};
use crate::slots::{LinkState, Stored};
use crate::units::{Active, UnitControl};

use super::app::{App, Work};
use super::deploy::Ground;
use super::prune::instances;

/// How often what runs is held against what is live, and how soon again once something was found.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// How long a stop may take whose unit has no limit of its own.
const STOP_LIMIT: Duration = Duration::from_secs(90);

named! {
    /// What is done to a stray; a crash point too.
    Clearing {
        Stop = "stop-stray",
    }
}

/// What is known of strays.
pub(super) struct Strays {
    /// Those that the last look found.
    pub(super) found: Vec<UnitName>,
    /// When the next look is due.
    pub(super) look_at: Instant,
    /// Nobody can have started them since this slotd began: they needn't be seen twice.
    at_once: bool,
}

/// What came of a look, or of stops.
pub(super) enum Cleared {
    Found(Vec<UnitName>),
    /// Each with the reason why it couldn't be stopped.
    Stopped(Vec<(UnitName, Option<String>)>),
}

impl Strays {
    /// To be looked for as soon as the app has nothing else to do.
    pub(super) fn new() -> Self {
        Strays { found: Vec::new(), look_at: Instant::now(), at_once: true }
    }
}

impl<U: UnitControl> App<U> {
    /// Looks for strays, if the app has nothing else to do and knows what is live.
    pub(super) fn look_for_strays(&mut self) {
        self.strays.look_at = Instant::now() + LOOK_EVERY;
        let at_rest = matches!(self.work, Work::Nothing) && self.queued.is_none() && self.recover_at.is_none();
        if at_rest && self.fault.is_none() && !self.orphaned {
            let ground = self.ground.clone();
            self.work = Work::Clearing(tokio::spawn(async move { Cleared::Found(strays(&ground).await) }));
        }
    }

    pub(super) fn cleared(&mut self, result: Result<Cleared, JoinError>) {
        self.work = Work::Nothing;
        match result {
            Ok(Cleared::Found(found)) => self.found(found),
            Ok(Cleared::Stopped(stopped)) => {
                for (unit, why) in stopped {
                    match why {
                        None => {
                            tracing::info!(SLOTD_APP = self.name(), "{unit} is stopped");
                            self.strays.found.retain(|found| *found != unit);
                        }
                        Some(why) => tracing::error!(SLOTD_APP = self.name(), "{unit} can't be stopped: {why}"),
                    }
                }
            }
            Err(error) => tracing::error!(SLOTD_APP = self.name(), "the look for strays was torn: {error}"),
        }
    }

    fn found(&mut self, found: Vec<UnitName>) {
        let at_once = std::mem::replace(&mut self.strays.at_once, false);
        let before = std::mem::replace(&mut self.strays.found, found.clone());
        let (again, new): (Vec<UnitName>, Vec<UnitName>) = found.into_iter().partition(|unit| before.contains(unit));
        for unit in &new {
            let what = EventKind::Stray { unit: unit.clone() };
            tracing::error!(SLOTD_APP = self.name(), "{what}");
            self.event(what);
        }
        if !new.is_empty() {
            self.strays.look_at = Instant::now() + LOOK_AGAIN;
        }
        let doomed: Vec<UnitName> = if at_once { [again, new].concat() } else { again };
        if !doomed.is_empty() {
            let ground = self.ground.clone();
            self.work = Work::Clearing(tokio::spawn(async move { Cleared::Stopped(stop(&ground, doomed).await) }));
        }
    }

    /// What of it is left, for `status`.
    pub(super) fn stray_notes(&self) -> impl Iterator<Item = String> {
        self.strays.found.iter().map(|unit| EventKind::Stray { unit: unit.clone() }.to_string())
    }
}

/// The task of a look, or of stops.
pub(super) type Task = JoinHandle<Cleared>;

async fn stop<U: UnitControl>(ground: &Ground<U>, units: Vec<UnitName>) -> Vec<(UnitName, Option<String>)> {
    let mut stopped = Vec::new();
    // What became the live slot's meanwhile, by a hand, isn't one any more.
    let now = strays(ground).await;
    for unit in units.into_iter().filter(|unit| now.contains(unit)) {
        let control = &ground.shared.units;
        let limit = control.status(&unit).await.ok().and_then(|status| status.stop_limit).unwrap_or(STOP_LIMIT);
        points::pass(points::Side::Before, Clearing::Stop.as_str());
        let result = control.stop(&unit, limit).await;
        points::pass(points::Side::After, Clearing::Stop.as_str());
        let why = match result {
            Ok(_) => {
                control.status(&unit).await.ok().filter(|status| !status.is_down()).map(|_| "it runs on".to_owned())
            }
            Err(error) => Some(error.to_string()),
        };
        stopped.push((unit, why));
    }
    stopped
}

/// The units of the app's slots that run and aren't the live slot's. None where it isn't known what is live, or what runs.
async fn strays<U: UnitControl>(ground: &Ground<U>) -> Vec<UnitName> {
    let Ok(links) = ground.store.links() else { return Vec::new() };
    let live = match &links.current {
        LinkState::Absent => Vec::new(),
        LinkState::Dangling(_) => return Vec::new(),
        LinkState::Slot(slot) => match ground.side(slot) {
            Ok(side) => side.unit_names(),
            Err(_) => return Vec::new(),
        },
    };
    let Ok(units) = instances(ground, &templates(ground)).await else { return Vec::new() };
    let mut strays = Vec::new();
    for (unit, instance) in units {
        // What runs under another name than a slot's was never slotd's: somebody may just be about to move in here.
        if ground.store.slot(&instance.slot).is_none() || live.contains(&unit) {
            continue;
        }
        match ground.shared.units.status(&unit).await {
            Ok(status) if !status.is_down() && status.active != Active::Deactivating => strays.push(unit),
            Ok(_) | Err(_) => {}
        }
    }
    strays
}

/// The templates of all slots and of the settings.
fn templates<U: UnitControl>(ground: &Ground<U>) -> Vec<Template> {
    let slots = ground.store.slots().unwrap_or_default().into_iter();
    let of_slots = slots.filter_map(|entry| match entry.stored {
        Stored::Slot(record) => Some(record.units),
        Stored::Refused(_) | Stored::Damaged(_) => None,
    });
    let names = of_slots.flatten().map(|unit| unit.name);
    let mut all: Vec<Template> = ground.settings.units.iter().map(|unit| unit.name.clone()).chain(names).collect();
    all.sort();
    all.dedup();
    all
}
