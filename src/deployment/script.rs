//! What a stage does: its script of effects, in order, its announcement first. Pure.
//!
//! The way back undoes the batches in reverse: what a batch started last goes first, what it stopped comes back, and no
//! bound of the strategy is broken on the way. Undoing what wasn't done finds nothing to do.

use std::collections::BTreeSet;

use crate::model::route::AcceptAt;
use crate::model::{HookPoint, InstanceName, UnitName};

use super::effect::{Effect, Hook};
use super::facts::{Facts, Side, Traffic, Via};
use super::stage::{Ruling, Settling, Stage, Target};

/// The effects of a stage, its announcement first.
pub(super) fn script(facts: &Facts, stage: &Stage) -> Vec<Effect> {
    let mut effects = vec![Effect::Announce];
    match stage {
        Stage::Preparing => {
            // The mark first: one whose units turn out to be unusable was tried as well, and after an operator's word
            // to go elsewhere it must not come by itself.
            effects.extend([Effect::Hold, Effect::RaiseMark]);
            if !facts.needs.is_empty() {
                effects.push(Effect::AskNeeds(facts.needs.clone()));
            }
            effects.push(Effect::CheckUnits);
            if facts.via == Via::Next {
                effects.push(Effect::LinkNext);
            }
            let slot = facts.to.slot.clone();
            effects.extend([Effect::Verify(slot), Effect::Provide(facts.to.clone(), AcceptAt::Signal)]);
            // It only looks, so a second look after an interruption does no harm.
            effects.extend(hook(facts, HookPoint::Preflight, false));
            effects.push(Effect::AskLive);
        }
        Stage::Clearing { .. } => {
            effects.push(Effect::Gate);
            effects.extend(make_room_for_hooks(facts));
        }
        Stage::Hooking { point, begun, .. } => {
            // Behind a snapshot once more: it took its time, and the data mustn't change under anybody.
            if *point == HookPoint::Deploy && !begun && facts.hook(HookPoint::Snapshot).is_some() {
                effects.extend(make_room_for_hooks(facts));
            }
            effects.extend(hook(facts, *point, *begun));
        }
        Stage::Telling { begun, .. } => {
            effects.extend(hook(facts, HookPoint::PostDeploy, *begun));
            if *begun {
                // Much may have happened while nobody looked.
                effects.extend([
                    Effect::Route(Traffic::all(&facts.to)),
                    Effect::StopOthers(Some(facts.to.clone())),
                    Effect::Retire,
                ]);
            }
        }
        Stage::Starting { batch, .. } => {
            // The gate and the old instances again: the `deploy` hook may have taken its time.
            effects.push(Effect::Gate);
            effects.extend(make_room(facts, *batch));
            effects.push(Effect::Start(facts.to.units_at(&facts.batch(*batch).start)));
        }
        Stage::Proving { batch, started, .. } => {
            effects.push(Effect::Prove(facts.to.all_at(&facts.batch(*batch).start), started.clone()));
        }
        Stage::Shifting { batch, proved, .. } => {
            effects.extend([Effect::Confirm(proved.clone()), Effect::Route(facts.traffic_after(*batch))]);
        }
        Stage::Draining { batch, .. } => {
            // The route again: an interruption may lie between.
            effects.extend(match (batch, &facts.from) {
                (Some(batch), Some(from)) => {
                    take_out(from.all_at(&facts.batch(*batch).stop_after), facts.traffic_after(*batch))
                }
                _ => take_out(facts.rest_of_old(), Traffic::all(&facts.to)),
            });
        }
        Stage::Waiting { batch, proved, .. } => {
            if let Some(batch) = batch {
                effects.push(Effect::Route(facts.traffic_after(*batch)));
            }
            effects.push(Effect::Await(proved.clone()));
        }
        Stage::Switching { proved, .. } => {
            effects.extend([Effect::Confirm(proved.clone()), Effect::Route(facts.traffic_watched())]);
            // What `current` names takes users by itself when it starts, at every instant: a boot needs no slotd.
            let told = |side: &Side, at| facts.plan.starts_quiet.then(|| Effect::Provide(side.clone(), at));
            effects.extend(told(&facts.to, AcceptAt::Now));
            effects.push(Effect::Switch);
            let rest = facts.from.as_ref().filter(|_| !facts.rest_of_old().is_empty());
            effects.extend(rest.and_then(|from| told(from, AcceptAt::Signal)));
            effects.push(Effect::AskOutside);
        }
        Stage::Soaking { proved, .. } => {
            effects.extend([Effect::Route(facts.traffic_watched()), Effect::Soak(proved.clone())]);
        }
        Stage::Reviving { .. } => effects.extend([
            Effect::Hold,
            Effect::Gate,
            Effect::Restore(facts.to.unit_names()),
            Effect::Prove(facts.to.instances(), Default::default()),
        ]),
        Stage::Post { proved } => effects.extend([
            Effect::Confirm(proved.clone()),
            // Asked again: an interruption may lie between the switch and here.
            Effect::Route(Traffic::all(&facts.to)),
            Effect::StopOthers(Some(facts.to.clone())),
            Effect::Retire,
        ]),
        Stage::Settling(settling) => effects.extend(settling_script(facts, settling)),
    }
    let way = facts.way_in(stage);
    for effect in &mut effects {
        if let Effect::Route(traffic) = effect {
            traffic.way = way;
        }
    }
    effects
}

/// The end, whatever it is.
pub(super) fn closing_script(facts: &Facts) -> Vec<Effect> {
    let along: Vec<UnitName> = facts.along.iter().map(|along| along.unit.clone()).collect();
    let rejoin = (!along.is_empty()).then_some(Effect::Rejoin(along));
    rejoin.into_iter().chain([Effect::Close, Effect::Unhold, Effect::Rest, Effect::Record]).collect()
}

fn settling_script(facts: &Facts, settling: &Settling) -> Vec<Effect> {
    let side = settling.to.side(facts);
    let mut effects = vec![Effect::Hold];
    match side {
        Some(side) if settling.serve => {
            effects.extend(returned(facts, settling));
            effects.extend(end_hooks(facts));
            effects.extend([Effect::Gate, Effect::Provide(side.clone(), AcceptAt::Now)]);
            effects.extend(match (&settling.to, &facts.from) {
                (Target::From, Some(from)) if settling.migrated => restored(facts, from),
                (Target::From, Some(from)) => way_back(facts, from, settling.begun),
                (Target::To, Some(from)) => way_forward(facts, from),
                _ => alone(side),
            });
            effects.extend([Effect::Route(Traffic::all(side)), Effect::StopOthers(Some(side.clone()))]);
        }
        Some(side) => {
            effects.extend(end_hooks(facts));
            effects.push(Effect::StopOthers(Some(side.clone())));
            // Whoever starts the app next starts A. Where the data couldn't be restored nobody tries it again.
            if let (Target::From, true, false) = (&settling.to, settling.migrated, settling.is_lost()) {
                effects.extend(with_its_data(facts, side));
            }
            effects.push(Effect::Point(side.slot.clone()));
        }
        None => {
            effects.extend(end_hooks(facts));
            if settling.serve {
                effects.push(Effect::Gate);
            }
            effects.push(Effect::StopOthers(None));
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

fn hook(facts: &Facts, point: HookPoint, begun: bool) -> Option<Effect> {
    facts.hook(point).map(|unit| Effect::Hook(Hook { point, unit, begun }))
}

/// What may still run of them works on what the side needs that is brought up. What restores the data goes on.
fn end_hooks(facts: &Facts) -> Option<Effect> {
    let restore = facts.hook(HookPoint::Restore);
    let hooks: Vec<_> = facts.hooks().into_iter().filter(|unit| Some(unit) != restore.as_ref()).collect();
    (!hooks.is_empty()).then_some(Effect::EndHooks(hooks))
}

/// The data as A knows it. A boot in between may have started A; and after an interruption the hook may run a second time.
fn with_its_data(facts: &Facts, from: &Side) -> Vec<Effect> {
    let mut effects = stop(from.unit_names());
    effects.extend(hook(facts, HookPoint::Restore, false));
    effects
}

/// Back to A from a breaking migration: nothing new runs any more, the data is restored, and only then A starts.
fn restored(facts: &Facts, from: &Side) -> Vec<Effect> {
    let mut effects = take_out(facts.to.instances(), Traffic::of(Vec::new()));
    effects.extend(with_its_data(facts, from));
    effects.extend([Effect::Restore(from.unit_names()), Effect::Point(from.slot.clone())]);
    effects
}

/// Old instances that make room for a batch.
fn make_room(facts: &Facts, batch: usize) -> Vec<Effect> {
    let Some(from) = &facts.from else { return Vec::new() };
    take_out(from.all_at(&facts.batch(batch).stop_first), facts.traffic_before(batch))
}

/// All that is old where the data breaks for it; else what the first batch stops.
fn make_room_for_hooks(facts: &Facts) -> Vec<Effect> {
    match &facts.from {
        Some(from) if facts.is_breaking() => take_out(from.instances(), Traffic::of(Vec::new())),
        _ => make_room(facts, 0),
    }
}

/// A side of which nothing is known but what it is: everything else stops first.
fn alone(side: &Side) -> Vec<Effect> {
    vec![Effect::StopOthers(Some(side.clone())), Effect::Restore(side.unit_names()), Effect::Point(side.slot.clone())]
}

/// Where all of A runs on warm, users needn't wait for anything else.
fn returned(facts: &Facts, settling: &Settling) -> Option<Effect> {
    let from = facts.from.as_ref().filter(|_| settling.to == Target::From && facts.plan.warm)?;
    let warm = facts.left_of_old(settling.begun);
    (settling.begun > 0 && warm == from.instances()).then_some(Effect::Return(warm))
}

/// From anything up to the batches that have begun back to A.
fn way_back(facts: &Facts, from: &Side, begun: usize) -> Vec<Effect> {
    let mut effects = restore(names(facts.left_of_old(begun)));
    for (index, batch) in facts.plan.batches.iter().enumerate().take(begun).rev() {
        effects.extend(restore(from.units_at(&batch.stop_after)));
        effects.extend(take_out(facts.to.all_at(&batch.start), facts.traffic_before(index)));
        effects.extend(restore(from.units_at(&batch.stop_first)));
    }
    pointed(effects, from)
}

/// To B, all of which had proved itself: what makes room for it goes first, all else of A once users have moved.
fn way_forward(facts: &Facts, from: &Side) -> Vec<Effect> {
    let mut effects = Vec::new();
    for batch in &facts.plan.batches {
        effects.extend(stop(from.units_at(&batch.stop_first)));
        effects.extend(restore(facts.to.units_at(&batch.start)));
    }
    let first: BTreeSet<_> = facts.plan.batches.iter().flat_map(|batch| from.all_at(&batch.stop_first)).collect();
    let others = from.instances().into_iter().filter(|it| !first.contains(it)).collect();
    let mut effects = pointed(effects, &facts.to);
    effects.push(Effect::Route(Traffic::all(&facts.to)));
    effects.extend(drain(others));
    effects
}

/// `current` is brought to `side` once all of it is there, and before anything more of the other side goes.
fn pointed(mut effects: Vec<Effect>, side: &Side) -> Vec<Effect> {
    let whole = effects.iter().rposition(|effect| matches!(effect, Effect::Restore(_))).map_or(0, |at| at + 1);
    effects.insert(whole, Effect::Point(side.slot.clone()));
    effects
}

fn restore(units: Vec<UnitName>) -> Vec<Effect> {
    if units.is_empty() { Vec::new() } else { vec![Effect::Restore(units)] }
}

/// Users go elsewhere, what is open ends, the instances stop.
fn take_out(leaving: Vec<(UnitName, InstanceName)>, others: Traffic) -> Vec<Effect> {
    if leaving.is_empty() {
        return Vec::new();
    }
    let mut effects = vec![Effect::Route(others)];
    effects.extend(drain(leaving));
    effects
}

/// What is open ends, the instances stop, the last first.
fn drain(leaving: Vec<(UnitName, InstanceName)>) -> Vec<Effect> {
    if leaving.is_empty() {
        return Vec::new();
    }
    let units = names(leaving.clone());
    let mut effects = vec![Effect::Drain(leaving)];
    effects.extend(stop(units));
    effects
}

/// The last first.
fn stop(mut units: Vec<UnitName>) -> Vec<Effect> {
    units.reverse();
    if units.is_empty() { Vec::new() } else { vec![Effect::Stop(units)] }
}

fn names(instances: Vec<(UnitName, InstanceName)>) -> Vec<UnitName> {
    instances.into_iter().map(|(unit, _)| unit).collect()
}

/// The probe that the candidate failed, as its evidence names it.
pub(super) fn probe_of(ruling: &Ruling) -> Option<&str> {
    Some(ruling.fault.as_ref()?.evidence.probe.as_ref()?.probe.as_str())
}
