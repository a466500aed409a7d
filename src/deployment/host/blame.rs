//! Why something failed on the way, and whose fault it is: the release's, the environment's, or somebody's hand.

use crate::model::deployment::Blame;
use crate::model::{Code, Fault, InstanceName, UnitName};
use crate::units::{Active, JobResult, Load, UnitControl, UnitError, UnitStatus};

use super::super::machine::Failure;
use super::gate::is_awake;
use super::{Host, environment, release};

impl<U: UnitControl> Host<U> {
    /// Why a start failed, and whose fault it is.
    pub(super) async fn start_failure(
        &self,
        unit: &UnitName,
        result: Result<JobResult, UnitError>,
        anew: bool,
    ) -> Failure {
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
            // A condition or an assertion of the unit, or a job that systemd doesn't do: it never came to the release.
            Ok(JobResult::Skipped | JobResult::Other) => {
                let message = format!("{unit} isn't started: a condition or assertion of it says no, or systemd can't");
                return environment(self.with_unit(Fault::new(Code::UnitStart, message), unit).await);
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
        if anew && !is_hosts_fault(&status) { release(fault) } else { environment(fault) }
    }

    /// Whose fault it is that something failed which all of these have a part in.
    pub(super) async fn side_failure(&self, of: &[(UnitName, InstanceName)], fault: Fault) -> Failure {
        for (unit, _) in of {
            match self.status(unit).await {
                Ok(status) if status.is_up() => {}
                Ok(status) => {
                    let stopped = stopped_by_other(unit, &status);
                    return self.blamed(unit, stopped.unwrap_or(fault)).await;
                }
                Err(failure) => return failure,
            }
        }
        if is_about_the_candidate(fault.code) { release(fault) } else { environment(fault) }
    }

    /// Whose fault it is that the candidate didn't prove itself.
    pub(super) async fn candidate_failure(&self, unit: &UnitName, fault: Fault) -> Failure {
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
    pub(super) async fn blamed(&self, unit: &UnitName, fault: Fault) -> Failure {
        let by_hand = fault.code == Code::UnitStoppedByOther;
        let fault = self.with_unit(fault, unit).await;
        if !by_hand {
            return if is_about_the_candidate(fault.code) { release(fault) } else { environment(fault) };
        }
        let rests = self.decided_gate().await.is_ok_and(|gate| !is_awake(&gate));
        Failure { fault, blame: Blame::Operator, rests }
    }
}

/// With `Restart=always` an end of its own leads to `activating`; only a stop job leads to `inactive`.
pub(super) fn stopped_by_other(unit: &UnitName, status: &UnitStatus) -> Option<Fault> {
    let by_hand = match status.active {
        // On its way down without a job it ended by itself, with a good exit.
        Active::Deactivating => status.job && status.result == "success",
        Active::Inactive => status.result == "success",
        _ => false,
    };
    by_hand.then(|| Fault::new(Code::UnitStoppedByOther, format!("somebody stopped {unit}")))
}

/// Whether a fault is about what the candidate did. All others are about the host: systemd didn't answer, a step
/// took too long, a socket doesn't listen.
fn is_about_the_candidate(code: Code) -> bool {
    matches!(
        code,
        Code::UnitStart
            | Code::UnitStartTimeout
            | Code::UnitExited
            | Code::ProbeFailed
            | Code::ProbeSilent
            | Code::ProofUnstable
            | Code::SoakFailed
            | Code::RouteOutside
            | Code::RouteNotAccepting
            | Code::RouteNotQuiet
            | Code::SlotTampered
    )
}

/// Whether systemd gave up before the release's program ran: a resource or a file of the host is missing, or a step of
/// the unit's own set-up failed. That the program isn't there (203) or its folder (200) is the release's.
pub fn is_hosts_fault(status: &UnitStatus) -> bool {
    let set_up = status.exit.as_ref().is_some_and(|exit| {
        exit.contains("(systemd's ") && !exit.contains("(systemd's EXEC)") && !exit.contains("(systemd's CHDIR)")
    });
    status.result == "resources" || set_up
}

/// Why a unit can't be used at all.
pub fn unusable(unit: &UnitName, status: &UnitStatus) -> Option<Fault> {
    match &status.load {
        Load::Loaded => None,
        Load::NotFound => Some(Fault::new(Code::UnitMissing, format!("systemd has no unit {unit}"))),
        Load::Masked => Some(Fault::new(Code::UnitMasked, format!("{unit} is masked"))),
        Load::Error(message) => Some(Fault::new(Code::ConfigUnit, format!("systemd can't load {unit}: {message}"))),
    }
}

/// The probe that a fault is about, as evidence names it.
pub(super) fn probe_of(fault: &Fault) -> Option<String> {
    fault.evidence.probe.as_ref().map(|seen| seen.probe.clone())
}

/// systemd didn't do or say what was asked: not the release's fault.
pub(super) fn control(error: &UnitError) -> Failure {
    environment(not_done(error))
}

/// What systemd didn't do or say, as a fault.
pub fn not_done(error: &UnitError) -> Fault {
    let code = match error {
        UnitError::NotFound(_) => Code::UnitMissing,
        UnitError::Masked(_) => Code::UnitMasked,
        UnitError::Denied { .. } | UnitError::Conflict { .. } | UnitError::Refused { .. } | UnitError::Bus(_) => {
            Code::UnitControl
        }
        UnitError::Timeout { .. } => Code::StepTimeout,
    };
    Fault::new(code, error.to_string())
}
