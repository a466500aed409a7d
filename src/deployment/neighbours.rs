//! The other apps of this host, as a deployment sees those that its own app depends on: looked at, never touched.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::AppSettings;
use crate::config::app::Probe;
use crate::model::dependency::{Dependency, DependencyState};
use crate::model::{AppName, Code, Fault, SlotName};
use crate::probes::{Prober, is_answered};
use crate::slots::SlotStore;
use crate::units::UnitControl;

use super::facts::Side;
use super::host::target;

/// The longest that one question to another app waits, whatever that app's own proof allows.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// All apps by name. Clones are handles to the same.
#[derive(Clone, Default)]
pub struct Neighbours {
    apps: Arc<Mutex<BTreeMap<AppName, Neighbour>>>,
}

/// Another app.
#[derive(Clone)]
pub struct Neighbour {
    /// Its settings; none once their file was gone when slotd began.
    pub settings: Option<Arc<AppSettings>>,
    /// Its slots.
    pub store: Arc<SlotStore>,
}

/// Why an app can't be depended on now.
#[derive(Debug, Clone)]
pub struct Down {
    /// In one word.
    pub state: DependencyState,
    /// What is live all the same.
    pub slot: Option<SlotName>,
    /// In more words.
    pub why: String,
}

impl Neighbours {
    /// What is known of an app.
    pub fn get(&self, app: &AppName) -> Option<Neighbour> {
        self.lock().get(app).cloned()
    }

    /// From now on this is known of it.
    pub fn put(&self, app: AppName, neighbour: Neighbour) {
        self.lock().insert(app, neighbour);
    }

    /// What an app depends on, by its settings.
    pub fn needs_of(&self, app: &AppName) -> Vec<AppName> {
        let settings = self.get(app).and_then(|neighbour| neighbour.settings);
        settings.map(|settings| settings.depends_on.clone()).unwrap_or_default()
    }

    /// Whether `app` is live, up and answers.
    pub async fn look<U: UnitControl>(&self, app: &AppName, units: &U) -> Result<SlotName, Down> {
        match self.get(app) {
            Some(neighbour) => neighbour.look(app, units).await,
            None => Err(Down {
                state: DependencyState::Unknown,
                slot: None,
                why: format!("there is no app {app}: /etc/slotd/apps/{app}.toml is missing or broken"),
            }),
        }
    }

    /// The same for people, in a row with others.
    pub async fn seen<U: UnitControl>(&self, app: &AppName, units: &U) -> Dependency {
        let (state, slot) = match self.look(app, units).await {
            Ok(slot) => (DependencyState::Online, Some(slot)),
            Err(down) => (down.state, down.slot),
        };
        Dependency { app: app.clone(), state, slot, next: None, deployment: None, address: self.address(app) }
    }

    /// Where users call it.
    pub fn address(&self, app: &AppName) -> Option<String> {
        let settings = self.get(app)?.settings?;
        let outside = settings.outside.as_ref().and_then(|outside| outside.address());
        outside.or_else(|| settings.routed_probes().iter().find_map(Probe::tcp_address)).map(str::to_owned)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AppName, Neighbour>> {
        // What it guards is whole between any two statements.
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Neighbour {
    async fn look<U: UnitControl>(&self, app: &AppName, units: &U) -> Result<SlotName, Down> {
        let down = |state, slot: Option<&SlotName>, why: String| Down { state, slot: slot.cloned(), why };
        let Some(settings) = &self.settings else {
            let why = format!("the settings file of {app} is gone, so nobody knows how it is asked");
            return Err(down(DependencyState::Orphaned, None, why));
        };
        let current = self.store.links().ok().and_then(|links| links.current.slot().cloned());
        let Some(slot) = current else {
            return Err(down(DependencyState::Empty, None, format!("nothing of {app} is live")));
        };
        let record = self.store.record(&slot);
        let record = record.map_err(|error| down(DependencyState::Degraded, Some(&slot), error.fault().to_string()))?;
        let side = Side { slot: slot.clone(), units: record.units };
        for unit in side.unit_names() {
            match units.status(&unit).await {
                Ok(status) if status.is_up() => {}
                Ok(status) => {
                    let state = if status.is_down() { DependencyState::Stopped } else { DependencyState::Degraded };
                    return Err(down(state, Some(&slot), format!("{unit} is {}", status.seen(&unit).state)));
                }
                Err(error) => return Err(down(DependencyState::Degraded, Some(&slot), error.to_string())),
            }
        }
        let (prober, patience) = (Prober::new(units.clone()), settings.proof.timeout.min(ANSWER_LIMIT));
        for (unit, instance) in side.instances() {
            // A check that is a unit of its own would run beside the one that the other app's deployment runs.
            let probes: Vec<Probe> = settings.probes_for(&unit).to_vec();
            let probes: Vec<Probe> = probes.into_iter().filter(|it| !matches!(it, Probe::Unit { .. })).collect();
            let target = target(&self.store, unit, instance);
            prober.ask_once(&probes, &target, patience).await.map_err(|fault| {
                down(DependencyState::Degraded, Some(&slot), format!("it doesn't answer well: {}", fault.message))
            })?;
        }
        if let (Some(outside), Some((unit, instance))) = (&settings.outside, side.instances().into_iter().next())
            && !is_answered(&outside.probe, &target(&self.store, unit, instance), patience).await
        {
            let why = format!("{} doesn't answer", outside.address().unwrap_or("its outside address"));
            return Err(down(DependencyState::Degraded, Some(&slot), why));
        }
        Ok(slot)
    }
}

impl Down {
    /// Why `app`, which needs `on`, isn't begun.
    pub fn fault(&self, app: &AppName, on: &AppName) -> Fault {
        Fault::new(Code::DependencyDown, format!("{app} depends on {on}, which is {}: {}", self.state, self.why))
    }
}

impl fmt::Debug for Neighbours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.lock().keys()).finish()
    }
}
