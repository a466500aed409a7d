//! Strays: what runs of an app though it is none of the live slot's, and no deployment is under way that wants it.
//!
//! A deployment stops what it started, and recovery what a killed one had; so a stray is what no record tells of: left when
//! an intent was lost, or started by a hand. Behind a shared socket it would take its share of the users. So it is looked
//! for whenever systemd tells of a job of what isn't live, after each deployment, and once a minute; named in `status` and by
//! an event; and stopped: at once at the start of the app's task, else some seconds later, so that whoever started it can read
//! why.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use crate::control::api::EventKind;
use crate::model::{Template, UnitName};
use crate::points::{self, named};
use crate::slots::{LinkState, Stored};
use crate::units::{Active, UnitControl, UnitWatch};

use super::app::{App, Work};
use super::deploy::Ground;
use super::prune::instances;

/// How often what runs is held against what is live, whatever was heard.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How long jobs are collected before a look: a start or a restart is some of them.
const COLLECT: Duration = Duration::from_millis(200);

/// How soon it is listened again after that came to an end.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// How long a stray runs on once it was found.
const GRACE: Duration = Duration::from_secs(10);

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
    /// Those that the last look found, and when they were found first.
    found: BTreeMap<UnitName, Instant>,
    /// When the next look is due.
    pub(super) look_at: Instant,
    /// Nobody can have started them since this slotd began: they needn't run on.
    at_once: bool,
    /// What tells of jobs, and of which templates; `None` until the next look.
    heard: Option<(Vec<Template>, UnitWatch)>,
}

/// What came of a look, or of stops.
pub(super) enum Cleared {
    /// And what tells of jobs from before the look on, where it is another than before.
    Found(Vec<UnitName>, Option<(Vec<Template>, UnitWatch)>),
    /// Each with the reason why it couldn't be stopped.
    Stopped(Vec<(UnitName, Option<String>)>),
}

impl Strays {
    /// To be looked for as soon as the app has nothing else to do.
    pub(super) fn new() -> Self {
        Strays { found: BTreeMap::new(), look_at: Instant::now(), at_once: true, heard: None }
    }

    /// There is a reason to look.
    pub(super) fn look_soon(&mut self) {
        self.look_at = self.look_at.min(Instant::now() + COLLECT);
    }

    /// Waits for the next unit for which a job ended; `None`: nobody tells any more.
    pub(super) async fn heard(&mut self) -> Option<UnitName> {
        match &mut self.heard {
            Some((_, watch)) => watch.changed().await,
            None => std::future::pending().await,
        }
    }
}

impl<U: UnitControl> App<U> {
    /// Looks for strays, if the app has nothing else to do and knows what is live.
    pub(super) fn look_for_strays(&mut self) {
        self.strays.look_at = Instant::now() + LOOK_EVERY;
        let at_rest = matches!(self.work, Work::Nothing) && self.queued.is_none() && self.recover_at.is_none();
        if at_rest && self.fault.is_none() && !self.orphaned {
            let ground = self.ground.clone();
            let listens_to = self.strays.heard.as_ref().map(|(templates, _)| templates.clone());
            self.work = Work::Clearing(tokio::spawn(async move {
                let heard = listen(&ground, listens_to.as_deref()).await;
                Cleared::Found(strays(&ground).await, heard)
            }));
        }
    }

    /// A job of one of the app's units has ended, or nobody tells of any.
    pub(super) fn heard_of_job(&mut self, unit: Option<UnitName>) {
        match unit {
            // A start of the live slot is no stray, however often it crashes.
            Some(unit) if self.live.watches(&unit) => {}
            Some(_) => self.strays.look_soon(),
            None => {
                self.strays.heard = None;
                self.strays.look_at = self.strays.look_at.min(Instant::now() + LISTEN_AGAIN);
            }
        }
    }

    pub(super) fn cleared(&mut self, result: Result<Cleared, JoinError>) {
        self.work = Work::Nothing;
        match result {
            Ok(Cleared::Found(found, heard)) => {
                if heard.is_some() {
                    self.strays.heard = heard;
                }
                self.found(found);
            }
            Ok(Cleared::Stopped(stopped)) => {
                for (unit, why) in stopped {
                    match why {
                        None => {
                            tracing::info!(SLOTD_APP = self.name(), "{unit} is stopped");
                            self.strays.found.remove(&unit);
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
        let (before, now) = (std::mem::take(&mut self.strays.found), Instant::now());
        for unit in found {
            let since = before.get(&unit).copied();
            if since.is_none() {
                let what = EventKind::Stray { unit: unit.clone() };
                tracing::error!(SLOTD_APP = self.name(), "{what}");
                self.event(what);
            }
            self.strays.found.insert(unit, since.unwrap_or(now));
        }
        let ends = |since: &Instant| if at_once { now } else { *since + GRACE };
        let next = self.strays.found.values().map(ends).filter(|end| *end > now).min();
        self.strays.look_at = next.map_or(self.strays.look_at, |next| next.min(self.strays.look_at));
        let doomed = self.strays.found.iter().filter(|(_, since)| ends(since) <= now);
        let doomed: Vec<UnitName> = doomed.map(|(unit, _)| unit.clone()).collect();
        if !doomed.is_empty() {
            let ground = self.ground.clone();
            self.work = Work::Clearing(tokio::spawn(async move { Cleared::Stopped(stop(&ground, doomed).await) }));
        }
    }

    /// What of it is left, for `status`.
    pub(super) fn stray_notes(&self) -> impl Iterator<Item = String> {
        self.strays.found.keys().map(|unit| EventKind::Stray { unit: unit.clone() }.to_string())
    }
}

/// The task of a look, or of stops.
pub(super) type Task = JoinHandle<Cleared>;

/// What tells of jobs of the app's templates; `None` where what it listened to before is that already, or systemd doesn't
/// answer.
async fn listen<U: UnitControl>(ground: &Ground<U>, before: Option<&[Template]>) -> Option<(Vec<Template>, UnitWatch)> {
    let templates = templates(ground);
    if before == Some(&templates) {
        return None;
    }
    let watch = ground.shared.units.watch_jobs(&templates).await.ok()?;
    Some((templates, watch))
}

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
