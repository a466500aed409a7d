//! The effects on units: systemd asked, probes and the route asked.

use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::Instant;

use crate::config::app::{Probe, Proof};
use crate::model::deployment::{Blame, Kind};
use crate::model::{Code, Fault, InstanceName, UnitName};
use crate::probes::{Prober, Target};
use crate::routes::Route as _;
use crate::slots::SlotStore;
use crate::units::{Active, JobResult, UnitControl, UnitStatus};

use super::super::facts::{Facts, Side};
use super::super::machine::{Failure, Observed};
use super::super::stage::{Live, Runs};
use super::blame::{control, probe_of, stopped_by_other, unusable};
use super::gate::is_awake;
use super::{Host, Limits, START_SLACK, environment};

/// How long the restored slot is asked about the probe that the candidate failed.
pub(super) const ASK_AGAIN_LIMIT: Duration = Duration::from_secs(10);

impl<U: UnitControl> Host<U> {
    /// Learns the limits of both sides' units, before anything is done to one. Where systemd doesn't tell, its
    /// defaults are assumed; the effects themselves will say that it doesn't answer.
    pub async fn learn_limits(&self, facts: &Facts) {
        let mut limits = Limits::default();
        let (mut start, mut stop) = (Duration::ZERO, Duration::ZERO);
        for unit in facts.from.iter().chain([&facts.to]).flat_map(Side::unit_names) {
            let Ok(status) = self.units.status(&unit).await else { return };
            start = start.max(status.start_limit.unwrap_or_default() + START_SLACK);
            stop = stop.max(status.stop_limit.unwrap_or_default() + START_SLACK);
            limits.units += 1;
        }
        limits.hooks = self.learn_hooks(facts).await;
        self.set_limits(Limits { start, stop, ..limits });
    }

    /// Sees that systemd has the units.
    pub(super) async fn check_units(&self, facts: &Facts) -> Result<Observed, Failure> {
        let gate = self.settings.name.gate_unit();
        for unit in facts.to.unit_names().iter().chain([&gate]) {
            if let Some(fault) = unusable(unit, &self.status(unit).await?) {
                return Err(environment(fault));
            }
        }
        self.check_rest(facts).await?;
        self.check_hooks(facts).await?;
        self.route.prepare().await.map_err(|fault| match fault.code {
            Code::UnitStoppedByOther => Failure { fault, blame: Blame::Operator, rests: true },
            _ => environment(fault),
        })?;
        Ok(Observed::Nothing)
    }

    /// Whether the app is up, and which probe its live slot fails, if it fails one.
    pub(super) async fn ask_live(&self, facts: &Facts) -> Result<Observed, Failure> {
        let gate = self.status(&self.settings.name.gate_unit()).await?;
        let mut live = Live { up: is_awake(&gate), failed_probe: None };
        for (unit, instance) in facts.from.iter().flat_map(Side::instances) {
            if self.status(&unit).await?.is_up() {
                live.up = true;
                let target = self.target(unit, instance);
                let asked = self.prober().ask_once(self.probes_of(&target), &target, self.settings.proof.timeout).await;
                live.failed_probe = live.failed_probe.or(asked.err().as_ref().and_then(probe_of));
            }
        }
        Ok(Observed::Live(live))
    }

    /// Stops units, one after the other, and sees that they stopped.
    pub(super) async fn stop_units(&self, units: &[UnitName]) -> Result<Observed, Failure> {
        for unit in units {
            let limit = self.limits().stop;
            let result = self.units.stop(unit, limit).await.map_err(|error| control(&error))?;
            let status = self.status(unit).await?;
            if result != JobResult::Done || !status.is_down() {
                let fault = Fault::new(Code::UnitStop, format!("{unit} didn't stop: {result:?}"));
                return Err(environment(self.with_unit(fault, unit).await));
            }
        }
        Ok(Observed::Nothing)
    }

    /// Starts units: the instances of a template together, each template once those before it are ready by systemd's word.
    /// `anew`: a failure is the candidate's. What runs already is left alone.
    pub(super) async fn start_units(&self, units: &[UnitName], anew: bool) -> Result<Observed, Failure> {
        let mut runs = Runs::new();
        for together in units.chunk_by(|a, b| a.prefix() == b.prefix()) {
            runs.extend(try_join_all(together.iter().map(|unit| self.start_unit(unit, anew))).await?);
        }
        Ok(Observed::Runs(runs))
    }

    async fn start_unit(&self, unit: &UnitName, anew: bool) -> Result<(UnitName, String), Failure> {
        let status = self.status(unit).await?;
        if let Some(fault) = unusable(unit, &status) {
            return Err(environment(fault));
        }
        if !status.is_up() {
            let limit = status.start_limit.unwrap_or_default() + START_SLACK;
            let result = self.start_wanted(unit, limit).await?;
            if result != Ok(JobResult::Done) {
                return Err(self.start_failure(unit, result, anew).await);
            }
        }
        let status = self.status(unit).await?;
        match status.invocation.filter(|_| status.active != Active::Failed) {
            Some(invocation) => Ok((unit.clone(), invocation)),
            None => Err(self.start_failure(unit, Ok(JobResult::Failed), anew).await),
        }
    }

    /// Proves that all these instances are ready and stay up.
    pub(super) async fn prove(
        &self,
        facts: &Facts,
        instances: &[(UnitName, InstanceName)],
        runs: &Runs,
    ) -> Result<Observed, Failure> {
        let prober = self.prober();
        let proof = match facts.kind {
            Kind::Deploy => self.settings.proof,
            // It had proved itself before: going back only waits until it answers.
            Kind::Rollback => Proof { successes: 1, stable_for: Duration::ZERO, ..self.settings.proof },
        };
        let (prober, proof) = (&prober, &proof);
        let one = |(unit, instance): &(UnitName, InstanceName)| {
            let (unit, instance) = (unit.clone(), instance.clone());
            async move {
                let target = self.target(unit.clone(), instance);
                let run = runs.get(&unit).map(String::as_str);
                match prober.prove(self.probes_of(&target), proof, &target, run, &mut |_| {}).await {
                    Ok(proof) => Ok((unit, proof.invocation)),
                    Err(fault) => Err(self.candidate_failure(&unit, fault).await),
                }
            }
        };
        let proved = try_join_all(instances.iter().map(one)).await?;
        self.see_quiet(facts, instances).await?;
        Ok(Observed::Runs(proved.into_iter().collect()))
    }

    /// Sees that each unit still runs under the InvocationID that proved itself.
    pub(super) async fn confirm(&self, runs: &Runs) -> Result<Observed, Failure> {
        for (unit, run) in runs {
            let status = self.status(unit).await?;
            if !status.is_up() || status.invocation.as_ref() != Some(run) {
                // systemd counts its own restarts; a start by hand counts from zero.
                let by_hand = status.is_up() && status.restarts == 0;
                let restarted = || Fault::new(Code::UnitStoppedByOther, format!("somebody restarted {unit}"));
                let ended = || Fault::new(Code::UnitExited, format!("{unit} ended after it was proved"));
                let stopped = stopped_by_other(unit, &status).or_else(|| by_hand.then(restarted));
                return Err(self.blamed(unit, stopped.unwrap_or_else(ended)).await);
            }
        }
        Ok(Observed::Nothing)
    }

    /// Stops every unit of the app's templates but those of `side`.
    pub(super) async fn stop_others(&self, facts: &Facts, side: Option<&Side>) -> Result<Observed, Failure> {
        let keep = side.map(Side::unit_names).unwrap_or_default();
        let mut others = Vec::new();
        for unit in self.units_of_app(facts).await? {
            if !keep.contains(&unit) && !self.status(&unit).await?.is_down() {
                others.push(unit);
            }
        }
        // One that doesn't stop is no reason to leave the others running.
        let mut failed = None;
        for unit in others {
            if let Err(failure) = self.stop_units(&[unit]).await {
                failed.get_or_insert(failure);
            }
        }
        failed.map_or(Ok(Observed::Nothing), Err)
    }

    /// Asks the restored slot what the candidate failed.
    pub(super) async fn ask_again(&self, side: &Side) -> Result<Observed, Failure> {
        for (unit, instance) in side.instances() {
            let target = self.target(unit, instance);
            let asked = self.ask_until(&target, ASK_AGAIN_LIMIT).await;
            if let Some(failed_probe) = asked.err().as_ref().and_then(probe_of) {
                return Ok(Observed::Again { failed_probe: Some(failed_probe) });
            }
        }
        Ok(Observed::Again { failed_probe: None })
    }

    pub(super) async fn status(&self, unit: &UnitName) -> Result<UnitStatus, Failure> {
        self.units.status(unit).await.map_err(|error| control(&error))
    }

    /// Asks the target's probes until the answer is good, or for `patience`; the last answer is the error.
    pub(super) async fn ask_until(&self, target: &Target, patience: Duration) -> Result<(), Fault> {
        self.ask_these_until(self.probes_of(target), target, patience).await
    }

    /// The same with these probes.
    pub(super) async fn ask_these_until(
        &self,
        probes: &[Probe],
        target: &Target,
        patience: Duration,
    ) -> Result<(), Fault> {
        let (prober, proof, end) = (self.prober(), &self.settings.proof, Instant::now() + patience);
        loop {
            let asked = prober.ask_once(probes, target, proof.timeout).await;
            if asked.is_ok() || Instant::now() >= end {
                return asked;
            }
            tokio::time::sleep(proof.interval).await;
        }
    }

    pub(super) fn prober(&self) -> Prober<U> {
        Prober::new(self.units.clone())
    }

    fn probes_of(&self, target: &Target) -> &[Probe] {
        self.settings_of(&target.instance.slot).probes_for(&target.unit)
    }

    pub(super) fn target(&self, unit: UnitName, instance: InstanceName) -> Target {
        target(&self.store, unit, instance)
    }

    /// The loaded units of the templates that either side uses.
    pub(super) async fn units_of_app(&self, facts: &Facts) -> Result<Vec<UnitName>, Failure> {
        let sides = facts.from.iter().chain([&facts.to]);
        let mut patterns: Vec<String> =
            sides.flat_map(|side| &side.units).map(|unit| format!("{}*.service", unit.name)).collect();
        patterns.sort();
        patterns.dedup();
        self.units.list(&patterns).await.map_err(|error| control(&error))
    }
}

/// Whom the probes ask, and by which path: that of its release, where it names one.
pub fn target(store: &SlotStore, unit: UnitName, instance: InstanceName) -> Target {
    // A record that can't be read now leaves the path of the settings.
    let health_path = store.record(&instance.slot).ok().and_then(|record| record.release.health_path);
    Target { app: store.layout().app().clone(), port: store.port(&instance), unit, instance, health_path }
}
