//! Which stage follows which while all goes well. Pure.

use crate::model::deployment::Blame;
use crate::model::{HookPoint, Outcome};

use super::facts::Facts;
use super::machine::Observed;
use super::stage::{Live, Ruling, Runs, Stage};

/// What comes next.
pub(super) enum Next {
    /// Another stage.
    Stage(Stage),
    /// The end.
    Close(Ruling),
}

/// The stage after `stage`, whose last effect saw `observed`.
pub(super) fn next(facts: &Facts, stage: Stage, observed: Observed) -> Next {
    let seen = |mut proved: Runs, observed: Observed| {
        if let Observed::Runs(runs) = observed {
            proved.extend(runs);
        }
        proved
    };
    Next::Stage(match (stage, observed) {
        (Stage::Preparing, observed) => {
            let live = if let Observed::Live(live) = observed { live } else { Live::default() };
            match facts.hook(HookPoint::Deploy).is_some() || facts.is_breaking() {
                true => Stage::Clearing { live },
                false => Stage::Starting { live, batch: 0, proved: Runs::new() },
            }
        }
        (Stage::Clearing { live }, _) => hooking(facts, live, &[HookPoint::Snapshot, HookPoint::Deploy]),
        (Stage::Hooking { live, point: HookPoint::Snapshot, .. }, _) => hooking(facts, live, &[HookPoint::Deploy]),
        (Stage::Hooking { live, .. }, _) => hooking(facts, live, &[]),
        (Stage::Starting { live, batch, proved }, observed) => {
            Stage::Proving { live, batch, proved, started: seen(Runs::new(), observed) }
        }
        (Stage::Proving { live, batch, mut proved, started }, observed) => {
            proved.extend(started);
            let proved = seen(proved, observed);
            match facts.batch(batch).shift || facts.pauses_after(batch) {
                true => Stage::Shifting { live, batch, proved },
                false => after_batch(facts, live, batch, proved),
            }
        }
        (Stage::Shifting { live, batch, proved }, _) if !facts.batch(batch).stop_after.is_empty() => {
            Stage::Draining { live, batch: Some(batch), proved, soaked: false }
        }
        (Stage::Shifting { live, batch, proved } | Stage::Draining { live, batch: Some(batch), proved, .. }, _) => {
            match facts.pauses_after(batch) {
                true => Stage::Waiting { live, batch: Some(batch), proved },
                false => after_batch(facts, live, batch, proved),
            }
        }
        (Stage::Waiting { live, batch: Some(batch), proved }, _) => after_batch(facts, live, batch, proved),
        (Stage::Waiting { live, batch: None, proved }, _) => Stage::Switching { live, proved, linked: false },
        (Stage::Switching { live, proved, .. }, _) => match (facts.rest_of_old().is_empty(), facts.plan.warm) {
            // Old instances that can't go without users go at once.
            (false, false) => Stage::Draining { live, batch: None, proved, soaked: false },
            _ => soak(facts, live, proved),
        },
        (Stage::Soaking { live, proved, .. }, _) => drain_rest(facts, live, proved),
        (Stage::Reviving { live, left }, observed) => {
            Stage::Soaking { live, proved: seen(Runs::new(), observed), left }
        }
        (Stage::Draining { proved, soaked: true, .. }, _) => Stage::Post { proved },
        (Stage::Draining { live, batch: None, proved, soaked: false }, _) => soak(facts, live, proved),
        (Stage::Post { proved }, _) => return after_post(facts, proved, Vec::new()),
        (stage @ Stage::Telling { .. }, _) => return Next::Close(done(&stage)),
        (Stage::Settling(settling), _) => return Next::Close(settling.ruling),
    })
}

/// The first of these hooks that there is; behind them the first batch starts.
fn hooking(facts: &Facts, live: Live, points: &[HookPoint]) -> Stage {
    match points.iter().find(|point| facts.hook(**point).is_some()) {
        Some(point) => Stage::Hooking { live, point: *point, begun: false },
        None => Stage::Starting { live, batch: 0, proved: Runs::new() },
    }
}

/// Behind a batch comes the next, and behind the last one the switch.
fn after_batch(facts: &Facts, live: Live, batch: usize, proved: Runs) -> Stage {
    match (facts.plan.batches.len() > batch + 1, facts.plan.by_hand) {
        (true, _) => Stage::Starting { live, batch: batch + 1, proved },
        (false, true) => Stage::Waiting { live, batch: None, proved },
        (false, false) => Stage::Switching { live, proved, linked: false },
    }
}

/// Behind the switch comes the soak time, if there is one.
fn soak(facts: &Facts, live: Live, proved: Runs) -> Stage {
    match facts.plan.soak.is_zero() {
        true => drain_rest(facts, live, proved),
        false => Stage::Soaking { live, proved, left: facts.plan.soak },
    }
}

/// At last what was kept warm of the old side goes.
fn drain_rest(facts: &Facts, live: Live, proved: Runs) -> Stage {
    match facts.plan.warm && !facts.rest_of_old().is_empty() {
        true => Stage::Draining { live, batch: None, proved, soaked: true },
        false => Stage::Post { proved },
    }
}

/// Behind the last work comes the hook that tells of it.
pub(super) fn after_post(facts: &Facts, proved: Runs, warnings: Vec<String>) -> Next {
    let told = Stage::Telling { proved, begun: false, warnings };
    if facts.hook(HookPoint::PostDeploy).is_some() { Next::Stage(told) } else { Next::Close(done(&told)) }
}

/// How a deployment ends that went well.
pub(super) fn done(stage: &Stage) -> Ruling {
    let warnings = if let Stage::Telling { warnings, .. } = stage { warnings.clone() } else { Vec::new() };
    Ruling { outcome: Outcome::Done, fault: None, blame: Blame::Operator, phase: stage.phase(), warnings }
}
