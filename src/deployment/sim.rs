//! A host in a few sets, for the tests of machine and recovery: performs effects without I/O.
#![allow(missing_docs, reason = "for tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::deployment::{Blame, Kind};
use crate::model::slot::{Phase, UnitCount};
use crate::model::{
    Code, DeploymentId, Fault, HookPoint, InstanceName, Migration, Numbers, Outcome, SlotName, UnitName,
};

use super::batches::{Mover, row};
use super::effect::Effect;
use super::facts::{Along, Facts, Plan, Side, Via};
use super::machine::{Event, Failure, Machine, Observed};
use super::side::Found;
use super::stage::{Live, Ruling, Runs, Settling, Stage, Target};

/// The host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sim {
    pub facts: Facts,
    pub current: Option<SlotName>,
    pub next: Option<SlotName>,
    pub fallback: Option<SlotName>,
    pub running: BTreeSet<UnitName>,
    pub route: BTreeSet<UnitName>,
    pub standby: BTreeSet<UnitName>,
    pub gate: bool,
    /// Whether what goes down with side A is up.
    pub along: bool,
    /// Slots whose instances don't come up.
    pub broken: BTreeSet<SlotName>,
    /// Hooks that run, and how often each was begun.
    pub hooks: BTreeSet<UnitName>,
    pub hooks_begun: BTreeMap<UnitName, usize>,
    /// Whether the data has the form of side B alone.
    pub migrated: bool,
    /// Hooks that fail.
    pub bad_hooks: BTreeSet<UnitName>,
    /// The stage that was announced last, while the intent is open.
    pub intent: Option<Stage>,
    /// All that was performed.
    pub log: Vec<Effect>,
}

pub fn side(version: &str, n: u32) -> Side {
    let slot: SlotName = version.parse().expect("slot");
    Side { slot, units: vec![UnitCount { name: "web@".parse().expect("template"), instances: n }] }
}

pub fn facts(from: Option<Side>, to: Side) -> Facts {
    let numbers = Numbers::stop_start(to.units[0].instances);
    facts_by(from, to, numbers)
}

/// A deployment that moves by these numbers, on a route that keeps the old side warm.
pub fn facts_by(from: Option<Side>, to: Side, numbers: Numbers) -> Facts {
    let id: DeploymentId = "web-7".parse().expect("id");
    let old = from.as_ref().map_or(0, |from| from.units[0].instances);
    let unit = &to.units[0];
    let batches = row(&[Mover { unit: unit.name.clone(), old, new: unit.instances, numbers }]);
    let overlap = from.is_some() && numbers != Numbers::stop_start(unit.instances);
    let plan = Plan { batches, overlap, warm: true, ..Plan::forgotten() };
    let with = from.iter().flat_map(Side::unit_names).map(|unit| (unit.clone(), run_of(&unit))).collect();
    let along = from.iter().map(|_| Along { unit: UnitName::new("metrics.service"), with: Clone::clone(&with) });
    let along = along.collect();
    Facts { id, kind: Kind::Deploy, from, to, via: Via::Next, plan, needs: Vec::new(), reroute: None, along }
}

/// The same with a hook at each point.
pub fn hooked(mut facts: Facts) -> Facts {
    let template = |point: HookPoint| format!("web-{point}@").parse().expect("template");
    let points = HookPoint::ALL
        .into_iter()
        .filter(|point| *point != HookPoint::Build)
        .filter(|point| facts.is_breaking() || !matches!(point, HookPoint::Snapshot | HookPoint::Restore));
    facts.plan.hooks = points.map(|point| (point, template(point))).collect();
    facts
}

/// The same, and the candidate breaks the data.
pub fn breaking(mut facts: Facts) -> Facts {
    facts.plan.migration = Migration::Breaking;
    (facts.plan.overlap, facts.plan.warm) = (false, false);
    hooked(facts)
}

/// Every stage that an intent for these facts can hold.
pub fn stages(facts: &Facts) -> Vec<Stage> {
    let live = || Live { up: facts.from.is_some(), failed_probe: None };
    let started = |batches: usize| -> Runs {
        let all = facts.plan.batches.iter().take(batches).flat_map(|batch| facts.to.units_at(&batch.start));
        all.map(|unit| (unit.clone(), run_of(&unit))).collect()
    };
    let proved = runs(&facts.to);
    let left = Duration::from_secs(60);
    let mut stages = vec![Stage::Preparing];
    if facts.hook(HookPoint::Deploy).is_some() {
        stages.push(Stage::Clearing { live: live() });
        let points = [HookPoint::Snapshot, HookPoint::Deploy].into_iter().filter(|point| facts.hook(*point).is_some());
        stages.extend(points.map(|point| Stage::Hooking { live: live(), point, begun: false }));
    }
    for (batch, of) in facts.plan.batches.iter().enumerate() {
        let (before, after) = (started(batch), started(batch + 1));
        stages.push(Stage::Starting { live: live(), batch, proved: before.clone() });
        let own = after.iter().filter(|(unit, _)| !before.contains_key(*unit));
        let own: Runs = own.map(|(unit, run)| (unit.clone(), run.clone())).collect();
        stages.push(Stage::Proving { live: live(), batch, proved: before, started: own });
        if of.shift {
            stages.extend([
                Stage::Shifting { live: live(), batch, proved: after.clone() },
                Stage::Draining { live: live(), batch: Some(batch), proved: after.clone(), soaked: false },
                Stage::Waiting { live: live(), batch: Some(batch), proved: after },
            ]);
        }
    }
    if facts.hook(HookPoint::PostDeploy).is_some() {
        stages.push(Stage::Telling { proved: proved.clone(), begun: false, warnings: Vec::new() });
    }
    stages.extend([
        Stage::Waiting { live: live(), batch: None, proved: proved.clone() },
        Stage::Switching { live: live(), proved: proved.clone(), linked: false },
        Stage::Soaking { live: live(), proved: proved.clone(), left },
        Stage::Draining { live: live(), batch: None, proved: proved.clone(), soaked: true },
        Stage::Reviving { live: live(), left },
        Stage::Post { proved },
    ]);
    let ruling = |outcome| Ruling {
        outcome,
        fault: Some(Fault::new(Code::ProbeFailed, "no")),
        blame: Blame::Release,
        phase: Phase::Proving,
        warnings: Vec::new(),
    };
    let settling = |to, serve, alternative, outcome| {
        let (begun, migrated) = (facts.plan.batches.len(), facts.is_breaking());
        let alternative = alternative && !(migrated && to == Target::From);
        Stage::Settling(Settling { to, serve, alternative, begun, migrated, ruling: ruling(outcome) })
    };
    match facts.from {
        Some(_) => stages.extend([
            settling(Target::From, true, false, Outcome::RolledBack),
            settling(Target::From, true, true, Outcome::RolledBack),
            settling(Target::To, true, true, Outcome::Failed),
        ]),
        None => stages.extend([
            settling(Target::Nothing, false, false, Outcome::Failed),
            settling(Target::To, true, false, Outcome::Failed),
        ]),
    }
    stages
}

pub fn run_of(unit: &UnitName) -> String {
    format!("run of {unit}")
}

pub fn runs(of: &Side) -> Runs {
    of.unit_names().into_iter().map(|unit| (unit.clone(), run_of(&unit))).collect()
}

pub fn failure(code: Code, blame: Blame) -> Failure {
    Failure { fault: Fault::new(code, "as scripted"), blame, rests: false }
}

impl Sim {
    /// A host on which side A of `facts` serves.
    pub fn serving(facts: Facts) -> Self {
        let units: BTreeSet<_> = facts.from.iter().flat_map(Side::unit_names).collect();
        Sim {
            current: facts.from.as_ref().map(|side| side.slot.clone()),
            next: None,
            fallback: None,
            route: units.clone(),
            standby: BTreeSet::new(),
            running: units,
            gate: true,
            along: true,
            broken: BTreeSet::new(),
            hooks: BTreeSet::new(),
            hooks_begun: BTreeMap::new(),
            bad_hooks: BTreeSet::new(),
            migrated: false,
            intent: None,
            log: Vec::new(),
            facts,
        }
    }

    pub fn perform(&mut self, effect: &Effect, stage: Option<&Stage>) -> Result<Observed, Failure> {
        self.log.push(effect.clone());
        let before = self.running.clone();
        let result = self.act(effect, stage);
        let of_a: Vec<UnitName> = self.facts.from.iter().flat_map(Side::unit_names).collect();
        self.along &= !of_a.iter().any(|unit| before.contains(unit) && !self.running.contains(unit));
        result
    }

    fn act(&mut self, effect: &Effect, stage: Option<&Stage>) -> Result<Observed, Failure> {
        match effect {
            Effect::Announce => self.intent = stage.cloned(),
            Effect::Gate => self.gate = true,
            Effect::LinkNext => self.next = Some(self.facts.to.slot.clone()),
            Effect::AskLive => {
                let up = self.gate || !self.running.is_empty();
                return Ok(Observed::Live(Live { up, failed_probe: None }));
            }
            Effect::Hook(hook) => {
                match hook.begun {
                    true => assert!(self.hooks.contains(&hook.unit) || self.bad_hooks.contains(&hook.unit), "{self:?}"),
                    false => *self.hooks_begun.entry(hook.unit.clone()).or_default() += 1,
                }
                self.hooks.remove(&hook.unit);
                if self.facts.is_breaking() && hook.point == HookPoint::Deploy && !hook.begun {
                    let old = self.facts.from.iter().flat_map(Side::unit_names).find(|it| self.running.contains(it));
                    assert_eq!(old, None, "the data changes under it: {self:?}");
                    self.migrated = true;
                }
                if self.bad_hooks.contains(&hook.unit) {
                    return Err(failure(Code::HookFailed, Blame::Release));
                }
                if hook.point == HookPoint::Restore {
                    assert!(self.running.is_empty(), "the data changes under what runs: {self:?}");
                    self.migrated = false;
                }
            }
            Effect::EndHooks(units) => self.hooks.retain(|unit| !units.contains(unit)),
            Effect::Stop(units) => self.running.retain(|unit| !units.contains(unit)),
            Effect::Start(units) => {
                if self.broken.contains(&self.facts.to.slot) {
                    return Err(failure(Code::UnitStart, Blame::Release));
                }
                self.running.extend(units.iter().cloned());
                return Ok(Observed::Runs(units.iter().map(|unit| (unit.clone(), run_of(unit))).collect()));
            }
            Effect::Prove(instances, _) => {
                if self.broken.contains(&self.facts.to.slot) {
                    return Err(failure(Code::ProbeFailed, Blame::Release));
                }
                let runs = instances.iter().map(|(unit, _)| (unit.clone(), run_of(unit)));
                return Ok(Observed::Runs(runs.collect()));
            }
            Effect::Confirm(runs) | Effect::Soak(runs) | Effect::Await(runs) => {
                if self.broken.contains(&self.facts.to.slot) || !runs.keys().all(|unit| self.running.contains(unit)) {
                    return Err(failure(Code::ProbeFailed, Blame::Release));
                }
            }
            Effect::Switch => self.point(&self.facts.to.slot.clone()),
            Effect::Point(slot) => self.point(slot),
            Effect::Route(traffic) => {
                let units = |of: &[(UnitName, InstanceName)]| of.iter().map(|(unit, _)| unit.clone()).collect();
                (self.route, self.standby) = (units(&traffic.to), units(&traffic.standby));
                if !traffic.whole {
                    self.route.retain(|unit| self.running.contains(unit));
                }
            }
            Effect::Drain(leaving) => {
                let served = leaving.iter().find(|(unit, _)| self.route.contains(unit) || self.standby.contains(unit));
                assert_eq!(served, None, "what still gets users, or would, can't drain: {self:?}");
            }
            Effect::Retire | Effect::Links(_) => {
                if let Some(next) = self.next.take()
                    && Some(&next) != self.current.as_ref()
                    && self.facts.from.as_ref().is_some_and(|from| from.slot == next)
                {
                    self.fallback = Some(next);
                }
            }
            Effect::StopOthers(side) => {
                let keep = side.iter().flat_map(Side::unit_names).collect::<Vec<_>>();
                self.running.retain(|unit| keep.contains(unit));
                self.route.retain(|unit| keep.contains(unit));
            }
            Effect::Return(to) => {
                let up: BTreeSet<_> =
                    to.iter().map(|(unit, _)| unit.clone()).filter(|unit| self.running.contains(unit)).collect();
                if !up.is_empty() {
                    (self.route, self.standby) = (up, BTreeSet::new());
                }
            }
            Effect::Restore(units) => {
                let sides = self.facts.from.iter().chain([&self.facts.to]);
                let mut broken = sides.filter(|side| self.broken.contains(&side.slot)).flat_map(Side::unit_names);
                if broken.any(|unit| units.contains(&unit)) {
                    return Err(failure(Code::UnitStart, Blame::Environment));
                }
                self.running.extend(units.iter().cloned());
            }
            Effect::Rejoin(_) => self.along = true,
            Effect::Close => self.intent = None,
            Effect::Rest => self.gate = self.gate && !self.running.is_empty(),
            Effect::Hold
            | Effect::AskNeeds(_)
            | Effect::CheckUnits
            | Effect::RaiseMark
            | Effect::Verify(_)
            | Effect::Provide(..)
            | Effect::AskOutside
            | Effect::AskAgain(_)
            | Effect::Judge(_)
            | Effect::Unhold
            | Effect::Record => {}
        }
        Ok(Observed::Nothing)
    }

    /// Performs at most `most` effects of `machine`; more than 200 would be for ever.
    pub fn run(&mut self, machine: &mut Machine, most: usize) {
        for _ in 0..most.min(200) {
            let Some(effect) = machine.effect().cloned() else { return };
            let event = match self.perform(&effect, machine.stage()) {
                Ok(observed) => Event::Done(observed),
                Err(failure) => Event::Failed(failure),
            };
            machine.apply(event).expect("an effect's event is never refused");
        }
        assert!(most < 200, "it goes on for ever: {machine:?}");
    }

    pub fn is_up(&self, side: &Side) -> bool {
        side.unit_names().iter().all(|unit| self.running.contains(unit))
    }

    /// What recovery would find, `same_boot` as given.
    pub fn found(&self, stage: &Stage, same_boot: bool) -> Found {
        let all: Vec<&Side> = self.facts.from.iter().chain([&self.facts.to]).collect();
        let named = |slot: &SlotName| {
            let known = all.iter().find(|side| &side.slot == slot).map(|side| (*side).clone());
            known.unwrap_or_else(|| side(&slot.to_string(), 1))
        };
        Found {
            same_boot,
            elapsed: std::time::Duration::ZERO,
            current: self.current.as_ref().map(named),
            awake: self.gate || !self.running.is_empty(),
            hook_begun: stage
                .hook()
                .and_then(|point| self.facts.hook(point))
                .is_some_and(|unit| self.hooks.contains(&unit) || self.bad_hooks.contains(&unit)),
            runs_hold: stage.runs().keys().all(|unit| self.running.contains(unit)),
            candidate_well: self.is_up(&self.facts.to) && !self.broken.contains(&self.facts.to.slot),
        }
    }

    fn point(&mut self, slot: &SlotName) {
        if self.current.as_ref() == Some(slot) {
            return;
        }
        let old = self.current.replace(slot.clone());
        if self.next.as_ref() == Some(slot) {
            self.next = old;
        } else if self.fallback.as_ref() == Some(slot) {
            self.fallback = old;
        }
    }
}
