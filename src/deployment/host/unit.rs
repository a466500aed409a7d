//! The effects on units: systemd asked, probes and the route asked.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::app::Proof;
use crate::model::deployment::{Blame, Kind};
use crate::model::{Code, Fault, InstanceName, UnitName};
use crate::probes::{Prober, Target};
use crate::routes::{Backend, Route as _};
use crate::slots::SlotStore;
use crate::units::{Active, JobResult, UnitControl, UnitStatus};

use super::super::machine::{Failure, Observed};
use super::super::stage::{Facts, Live, Runs, Side, Stage};
use super::super::world::Context;
use super::blame::{control, probe_of, stopped_by_other, unusable};
use super::gate::is_awake;
use super::{Host, Limits, START_SLACK, environment};

/// For how long a live slot may answer badly in the soak time before it counts.
pub(super) const SOAK_PATIENCE: Duration = Duration::from_secs(5);

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
        self.set_limits(Limits { start, stop, ..limits });
    }

    /// Sees that systemd has the units.
    pub(super) async fn check_units(&self, side: &Side) -> Result<Observed, Failure> {
        let gate = self.settings.name.gate_unit();
        for unit in side.unit_names().iter().chain([&gate]) {
            if let Some(fault) = unusable(unit, &self.status(unit).await?) {
                return Err(environment(fault));
            }
        }
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
                let asked = self.prober().ask_once(&self.settings.probes, &target, self.settings.proof.timeout).await;
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

    /// Starts units, one after the other, each ready by systemd's word before the next. `anew`: a failure is the
    /// candidate's; else what runs already is left alone.
    pub(super) async fn start_units(&self, units: &[UnitName], anew: bool) -> Result<Observed, Failure> {
        let mut runs = Runs::new();
        for unit in units {
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
                Some(invocation) => runs.insert(unit.clone(), invocation),
                None => return Err(self.start_failure(unit, Ok(JobResult::Failed), anew).await),
            };
        }
        Ok(Observed::Runs(runs))
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
        let mut proved = Runs::new();
        for (unit, instance) in instances {
            let target = self.target(unit.clone(), instance.clone());
            let run = runs.get(unit).map(String::as_str);
            match prober.prove(&self.settings.probes, &proof, &target, run, &mut |_| {}).await {
                Ok(proof) => proved.insert(unit.clone(), proof.invocation),
                Err(fault) => return Err(self.candidate_failure(unit, fault).await),
            };
        }
        Ok(Observed::Runs(proved))
    }

    /// Brings the route to the instances of `side`. An instance that isn't there any more has ended by itself or by
    /// somebody's hand.
    pub(super) async fn route_to(&self, side: &Side) -> Result<Observed, Failure> {
        let backends = side.instances().into_iter().map(|(unit, instance)| Backend { instance, unit });
        let set: BTreeSet<Backend> = backends.collect();
        match self.route.switch(&set).await {
            Ok(()) => Ok(Observed::Nothing),
            Err(fault) => Err(self.side_failure(side, fault).await),
        }
    }

    /// Asks the address that users call, if there is somebody to answer: as a client of a socket under which nothing runs
    /// it would have systemd start what somebody has just stopped.
    pub(super) async fn ask_outside(&self, facts: &Facts) -> Result<Observed, Failure> {
        for unit in facts.to.unit_names() {
            if !self.status(&unit).await?.is_up() {
                let ended = Fault::new(Code::UnitExited, format!("{unit} ended before its address was asked"));
                return Err(self.side_failure(&facts.to, ended).await);
            }
        }
        match self.route.verify(self.settings.proof.deadline).await {
            Ok(()) => Ok(Observed::Nothing),
            // A unit as evidence is the route's own, a socket that doesn't listen: nothing that a release can do.
            Err(fault) if fault.evidence.unit.is_some() => {
                let failure = self.side_failure(&facts.to, fault).await;
                Err(Failure {
                    blame: if failure.blame == Blame::Release { Blame::Environment } else { failure.blame },
                    ..failure
                })
            }
            Err(fault) => Err(self.side_failure(&facts.to, fault).await),
        }
    }

    /// Watches the new slot for what is left of the soak time.
    pub(super) async fn soak(&self, context: &Context<'_>, runs: &Runs) -> Result<Observed, Failure> {
        let Some(Stage::Soaking { left, .. }) = context.stage else { return Ok(Observed::Nothing) };
        let end = Instant::now() + *left;
        let mut watch = self.units.watch(&context.facts.to.unit_names()).await.map_err(|error| control(&error))?;
        loop {
            self.confirm(runs).await?;
            for (unit, instance) in context.facts.to.instances() {
                let target = self.target(unit.clone(), instance);
                if let Err(fault) = self.ask_until(&target, SOAK_PATIENCE).await {
                    // That it couldn't be asked says nothing about it.
                    let code = if fault.code == Code::UnitControl { fault.code } else { Code::SoakFailed };
                    return Err(self.candidate_failure(&unit, Fault { code, ..fault }).await);
                }
            }
            self.ask_outside(context.facts).await?;
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(Observed::Nothing);
            }
            // A change of a unit or the next look, whichever comes first; a lost watch leaves the looks.
            let pause = rest.min(self.settings.proof.interval.max(Duration::from_secs(1)));
            let _ = tokio::time::timeout(pause, watch.changed()).await;
        }
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

    /// Asks until the answer is good, or for `patience`; the last answer is the error.
    async fn ask_until(&self, target: &Target, patience: Duration) -> Result<(), Fault> {
        let (prober, proof, end) = (self.prober(), &self.settings.proof, Instant::now() + patience);
        loop {
            let asked = prober.ask_once(&self.settings.probes, target, proof.timeout).await;
            if asked.is_ok() || Instant::now() >= end {
                return asked;
            }
            tokio::time::sleep(proof.interval).await;
        }
    }

    pub(super) fn prober(&self) -> Prober<U> {
        Prober::new(self.units.clone())
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
    Target { app: store.layout().app().clone(), unit, instance, health_path }
}
