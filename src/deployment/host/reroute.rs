//! Where users come another way by a deployment: what of the old way is still needed, and which one a slot goes by.
//!
//! A slot's way lies beside it before `current` names it. So the exchange of that link takes users' way along, at whatever
//! instant slotd or the host dies, and after a boot slotd's helper goes by what the live slot has.

use std::sync::Arc;

use crate::config::AppSettings;
use crate::config::reach::Reach;
use crate::model::{Code, Fault, SlotName};
use crate::routes::AnyRoute;
use crate::units::UnitControl;

use super::super::facts::{Facts, Rerouted, Side, Way};
use super::super::machine::Failure;
use super::super::reach;
use super::gate::is_awake;
use super::{Host, environment};

/// How users came before.
pub(super) struct Before<U> {
    /// To this slot.
    slot: SlotName,
    settings: Arc<AppSettings>,
    /// That way alone.
    route: AnyRoute<U>,
    /// It, and the new one.
    both: AnyRoute<U>,
}

impl<U: UnitControl> Host<U> {
    /// The same world, where users come to `slot` by `settings` until they have moved.
    #[must_use]
    pub fn coming_from(self, slot: SlotName, settings: Arc<AppSettings>) -> Self {
        let route = AnyRoute::new(&settings, self.store.layout(), self.units.clone());
        let both = self.route.clone().beside(&route);
        Host { before: Some(Before { slot, settings, route, both }), ..self }
    }

    /// The settings by which a slot is reached and asked.
    pub(super) fn settings_of(&self, slot: &SlotName) -> &AppSettings {
        match &self.before {
            Some(before) if before.slot == *slot => &before.settings,
            _ => &self.settings,
        }
    }

    /// Those by which users come while they still come by the old way.
    pub(super) fn settings_before(&self) -> &AppSettings {
        self.before.as_ref().map_or(&self.settings, |before| &before.settings)
    }

    /// What leads them at a time.
    pub(super) fn route_by(&self, way: Way) -> &AnyRoute<U> {
        match (&self.before, way) {
            (Some(before), Way::Old) => &before.route,
            (Some(before), Way::Both) => &before.both,
            (_, Way::New) | (None, _) => &self.route,
        }
    }

    /// Notes by which way users come to the candidate, once `current` names it.
    pub(super) async fn note_way(&self, facts: &Facts, side: &Side) -> Result<(), Failure> {
        if side.slot != facts.to.slot {
            return Ok(());
        }
        let (slot, of) = (side.slot.clone(), Reach::of(&self.settings));
        self.files(move |store| reach::write(store, &slot, &of)).await
    }

    /// Where users can't be moved while the app serves, it has to rest.
    pub(super) async fn check_rest(&self, facts: &Facts) -> Result<(), Failure> {
        let Some(Rerouted { rests: Some(why), to }) = &facts.reroute else { return Ok(()) };
        let mut up = is_awake(&self.status(&self.settings.name.gate_unit()).await?);
        for unit in facts.from.iter().flat_map(Side::unit_names) {
            up |= !self.status(&unit).await?.is_down();
        }
        match up {
            true => Err(environment(Fault::new(Code::RouteUnsupported, format!("{to} isn't possible: {why}")))),
            false => Ok(()),
        }
    }
}
