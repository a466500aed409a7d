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
use crate::units::{Active, JobResult, Load, UnitControl, UnitError, UnitStatus};

use super::super::machine::{Failure, Observed};
use super::super::stage::{Facts, Live, Runs, Side, Stage};
use super::super::world::Context;
use super::{Host, Limits, START_SLACK, environment, release};

/// How often a gate is started that was just on its way down from a failure of its own.
const GATE_TRIES: u32 = 3;

/// How long the gate may take under the hold mark, where it starts nothing.
const GATE_LIMIT: Duration = Duration::from_secs(45);

/// For how long a live slot may answer badly in the soak time before it counts.
const SOAK_PATIENCE: Duration = Duration::from_secs(5);

/// How long the restored slot is asked about the probe that the candidate failed.
const ASK_AGAIN_LIMIT: Duration = Duration::from_secs(10);

/// How long somebody's stop or restart of the whole app is waited for: most stops end sooner, and the step has to.
const HAND_LIMIT: Duration = Duration::from_secs(20);

/// Between two looks at it.
const HAND_LOOK: Duration = Duration::from_millis(100);

impl<U: UnitControl> Host<U> {
    /// Sees that systemd has the units, and learns their limits.
    pub(super) async fn check_units(&self, side: &Side) -> Result<Observed, Failure> {
        let mut limits = Limits { start: Duration::ZERO, stop: Duration::ZERO };
        let gate = self.settings.name.gate_unit();
        for unit in side.unit_names().iter().chain([&gate]) {
            let status = self.status(unit).await?;
            if let Some(fault) = unusable(unit, &status) {
                return Err(environment(fault));
            }
            if unit != &gate {
                limits.start = limits.start.max(status.start_limit.unwrap_or_default() + START_SLACK);
                limits.stop = limits.stop.max(status.stop_limit.unwrap_or_default() + START_SLACK);
            }
        }
        self.set_limits(limits);
        self.route.prepare().await.map_err(environment)?;
        Ok(Observed::Nothing)
    }

    /// Sees to it that the gate is active. Under the hold mark it starts nothing; one that paces itself after
    /// failures of its own ends first, cut short by the mark.
    pub(super) async fn start_gate(&self) -> Result<Observed, Failure> {
        let gate = self.settings.name.gate_unit();
        let mut last = None;
        for _ in 0..GATE_TRIES {
            match self.units.start(&gate, GATE_LIMIT).await.map_err(|error| control(&error))? {
                JobResult::Done => return Ok(Observed::Nothing),
                other => last = Some(other),
            }
        }
        let fault = Fault::new(Code::UnitStart, format!("{gate} doesn't start: {last:?}"));
        Err(environment(self.with_unit(fault, &gate).await))
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
                self.units.reset_failed(unit).await.map_err(|error| control(&error))?;
                let limit = status.start_limit.unwrap_or_default() + START_SLACK;
                let result = self.units.start(unit, limit).await;
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
                Err(fault) => return Err(self.candidate_failure(facts, unit, fault).await),
            };
        }
        Ok(Observed::Runs(proved))
    }

    /// Brings the route to the instances of `side`.
    pub(super) async fn route_to(&self, side: &Side) -> Result<Observed, Failure> {
        let backends = side.instances().into_iter().map(|(unit, instance)| Backend { instance, unit });
        let set: BTreeSet<Backend> = backends.collect();
        self.route.switch(&set).await.map(|()| Observed::Nothing).map_err(environment)
    }

    /// Asks the address that users call.
    pub(super) async fn ask_outside(&self) -> Result<Observed, Failure> {
        self.route.verify(self.settings.proof.deadline).await.map(|()| Observed::Nothing).map_err(release)
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
                    let fault = Fault { code: Code::SoakFailed, ..fault };
                    return Err(self.candidate_failure(context.facts, &unit, fault).await);
                }
            }
            self.ask_outside().await?;
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
                let stopped = stopped_by_other(unit, &status);
                let fault = stopped
                    .unwrap_or_else(|| Fault::new(Code::UnitExited, format!("{unit} ended after it was proved")));
                return Err(self.blamed(unit, fault).await);
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
        self.stop_units(&others).await
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

    /// Stops the gate if nothing of the app runs: an active gate over a dead slot makes clients hang.
    pub(super) async fn rest(&self, facts: &Facts) -> Result<Observed, Failure> {
        for unit in self.units_of_app(facts).await? {
            if !self.status(&unit).await?.is_down() {
                return Ok(Observed::Nothing);
            }
        }
        let gate = self.settings.name.gate_unit();
        if self.status(&gate).await?.active == Active::Active {
            self.units.stop(&gate, GATE_LIMIT).await.map_err(|error| control(&error))?;
        }
        Ok(Observed::Nothing)
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
    async fn units_of_app(&self, facts: &Facts) -> Result<Vec<UnitName>, Failure> {
        let sides = facts.from.iter().chain([&facts.to]);
        let mut patterns: Vec<String> =
            sides.flat_map(|side| &side.units).map(|unit| format!("{}*.service", unit.name)).collect();
        patterns.sort();
        patterns.dedup();
        self.units.list(&patterns).await.map_err(|error| control(&error))
    }

    /// Why a start failed, and whose fault it is.
    async fn start_failure(&self, unit: &UnitName, result: Result<JobResult, UnitError>, anew: bool) -> Failure {
        let status = match self.status(unit).await {
            Ok(status) => status,
            Err(failure) => return failure,
        };
        let fault = match &result {
            Err(UnitError::Timeout { .. }) | Ok(JobResult::Timeout) => {
                Fault::new(Code::UnitStartTimeout, format!("{unit} didn't become ready in time"))
            }
            Err(error) => {
                return environment(self.with_unit(Fault::new(Code::UnitControl, error.to_string()), unit).await);
            }
            Ok(JobResult::Dependency) => {
                let message = format!("{unit} can't start: a unit that it needs failed");
                return environment(self.with_unit(Fault::new(Code::UnitStart, message), unit).await);
            }
            Ok(_) if status.result == "timeout" => {
                Fault::new(Code::UnitStartTimeout, format!("{unit} didn't become ready in time"))
            }
            Ok(JobResult::Canceled) => {
                let stopped = Fault::new(Code::UnitStoppedByOther, format!("somebody stopped {unit} while it started"));
                return self.blamed(unit, stopped).await;
            }
            Ok(_) => match &status.exit {
                Some(exit) => Fault::new(Code::UnitExited, format!("{unit} {exit} before it was ready")),
                None => Fault::new(Code::UnitStart, format!("{unit} doesn't start: {}", status.result)),
            },
        };
        let fault = self.with_unit(fault, unit).await;
        if anew { release(fault) } else { environment(fault) }
    }

    /// Whose fault it is that the candidate didn't prove itself.
    async fn candidate_failure(&self, facts: &Facts, unit: &UnitName, fault: Fault) -> Failure {
        tracing::debug!(deployment = %facts.id, %unit, "{fault}");
        let status = match self.status(unit).await {
            Ok(status) => status,
            Err(failure) => return failure,
        };
        let fault = match stopped_by_other(unit, &status) {
            Some(stopped) => stopped,
            None => fault,
        };
        self.blamed(unit, fault).await
    }

    /// A fault of the candidate with its evidence; one that somebody's hand caused is nobody's, and where that hand
    /// stopped the whole app nothing is started again.
    async fn blamed(&self, unit: &UnitName, fault: Fault) -> Failure {
        let by_hand = fault.code == Code::UnitStoppedByOther;
        let fault = self.with_unit(fault, unit).await;
        if !by_hand {
            return release(fault);
        }
        let rests = self.decided_gate().await.is_ok_and(|gate| !is_awake(&gate));
        Failure { fault, blame: Blame::Operator, rests }
    }

    /// The gate once no job is queued for it. One that stops or restarts the whole app reaches the slots at the same
    /// time: only its end tells what that hand wanted, and a start of ours would cancel it.
    async fn decided_gate(&self) -> Result<UnitStatus, Failure> {
        let (gate, end) = (self.settings.name.gate_unit(), Instant::now() + HAND_LIMIT);
        loop {
            let status = self.status(&gate).await?;
            if !status.job || Instant::now() >= end {
                return Ok(status);
            }
            tokio::time::sleep(HAND_LOOK).await;
        }
    }
}

/// Whom the probes ask, and by which path: that of its release, where it names one.
pub fn target(store: &SlotStore, unit: UnitName, instance: InstanceName) -> Target {
    // A record that can't be read now leaves the path of the settings.
    let health_path = store.record(&instance.slot).ok().and_then(|record| record.release.health_path);
    Target { app: store.layout().app().clone(), unit, instance, health_path }
}

/// Whether the gate says that the app is meant to run.
pub fn is_awake(gate: &UnitStatus) -> bool {
    matches!(gate.active, Active::Active | Active::Activating | Active::Reloading)
}

/// With `Restart=always` an end of its own leads to `activating`; only a stop job leads to `inactive`.
fn stopped_by_other(unit: &UnitName, status: &UnitStatus) -> Option<Fault> {
    let by_hand = matches!(status.active, Active::Inactive | Active::Deactivating) && status.result == "success";
    by_hand.then(|| Fault::new(Code::UnitStoppedByOther, format!("somebody stopped {unit}")))
}

/// Why a unit can't be used at all.
fn unusable(unit: &UnitName, status: &UnitStatus) -> Option<Fault> {
    match &status.load {
        Load::Loaded => None,
        Load::NotFound => Some(Fault::new(Code::UnitMissing, format!("systemd has no unit {unit}"))),
        Load::Masked => Some(Fault::new(Code::UnitMasked, format!("{unit} is masked"))),
        Load::Error(message) => Some(Fault::new(Code::ConfigUnit, format!("systemd can't load {unit}: {message}"))),
    }
}

/// The probe that a fault is about, as evidence names it.
fn probe_of(fault: &Fault) -> Option<String> {
    fault.evidence.probe.as_ref().map(|seen| seen.probe.clone())
}

/// systemd didn't do or say what was asked: not the release's fault.
fn control(error: &UnitError) -> Failure {
    environment(Fault::new(
        match error {
            UnitError::NotFound(_) => Code::UnitMissing,
            UnitError::Masked(_) => Code::UnitMasked,
            UnitError::Denied { .. } | UnitError::Refused { .. } | UnitError::Bus(_) => Code::UnitControl,
            UnitError::Timeout { .. } => Code::StepTimeout,
        },
        error.to_string(),
    ))
}
