//! What a deployment would do, for people who want to know before: the same plan that it would go by.

use crate::config::AppSettings;
use crate::config::app::Unit;
use crate::control::api::{ApiError, Planned, PlannedBatch, PlannedContract, PlannedHook, PlannedRefusal, PlannedUnit};
use crate::deployment::facts::{Plan, Side};
use crate::model::deployment::{Kind, Otherwise};
use crate::model::slot::UnitCount;
use crate::model::{AppName, Code, Numbers, SlotName};

use super::ask::View;
use super::deploy::{how, side_of};
use super::freeze::refusal;

/// The plan from the live slot to `slot`.
pub(super) fn planned(app: &AppName, view: &View, slot: &SlotName, otherwise: Otherwise) -> Result<Planned, ApiError> {
    let entry = view.store.slot(slot).ok_or_else(|| {
        ApiError::new(Code::UnknownSlot, format!("{app} has no slot {slot}")).next(format!("slotctl list {app}"))
    })?;
    let links = view.store.links().map_err(|error| error.fault())?;
    let from = links.current.slot().map(|slot| side_of(&view.store, slot)).transpose()?;
    let (to, settings) = (side_of(&view.store, slot)?, &view.settings);
    let wish = otherwise.strategy;
    let refusals = Plan::refusals(settings, wish);
    let mut refusals: Vec<PlannedRefusal> =
        refusals.into_iter().map(|it| PlannedRefusal { code: it.code, message: it.message, fix: it.fix }).collect();
    let how = how(&view.store, otherwise, slot)?;
    let plan = match Plan::of(settings, how, Kind::Deploy, from.as_ref(), &to) {
        Ok(plan) => Some(plan),
        Err(fault) if refusals.is_empty() => {
            let fix = format!("slotctl check {app}");
            refusals.push(PlannedRefusal { code: fault.code, message: fault.message, fix });
            None
        }
        Err(_) => None,
    };
    if let Some(quarantine) = entry.quarantine {
        refusals.push(PlannedRefusal {
            code: Code::ReleaseQuarantined,
            message: format!("it is quarantined since {}: {}", quarantine.at, quarantine.fault),
            fix: format!("slotctl why {}; slotctl activate {app} {slot} --force", quarantine.deployment),
        });
    }
    if let Some(freeze) = &view.frozen {
        let refusal = refusal(app.as_str(), freeze, Some(slot));
        refusals.push(PlannedRefusal {
            code: refusal.fault.code,
            message: refusal.fault.message,
            fix: refusal.next.unwrap_or_default(),
        });
    }
    if let Some(broken) = view.store.barred_by(slot, settings.versions).map_err(|error| error.fault())? {
        refusals.push(PlannedRefusal {
            code: Code::ReleaseBarred,
            message: format!("the data has had the form of {} since {}", broken.slot, broken.at),
            fix: format!("restore the data, then slotctl activate {app} {slot} --force"),
        });
    }
    let contract = settings.route.contract();
    let strategy = Plan::strategy(settings, wish);
    let batches = plan.iter().flat_map(|plan| &plan.batches).map(|batch| PlannedBatch {
        stop_first: from.as_ref().map(|from| from.units_at(&batch.stop_first)).unwrap_or_default(),
        start: to.units_at(&batch.start),
        stop_after: from.as_ref().map(|from| from.units_at(&batch.stop_after)).unwrap_or_default(),
    });
    let hooks = plan.iter().flat_map(|plan| plan.hooks.all());
    let hooks = hooks.map(|(at, hook)| PlannedHook { at, unit: hook.unit(&to.slot.instance(1)) }).collect();
    let pause_after = plan.as_ref().and_then(|plan| plan.pause_after);
    Ok(Planned {
        app: app.clone(),
        batches: batches.collect(),
        migration: plan.as_ref().map(|plan| plan.migration).unwrap_or_default(),
        hooks,
        from: from.map(|side| side.slot),
        units: units(settings, &to, |unit| strategy.numbers(unit)),
        to: to.slot,
        strategy: strategy.name,
        route: settings.route.as_str().to_owned(),
        contract: PlannedContract {
            private: contract.private,
            warm: contract.warm,
            own_ports: contract.own_ports,
            weights: contract.weights,
        },
        pause_after: pause_after.map(|after| u64::try_from(after).unwrap_or(u64::MAX)),
        weight: plan.as_ref().and_then(|plan| plan.weight),
        by_hand: plan.as_ref().is_some_and(|plan| plan.by_hand),
        soak: plan.as_ref().map(|plan| plan.soak).unwrap_or_default(),
        confirm: plan.as_ref().is_some_and(|plan| plan.confirm),
        refusals,
        dependencies: Vec::new(),
        foreseen: Default::default(),
    })
}

/// The units of the candidate. What the settings don't name any more is replaced at once.
fn units(settings: &AppSettings, to: &Side, numbers: impl Fn(&Unit) -> Numbers) -> Vec<PlannedUnit> {
    let unit = |count: &UnitCount| {
        let known = settings.units.iter().find(|unit| unit.name == count.name);
        let unit = Unit {
            name: count.name.clone(),
            instances: count.instances,
            overlap: known.is_some_and(|known| known.overlap),
        };
        let Numbers { max_surge, max_unavailable } = numbers(&unit);
        PlannedUnit { unit: unit.name, instances: unit.instances, max_surge, max_unavailable }
    };
    to.units.iter().map(unit).collect()
}
