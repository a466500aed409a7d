//! What a deployment would do, for people who want to know before: the same plan that it would go by.

use crate::config::AppSettings;
use crate::config::app::Unit;
use crate::config::reach::Reach;
use crate::control::api::{
    ApiError, Gap, Planned, PlannedBatch, PlannedContract, PlannedHook, PlannedRefusal, PlannedReroute, PlannedUnit,
};
use crate::deployment::facts::{How, Plan, Side};
use crate::model::deployment::{Kind, Otherwise};
use crate::model::slot::UnitCount;
use crate::model::{AppName, Code, Freeze, Numbers, SlotName, StrategyName};

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
    let mut refusals = of_settings(settings, wish);
    let how = how(&view.store, otherwise, slot)?;
    let plan = plan_or_why(settings, how, (from.as_ref(), &to), &mut refusals);
    if let Some(quarantine) = entry.quarantine {
        refusals.push(PlannedRefusal {
            code: Code::ReleaseQuarantined,
            message: format!("it is quarantined since {}: {}", quarantine.at, quarantine.fault),
            fix: format!("slotctl why {}; slotctl activate {app} {slot} --force", quarantine.deployment),
        });
    }
    if let Some(freeze) = &view.frozen {
        refusals.push(of_freeze(app, freeze, Some(slot)));
    }
    if let Some(broken) = view.store.barred_by(slot, settings.versions).map_err(|error| error.fault())? {
        refusals.push(PlannedRefusal {
            code: Code::ReleaseBarred,
            message: format!("the data has had the form of {} since {}", broken.slot, broken.at),
            fix: format!("restore the data, then slotctl activate {app} {slot} --force"),
        });
    }
    Ok(drawn(settings, wish, (from, to), plan, refusals))
}

/// The plan; where there can be none, and nothing else has been said of that yet, `refusals` get the reason.
fn plan_or_why(
    settings: &AppSettings,
    how: How,
    (from, to): (Option<&Side>, &Side),
    refusals: &mut Vec<PlannedRefusal>,
) -> Option<Plan> {
    match Plan::of(settings, how, Kind::Deploy, from, to) {
        Ok(plan) => Some(plan),
        Err(fault) => {
            if refusals.is_empty() {
                let fix = format!("slotctl check {}", settings.name);
                refusals.push(PlannedRefusal { code: fault.code, message: fault.message, fix });
            }
            None
        }
    }
}

/// What taking the way that is set would do; nothing, where users come by it. `up`: the app serves, or would at once.
pub(super) fn planned_route(view: &View, otherwise: Otherwise, up: bool) -> Result<Planned, ApiError> {
    let (app, settings) = (&view.settings.name, view.settings.as_set());
    let links = view.store.links().map_err(|error| error.fault())?;
    let current = links.current.slot().ok_or_else(|| {
        let message = format!("nothing of {app} is live that users could come to another way");
        ApiError::new(Code::NothingToGoBackTo, message).next(format!("slotctl cat {app}"))
    })?;
    let from = side_of(&view.store, current)?;
    let Some(set) = &view.settings.waits else {
        return Ok(drawn(&settings, otherwise.strategy, (Some(from.clone()), from), None, Vec::new()));
    };
    let slot = view.store.next_redeployment(current).map_err(|error| error.fault())?;
    let to = Side { slot, units: from.units.clone() };
    let (kept, wish) = (Reach::of(&view.settings), otherwise.strategy);
    let mut refusals = of_settings(&settings, wish);
    let how = How { strategy: wish, migration: Default::default() };
    let plan = plan_or_why(&settings, how, (Some(&from), &to), &mut refusals);
    if let Some(message) = kept.contradicts(set) {
        let fix = format!("sudoedit /etc/slotd/apps/{app}.toml");
        refusals.push(PlannedRefusal { code: Code::RouteUnsupported, message, fix });
    }
    let rests = kept.refused_live(set);
    if let (Some(why), true) = (&rests, up) {
        let fix = super::reroute::rest(app.as_str());
        let message = format!("{} isn't possible: {why}", kept.to(set));
        refusals.push(PlannedRefusal { code: Code::RouteUnsupported, message, fix });
    }
    if let Some(freeze) = &view.frozen {
        refusals.push(of_freeze(app, freeze, None));
    }
    let gap = match &plan {
        _ if rests.is_some() => Gap::Rest,
        Some(plan) if !plan.overlap => Gap::Restart,
        _ => Gap::None,
    };
    let (before, after) = (kept.address(), set.address());
    let (begins, ends) = if before == after { (None, None) } else { (after, before) };
    let reroute = PlannedReroute { way: kept.to(set), begins, ends, is_ended: kept.public().is_some(), gap };
    let mut planned = drawn(&settings, wish, (Some(from), to), plan, refusals);
    planned.foreseen.change = true;
    Ok(Planned { reroute: Some(reroute), ..planned })
}

/// What the settings can't have.
fn of_settings(settings: &AppSettings, wish: Option<StrategyName>) -> Vec<PlannedRefusal> {
    let refusals = Plan::refusals(settings, wish).into_iter();
    refusals.map(|it| PlannedRefusal { code: it.code, message: it.message, fix: it.fix }).collect()
}

fn of_freeze(app: &AppName, freeze: &Freeze, slot: Option<&SlotName>) -> PlannedRefusal {
    let refusal = refusal(app.as_str(), freeze, slot);
    PlannedRefusal { code: refusal.fault.code, message: refusal.fault.message, fix: refusal.next.unwrap_or_default() }
}

fn drawn(
    settings: &AppSettings,
    wish: Option<StrategyName>,
    (from, to): (Option<Side>, Side),
    plan: Option<Plan>,
    refusals: Vec<PlannedRefusal>,
) -> Planned {
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
    Planned {
        app: settings.name.clone(),
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
        reroute: None,
        dependencies: Vec::new(),
        foreseen: Default::default(),
    }
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
