//! Readiness checks, addressed to one instance, and the proof that is made of them.
//!
//! `attempt` asks one probe once. `prove` asks all of them until they have answered well often enough in a row, then
//! sees the instance stay up. `ask_once` is one look, for blame and for the time after the switch.

mod attempt;
mod http;
mod peer;
mod proof;
#[cfg(test)]
mod tests;
mod text;

use std::time::Duration;

use crate::config::app::Probe;
use crate::model::evidence::{Evidence, ProbeSeen};
use crate::model::{AppName, Code, Fault, InstanceName, Timestamp, UnitName, Version};
use crate::units::UnitControl;

pub use attempt::is_answered;
pub use proof::{ProofProgress, Proved};

/// The instance that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its app.
    pub app: AppName,
    /// Which; `{instance}` in a probe stands for its encoded name, `{version}` for its slot's version.
    pub instance: InstanceName,
    /// The unit that runs it.
    pub unit: UnitName,
    /// Its own port, where the route gives it one; `{port}` in a probe stands for it.
    pub port: Option<u16>,
    /// The path that HTTP probes ask, where its release names one.
    pub health_path: Option<String>,
}

/// An attempt that didn't succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miss {
    /// In which way.
    pub kind: MissKind,
    /// What came back, or why nothing did; one line.
    pub last: String,
}

/// In which way an attempt didn't succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissKind {
    /// No answer: `probe.silent`.
    Silent,
    /// An answer, and not the one that is expected: `probe.failed`.
    Wrong,
    /// slotd couldn't ask at all, which says nothing about the instance: `unit.control`.
    NotAsked,
}

/// Asks probes.
#[derive(Debug, Clone)]
pub struct Prober<U> {
    units: U,
}

impl Target {
    /// The version of its slot.
    pub fn version(&self) -> &Version {
        &self.instance.slot.version
    }
}

impl Miss {
    fn silent(last: impl Into<String>) -> Self {
        Miss { kind: MissKind::Silent, last: last.into() }
    }

    fn wrong(last: impl Into<String>) -> Self {
        Miss { kind: MissKind::Wrong, last: last.into() }
    }

    fn not_asked(last: impl Into<String>) -> Self {
        Miss { kind: MissKind::NotAsked, last: last.into() }
    }

    fn code(&self) -> Code {
        match self.kind {
            MissKind::Silent => Code::ProbeSilent,
            MissKind::Wrong => Code::ProbeFailed,
            MissKind::NotAsked => Code::UnitControl,
        }
    }
}

impl<U: UnitControl> Prober<U> {
    /// A prober that asks systemd through `units`.
    pub fn new(units: U) -> Self {
        Prober { units }
    }

    /// Asks all probes once, each for at most `timeout`; without any, systemd is asked whether the unit is up.
    ///
    /// # Errors
    ///
    /// `probe.silent`, `probe.failed` or `unit.control`, with the answer as evidence.
    pub async fn ask_once(&self, probes: &[Probe], target: &Target, timeout: Duration) -> Result<(), Fault> {
        for probe in or_notify(probes) {
            let Err(miss) = self.attempt(probe, target, timeout).await else { continue };
            let text = text::of(probe, target);
            let seen = seen(probe, target, 1, &miss, Timestamp::now());
            let unit = self.units.status(&target.unit).await.ok().map(|status| status.seen(&target.unit));
            return Err(Fault::new(miss.code(), format!("{} on {text}: {}", target.unit, miss.last)).with(Evidence {
                probe: Some(seen),
                unit,
                ..Evidence::default()
            }));
        }
        Ok(())
    }
}

/// The last attempt of `probe`, as evidence.
fn seen(probe: &Probe, target: &Target, attempts: u32, miss: &Miss, at: Timestamp) -> ProbeSeen {
    let (named, asked) = (probe.to_string(), text::of(probe, target));
    ProbeSeen {
        asked: (asked != named).then_some(asked),
        probe: named,
        instance: target.instance.clone(),
        attempts,
        last: miss.last.clone(),
        at,
    }
}

/// The probes, or systemd's word where there are none.
fn or_notify(probes: &[Probe]) -> &[Probe] {
    if probes.is_empty() { &[Probe::Notify] } else { probes }
}
