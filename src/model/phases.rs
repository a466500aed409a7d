//! The phases of a deployment, as its steps tell them: when each began and ended, and what failed in it.

use super::deployment::{Report, State, StepRecord};
use super::evidence::Fault;
use super::time::Timestamp;

/// A phase that a deployment has passed, or is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseSeen {
    /// Which. A deployment in batches comes to some more than once.
    pub phase: State,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Why it failed, if it did.
    pub fault: Option<Fault>,
}

impl Report {
    /// Its phases so far, in their order; the first is the time in the queue.
    pub fn phases(&self) -> Vec<PhaseSeen> {
        let over = self.ended.as_ref().map(|ended| ended.at);
        let first = self.steps.first().map(|step| step.began);
        let mut phases =
            vec![PhaseSeen { phase: State::Queued, began: self.queued, ended: first.or(over), fault: None }];
        for steps in self.steps.chunk_by(|a, b| a.state == b.state) {
            let (Some(first), Some(last)) = (steps.first(), steps.last()) else { continue };
            let fault = steps.iter().rev().find_map(|step| step.fault.clone());
            phases.push(PhaseSeen { phase: first.state, began: first.began, ended: over.and(end(last)), fault });
        }
        // What is followed by another one is over, whether its last step was seen to end or not.
        for at in 1..phases.len() {
            let next = phases[at].began;
            if let Some(before) = phases.get_mut(at - 1) {
                before.ended = Some(next);
            }
        }
        phases
    }

    /// The phase in which it failed: that of the first step with a fault.
    pub fn failed_in(&self) -> Option<State> {
        self.steps.iter().find(|step| step.fault.is_some()).map(|step| step.state)
    }
}

fn end(step: &StepRecord) -> Option<Timestamp> {
    Some(Timestamp::from_unix_millis(step.began.unix_millis().saturating_add(step.took_ms?)))
}
