//! How a deployment is going to move, from the settings and both sides; or why it can't. Pure.

use std::time::Duration;

use crate::config::AppSettings;
use crate::config::app::{Strategy, SwitchMode, Unit};
use crate::config::contract::{Refusal, Wish};
use crate::model::deployment::Kind;
use crate::model::route::AcceptAt;
use crate::model::slot::UnitCount;
use crate::model::{Code, Fault, HookPoint, Hooks, Migration, Numbers, StrategyName, Template};

use super::batches::{Batch, Mover, row};
use super::facts::{How, Plan, Side};

impl Plan {
    /// All that the settings wish and the route, the probes or the units can't give. `wish`: an operator wants another
    /// strategy for this deployment alone.
    pub fn refusals(settings: &AppSettings, wish: Option<StrategyName>) -> Vec<Refusal> {
        let wished = Wish {
            route: &settings.route,
            strategy: &Plan::strategy(settings, wish),
            units: &settings.units,
            probes: settings.routed_probes(),
            soak: &settings.soak,
        };
        wished.refusals()
    }

    /// Refuses what can't be: the first of the [`Plan::refusals`].
    ///
    /// # Errors
    ///
    /// As for [`Plan::of`].
    pub fn check(settings: &AppSettings, wish: Option<StrategyName>) -> Result<(), Fault> {
        match Plan::refusals(settings, wish).into_iter().next() {
            Some(refusal) => Err(Fault::new(refusal.code, format!("{}; {}", refusal.message, refusal.fix))),
            None => Ok(()),
        }
    }

    /// The strategy that a deployment would go by.
    pub fn strategy(settings: &AppSettings, wish: Option<StrategyName>) -> Strategy {
        match wish {
            Some(name) if name != settings.strategy.name => Strategy::named(name),
            _ => settings.strategy,
        }
    }

    /// The plan from `from` to `to`.
    ///
    /// # Errors
    ///
    /// `route.unsupported`, `route.probe_unaddressed`: the strategy wants what the route, the probes or the units can't
    /// give. `release.irreversible`: it breaks the data, and nothing restores it.
    pub fn of(settings: &AppSettings, how: How, kind: Kind, from: Option<&Side>, to: &Side) -> Result<Plan, Fault> {
        let (strategy, soak) = (Plan::strategy(settings, how.strategy), settings.soak);
        let forward = kind == Kind::Deploy;
        let brings = forward && brings_a_release(from, to);
        let migration = if brings { how.migration } else { Migration::None };
        let breaking = migration == Migration::Breaking;
        Plan::check(settings, how.strategy)?;
        if breaking && from.is_some() && settings.hooks.at(HookPoint::Restore).is_none() {
            let message = format!(
                "{} breaks the data for what is live, and no hook would restore it on the way back: give the app a \
                 [hooks] restore, or say --migration compatible if the live slot can go on with that data",
                to.slot
            );
            return Err(Fault::new(Code::ReleaseIrreversible, message));
        }
        let mut movers: Vec<Mover> = movers(&strategy, &settings.units, from, to);
        if breaking {
            // Nothing old may run while the data changes.
            movers.iter_mut().for_each(|mover| mover.numbers = Numbers::stop_start(mover.new));
        }
        let batches = row(&movers);
        let pause_after = strategy.pause_after.filter(|_| forward && from.is_some() && !breaking);
        let pause_after = pause_after.map(|batches| usize::try_from(batches).unwrap_or(usize::MAX));
        if let Some(after) = pause_after.filter(|after| *after > batches.len()) {
            let message = format!("pause_after = {after}, and there are only {} batches", batches.len());
            return Err(Fault::new(Code::RouteUnsupported, message));
        }
        let beside = |batch: &Batch| batch.shift || batch.stop_first.is_empty();
        let runs = |point| match point {
            HookPoint::Build => false,
            HookPoint::Preflight | HookPoint::Deploy | HookPoint::PostDeploy => brings,
            HookPoint::Snapshot | HookPoint::Restore => breaking,
        };
        Ok(Plan {
            strategy: strategy.name,
            overlap: from.is_some() && !breaking && batches.iter().any(beside),
            warm: settings.route.contract().warm && !breaking,
            starts_quiet: settings.route.accept_variable(AcceptAt::Signal).is_some(),
            batches,
            pause_after,
            weight: strategy.weight.filter(|_| pause_after.is_some()),
            by_hand: forward && !breaking && strategy.switch == SwitchMode::Manual,
            // Going back is to what had proved itself for longer than any soak.
            soak: if forward { soak.time_under(strategy.name) } else { Duration::ZERO },
            confirm: forward && soak.confirm && from.is_some(),
            hooks: settings.hooks.at_points(runs),
            migration,
        })
    }
}

impl Plan {
    /// That of a deployment of which nothing is known any more: it moves nothing.
    pub fn forgotten() -> Plan {
        Plan {
            strategy: StrategyName::StopStart,
            batches: Vec::new(),
            overlap: false,
            warm: false,
            starts_quiet: false,
            pause_after: None,
            weight: None,
            by_hand: false,
            soak: Duration::ZERO,
            confirm: false,
            hooks: Hooks::default(),
            migration: Migration::None,
        }
    }
}

/// Whether `to` is of another release than what is live. One that only has other numbers of instances brings nothing new:
/// the hooks of its release have run.
fn brings_a_release(from: Option<&Side>, to: &Side) -> bool {
    from.is_none_or(|from| from.slot.version != to.slot.version)
}

/// The units of both sides with their numbers. What the settings don't name any more is replaced at once.
fn movers(strategy: &Strategy, units: &[Unit], from: Option<&Side>, to: &Side) -> Vec<Mover> {
    let count = |side: &Side, name: &Template| {
        side.units.iter().find(|unit| unit.name == *name).map_or(0, |unit| unit.instances)
    };
    let mover = |unit: &UnitCount| {
        let known = units.iter().find(|known| known.name == unit.name);
        let numbers = known.map_or(Numbers::stop_start(unit.instances), |known| {
            strategy.numbers(&Unit { instances: unit.instances, ..known.clone() })
        });
        let old = from.map_or(0, |from| count(from, &unit.name));
        Mover { unit: unit.name.clone(), old, new: unit.instances, numbers }
    };
    to.units.iter().map(mover).collect()
}
