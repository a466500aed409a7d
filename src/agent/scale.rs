//! `scale`: another number of instances. The number is kept in `settings.toml`, for all that comes; what is live becomes a
//! slot of its own, its next redeployment, which a deployment brings live like any other: by the app's strategy, with its
//! proof, and with a way back.

use crate::config::chosen::Chosen;
use crate::control::api::{Accepted, ApiError, ScaleRequest};
use crate::control::service::Caller;
use crate::deployment::facts::{How, Plan, Side};
use crate::model::deployment::{Kind, Otherwise};
use crate::model::setting::{Inputs, Said};
use crate::model::slot::UnitCount;
use crate::model::{Code, Template, Timestamp};
use crate::units::UnitControl;

use super::ahead::Ahead;
use super::app::App;
use super::verbs::Verb;

/// Most instances of a unit, as in the app's file.
const MOST: u32 = 99;

impl<U: UnitControl> App<U> {
    pub(super) async fn scale(&mut self, request: ScaleRequest, caller: &Caller) -> Result<Accepted, ApiError> {
        let ScaleRequest { instances, unit, message } = request;
        self.check_settings()?;
        let invalid = |message: String| ApiError::new(Code::RequestInvalid, message);
        if !(1..=MOST).contains(&instances) {
            let next = format!("systemctl stop {}.service", self.name());
            return Err(invalid(format!("an app has 1 to {MOST} instances of a unit, not {instances}")).next(next));
        }
        let units = &self.ground.settings.units;
        let unit = match unit {
            Some(unit) if !units.iter().any(|known| known.name == unit) => {
                let names: Vec<_> = units.iter().map(|unit| unit.name.as_str()).collect();
                let message = format!("{} has no unit {unit}; its units are: {}", self.name(), names.join(", "));
                return Err(invalid(message));
            }
            Some(unit) => unit,
            None => units.first().map(|unit| unit.name.clone()).ok_or_else(|| invalid("it has no unit".to_owned()))?,
        };
        self.check_pause()?;
        self.check_freeze(None)?;
        self.admit(Verb::Scale)?;

        let path = self.ground.store.layout().chosen();
        let mut chosen = Chosen::read(&path)?;
        chosen.instances.insert(unit.clone(), instances);
        chosen.note(&unit, Said { by: caller.name.clone(), at: Timestamp::now(), message: message.clone() });
        let mut settings = (*self.ground.settings).clone();
        chosen.over(&mut settings);
        let Some(current) = self.ground.current() else {
            let message = format!("nothing of {} is live that could have more or fewer instances", self.name());
            return Err(ApiError::new(Code::NothingToGoBackTo, message)
                .next(format!("write instances = {instances} in /etc/slotd/apps/{}.toml", self.name())));
        };
        let side = self.ground.side(&current)?;
        let units = scaled(&side, &unit, instances);
        // What can't be is said before anything is written.
        let to = Side { slot: side.slot.clone(), units: units.clone() };
        Plan::of(&settings, How::default(), Kind::Deploy, Some(&side), &to)?;
        let text = chosen.text()?;
        self.ground.store.choose(&text).map_err(|error| error.fault())?;
        self.go_by(&settings);
        if units == side.units {
            return Ok(Accepted::Unchanged { current: side.slot });
        }
        let note = message.unwrap_or_else(|| format!("{instances} of {unit}"));
        let record = self.ground.store.record(&side.slot).map_err(|error| error.fault())?;
        let inputs = Inputs { units, ..record.inputs() };
        let slot = self.ground.store.redeploy(&side.slot, inputs, &caller.name, Some(note.clone()));
        let slot = slot.map_err(|error| error.fault())?;
        self.accept(Kind::Deploy, slot, caller, Some(note), Otherwise::default(), Ahead::Nothing).await
    }
}

/// The units of a side, with so many of one.
fn scaled(side: &Side, unit: &Template, instances: u32) -> Vec<UnitCount> {
    let of = |count: &UnitCount| match count.name == *unit {
        true => UnitCount { instances, ..count.clone() },
        false => count.clone(),
    };
    side.units.iter().map(of).collect()
}
