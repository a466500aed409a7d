//! The effects on the gate, and what it tells: whether somebody wants the app to run.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::deployment::Blame;
use crate::model::{Code, Fault, UnitName};
use crate::units::{Active, JobResult, UnitControl, UnitError, UnitStatus};

use super::super::facts::Facts;
use super::super::machine::{Failure, Observed};
use super::blame::control;
use super::{Host, environment};

/// How often a gate is started that was just on its way down from a failure of its own, or that met a job of somebody
/// else's.
const GATE_TRIES: u32 = 3;

/// How often a unit is started that meets a job of somebody else's. Each time that job's end is waited for.
const START_TRIES: u32 = 3;

/// How long the gate may take under the hold mark, where it starts nothing.
const GATE_LIMIT: Duration = Duration::from_secs(45);

/// How long somebody's stop or restart of the whole app is waited for: most stops end sooner, and the step has to.
const HAND_LIMIT: Duration = Duration::from_secs(20);

/// Between two looks at it.
const HAND_LOOK: Duration = Duration::from_millis(100);

impl<U: UnitControl> Host<U> {
    /// Sees to it that the gate is active. Under the hold mark it starts nothing; one that paces itself after
    /// failures of its own ends first, cut short by the mark.
    ///
    /// Once this deployment has started it, nothing but a hand takes it down: it isn't started a second time then.
    pub(super) async fn start_gate(&self) -> Result<Observed, Failure> {
        let gate = self.settings.name.gate_unit();
        if self.gate_started.load(Ordering::Relaxed) {
            self.see_awake().await?;
        }
        let mut last = String::new();
        for _ in 0..GATE_TRIES {
            match self.units.start(&gate, self.gate_limit()).await {
                Ok(JobResult::Done) => {
                    self.gate_started.store(true, Ordering::Relaxed);
                    return Ok(Observed::Nothing);
                }
                // Somebody's stop: it was there before our start, or took its place.
                result @ (Ok(JobResult::Canceled) | Err(UnitError::Conflict { .. })) => {
                    last = format!("{result:?}");
                    self.see_awake().await?;
                }
                Ok(other) => last = format!("{other:?}"),
                Err(error) => return Err(control(&error)),
            }
        }
        let fault = Fault::new(Code::UnitStart, format!("{gate} doesn't start: {last}"));
        Err(environment(self.with_unit(fault, &gate).await))
    }

    /// Starts `unit`, for at most `at_most`, if the app is meant to run, and sees that it still is afterwards.
    ///
    /// A start takes nobody's job away: where it meets one, that job's end is waited for and the app looked at again. And
    /// a stop of the whole app may come and go while a unit starts, without a word to the unit: it leaves out what
    /// doesn't run.
    pub(super) async fn start_wanted(
        &self,
        unit: &UnitName,
        at_most: Duration,
    ) -> Result<Result<JobResult, UnitError>, Failure> {
        let mut tries = 0;
        loop {
            self.see_awake().await?;
            self.units.reset_failed(unit).await.map_err(|error| control(&error))?;
            let started = self.units.start(unit, at_most).await;
            tries += 1;
            match started {
                Err(UnitError::Conflict { .. }) if tries < START_TRIES => drop(self.decided(unit).await?),
                Ok(JobResult::Done) => return self.see_awake().await.map(|()| started),
                other => return Ok(other),
            }
        }
    }

    /// Sees that nobody stopped the whole app after this deployment had started its gate: nothing more of it is started
    /// then. A gate that was stopped and runs again is awake, whoever started it: a hand, or a client of the socket.
    pub(super) async fn see_awake(&self) -> Result<(), Failure> {
        if is_awake(&self.decided_gate().await?) {
            return Ok(());
        }
        let gate = self.settings.name.gate_unit();
        let fault = Fault::new(Code::UnitStoppedByOther, format!("somebody stopped {gate}"));
        Err(Failure { fault: self.with_unit(fault, &gate).await, blame: Blame::Operator, rests: true })
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
            self.units.stop(&gate, self.gate_limit()).await.map_err(|error| control(&error))?;
        }
        Ok(Observed::Nothing)
    }

    /// How long the gate may take. Under the hold mark it starts nothing; but it may be waiting still for a broken
    /// live slot that it was starting before.
    pub(super) fn gate_limit(&self) -> Duration {
        GATE_LIMIT + self.limits().start
    }

    /// The gate once no job is queued for it. One that stops or restarts the whole app reaches the slots at the same
    /// time: only its end tells what that hand wanted.
    pub(super) async fn decided_gate(&self) -> Result<UnitStatus, Failure> {
        self.decided(&self.settings.name.gate_unit()).await
    }

    /// A unit once no job is queued for it.
    async fn decided(&self, unit: &UnitName) -> Result<UnitStatus, Failure> {
        let end = Instant::now() + HAND_LIMIT;
        loop {
            let status = self.status(unit).await?;
            if !status.job || Instant::now() >= end {
                return Ok(status);
            }
            tokio::time::sleep(HAND_LOOK).await;
        }
    }
}

/// Whether the gate says that the app is meant to run.
pub fn is_awake(gate: &UnitStatus) -> bool {
    matches!(gate.active, Active::Active | Active::Activating | Active::Reloading)
}
