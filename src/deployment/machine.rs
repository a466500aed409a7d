//! The deployment machine: where a deployment stands, what it does next, and what an event makes of it. Pure.
//!
//! It does no I/O, reads no clock and never panics. A stage has a script of effects; when the last one is done the
//! next stage begins. A failure, a cancellation and recovery all end in the same stage, [`Stage::Settling`], which
//! brings everything to one side.

use crate::model::deployment::{Blame, Say};
use crate::model::{Code, Fault, Outcome, State};

use crate::routes::Drained;

use super::course::{Next, after_post, next};
use super::effect::Effect;
use super::facts::{Along, Facts, Traffic};
use super::script::{closing_script, probe_of, script};
use super::stage::{Live, Ruling, Runs, Settling, Stage, Target};
use super::words::Refused;

/// A deployment between two events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    facts: Facts,
    position: Position,
    script: Vec<Effect>,
    at: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Position {
    In(Stage),
    Closing(Ruling),
    Over { ruling: Ruling, open: bool },
}

/// What came of an effect, or from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The effect is done.
    Done(Observed),
    /// The effect failed.
    Failed(Failure),
    /// An operator said something.
    Said {
        /// What.
        say: Say,
        /// Who.
        by: String,
    },
}

/// What an effect saw that the machine must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// Nothing to remember.
    Nothing,
    /// How the live slot does.
    Live(Live),
    /// Instances with their runs.
    Runs(Runs),
    /// What became of the open connections of what was taken out.
    Drained(Drained),
    /// Which probe the restored slot failed, if it failed one.
    Again {
        /// As evidence names it.
        failed_probe: Option<String>,
    },
}

/// Why an effect failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What and why.
    pub fault: Fault,
    /// Where the cause lies, as far as this effect can tell.
    pub blame: Blame,
    /// Somebody stopped the whole app by hand: nothing of it is started again.
    pub rests: bool,
}

impl Machine {
    /// A new deployment.
    pub fn new(facts: Facts) -> Self {
        Machine::resume(facts, Stage::Preparing)
    }

    /// A deployment that goes on with a stage that was announced before, or that recovery chose.
    pub fn resume(facts: Facts, stage: Stage) -> Self {
        let script = script(&facts, &stage);
        Machine { facts, position: Position::In(stage), script, at: 0 }
    }

    /// These units of others go down with the app's. To be said before it begins.
    #[must_use]
    pub fn beside(mut self, along: Vec<Along>) -> Self {
        self.facts.along = along;
        self
    }

    /// What it is about.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The stage, while it is in one.
    pub fn stage(&self) -> Option<&Stage> {
        match &self.position {
            Position::In(stage) => Some(stage),
            Position::Closing(_) | Position::Over { .. } => None,
        }
    }

    /// The state that people see.
    pub fn state(&self) -> State {
        match &self.position {
            Position::In(stage) => stage.state(),
            Position::Closing(_) => State::Post,
            Position::Over { .. } => State::Done,
        }
    }

    /// The effect to perform now; none when it is over.
    pub fn effect(&self) -> Option<&Effect> {
        self.script.get(self.at)
    }

    /// How it will end, once that is decided.
    pub fn ruling(&self) -> Option<&Ruling> {
        match &self.position {
            Position::In(Stage::Settling(settling)) => Some(&settling.ruling),
            Position::In(_) => None,
            Position::Closing(ruling) | Position::Over { ruling, .. } => Some(ruling),
        }
    }

    /// Whether it ended with the intent left open, for recovery to try again.
    pub fn is_left_open(&self) -> bool {
        matches!(self.position, Position::Over { open: true, .. })
    }

    /// Whether it would follow this word now.
    pub fn hears(&self, say: Say) -> Result<(), Refused> {
        match (&self.position, say) {
            (Position::In(stage), say) => say.heard_in(stage, &self.facts),
            (Position::Closing(_), Say::Cancel) => Err(Refused::TooLate),
            (Position::Closing(_), Say::Promote) => Err(Refused::NothingToPromote),
            (Position::Closing(_), Say::Confirm) => Err(Refused::NothingToConfirm),
            (Position::Over { .. }, _) => Err(Refused::Over),
        }
    }

    /// Takes an event. A refused one changes nothing.
    pub fn apply(&mut self, event: Event) -> Result<(), Refused> {
        if let Event::Said { say, .. } = &event {
            self.hears(*say)?;
        }
        match (&mut self.position, event) {
            (Position::Over { .. }, _) => return Err(Refused::Over),
            (Position::In(stage), Event::Said { say: Say::Cancel, by }) => {
                let fault = Fault::new(Code::Cancelled, format!("cancelled by {by}"));
                let failure = Failure { fault, blame: Blame::Operator, rests: false };
                let (stage, linked) = (stage.clone(), self.is_linked());
                self.enter(Stage::Settling(settle(&self.facts, &stage, linked, failure)));
            }
            // The stage has what it was for.
            (Position::In(stage), Event::Said { say: Say::Promote | Say::Confirm, .. }) => {
                let stage = stage.clone();
                self.go_to(next(&self.facts, stage, Observed::Nothing));
            }
            (Position::Closing(_), Event::Said { .. }) => {}
            (Position::In(Stage::Settling(settling)), Event::Failed(failure)) => {
                let settling = settling.clone();
                self.settling_failed(settling, failure);
            }
            (Position::In(stage), Event::Failed(failure)) => {
                let stage = stage.clone();
                match (stage, self.effect()) {
                    // It is live and proved; a link that can't be moved now is tidied at the next start.
                    (Stage::Post { proved }, Some(Effect::Retire)) => {
                        let warning = format!("what it leaves isn't in order yet: {}", failure.fault);
                        self.go_to(after_post(&self.facts, proved, vec![warning]));
                    }
                    // It is live for good: nobody goes back since something couldn't be told.
                    (Stage::Telling { proved, begun, mut warnings }, _) => {
                        warnings.push(failure.fault.to_string());
                        self.position = Position::In(Stage::Telling { proved, begun, warnings });
                        self.advance(Observed::Nothing);
                    }
                    (stage, _) => {
                        let settling = settle(&self.facts, &stage, self.is_linked(), failure);
                        self.enter(Stage::Settling(settling));
                    }
                }
            }
            (Position::In(stage @ Stage::Soaking { .. }), Event::Done(_))
                if self.facts.plan.confirm && self.at + 1 == self.script.len() =>
            {
                let message = format!("nobody said `slotctl confirm {}` in time", self.facts.id.app);
                let fault = Fault::new(Code::SoakUnconfirmed, message);
                let failure = Failure { fault, blame: Blame::Operator, rests: false };
                let settling = settle(&self.facts, &stage.clone(), true, failure);
                self.enter(Stage::Settling(settling));
            }
            (Position::In(_), Event::Done(observed)) => self.advance(observed),
            (Position::Closing(ruling), Event::Failed(failure)) => {
                ruling.warnings.push(failure.fault.to_string());
                let ruling = ruling.clone();
                match self.effect() {
                    Some(Effect::Close) => self.over(ruling, true),
                    _ => self.advance(Observed::Nothing),
                }
            }
            (Position::Closing(_), Event::Done(_)) => self.advance(Observed::Nothing),
        }
        Ok(())
    }

    /// Whether `current` names the candidate by this deployment's own doing.
    fn is_linked(&self) -> bool {
        match &self.position {
            Position::In(Stage::Switching { linked, .. }) => {
                *linked || !self.script[self.at..].contains(&Effect::Switch)
            }
            Position::In(stage) => stage.is_linked(),
            Position::Closing(_) | Position::Over { .. } => false,
        }
    }

    fn go_to(&mut self, next: Next) {
        match next {
            Next::Stage(stage) => self.enter(stage),
            Next::Close(ruling) => self.close(ruling),
        }
    }

    fn enter(&mut self, stage: Stage) {
        self.script = script(&self.facts, &stage);
        self.position = Position::In(stage);
        self.at = 0;
    }

    fn close(&mut self, ruling: Ruling) {
        self.script = closing_script(&self.facts);
        self.position = Position::Closing(ruling);
        self.at = 0;
    }

    fn over(&mut self, ruling: Ruling, open: bool) {
        self.script = Vec::new();
        self.position = Position::Over { ruling, open };
        self.at = 0;
    }

    /// The effect is done: remember what it saw, and go to the next effect or stage.
    fn advance(&mut self, observed: Observed) {
        if let (Position::In(Stage::Settling(settling)), Observed::Again { failed_probe }) =
            (&mut self.position, &observed)
        {
            absolve(&mut settling.ruling, failed_probe.as_deref());
            self.script = script(&self.facts, &Stage::Settling(settling.clone()));
        }
        self.at += 1;
        if self.at < self.script.len() {
            return;
        }
        match self.position.clone() {
            Position::In(stage) => self.go_to(next(&self.facts, stage, observed)),
            Position::Closing(ruling) => self.over(ruling, false),
            Position::Over { .. } => {}
        }
    }

    /// An effect failed on the way to a side. Most are worth a warning; the side itself isn't.
    fn settling_failed(&mut self, mut settling: Settling, failure: Failure) {
        let warning = match self.effect() {
            Some(effect) => format!("{effect}: {}", failure.fault),
            None => failure.fault.to_string(),
        };
        settling.ruling.warnings.push(warning);
        match self.effect() {
            Some(Effect::Gate | Effect::Restore(_)) if failure.rests => {
                settling.serve = false;
                self.enter(Stage::Settling(settling));
            }
            // Nothing of A starts on data that isn't its own.
            Some(Effect::Hook(_)) => {
                settling.ruling.outcome = Outcome::Stuck;
                (settling.serve, settling.alternative) = (false, false);
                self.enter(Stage::Settling(settling));
            }
            // systemd doesn't answer: nobody can say that no side comes up, so it is tried again.
            Some(Effect::Restore(_)) if failure.fault.code == Code::UnitControl => {
                self.over(Ruling { outcome: Outcome::Stuck, ..settling.ruling }, true);
            }
            Some(Effect::Restore(_)) if settling.alternative => {
                settling.to = match settling.to {
                    Target::From => Target::To,
                    _ => Target::From,
                };
                settling.ruling.outcome = match settling.to {
                    Target::From => Outcome::RolledBack,
                    _ => Outcome::Failed,
                };
                settling.alternative = false;
                self.enter(Stage::Settling(settling));
            }
            // What still serves goes on: nothing more is taken from it before it has been tried again.
            Some(Effect::Restore(_)) if self.facts.plan.overlap => {
                settling.ruling.outcome = Outcome::Stuck;
                self.over(settling.ruling, true);
            }
            Some(Effect::Restore(_) | Effect::Route(Traffic { whole: true, .. })) => {
                settling.ruling.outcome = Outcome::Stuck;
                // A host on which the slot that served doesn't come up either is no judge of a release.
                if settling.to == Target::From && settling.ruling.blame == Blame::Release {
                    settling.ruling.blame = Blame::Environment;
                }
                self.go_on(settling);
            }
            Some(Effect::Point(_)) => self.over(Ruling { outcome: Outcome::Stuck, ..settling.ruling }, true),
            _ => self.go_on(settling),
        }
    }

    /// Goes to the next effect of a settling whose ruling changed; its script has the same length as before.
    fn go_on(&mut self, settling: Settling) {
        self.script = script(&self.facts, &Stage::Settling(settling.clone()));
        self.position = Position::In(Stage::Settling(settling));
        self.advance(Observed::Nothing);
    }
}

/// Where a failure, or a cancellation, in `stage` leads.
fn settle(facts: &Facts, stage: &Stage, linked: bool, failure: Failure) -> Settling {
    let touched = !matches!(stage, Stage::Preparing);
    let to = match (&facts.from, linked) {
        (Some(_), _) => Target::From,
        (None, true) => Target::To,
        (None, false) => Target::Nothing,
    };
    let outcome = match (failure.blame, &to) {
        // Silence is an operator's word as well; but what it asks for is what was agreed on.
        (Blame::Operator, Target::From) if failure.fault.code == Code::SoakUnconfirmed => Outcome::RolledBack,
        (Blame::Operator, _) => Outcome::Cancelled,
        (_, Target::From) if touched => Outcome::RolledBack,
        _ => Outcome::Failed,
    };
    let mut ruling = Ruling {
        outcome,
        fault: Some(failure.fault),
        blame: failure.blame,
        phase: stage.phase(),
        warnings: Vec::new(),
    };
    if to == Target::To {
        ruling.warnings.push(format!("there is nothing to go back to: {} stays", facts.to.slot));
    }
    if let Some(live) = stage.live() {
        absolve(&mut ruling, live.failed_probe.as_deref());
    }
    // The same release serves by the old way: whatever the new one lacks is no fault of it.
    if facts.reroute.is_some() && ruling.blame == Blame::Release {
        ruling.blame = Blame::Environment;
    }
    let was_up = stage.live().is_none_or(|live| live.up);
    let serve = touched && !failure.rests && (was_up || to == Target::To);
    // After the switch B had proved itself: if A doesn't come up again, B is better than nothing.
    // But not where the data is A's again by then.
    let (begun, migrated) = (stage.begun(facts), stage.has_migrated(facts));
    let alternative = to == Target::From && stage.is_proved() && serve && !migrated;
    Settling { alternative, to, serve, begun, migrated, ruling }
}

/// If the slot that was or is live fails the very probe that the candidate failed, the environment is at fault.
fn absolve(ruling: &mut Ruling, failed_probe: Option<&str>) {
    if ruling.blame == Blame::Release && failed_probe.is_some() && probe_of(ruling) == failed_probe {
        ruling.blame = Blame::Environment;
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
