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
const TRY_AGAIN: &str = "exited with status 75";

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
            let fault = unusable(&unit, &status).or_else(|| match (status.runs_to_end, status.start_limit) {
                (false, _) => wrong("is no oneshot, or stays active: nobody can tell when it is done"),
                (true, None) => wrong("has no TimeoutStartSec=: it could run for ever"),
                (true, Some(_)) => None,
            });
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
            result => Err(self.hook_failure(*point, unit, result).await),
        }
    }

    /// Sees that it may be begun: it doesn't run already on somebody's word, and nobody has stopped the app meanwhile.
    async fn see_free(&self, point: HookPoint, unit: &UnitName) -> Result<(), Failure> {
        if point == HookPoint::Deploy {
            self.see_awake().await?;
        }
        let status = self.status(unit).await?;
        // A preflight that an interruption has left is as good as a new one.
        if point == HookPoint::Preflight || status.is_down() {
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
                _ => drop(tokio::time::timeout(LOOK, watch.changed()).await),
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
                let blame = if own { Blame::Release } else { Blame::Environment };
                (failed(point, unit, &how(&status)), blame)
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

fn how(status: &UnitStatus) -> String {
    match (&status.exit, status.result.as_str()) {
        (_, "timeout") => "didn't end within its TimeoutStartSec=".to_owned(),
        (Some(exit), _) if exit.starts_with("killed") => format!("was {exit}"),
        (Some(exit), _) => exit.clone(),
        (None, result) => format!("failed: {result}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::site::Site;
    use super::*;
    use crate::model::Outcome;

    const HOOKS: &str = "[hooks]\npreflight = \"look@\"\ndeploy = \"migrate@\"\npost_deploy = \"tell@\"\n";

    /// Slot 1 is live, and slot 2 has hooks that pass unless a test says otherwise.
    fn site() -> Site {
        let site = Site::serving(&["1", "2"]).set(HOOKS);
        for hook in ["look@2", "migrate@2", "tell@2"] {
            site.units.unit(hook);
        }
        site
    }

    fn passing() -> Site {
        let site = site();
        for hook in ["look@2", "migrate@2", "tell@2"] {
            site.units.unit(hook).passes();
        }
        site
    }

    /// What was asked of all units but the gate.
    fn calls(site: &Site) -> Vec<String> {
        let calls = site.units.calls().into_iter();
        calls.filter(|call| !call.ends_with(" web") && !call.starts_with("reset-failed")).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn hooks_run_in_their_places() {
        let site = passing();
        assert_eq!(site.deploy("2").await.ruling.outcome, Outcome::Done);
        let expected = ["start look@2", "stop web@1", "start migrate@2", "stop web@1", "start web@2", "start tell@2"];
        assert_eq!(calls(&site), expected);
        site.assert_closed();
    }

    #[tokio::test(start_paused = true)]
    async fn whose_fault_a_hook_is() {
        type Fails = fn(&Site);
        let cases: [(&str, Fails, Blame, Code); 6] = [
            (
                "it fails",
                |site| drop(site.units.unit("migrate@2").start_fails("exited with status 3")),
                Blame::Release,
                Code::HookFailed,
            ),
            ("in time", |site| drop(site.units.unit("migrate@2").start_times_out()), Blame::Release, Code::HookFailed),
            (
                "it says that it is worth another try",
                |site| drop(site.units.unit("migrate@2").start_fails("exited with status 75")),
                Blame::Environment,
                Code::HookFailed,
            ),
            (
                "systemd can't run it",
                |site| drop(site.units.unit("migrate@2").start_fails("exited with status 217 (systemd's USER)")),
                Blame::Environment,
                Code::HookFailed,
            ),
            (
                "polkit",
                |site| drop(site.units.unit("migrate@2").start_is_denied()),
                Blame::Environment,
                Code::UnitControl,
            ),
            (
                "somebody else has started it",
                |site| drop(site.units.unit("migrate@2").runs()),
                Blame::Environment,
                Code::UnitControl,
            ),
        ];
        for (name, fails, blame, code) in cases {
            let site = site();
            site.units.unit("look@2").passes();
            site.units.unit("migrate@2").writes("no such column");
            fails(&site);
            let ruling = site.deploy("2").await.ruling;
            let fault = ruling.fault.clone().expect("a fault");
            assert_eq!(
                (ruling.outcome, ruling.blame, fault.code),
                (Outcome::RolledBack, blame, code),
                "{name}: {fault}"
            );
            assert!(fault.code != Code::HookFailed || !fault.evidence.journal.is_empty(), "{name}");
            assert_eq!(site.is_quarantined("2"), blame == Blame::Release, "{name}");
            assert_eq!(site.units.up(), ["web", "web@1"], "{name}");
            assert_eq!(
                site.units.status_of("migrate@2").active,
                Active::Inactive,
                "{name}: it is ended, and forgotten"
            );
            site.assert_closed();
        }
    }

    /// Before anything is touched nothing has to be undone, and what can't come to an end isn't begun.
    #[tokio::test(start_paused = true)]
    async fn a_hook_that_fails_first_leaves_all_as_it_was() {
        type Fails = fn(&Site);
        let cases: [(Fails, Blame, Code); 4] = [
            (
                |site| drop(site.units.unit("look@2").start_fails("exited with status 1")),
                Blame::Release,
                Code::HookFailed,
            ),
            (
                |site| drop(site.units.unit("tell@2").change(|status| status.start_limit = None)),
                Blame::Environment,
                Code::ConfigUnit,
            ),
            (
                |site| drop(site.units.unit("migrate@2").change(|status| status.runs_to_end = false)),
                Blame::Environment,
                Code::ConfigUnit,
            ),
            (|site| drop(site.units.unit("migrate@2").is_missing()), Blame::Environment, Code::UnitMissing),
        ];
        for (fails, blame, code) in cases {
            let site = site();
            fails(&site);
            let run = site.units.status_of("web@1").invocation;
            let ruling = site.deploy("2").await.ruling;
            let found = (ruling.outcome, ruling.blame, ruling.fault.map(|fault| fault.code));
            assert_eq!(found, (Outcome::Failed, blame, Some(code)));
            assert_eq!(site.units.status_of("web@1").invocation, run);
            site.assert_closed();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_to_be_told_is_a_warning() {
        let site = site();
        site.units.unit("look@2").passes();
        site.units.unit("migrate@2").passes();
        site.units.unit("tell@2").start_fails("exited with status 1");
        let ruling = site.deploy("2").await.ruling;
        assert_eq!((ruling.outcome, ruling.fault), (Outcome::Done, None));
        assert!(ruling.warnings.concat().contains("the post_deploy hook tell@2.service exited with status 1"));
        assert_eq!(site.links(), ["2", "1", "-"]);
        site.assert_closed();
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_one_that_was_begun_is_waited_for() {
        let site = site();
        let hook = |begun| Hook { point: HookPoint::Deploy, unit: UnitName::new("migrate@2.service"), begun };
        let host = site.host();
        site.units.unit("migrate@2").runs().change(|status| status.active = Active::Activating);
        let units = site.units.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(20)).await;
            units.unit("migrate@2").is_stopped_by_hand();
        });
        let began = Instant::now();
        assert_eq!(host.run_hook(&hook(true)).await, Ok(Observed::Nothing));
        assert_eq!(began.elapsed().as_secs(), 20);
        assert_eq!(calls(&site), Vec::<String>::new(), "it isn't begun again");
        site.units.unit("migrate@2").runs().change(|status| {
            (status.active, status.exit) = (Active::Failed, Some("exited with status 3".to_owned()));
        });
        let failure = host.run_hook(&hook(true)).await.expect_err("it failed");
        assert_eq!((failure.blame, failure.fault.code), (Blame::Release, Code::HookFailed));
    }
}
