//! Removing what retention doesn't keep: on an operator's word, and by itself after a deployment.

use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::Instant;

use crate::control::api::{ApiError, PruneItem, PruneQuery, Pruned};
use crate::control::service::Caller;
use crate::deployment::intent::{Intent, IntentFile};
use crate::model::{Code, Fault, InstanceName, SlotName, Template, UnitName};
use crate::slots::{KeepInputs, keep_set};
use crate::units::{UnitControl, UnitError};

use super::app::{App, Work};
use super::ask::Answer;
use super::deploy::Ground;
use super::verbs::Verb;

/// How often retention is looked at though nothing is deployed: ages count days.
pub(super) const PRUNE_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

impl<U: UnitControl> App<U> {
    pub(super) fn prune(&mut self, query: PruneQuery, caller: &Caller, answer: Answer<Pruned>) {
        if query.dry_run {
            let ground = self.ground.clone();
            let wanted = self.wanted_slots();
            tokio::spawn(async move {
                let shown = match running_slots(&ground).await {
                    Some(running) => inputs(&ground, &running, &wanted).map(|inputs| shown(&inputs, Vec::new())),
                    None => Err(untold()),
                };
                let _ = answer.send(shown.map_err(ApiError::from));
            });
            return;
        }
        if let Err(error) = self.admit(Verb::Prune) {
            let _ = answer.send(Err(error));
            return;
        }
        if matches!(self.work, Work::Pruning(..)) {
            let error = ApiError::new(Code::RequestBusy, "a prune is under way already");
            let _ = answer.send(Err(error));
            return;
        }
        tracing::info!(SLOTD_APP = self.name(), "{} prunes", caller.name);
        self.noted(Verb::Prune, None, caller, query.message);
        self.begin_prune(Some(answer));
    }

    /// After a deployment what retention doesn't keep goes by itself.
    pub(super) fn prune_quietly(&mut self) {
        let at_rest = matches!(self.work, Work::Nothing) && self.queued.is_none();
        if at_rest && !self.orphaned && !self.is_left_open() {
            self.begin_prune(None);
        }
    }

    /// What has become too old goes without a deployment too.
    pub(super) fn prune_in_time(&mut self) {
        self.prune_at = Instant::now() + PRUNE_EVERY;
        self.prune_quietly();
    }

    fn begin_prune(&mut self, answer: Option<Answer<Pruned>>) {
        if matches!(self.work, Work::Clearing(_)) {
            // It goes on beside it, and is made anew afterwards: a prune asks for itself what runs.
            self.strays.look_at = Instant::now();
        }
        let (ground, wanted) = (self.ground.clone(), self.wanted.subscribe());
        self.share_wanted();
        let task = tokio::spawn(async move {
            let running = running_slots(&ground).await.ok_or_else(untold)?;
            let pruned = tokio::task::spawn_blocking(move || {
                let before = inputs(&ground, &running, &wanted.borrow().clone())?;
                let known: Vec<SlotName> = before.slots.iter().map(|slot| slot.slot.clone()).collect();
                // Asked anew before each removal: what an operator wants meanwhile stays, and so does what came
                // meanwhile, which nobody could choose yet.
                let look = || {
                    let mut now = inputs(&ground, &running, &wanted.borrow().clone())?;
                    let came = now.slots.iter().map(|slot| &slot.slot).filter(|slot| !known.contains(slot));
                    let came: Vec<SlotName> = came.cloned().collect();
                    now.queued.extend(came);
                    Ok(now)
                };
                let pruned = ground.store.prune(look)?;
                let warnings = pruned.warnings.iter().map(ToString::to_string).collect();
                Ok(shown(&before, warnings))
            })
            .await;
            pruned.unwrap_or_else(|error| Err(Fault::new(Code::Internal, format!("the prune was torn: {error}"))))
        });
        self.work = Work::Pruning(task, answer);
    }

    pub(super) fn pruned(&mut self, result: Result<Result<Pruned, Fault>, JoinError>) {
        let Work::Pruning(_, answer) = std::mem::replace(&mut self.work, Work::Nothing) else { return };
        let result =
            result.unwrap_or_else(|error| Err(Fault::new(Code::Internal, format!("the prune was torn: {error}"))));
        match &result {
            Ok(pruned) => {
                for item in pruned.slots.iter().filter(|item| !item.kept) {
                    tracing::info!(
                        SLOTD_APP = self.name(),
                        SLOTD_SLOT = item.slot.to_string(),
                        "{} is removed: {}",
                        item.slot,
                        item.reason
                    );
                }
                for warning in &pruned.warnings {
                    tracing::warn!(SLOTD_APP = self.name(), "prune: {warning}");
                }
            }
            Err(fault) => tracing::warn!(SLOTD_APP = self.name(), "prune: {fault}"),
        }
        if let Some(answer) = answer {
            let _ = answer.send(result.map_err(ApiError::from));
        }
    }
}

/// What the keep-set depends on, as it is now. An intent that can't be read is an error: then nothing goes.
fn inputs<U: UnitControl>(ground: &Ground<U>, running: &[SlotName], wanted: &[SlotName]) -> Result<KeepInputs, Fault> {
    let intent = IntentFile::of(ground.store.layout()).read().map_err(|error| error.fault())?;
    let intent = intent.map(|Intent { facts, .. }| (facts.from.map(|side| side.slot), facts.to.slot));
    let disk = ground.store.keep_inputs(ground.settings.retention, ground.settings.versions);
    let disk = disk.map_err(|error| error.fault())?;
    Ok(KeepInputs { running: running.to_vec(), queued: wanted.to_vec(), intent, ..disk })
}

fn untold() -> Fault {
    Fault::new(Code::UnitControl, "systemd doesn't tell what runs, so it isn't known what can be removed")
}

fn shown(inputs: &KeepInputs, warnings: Vec<String>) -> Pruned {
    let set = keep_set(inputs);
    let item = |verdict: &crate::slots::keep::Verdict| PruneItem {
        slot: verdict.slot.clone(),
        kept: verdict.reason.keeps(),
        reason: set.bars(&verdict.slot).unwrap_or_else(|| verdict.reason.to_string()),
    };
    Pruned { slots: set.verdicts().iter().map(item).collect(), warnings }
}

/// The slots of which a unit isn't down; `None` if systemd doesn't tell.
async fn running_slots<U: UnitControl>(ground: &Ground<U>) -> Option<Vec<SlotName>> {
    let templates: Vec<_> = ground.settings.units.iter().map(|unit| unit.name.clone()).collect();
    let mut slots = Vec::new();
    for (unit, instance) in instances(ground, &templates).await.ok()? {
        if !ground.shared.units.status(&unit).await.ok()?.is_down() {
            slots.push(instance.slot);
        }
    }
    Some(slots)
}

/// The units that systemd has of these templates, whatever their state, with the instance of each.
pub(super) async fn instances<U: UnitControl>(
    ground: &Ground<U>,
    templates: &[Template],
) -> Result<Vec<(UnitName, InstanceName)>, UnitError> {
    let patterns: Vec<String> = templates.iter().map(|template| format!("{template}*.service")).collect();
    let instance = |unit: UnitName| {
        let instance = templates.iter().find_map(|template| template.instance_of(&unit))?;
        Some((unit, instance))
    };
    Ok(ground.shared.units.list(&patterns).await?.into_iter().filter_map(instance).collect())
}
