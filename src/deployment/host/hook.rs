//! The effects on hooks: oneshot units that are run for the candidate, and ended on the way back.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::deployment::Blame;
use crate::model::{Code, Fault, HookPoint, UnitName};
use crate::units::{Active, JobResult, UnitControl, UnitError, UnitStatus};

use super::super::effect::Hook;
use super::super::facts::Facts;
use super::super::machine::{Failure, Observed};
use super::blame::{control, is_hosts_fault, unusable};
use super::gate::is_awake;
use super::{Host, START_SLACK, environment, release};

/// EX_TEMPFAIL of sysexits.h: the hook says that it is not the release's fault, and worth another try.
pub const TRY_AGAIN: &str = "exited with status 75";

/// Between two looks at a hook that was begun before an interruption.
const LOOK: Duration = Duration::from_secs(1);

/// The longest that a hook may take to run and to stop.
#[derive(Debug, Clone)]
pub(super) struct HookLimit {
    unit: UnitName,
    pub(super) run: Duration,
    pub(super) stop: Duration,
}

impl<U: UnitControl> Host<U> {
    /// Learns the limits of the hooks; where systemd doesn't tell, its defaults for other units are assumed.
    pub(super) async fn learn_hooks(&self, facts: &Facts) -> Vec<HookLimit> {
        let mut learnt = Vec::new();
        for unit in facts.hooks() {
            if let Ok(status) = self.units.status(&unit).await {
                let run = status.start_limit.unwrap_or_default() + START_SLACK;
                learnt.push(HookLimit { unit, run, stop: status.stop_limit.unwrap_or_default() + START_SLACK });
            }
        }
        learnt
    }

    pub(super) fn hook_limit(&self, unit: &UnitName) -> HookLimit {
        let limits = self.limits();
        let known = limits.hooks.iter().find(|limit| limit.unit == *unit).cloned();
        known.unwrap_or_else(|| HookLimit { unit: unit.clone(), run: limits.start, stop: limits.stop })
    }

    /// Sees that systemd has the hooks, and that each comes to its end. How one ended that an earlier deployment ran is
    /// forgotten: from now on a failure is this one's.
    pub(super) async fn check_hooks(&self, facts: &Facts) -> Result<(), Failure> {
        for unit in facts.hooks() {
            let status = self.status(&unit).await?;
            let wrong = |message: &str| Some(Fault::new(Code::ConfigUnit, format!("the hook {unit} {message}")));
            let fault = unusable(&unit, &status).or_else(|| endless(&status).and_then(wrong));
            if let Some(fault) = fault {
                return Err(environment(fault));
            }
            if status.active == Active::Failed {
                self.units.reset_failed(&unit).await.map_err(|error| control(&error))?;
            }
        }
        Ok(())
    }

    /// Runs a hook to its end.
    pub(super) async fn run_hook(&self, hook: &Hook) -> Result<Observed, Failure> {
        let Hook { point, unit, begun } = hook;
        let limit = self.hook_limit(unit).run;
        let result = match begun {
            true => self.end_of_hook(unit, limit).await?,
            false => {
                self.see_free(*point, unit).await?;
                self.units.start(unit, limit).await
            }
        };
        match result {
            Ok(JobResult::Done) => Ok(Observed::Nothing),
            result => {
                let failure = self.hook_failure(*point, unit, result).await;
                // Those of the way forth are ended on the way back.
                if matches!(point, HookPoint::PostDeploy | HookPoint::Restore)
                    && let Err(other) = self.end_hook(unit).await
                {
                    tracing::warn!(SLOTD_APP = self.settings.name.as_str(), "{}", other.fault);
                }
                Err(failure)
            }
        }
    }

    /// Sees that it may be begun: it doesn't run already on somebody's word, and nobody has stopped the app meanwhile.
    async fn see_free(&self, point: HookPoint, unit: &UnitName) -> Result<(), Failure> {
        if matches!(point, HookPoint::Snapshot | HookPoint::Deploy) {
            self.see_awake().await?;
        }
        let status = self.status(unit).await?;
        // Of these one that an interruption has left is as good as a new one.
        if matches!(point, HookPoint::Preflight | HookPoint::Restore) || status.is_down() {
            return Ok(());
        }
        let fault = Fault::new(Code::UnitControl, format!("{unit} runs already: somebody else has started it"));
        Err(environment(self.with_unit(fault, unit).await))
    }

    /// Waits for the end of one that was begun before.
    async fn end_of_hook(&self, unit: &UnitName, limit: Duration) -> Result<Result<JobResult, UnitError>, Failure> {
        let end = Instant::now() + limit;
        let mut watch = self.units.watch(std::slice::from_ref(unit)).await.map_err(|error| control(&error))?;
        loop {
            let status = self.status(unit).await?;
            match status.active {
                Active::Failed => return Ok(Ok(JobResult::Failed)),
                // systemd keeps what failed, and forgets what ended well.
                _ if status.is_down() => return Ok(Ok(JobResult::Done)),
                _ if Instant::now() >= end => {
                    return Ok(Err(UnitError::Timeout { verb: "start", unit: unit.clone(), after: limit }));
                }
                // A change or the next look, whichever comes first; a lost watch leaves the looks.
                _ => {
                    if let Ok(None) = tokio::time::timeout(LOOK, watch.changed()).await {
                        tokio::time::sleep(LOOK).await;
                    }
                }
            }
        }
    }

    /// Why a hook failed, and whose fault it is.
    async fn hook_failure(&self, point: HookPoint, unit: &UnitName, result: Result<JobResult, UnitError>) -> Failure {
        let status = match self.status(unit).await {
            Ok(status) => status,
            Err(failure) => return failure,
        };
        let not_run = |why: &str| Fault::new(Code::UnitStart, format!("the {point} hook {unit} can't run: {why}"));
        let (fault, blame) = match result {
            Err(UnitError::Timeout { after, .. }) => {
                let limit = humantime::format_duration(after);
                (failed(point, unit, &format!("didn't end within {limit}")), Blame::Release)
            }
            Err(error) => return control(&error),
            Ok(JobResult::Canceled) => {
                let message = format!("somebody stopped the {point} hook {unit}");
                (Fault::new(Code::UnitStoppedByOther, message), Blame::Operator)
            }
            Ok(JobResult::Dependency) => (not_run("a unit that it needs failed"), Blame::Environment),
            Ok(JobResult::Skipped | JobResult::Other) => {
                (not_run("an assertion of it says no, or systemd can't"), Blame::Environment)
            }
            Ok(_) => {
                let own = !is_hosts_fault(&status) && status.exit.as_deref() != Some(TRY_AGAIN);
                // What a snapshot fails by, no room, is nothing that a release does.
                let own = own && point != HookPoint::Snapshot;
                let blame = if own { Blame::Release } else { Blame::Environment };
                (failed(point, unit, &how_it_ended(&status)), blame)
            }
        };
        let fault = self.with_unit(fault, unit).await;
        match blame {
            Blame::Release => release(fault),
            Blame::Operator => {
                let rests = self.decided_gate().await.is_ok_and(|gate| !is_awake(&gate));
                Failure { fault, blame, rests }
            }
            _ => environment(fault),
        }
    }

    /// Stops what runs of these hooks. One that doesn't stop keeps nobody from the way back.
    pub(super) async fn end_hooks(&self, units: &[UnitName]) -> Result<Observed, Failure> {
        let mut failed = None;
        for unit in units {
            if let Err(failure) = self.end_hook(unit).await {
                failed.get_or_insert(failure);
            }
        }
        failed.map_or(Ok(Observed::Nothing), Err)
    }

    async fn end_hook(&self, unit: &UnitName) -> Result<(), Failure> {
        let status = self.status(unit).await?;
        if !status.is_down() {
            let result = self.units.stop(unit, self.hook_limit(unit).stop).await.map_err(|error| control(&error))?;
            if !self.status(unit).await?.is_down() {
                let fault = Fault::new(Code::UnitStop, format!("the hook {unit} didn't stop: {result:?}"));
                return Err(environment(self.with_unit(fault, unit).await));
            }
        }
        // The deployment tells how it ended, with its last lines; what serves is well, and systemd should say so.
        if self.status(unit).await?.active == Active::Failed {
            self.units.reset_failed(unit).await.map_err(|error| control(&error))?;
        }
        Ok(())
    }
}

fn failed(point: HookPoint, unit: &UnitName, how: &str) -> Fault {
    Fault::new(Code::HookFailed, format!("the {point} hook {unit} {how}"))
}

/// Why nobody could tell when a hook is done.
pub fn endless(status: &UnitStatus) -> Option<&'static str> {
    match (status.runs_to_end, status.start_limit) {
        (false, _) => Some("is no oneshot, or stays active: nobody can tell when it is done"),
        (true, None) => Some("has no TimeoutStartSec=: it could run for ever"),
        (true, Some(_)) => None,
    }
}

/// How a hook ended, for people.
pub fn how_it_ended(status: &UnitStatus) -> String {
    match (&status.exit, status.result.as_str()) {
        (_, "timeout") => "didn't end within its TimeoutStartSec=".to_owned(),
        (Some(exit), _) if exit.starts_with("killed") => format!("was {exit}"),
        (Some(exit), _) => exit.clone(),
        (None, result) => format!("failed: {result}"),
    }
}

#[cfg(test)]
#[path = "hook_tests.rs"]
mod tests;
