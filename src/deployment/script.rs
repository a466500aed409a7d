//! What a stage does: its script of effects, in order, its announcement first. Pure.

use super::batches::{Batch, Numbers};
use super::effect::Effect;
use super::stage::{Facts, Ruling, Settling, Side, Stage, Target, Via};

/// The effects of a stage, its announcement first.
pub(super) fn script(facts: &Facts, stage: &Stage) -> Vec<Effect> {
    let mut effects = vec![Effect::Announce];
    match stage {
        Stage::Preparing => {
            // The mark first: one whose units turn out to be unusable was tried as well, and after an operator's word
            // to go elsewhere it must not come by itself.
            effects.extend([Effect::Hold, Effect::RaiseMark, Effect::CheckUnits]);
            if facts.via == Via::Next {
                effects.push(Effect::LinkNext);
            }
            let slot = facts.to.slot.clone();
            effects.extend([Effect::Verify(slot), Effect::Provide(facts.to.clone()), Effect::AskLive]);
        }
        Stage::Starting { batch, .. } => {
            let batch = batch_at(facts, *batch);
            let units = |of: &Side, numbers: &[u32]| {
                of.units_numbered(numbers).into_iter().map(|(unit, _)| unit).collect::<Vec<_>>()
            };
            effects.push(Effect::Gate);
            if let Some(from) = &facts.from {
                let mut stop = units(from, &batch.stop_first);
                stop.reverse();
                effects.push(Effect::Stop(stop));
            }
            effects.push(Effect::Start(units(&facts.to, &batch.start)));
        }
        Stage::Proving { batch, started, .. } => {
            let batch = batch_at(facts, *batch);
            effects.push(Effect::Prove(facts.to.units_numbered(&batch.start), started.clone()));
        }
        Stage::Switching { .. } => {
            effects.extend([Effect::Switch, Effect::Route(facts.to.clone()), Effect::AskOutside]);
        }
        Stage::Soaking { proved, .. } => {
            effects.extend([Effect::Route(facts.to.clone()), Effect::Soak(proved.clone())]);
        }
        Stage::Post { proved } => effects.extend([
            Effect::Confirm(proved.clone()),
            // Asked again: an interruption may lie between the switch and here.
            Effect::Route(facts.to.clone()),
            Effect::StopOthers(Some(facts.to.clone())),
            Effect::Retire,
        ]),
        Stage::Settling(settling) => effects.extend(settling_script(facts, settling)),
    }
    effects
}

fn settling_script(facts: &Facts, settling: &Settling) -> Vec<Effect> {
    let side = facts.side(&settling.to);
    let mut effects = vec![Effect::Hold];
    if settling.serve {
        effects.push(Effect::Gate);
    }
    effects.push(Effect::StopOthers(side.cloned()));
    if let Some(side) = side {
        if settling.serve {
            effects.extend([Effect::Provide(side.clone()), Effect::Restore(side.clone())]);
        }
        effects.push(Effect::Point(side.slot.clone()));
        if settling.serve {
            effects.push(Effect::Route(side.clone()));
        }
    }
    effects.push(Effect::Links(side.map(|side| side.slot.clone())));
    // Asked whatever the blame is by now, so that the script keeps its length when the answer changes the blame.
    if let (Target::From, true, Some(side)) = (&settling.to, settling.serve, side)
        && probe_of(&settling.ruling).is_some()
    {
        effects.push(Effect::AskAgain(side.clone()));
    }
    effects.push(Effect::Judge(settling.ruling.clone()));
    effects
}

/// The probe that the candidate failed, as its evidence names it.
pub(super) fn probe_of(ruling: &Ruling) -> Option<&str> {
    Some(ruling.fault.as_ref()?.evidence.probe.as_ref()?.probe.as_str())
}

/// All instances move by the same numbers; units may have different N.
pub(super) fn batches(facts: &Facts) -> Vec<Batch> {
    let instances = facts.to.units.iter().chain(facts.from.iter().flat_map(|from| &from.units));
    Numbers::stop_start(instances.map(|unit| unit.instances).max().unwrap_or(1)).batches()
}

fn batch_at(facts: &Facts, index: usize) -> Batch {
    let none = Batch { stop_first: Vec::new(), start: Vec::new(), stop_after: Vec::new() };
    batches(facts).into_iter().nth(index).unwrap_or(none)
}
