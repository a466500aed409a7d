//! How a deployment is going to move, from the settings and both sides; or why it can't. Pure.

use std::time::Duration;

use crate::config::AppSettings;
use crate::config::app::{Strategy, SwitchMode, Unit};
use crate::config::contract::{Refusal, Wish};
use crate::model::deployment::Kind;
use crate::model::route::AcceptAt;
use crate::model::slot::UnitCount;
use crate::model::{Code, Fault, Hooks, Numbers, StrategyName, Template};

use super::batches::{Mover, row};
use super::facts::{Plan, Side};

impl Plan {
    /// All that the settings wish and the route, the probes or the units can't give. `wish` as in [`Plan::of`].
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

    /// The plan from `from` to `to`. `wish`: an operator wants another strategy for this deployment alone.
    ///
    /// # Errors
    ///
    /// `route.unsupported`, `route.probe_unaddressed`: the strategy wants what the route, the probes or the units can't
    /// give.
    pub fn of(
        settings: &AppSettings,
        wish: Option<StrategyName>,
        kind: Kind,
        from: Option<&Side>,
        to: &Side,
    ) -> Result<Plan, Fault> {
        let (strategy, soak) = (Plan::strategy(settings, wish), settings.soak);
        let forward = kind == Kind::Deploy;
        Plan::check(settings, wish)?;
        let movers: Vec<Mover> = movers(&strategy, &settings.units, from, to);
        let batches = row(&movers);
        let pause_after = strategy.pause_after.filter(|_| forward && from.is_some());
        let pause_after = pause_after.map(|batches| usize::try_from(batches).unwrap_or(usize::MAX));
        if let Some(after) = pause_after.filter(|after| *after > batches.len()) {
            let message = format!("pause_after = {after}, and there are only {} batches", batches.len());
            return Err(Fault::new(Code::RouteUnsupported, message));
        }
        Ok(Plan {
            strategy: strategy.name,
            overlap: from.is_some() && batches.iter().any(|batch| batch.shift || batch.stop_first.is_empty()),
            warm: settings.route.contract().warm,
            starts_quiet: settings.route.accept_variable(AcceptAt::Signal).is_some(),
            batches,
            pause_after,
            weight: strategy.weight.filter(|_| pause_after.is_some()),
            by_hand: forward && strategy.switch == SwitchMode::Manual,
            // Going back is to what had proved itself for longer than any soak.
            soak: if forward { soak.time_under(strategy.name) } else { Duration::ZERO },
            confirm: forward && soak.confirm && from.is_some(),
            hooks: if forward && brings_a_release(from, to) { settings.hooks.clone() } else { Hooks::default() },
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
