//! The proof that one instance is ready: good answers in a row by a deadline, then the same run up for a while.
//!
//! Two things happen at once: the probes are asked, and the unit is watched. Whichever the watch sees first, an exit or
//! a restart, ends the proof there; nothing waits for the next attempt to find out.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::app::{Probe, Proof};
use crate::model::evidence::{Evidence, MAX_JOURNAL_LINES};
use crate::model::{Code, Fault, Timestamp};
use crate::units::{Active, UnitControl, UnitError, UnitStatus, UnitWatch};

use super::{Miss, MissKind, Prober, Target, or_notify, seen, text};

/// How long after a failed watch the next one is tried.
const REWATCH: Duration = Duration::from_millis(500);

/// An instance that proved itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proved {
    /// The run that did: its InvocationID.
    pub invocation: String,
    /// How many attempts it took.
    pub attempts: u32,
    /// How long it took, `stable_for` included.
    pub took: Duration,
}

/// How a proof goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProofProgress {
    /// All probes answered well.
    Answered {
        /// Which attempt, from 1.
        attempt: u32,
        /// How many good ones in a row.
        streak: u32,
        /// How many it takes.
        of: u32,
    },
    /// A probe didn't.
    Missed {
        /// Which attempt, from 1.
        attempt: u32,
        /// The probe: "http http://127.0.0.1:8080/health".
        probe: String,
        /// What it got.
        miss: Miss,
    },
    /// The answers are enough; now it has to stay up.
    Staying {
        /// For so long.
        stable_for: Duration,
    },
}

/// What has to be proved.
struct Claim<'a> {
    probes: &'a [Probe],
    proof: &'a Proof,
    target: &'a Target,
    run: Run,
}

/// The run that is to prove itself.
#[derive(Debug, Clone)]
struct Run {
    invocation: String,
    restarts: u32,
}

/// The last attempt that didn't succeed.
struct LastMiss<'a> {
    probe: &'a Probe,
    miss: Miss,
    at: Timestamp,
}

impl<U: UnitControl> Prober<U> {
    /// Has `target` prove itself, from now on. `invocation` is the run that our own start made; `None` takes
    /// the one that is there. Without probes systemd's word is the proof.
    ///
    /// # Errors
    ///
    /// - `probe.silent`, `probe.failed`: the deadline passed; the last answer and the journal are evidence;
    /// - `unit.exited`: the run ended or was restarted meanwhile; `proof.unstable`: after it had answered;
    /// - `unit.stopped_by_other`: somebody stopped it;
    /// - `unit.control`: slotd couldn't ask.
    pub async fn prove(
        &self,
        probes: &[Probe],
        proof: &Proof,
        target: &Target,
        invocation: Option<&str>,
        report: &mut (dyn FnMut(ProofProgress) + Send),
    ) -> Result<Proved, Fault> {
        let began = Instant::now();
        // Watched before it is looked at, so that no end falls between.
        let watch = self.units.watch(std::slice::from_ref(&target.unit)).await.ok();
        let status = self.look(target).await?;
        let known = invocation.or(status.invocation.as_deref());
        // Our own start counts restarts from zero; of a run that was there before, some may be behind it.
        let restarts = if known == status.invocation.as_deref() { status.restarts } else { 0 };
        let run = Run { invocation: known.unwrap_or_default().to_owned(), restarts };
        let claim = Claim { probes: or_notify(probes), proof, target, run };
        if claim.run.is_over(&status) {
            return Err(self.ended(&claim, &status, Code::UnitExited).await);
        }
        let end = self.end_of_run(&claim, watch);
        tokio::pin!(end);
        let attempts = tokio::select! {
            biased;
            status = &mut end => return Err(self.ended(&claim, &status, Code::UnitExited).await),
            answered = self.answers(&claim, report) => answered?,
        };
        report(ProofProgress::Staying { stable_for: proof.stable_for });
        tokio::select! {
            biased;
            status = &mut end => return Err(self.ended(&claim, &status, Code::ProofUnstable).await),
            () = tokio::time::sleep(proof.stable_for) => {}
        }
        let status = self.look(target).await?;
        if claim.run.is_over(&status) || !status.is_up() {
            return Err(self.ended(&claim, &status, Code::ProofUnstable).await);
        }
        Ok(Proved { invocation: claim.run.invocation.clone(), attempts, took: began.elapsed() })
    }

    /// Asks until the streak is long enough, and says how many attempts it took.
    async fn answers(&self, claim: &Claim<'_>, report: &mut (dyn FnMut(ProofProgress) + Send)) -> Result<u32, Fault> {
        let Claim { proof, .. } = claim;
        let deadline = from_now(proof.deadline);
        let (mut attempts, mut streak) = (0, 0);
        let mut last: Option<LastMiss<'_>> = None;
        while Instant::now() < deadline {
            attempts += 1;
            match self.ask_all(claim, deadline).await {
                Ok(()) if Instant::now() < deadline => {
                    streak += 1;
                    report(ProofProgress::Answered { attempt: attempts, streak, of: proof.successes });
                    if streak >= proof.successes {
                        return Ok(attempts);
                    }
                }
                // A good answer that came too late is none.
                Ok(()) => break,
                Err((probe, miss)) => {
                    streak = 0;
                    // An attempt that the deadline cut short says less than the one before it.
                    if miss.kind != MissKind::Silent || last.is_none() || Instant::now() < deadline {
                        last = Some(LastMiss { probe, miss: miss.clone(), at: Timestamp::now() });
                    }
                    report(ProofProgress::Missed { attempt: attempts, probe: text::of(probe, claim.target), miss });
                }
            }
            tokio::time::sleep_until(deadline.min(from_now(proof.interval))).await;
        }
        Err(self.expired(claim, attempts, streak, last).await)
    }

    /// Asks all probes, in their order, up to the first that misses.
    async fn ask_all<'a>(&self, claim: &Claim<'a>, deadline: Instant) -> Result<(), (&'a Probe, Miss)> {
        for probe in claim.probes {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.attempt(probe, claim.target, claim.proof.timeout.min(left)).await;
            answer.map_err(|miss| (probe, miss))?;
        }
        Ok(())
    }

    /// Waits until the run is over, and says how the unit stands then. A lost watch is made anew.
    async fn end_of_run(&self, claim: &Claim<'_>, mut watch: Option<UnitWatch>) -> UnitStatus {
        let Claim { target, run, .. } = claim;
        loop {
            match &mut watch {
                Some(hints) => {
                    if hints.changed().await.is_none() {
                        watch = None;
                        continue;
                    }
                }
                None => match self.units.watch(std::slice::from_ref(&target.unit)).await {
                    Ok(new) => watch = Some(new),
                    Err(_) => tokio::time::sleep(REWATCH).await,
                },
            }
            if let Ok(status) = self.units.status(&target.unit).await
                && run.is_over(&status)
            {
                return status;
            }
        }
    }

    async fn look(&self, target: &Target) -> Result<UnitStatus, Fault> {
        self.units
            .status(&target.unit)
            .await
            .map_err(|error: UnitError| Fault::new(Code::UnitControl, error.to_string()))
    }

    /// The fault of a run that is over. `code` is for an end that nobody ordered.
    async fn ended(&self, claim: &Claim<'_>, status: &UnitStatus, code: Code) -> Fault {
        let Claim { target, run, .. } = claim;
        let (code, how) = if run.was_stopped_by_other(status) {
            (Code::UnitStoppedByOther, "was stopped or restarted by somebody else".to_owned())
        } else if let Some(exit) = &status.exit {
            (code, if exit.starts_with("killed") { format!("was {exit}") } else { exit.clone() })
        } else if status.is_up() {
            (code, "ended, and systemd started it again".to_owned())
        } else {
            (code, format!("is {}", status.seen(&target.unit).state))
        };
        let when = match code {
            Code::ProofUnstable => " after it had answered well",
            Code::UnitExited => " before it had proved itself",
            _ => "",
        };
        let mut seen = status.seen(&target.unit);
        // The run that is told of, not the one that came after it.
        seen.invocation = Some(run.invocation.clone());
        let journal = self.units.journal(&run.invocation, MAX_JOURNAL_LINES).await;
        Fault::new(code, format!("{} {how}{when}", target.unit)).with(Evidence {
            unit: Some(seen),
            journal,
            ..Evidence::default()
        })
    }

    /// The fault of a deadline that passed.
    async fn expired(&self, claim: &Claim<'_>, attempts: u32, streak: u32, last: Option<LastMiss<'_>>) -> Fault {
        let Claim { probes, proof, target, run } = claim;
        let last = last.unwrap_or_else(|| LastMiss {
            probe: probes.first().unwrap_or(&Probe::Notify),
            miss: Miss::wrong(format!("{streak} good answers in a row, not {}", proof.successes)),
            at: Timestamp::now(),
        });
        let limit = humantime::format_duration(proof.deadline);
        let message = format!(
            "{} wasn't ready within {limit}: {}: {}",
            target.unit,
            text::of(last.probe, target),
            last.miss.last
        );
        let unit = self.units.status(&target.unit).await.ok().map(|status| status.seen(&target.unit));
        let journal = self.units.journal(&run.invocation, MAX_JOURNAL_LINES).await;
        let probe = seen(last.probe, target, attempts, &last.miss, last.at);
        let code = last.miss.code();
        Fault::new(code, message).with(Evidence { probe: Some(probe), unit, journal, entry: None })
    }
}

impl Run {
    /// Whether `status` shows that this run has ended or was followed by another.
    fn is_over(&self, status: &UnitStatus) -> bool {
        // Between two restarts a unit is "activating" too, under the old run's id.
        let on_its_way =
            status.active == Active::Activating && ["start", "condition"].iter().any(|sub| status.sub.starts_with(sub));
        !(status.is_up() || on_its_way)
            || status.invocation.as_deref() != Some(self.invocation.as_str())
            || status.restarts != self.restarts
    }

    /// Whether this run, which is over, was stopped or restarted on somebody's word. Templates have `Restart=always`: a
    /// unit that ended by itself is between two restarts or was restarted, which NRestarts counts; it is never
    /// on its way down by a job, nor at rest without a fault, nor up again with the count where it was.
    fn was_stopped_by_other(&self, status: &UnitStatus) -> bool {
        let another = status.invocation.as_ref().is_some_and(|invocation| *invocation != self.invocation);
        match status.active {
            Active::Deactivating => status.job,
            Active::Inactive => status.result == "success" && status.sub == "dead",
            Active::Failed => false,
            Active::Active | Active::Activating | Active::Reloading => another && status.restarts <= self.restarts,
        }
    }
}

/// That far from now; what no clock reaches is a century away.
fn from_now(duration: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    Instant::now().checked_add(duration).unwrap_or_else(|| Instant::now() + CENTURY)
}
