//! The way by which users come: what of the settings is in force, and the operator's word that changes it.

use std::sync::Arc;

use crate::config::AppSettings;
use crate::config::reach::Reach;
use crate::control::api::{Accepted, ApiError, Foreseen, Planned};
use crate::control::service::Caller;
use crate::deployment::facts::{Facts, Plan, Side};
use crate::deployment::host::is_awake;
use crate::deployment::intent::IntentFile;
use crate::deployment::neighbours::Neighbour;
use crate::deployment::reach;
use crate::model::deployment::{Kind, Otherwise, Reroute};
use crate::model::{AppName, Code, SlotName};
use crate::slots::SlotStore;
use crate::units::{UnitControl, UnitError};

use super::ahead::Ahead;
use super::app::App;
use super::ask::View;
use super::deploy::{Ground, side_of};
use super::foresee::{PAST, spell};
use super::plan::planned_route;
use super::registry::Registry;

/// The settings that a deployment goes by.
pub(super) struct Going {
    /// Those of the candidate.
    pub(super) settings: Arc<AppSettings>,
    /// How users come to the slot that was live, where that changes.
    pub(super) before: Option<(SlotName, Arc<AppSettings>)>,
}

impl<U: UnitControl> Ground<U> {
    /// By what a deployment goes. `anew`: it begins now; else it goes on with the ways that it began with, as they lie
    /// beside its slots.
    pub(super) fn going(&self, facts: &Facts, anew: bool) -> Going {
        let (Some(_), Some(from)) = (&facts.reroute, &facts.from) else {
            return Going { settings: Arc::clone(&self.settings), before: None };
        };
        let set = self.settings.as_set();
        let by = |slot: &SlotName| {
            let way = if anew { None } else { reach::read(&self.store, slot) };
            way.map(|way| Arc::new(set.clone().reached_by(way)))
        };
        let settings = by(&facts.to.slot).unwrap_or_else(|| Arc::new(set.clone()));
        let before = by(&from.slot).unwrap_or_else(|| Arc::clone(&self.settings));
        Going { settings, before: Some((from.slot.clone(), before)) }
    }
}

impl<U: UnitControl> App<U> {
    /// From here on intakes and deployments begin by these settings; users come as before, until that is changed.
    pub(super) fn go_by(&mut self, set: &AppSettings) {
        self.rebuild.forget();
        self.put_in_force(set);
    }

    /// The same settings once more: the live slot may be another one by now.
    pub(super) fn go_by_what_is_live(&mut self) {
        let set = self.ground.settings.as_set();
        self.put_in_force(&set);
    }

    fn put_in_force(&mut self, set: &AppSettings) {
        let settings = Arc::new(reach::in_force(set, &self.ground.store));
        let neighbour = Neighbour { settings: Some(Arc::clone(&settings)), store: Arc::clone(&self.ground.store) };
        let name = settings.name.clone();
        self.ground.shared.directory.neighbours.put(name, neighbour);
        self.place.settings = Arc::clone(&settings);
        self.ground.settings = settings;
    }

    /// What is live without a note of its way came to be so before there were any: by the settings as they are.
    pub(super) fn note_the_way(&mut self) {
        let is_open = !matches!(IntentFile::of(self.ground.store.layout()).read(), Ok(None));
        let Some(current) = self.ground.current().filter(|_| !is_open) else { return };
        let store = &self.ground.store;
        if !store.layout().slot_route(&current).exists()
            && let Err(fault) = reach::write(store, &current, &Reach::of(&self.ground.settings))
        {
            tracing::warn!(SLOTD_APP = self.name(), "by which way users come isn't noted: {fault}");
        }
    }

    /// What waits of the way, in words and with the word that changes it.
    pub(super) fn waiting_way(&self) -> Option<String> {
        let Reroute { from, to } = self.ground.settings.reroute()?;
        let app = self.name();
        Some(match self.ground.settings.refused_live() {
            None => format!("users come by {from} until {to} is taken by: slotctl redeploy {app} --route"),
            Some(_) => {
                format!("users come by {from}; {to} can only be taken while {app} rests: slotctl plan {app} --route")
            }
        })
    }

    /// Has users come by the way that is set: another slot of what is live, with nothing else that is staged.
    pub(super) async fn redeploy_by_the_way(
        &mut self,
        current: SlotName,
        message: Option<String>,
        otherwise: Otherwise,
        caller: &Caller,
    ) -> Result<Accepted, ApiError> {
        let Some(reroute) = self.ground.settings.reroute() else { return Ok(Accepted::Unchanged { current }) };
        if let Some(why) = self.ground.settings.contradicts() {
            let next = format!("sudoedit /etc/slotd/apps/{}.toml", self.name());
            return Err(ApiError::new(Code::RouteUnsupported, why).next(next));
        }
        if let Some(why) = self.ground.settings.refused_live()
            && is_up(&self.ground.shared.units, &self.ground.store).await?
        {
            return Err(refused(self.name(), &reroute, &why));
        }
        Plan::check(&self.ground.settings.as_set(), otherwise.strategy)?;
        let slot = self.again(&current, caller, message.clone())?;
        let way = Some(reroute);
        self.accept_by(Kind::Deploy, slot, (caller, message), otherwise, Ahead::Nothing, way).await
    }
}

impl<U: UnitControl> Registry<U> {
    /// What taking the way that is set would do.
    pub(super) async fn planned_route(
        &self,
        app: &AppName,
        view: &View,
        otherwise: Otherwise,
    ) -> Result<Planned, ApiError> {
        let up = is_up(&self.shared.units, &view.store).await?;
        let planned = planned_route(view, otherwise, up)?;
        let past = self.shared.history.deployments(app, PAST).await.unwrap_or_default();
        let foreseen = Foreseen { past: spell(&past, &planned), ..planned.foreseen.clone() };
        Ok(Planned { dependencies: self.dependencies(app).await, foreseen, ..planned })
    }
}

/// Whether somebody wants the app to run, or it does.
async fn is_up<U: UnitControl>(units: &U, store: &SlotStore) -> Result<bool, ApiError> {
    let failed = |error: UnitError| ApiError::new(Code::UnitControl, error.to_string());
    let links = store.links().map_err(|error| error.fault())?;
    let mut up = is_awake(&units.status(&store.layout().app().gate_unit()).await.map_err(failed)?);
    let live = links.current.slot().map(|slot| side_of(store, slot)).transpose()?;
    for unit in live.iter().flat_map(Side::unit_names) {
        up |= !units.status(&unit).await.map_err(failed)?.is_down();
    }
    Ok(up)
}

/// Why the way can't be changed as things stand.
pub(super) fn refused(app: &str, reroute: &Reroute, why: &str) -> ApiError {
    ApiError::new(Code::RouteUnsupported, format!("{reroute} isn't possible: {why}")).next(rest(app))
}

/// What makes it possible.
pub(super) fn rest(app: &str) -> String {
    format!("systemctl stop {app}.socket {app}.service, as far as there are any; then slotctl redeploy {app} --route")
}
