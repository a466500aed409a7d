//! Units of others that systemd takes down with the app's: what was up before a deployment is up after it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::{Code, Fault, UnitName};
use crate::units::{JobResult, UnitControl, UnitError};

use super::super::facts::{Along, Facts, Side};
use super::super::machine::{Failure, Observed};
use super::gate::is_awake;
use super::{Host, START_SLACK, environment};

/// The start limit of a unit that has none.
const START_LIMIT: Duration = Duration::from_secs(90);

/// For each of them, at the most.
pub(super) const REJOIN_LIMIT: Duration = Duration::from_secs(150);

/// Most units that are looked through for what belongs to the app: a host's whole graph is no unit's business.
const MOST_UNITS: usize = 256;

/// Types whose members have long been up, or come up by themselves.
const GROUPS: [&str; 5] = [".target", ".slice", ".mount", ".device", ".swap"];

impl<U: UnitControl> Host<U> {
    /// The units that would go down with one of side A, or with the gate, and that are up; with the runs by which it can
    /// be told later whether that happened. Where systemd doesn't tell, there are none; the effects will say that it
    /// doesn't answer.
    pub async fn learn_along(&self, facts: &Facts) -> Vec<Along> {
        let mut along = BTreeMap::<UnitName, BTreeMap<UnitName, String>>::new();
        let gate = self.settings.name.gate_unit();
        for with in facts.from.iter().flat_map(Side::unit_names).chain([gate]) {
            let Ok(status) = self.units.status(&with).await else { return Vec::new() };
            let Some(run) = status.invocation.clone().filter(|_| status.is_up()) else { continue };
            for unit in self.taken_with(facts, &with).await {
                along.entry(unit).or_default().insert(with.clone(), run.clone());
            }
        }
        let mut found = Vec::new();
        for (unit, with) in along {
            if self.units.status(&unit).await.is_ok_and(|status| status.is_up()) {
                found.push(Along { unit, with });
            }
        }
        found
    }

    /// All units of others that a stop of `unit` stops, to the end.
    async fn taken_with(&self, facts: &Facts, unit: &UnitName) -> BTreeSet<UnitName> {
        let (mut found, mut left) = (BTreeSet::new(), vec![unit.clone()]);
        while let Some(unit) = left.pop() {
            let stops = self.units.bonds(&unit).await.map(|bonds| bonds.stops).unwrap_or_default();
            for next in stops {
                if !self.is_own(facts, &next) && found.len() < MOST_UNITS && found.insert(next.clone()) {
                    left.push(next);
                }
            }
        }
        found
    }

    /// Starts those that went down with the app. What somebody stopped by hand stays so, and so does all where the whole
    /// app rests. What can't come back is told, and is no reason to fail.
    pub(super) async fn rejoin(&self, facts: &Facts) -> Result<Observed, Failure> {
        let gate = self.status(&self.settings.name.gate_unit()).await?;
        if !is_awake(&gate) {
            return Ok(Observed::Nothing);
        }
        let mut wrong = Vec::new();
        for along in &facts.along {
            if let Err(why) = self.rejoin_one(facts, along).await {
                wrong.push(why);
            }
        }
        match wrong.is_empty() {
            true => Ok(Observed::Nothing),
            false => Err(environment(Fault::new(Code::UnitStart, wrong.join("; ")))),
        }
    }

    async fn rejoin_one(&self, facts: &Facts, along: &Along) -> Result<(), String> {
        let unit = &along.unit;
        let told = |error: UnitError| format!("{unit} went down with {}: {error}", along.names());
        let status = self.units.status(unit).await.map_err(told)?;
        if !status.is_down() || !self.went_down(along).await.map_err(told)? {
            return Ok(());
        }
        if let Some(needed) = self.needs_what_rests(facts, unit).await.map_err(told)? {
            // It is one of a slot that is no more live, as the instances are.
            if along.is_of_its_slot() {
                return Ok(());
            }
            let names = along.names();
            return Err(format!("{unit} went down with {names} and stays so: to start it would start {needed}"));
        }
        let limit = status.start_limit.unwrap_or(START_LIMIT).min(START_LIMIT) + START_SLACK;
        match self.units.start(unit, limit).await {
            Ok(JobResult::Done) => Ok(()),
            Ok(other) => Err(format!("{unit} went down with {} and doesn't start again: {other:?}", along.names())),
            Err(error) => Err(told(error)),
        }
    }

    /// Whether one of those with which it goes down has gone down since. If they all still run as before, somebody else
    /// stopped it.
    async fn went_down(&self, along: &Along) -> Result<bool, UnitError> {
        for (with, run) in &along.with {
            let status = self.units.status(with).await?;
            if !status.is_up() || status.invocation.as_ref() != Some(run) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A unit of the app that doesn't run and that a start of `unit` would start.
    async fn needs_what_rests(&self, facts: &Facts, unit: &UnitName) -> Result<Option<UnitName>, UnitError> {
        let (mut seen, mut left) = (BTreeSet::new(), vec![unit.clone()]);
        while let Some(unit) = left.pop() {
            for next in self.units.bonds(&unit).await?.starts {
                let is_group = GROUPS.iter().any(|ending| next.as_str().ends_with(ending));
                if self.is_own(facts, &next) {
                    if !self.units.status(&next).await?.is_up() {
                        return Ok(Some(next));
                    }
                } else if !is_group && seen.len() < MOST_UNITS && seen.insert(next.clone()) {
                    left.push(next);
                }
            }
        }
        Ok(None)
    }

    /// Whether a unit is the app's, or a helper of slotd's: those are the deployment's own business.
    fn is_own(&self, facts: &Facts, unit: &UnitName) -> bool {
        let (app, name) = (&self.settings.name, unit.as_str());
        let sides = facts.from.iter().chain([&facts.to]).flat_map(|side| &side.units).map(|count| &count.name);
        let mut templates = sides.chain(self.settings.units.iter().map(|unit| &unit.name));
        *unit == app.gate_unit()
            || *unit == app.socket_unit()
            || name.starts_with("slotd-")
            || templates.any(|template| template.instance_of(unit).is_some())
    }
}

impl Along {
    /// The units of the app with which it goes down.
    fn names(&self) -> String {
        self.with.keys().map(UnitName::as_str).collect::<Vec<_>>().join(" ")
    }

    /// Whether it is an instance of the very name that a unit of the app has: `web-log@1.4.2.service`.
    fn is_of_its_slot(&self) -> bool {
        let instance = |unit: &UnitName| {
            let (_, instance) = unit.as_str().split_once('@')?;
            instance.rsplit_once('.').map(|(instance, _)| instance.to_owned())
        };
        instance(&self.unit).is_some_and(|own| self.with.keys().any(|with| instance(with).as_ref() == Some(&own)))
    }
}

#[cfg(test)]
#[path = "along_tests.rs"]
mod tests;
