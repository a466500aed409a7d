//! Recovery's one rule: which side an interrupted deployment is brought to. Pure.
//!
//! It looks at what is, in this order: somebody else moved `current`; everything that the intent says runs still
//! runs, so the deployment goes on; B is live and waits for `confirm`, so it goes on waiting; else one side is chosen, by
//! `current` and by who proved itself.

use std::time::Duration;

use crate::model::deployment::Blame;
use crate::model::{Code, Fault, HookPoint, Outcome, SlotName};

use super::facts::{Facts, Side};
use super::stage::{Ruling, Settling, Stage, Target};

/// What recovery finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Whether the intent was written in this boot.
    pub same_boot: bool,
    /// Powered-on time since the stage was announced.
    pub elapsed: Duration,
    /// The slot that `current` names, with its units, if it is complete.
    pub current: Option<Side>,
    /// Whether the gate is active or on its way up, or an instance runs: if not, the app rests and nothing is started.
    pub awake: bool,
    /// Whether every instance that the stage says runs does, under its recorded InvocationID.
    pub runs_hold: bool,
    /// Whether the hook that the stage is about is known to have begun: it still runs, or it failed.
    pub hook_begun: bool,
    /// Whether all instances of B run and probe well now.
    pub candidate_well: bool,
}

/// Where the deployment goes on: a stage to resume, or the settling to a side.
pub fn choose(facts: &Facts, stage: &Stage, found: &Found) -> Stage {
    let named = found.current.as_ref().map(|side| &side.slot);
    let (begun, migrated) = (stage.begun(facts), stage.has_migrated(facts));
    if let Some(side) = foreign(facts, found) {
        return Stage::Settling(Settling {
            to: Target::Foreign(side.clone()),
            serve: found.awake,
            alternative: false,
            begun,
            migrated,
            ruling: ruling(
                stage,
                Outcome::Superseded,
                Fault::new(
                    Code::Superseded,
                    format!("somebody moved current to {} while the deployment was interrupted", side.slot),
                ),
                Blame::Operator,
            ),
        });
    }
    let linked = named == Some(&facts.to.slot) && !is_same(facts);
    if let Some(stage) = resumed(facts, stage, found, linked) {
        return stage;
    }
    if let Some(stage) = revived(facts, stage, found, linked) {
        return stage;
    }
    let fault = Fault::new(Code::Interrupted, interruption(stage, found));
    let verdict = |outcome| match stage {
        // It was on its way back already, and knows why.
        Stage::Settling(settling) => Ruling { outcome, ..settling.ruling.clone() },
        _ => ruling(stage, outcome, fault.clone(), Blame::Interruption),
    };
    let keeps_candidate = match stage {
        Stage::Settling(settling) => settling.to == Target::To || facts.from.is_none() && linked,
        _ => linked || stage.is_proved() && found.candidate_well,
    };
    let settling = match (keeps_candidate, &facts.from) {
        (true, from) => Settling {
            to: Target::To,
            serve: found.awake,
            alternative: from.is_some(),
            begun,
            migrated,
            ruling: match stage {
                Stage::Settling(settling) => settling.ruling.clone(),
                _ => Ruling { fault: None, warnings: untold(facts, stage), ..verdict(Outcome::Done) },
            },
        },
        (false, Some(_)) => Settling {
            to: Target::From,
            serve: found.awake && !matches!(stage, Stage::Settling(settling) if settling.is_lost()),
            alternative: stage.is_proved() && !migrated,
            begun,
            migrated,
            ruling: match stage {
                Stage::Settling(settling) => settling.ruling.clone(),
                Stage::Preparing => verdict(Outcome::Failed),
                _ => verdict(Outcome::RolledBack),
            },
        },
        (false, None) => Settling {
            to: Target::Nothing,
            serve: false,
            alternative: false,
            begun,
            migrated,
            ruling: match stage {
                Stage::Settling(settling) => settling.ruling.clone(),
                _ => verdict(Outcome::Failed),
            },
        },
    };
    Stage::Settling(settling)
}

/// `current` names neither side: an operator's hand, which is respected.
fn foreign<'a>(facts: &Facts, found: &'a Found) -> Option<&'a Side> {
    let current = found.current.as_ref()?;
    let known = |slot: &SlotName| facts.slots().contains(slot);
    (!known(&current.slot)).then_some(current)
}

/// The stage goes on if the boot is the same, its instances run, and the app wasn't stopped by hand.
fn resumed(facts: &Facts, stage: &Stage, found: &Found, linked: bool) -> Option<Stage> {
    // Before the gate was started, and where the app rested before, an app that rests says nothing.
    let begins = match stage {
        Stage::Preparing => true,
        Stage::Clearing { live } | Stage::Starting { live, .. } => !live.up,
        _ => false,
    };
    if !(found.same_boot && found.runs_hold && (found.awake || begins)) {
        return None;
    }
    match stage {
        Stage::Settling(_) => None,
        // In between either may be.
        Stage::Switching { live, proved, .. } => {
            Some(Stage::Switching { live: live.clone(), proved: proved.clone(), linked })
        }
        // Of a hook that doesn't run nobody can say whether it did: it may be begun once.
        stage if stage.hook().is_some() && !found.hook_begun => None,
        // Linked before it was proved is no step of this deployment; the rule below decides.
        stage if linked && !stage.is_linked() => None,
        // Not linked after it was: somebody went back by hand.
        stage if stage.is_linked() && !linked && !is_same(facts) => None,
        Stage::Soaking { live, proved, left } => Some(Stage::Soaking {
            live: live.clone(),
            proved: proved.clone(),
            left: left.saturating_sub(found.elapsed),
        }),
        Stage::Hooking { live, point, .. } => Some(Stage::Hooking { live: live.clone(), point: *point, begun: true }),
        Stage::Telling { proved, warnings, .. } => {
            Some(Stage::Telling { proved: proved.clone(), begun: true, warnings: warnings.clone() })
        }
        stage => Some(stage.clone()),
    }
}

/// The warnings of a deployment that is done, and whose last hook nobody can speak for.
fn untold(facts: &Facts, stage: &Stage) -> Vec<String> {
    let Stage::Telling { warnings, .. } = stage else { return Vec::new() };
    let unknown = facts.hook(HookPoint::PostDeploy).map(|unit| {
        format!("slotd was interrupted, and whether the post_deploy hook {unit} ran isn't known; it isn't run again")
    });
    warnings.iter().cloned().chain(unknown).collect()
}

/// B is live and was agreed to go back unless somebody confirms it: what is left of that time is still waited for.
fn revived(facts: &Facts, stage: &Stage, found: &Found, linked: bool) -> Option<Stage> {
    if !(facts.plan.confirm && linked && found.awake) {
        return None;
    }
    let (live, left) = match stage {
        Stage::Switching { live, .. } | Stage::Draining { live, batch: None, soaked: false, .. } => {
            (live, facts.plan.soak)
        }
        Stage::Soaking { live, left, .. } | Stage::Reviving { live, left } => {
            // Time without power doesn't count, and the announcement is renewed every minute.
            (live, if found.same_boot { left.saturating_sub(found.elapsed) } else { *left })
        }
        _ => return None,
    };
    Some(Stage::Reviving { live: live.clone(), left })
}

/// Whether both sides are one slot: then `current` tells nothing.
fn is_same(facts: &Facts) -> bool {
    facts.from.as_ref().is_some_and(|from| from.slot == facts.to.slot)
}

fn ruling(stage: &Stage, outcome: Outcome, fault: Fault, blame: Blame) -> Ruling {
    Ruling { outcome, fault: Some(fault), blame, phase: stage.phase(), warnings: Vec::new() }
}

fn interruption(stage: &Stage, found: &Found) -> String {
    let what = match (found.same_boot, found.awake, found.runs_hold) {
        (false, _, _) => "the host was restarted",
        (true, false, _) => "slotd was interrupted and the app was stopped",
        (true, true, false) => "slotd was interrupted and the candidate no longer runs as it did",
        (true, true, true) => "slotd was interrupted",
    };
    format!("{what} while the deployment was {}", stage.state())
}

#[cfg(test)]
#[path = "side_tests.rs"]
mod tests;
