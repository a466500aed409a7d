//! The driver: performs what the machine decides, and tells it what came of it.
//!
//! It keeps the report that people see, passes the crash points, and lets words interrupt what may be interrupted.
//! Dropping its future is how slotd stops in mid-deployment: the intent stays, and the next start goes on.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::model::deployment::{self, Ended, StepRecord, Waiting};
use crate::model::measured::millis;
use crate::model::slot::Phase;
use crate::model::{Blame, Code, Fault, Outcome, Report, State, Timestamp};
use crate::points;

use super::effect::{Effect, Kind};
use super::machine::{Event, Failure, Machine};
use super::meter::Meter;
use super::stage::Ruling;
use super::words::Refused;
use super::world::{Context, World};
use crate::model::deployment::Say;

/// Beyond an effect's own bound: then the world broke its word, and the step is given up.
pub(super) const GRACE: Duration = Duration::from_secs(30);

/// A word that an operator says to a deployment under way.
#[derive(Debug)]
pub struct Said {
    /// What.
    pub say: Say,
    /// Who.
    pub by: String,
    /// Why, in their words.
    pub message: Option<String>,
    /// Whether it is followed.
    pub answer: Answer,
}

type Answer = oneshot::Sender<Result<(), Refused>>;

/// How a deployment was driven to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driven {
    /// What people are shown; `ended` is there.
    pub report: Report,
    /// How it ended.
    pub ruling: Ruling,
    /// The intent is still open: recovery must try again.
    pub open: bool,
}

/// Drives `machine` to its end.
pub async fn drive<W: World>(
    mut machine: Machine,
    mut report: Report,
    world: &W,
    words: &mut mpsc::Receiver<Said>,
) -> Driven {
    let mut meter = Meter::new(machine.facts(), report.steps.is_empty());
    let before = report.measured;
    // Who said what is followed: they are told once the stage that their word leads to is announced, and so outlives slotd.
    let mut heard = Heard::default();
    while let Some(effect) = machine.effect().cloned() {
        let state = machine.state();
        begin(&mut report, &machine, &effect, world.limit(&effect));
        world.publish(&Report { ended: None, ..report.clone() });
        let began = Instant::now();
        let (event, late) = step(&machine, &effect, &report, world, words, &mut heard).await;
        let took = began.elapsed();
        finish(&mut report, &event, took);
        report.said.append(&mut heard.words);
        meter.pass(&mut report.measured, state, &effect, took, &event);
        if let Some(seen) = world.seen_outside() {
            report.measured.add_outside(&before, &seen);
        }
        // The machine refuses nothing but words.
        if machine.apply(event).is_err() {
            break;
        }
        if effect.kind() == Kind::Announce {
            tell(&mut heard);
        }
        for said in late {
            match machine.apply(Event::Said { say: said.say, by: said.by.clone() }) {
                Ok(()) => heard.take(said),
                Err(refused) => drop(said.answer.send(Err(refused))),
            }
        }
        report.said.append(&mut heard.words);
        // The record is closed with the result in it; people are told when all is over.
        if let Some(ruling) = machine.ruling().filter(|_| is_closing(&machine)) {
            close(&mut report, ruling);
        }
    }
    tell(&mut heard);
    let ruling = machine.ruling().cloned().unwrap_or_else(lost);
    report.state = State::Done;
    report.waiting = None;
    close(&mut report, &ruling);
    world.publish(&report);
    Driven { report, ruling, open: machine.is_left_open() }
}

/// Performs one effect, between its two crash points. A word interrupts it, or comes back to be heard after it.
async fn step<W: World>(
    machine: &Machine,
    effect: &Effect,
    report: &Report,
    world: &W,
    words: &mut mpsc::Receiver<Said>,
    heard: &mut Heard,
) -> (Event, Vec<Said>) {
    let context = Context { facts: machine.facts(), stage: machine.stage(), ruling: machine.ruling(), report };
    let name = effect.kind().as_str();
    points::pass(points::Side::Before, name);
    let limit = world.limit(effect) + GRACE;
    let performed = tokio::time::timeout(limit, async {
        points::hold(machine.state().as_str(), name).await;
        world.perform(effect, context).await
    });
    tokio::pin!(performed);
    let mut late = Vec::new();
    let event = loop {
        tokio::select! {
            biased;
            result = &mut performed => break match result {
                Ok(Ok(observed)) => Event::Done(observed),
                Ok(Err(failure)) => Event::Failed(failure),
                Err(_) => Event::Failed(overdue(effect, limit)),
            },
            Some(said) = words.recv() => {
                match machine.hears(said.say) {
                    // A caller that went away meanwhile needs no answer, here and below.
                    Err(refused) => drop(said.answer.send(Err(refused))),
                    Ok(()) if effect.gives_way_to(said.say) => {
                        let (say, by) = (said.say, said.by.clone());
                        heard.take(said);
                        break Event::Said { say, by };
                    }
                    Ok(()) => late.push(said),
                }
            }
        }
    };
    points::pass(points::Side::After, name);
    (event, late)
}

/// Words that are followed.
#[derive(Default)]
struct Heard {
    answers: Vec<Answer>,
    /// Not in the report yet.
    words: Vec<deployment::Said>,
}

impl Heard {
    fn take(&mut self, said: Said) {
        let Said { say, by, message, answer } = said;
        self.words.push(deployment::Said { say, by, at: Timestamp::now(), message });
        self.answers.push(answer);
    }
}

fn tell(heard: &mut Heard) {
    for answer in heard.answers.drain(..) {
        // A caller that went away meanwhile needs no answer.
        let _ = answer.send(Ok(()));
    }
}

fn is_closing(machine: &Machine) -> bool {
    machine.effect().is_some_and(|effect| effect.kind() == Kind::Close)
}

fn begin(report: &mut Report, machine: &Machine, effect: &Effect, limit: Duration) {
    let now = Timestamp::now();
    report.state = machine.state();
    let what = effect.text(machine.facts());
    report.waiting = Some(Waiting { what: what.clone(), since: now, at_most: limit });
    report.steps.push(StepRecord { state: machine.state(), what, began: now, took_ms: None, fault: None });
}

fn finish(report: &mut Report, event: &Event, took: Duration) {
    if let Some(step) = report.steps.last_mut() {
        step.took_ms = Some(millis(took));
        if let Event::Failed(failure) = event {
            step.fault = Some(failure.fault.clone());
        }
    }
}

/// Writes the result into the report.
fn close(report: &mut Report, ruling: &Ruling) {
    let ended = ended(report, ruling);
    let began = report.steps.first().map_or(report.queued, |step| step.began);
    report.measured.total_ms = Some(millis(began.until(ended.at)));
    report.ended = Some(ended);
}

fn ended(report: &Report, ruling: &Ruling) -> Ended {
    let is_done = ruling.outcome == Outcome::Done;
    Ended {
        outcome: ruling.outcome,
        fault: ruling.fault.clone().filter(|_| !is_done),
        phase: (!is_done).then(|| report.failed_in().unwrap_or_else(|| state_of(ruling.phase))),
        blame: (!is_done).then_some(ruling.blame),
        at: Timestamp::now(),
        next: next_command(report, ruling),
        warnings: ruling.warnings.clone(),
    }
}

/// The state in which a phase of a release's life is passed.
fn state_of(phase: Phase) -> State {
    match phase {
        Phase::Processing | Phase::Building => State::Preparing,
        Phase::Starting => State::Starting,
        Phase::Proving => State::Proving,
        Phase::Switching => State::Switching,
        Phase::Soaking => State::Soaking,
    }
}

/// What a person can do next.
fn next_command(report: &Report, ruling: &Ruling) -> Option<String> {
    let app = &report.id.app;
    Some(match (ruling.outcome, ruling.blame) {
        (Outcome::Done | Outcome::Superseded, _) => return None,
        // Nothing of it comes by itself: it was an operator's word.
        (Outcome::RolledBack | Outcome::Failed | Outcome::Cancelled, _) if report.reroute.is_some() => {
            format!("slotctl why {}; once more: slotctl redeploy {app} --route", report.id)
        }
        (Outcome::Stuck, _) => format!("systemctl status '{app}*'; slotctl why {}", report.id),
        (_, Blame::Release) => {
            format!("deploy a repaired release; to try this one again: slotctl activate {app} {} --force", report.to)
        }
        (_, Blame::Environment | Blame::Interruption) => {
            format!("slotctl why {}; it is tried again by itself, at once by: slotctl retry {app}", report.id)
        }
        (_, Blame::Operator) => format!("slotctl activate {app} {}", report.to),
    })
}

fn overdue(effect: &Effect, limit: Duration) -> Failure {
    let message = format!("{effect} didn't end within {}", humantime::format_duration(limit));
    Failure { fault: Fault::new(Code::StepTimeout, message), blame: Blame::Environment, rests: false }
}

/// A machine that ended without a ruling would be a fault of slotd itself.
fn lost() -> Ruling {
    Ruling {
        outcome: Outcome::Stuck,
        fault: Some(Fault::new(Code::Internal, "the deployment ended without a result")),
        blame: Blame::Environment,
        phase: Phase::Processing,
        warnings: Vec::new(),
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
