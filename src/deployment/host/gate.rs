//! The effects on the gate, and what it tells: whether somebody wants the app to run.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::deployment::Blame;
use crate::model::{Code, Fault};
use crate::units::{Active, JobResult, UnitControl, UnitStatus};

use super::super::facts::Facts;
use super::super::machine::{Failure, Observed};
use super::blame::control;
use super::{Host, environment};

/// How often a gate is started that was just on its way down from a failure of its own.
const GATE_TRIES: u32 = 3;

/// How long the gate may take under the hold mark, where it starts nothing.
const GATE_LIMIT: Duration = Duration::from_secs(45);

/// How long somebody's stop or restart of the whole app is waited for: most stops end sooner, and the step has to.
const HAND_LIMIT: Duration = Duration::from_secs(20);

/// Between two looks at it.
const HAND_LOOK: Duration = Duration::from_millis(100);

impl<U: UnitControl> Host<U> {
    /// Sees to it that the gate is active. Under the hold mark it starts nothing; one that paces itself after
    /// failures of its own ends first, cut short by the mark.
    pub(super) async fn start_gate(&self) -> Result<Observed, Failure> {
        let gate = self.settings.name.gate_unit();
        let mut last = None;
        for _ in 0..GATE_TRIES {
            match self.units.start(&gate, self.gate_limit()).await.map_err(|error| control(&error))? {
                JobResult::Done => return Ok(Observed::Nothing),
                other => last = Some(other),
            }
        }
        let fault = Fault::new(Code::UnitStart, format!("{gate} doesn't start: {last:?}"));
        Err(environment(self.with_unit(fault, &gate).await))
    }

    /// Sees that nobody stopped the whole app after this deployment had started its gate: nothing more of it is started
    /// then.
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
    /// time: only its end tells what that hand wanted, and a start of ours would cancel it.
    pub(super) async fn decided_gate(&self) -> Result<UnitStatus, Failure> {
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

/// Whether the gate says that the app is meant to run.
pub fn is_awake(gate: &UnitStatus) -> bool {
    matches!(gate.active, Active::Active | Active::Activating | Active::Reloading)
}
