//! The effects on files: intent, hold mark, links, instances, marks, history.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::durable;
use crate::model::hold::Hold;
use crate::model::route::AcceptAt;
use crate::model::slot::{Break, Quarantine};
use crate::model::{Blame, Code, Fault, InstanceName, Outcome, Report, SlotName, State, Timestamp};
use crate::slots::{LinkState, compare};
use crate::units::UnitControl;

use super::super::clock;
use super::super::driver::GRACE;
use super::super::effect::{Effect, Kind};
use super::super::facts::{Facts, Side};
use super::super::intent::Intent;
use super::super::machine::{Failure, Observed};
use super::super::stage::{Ruling, Stage};
use super::super::world::{Context, World as _};
use super::vigil::WATCH_HOLD;
use super::{Host, environment, release};

/// The hold mark outlives the step that it was set for by this much: longer than the grace that a step has beyond its
/// own limit, so that it never ends under one.
const HOLD_SLACK: Duration = GRACE.saturating_add(Duration::from_secs(10));

impl<U: UnitControl> Host<U> {
    /// Writes the intent with the stage that begins.
    pub(super) async fn announce(&self, context: &Context<'_>) -> Result<Observed, Failure> {
        let Some(stage) = context.stage else { return Ok(Observed::Nothing) };
        let intent = Intent::new(context.facts.clone(), stage.clone(), context.report.clone());
        let file = self.intent.clone();
        self.change(move |_| file.write(&intent).map_err(|error| error.fault())).await
    }

    /// Renews the announcement of a stage that only waits with what is left of its time.
    pub(super) async fn tell_left(&self, context: &Context<'_>, left: Duration) -> Result<(), Failure> {
        let Some(Stage::Soaking { live, proved, .. }) = context.stage else { return Ok(()) };
        let stage = Stage::Soaking { live: live.clone(), proved: proved.clone(), left };
        let intent = Intent::new(context.facts.clone(), stage, context.report.clone());
        let file = self.intent.clone();
        self.change(move |_| file.write(&intent).map_err(|error| error.fault())).await.map(drop)
    }

    /// Sets the hold mark for at least `limit` from now on.
    pub(super) async fn hold(&self, context: &Context<'_>, limit: Duration) -> Result<Observed, Failure> {
        let until = clock::powered_on() + limit + HOLD_SLACK;
        let hold = Hold {
            boot: clock::boot_id(),
            until_ms: u64::try_from(until.as_millis()).unwrap_or(u64::MAX),
            deployment: context.facts.id.to_string(),
        };
        self.change(move |store| {
            let path = store.layout().hold();
            // Read by the gate, which runs as root, and by nobody else; but it is no secret.
            durable::write_json(&path, &hold).map_err(|error| error.fault())
        })
        .await
    }

    /// Renews the hold mark for the step that begins, while one is set. It is shortened too: what a long step that is
    /// over was given must not keep the app down should slotd end for good in the next.
    pub(super) async fn renew_hold(&self, effect: &Effect, context: &Context<'_>) -> Result<(), Failure> {
        if matches!(effect.kind(), Kind::Announce | Kind::Hold | Kind::Close | Kind::Unhold | Kind::Rest | Kind::Record)
        {
            return Ok(());
        }
        let limit = match effect.kind() {
            // Renewed as it goes on.
            Kind::Soak | Kind::Await => WATCH_HOLD,
            _ => self.limit(effect),
        };
        let until = self
            .files(|store| match durable::read_json::<Hold>(&store.layout().hold()) {
                Ok(hold) => Ok(hold.map(|hold| Duration::from_millis(hold.until_ms))),
                // The gate takes one that is damaged for none: it is written anew.
                Err(error) if error.is_damage() => Ok(Some(Duration::ZERO)),
                Err(error) => Err(error.fault()),
            })
            .await?;
        match until {
            Some(until) if !suits(until, clock::powered_on(), limit) => self.hold(context, limit).await.map(drop),
            _ => Ok(()),
        }
    }

    /// Removes the hold mark.
    pub(super) async fn unhold(&self) -> Result<Observed, Failure> {
        self.change(|store| durable::remove_file(&store.layout().hold()).map(drop).map_err(|error| error.fault())).await
    }

    /// Compares the files of `slot` with their manifest.
    pub(super) async fn verify(&self, slot: SlotName) -> Result<Observed, Failure> {
        let checked = self.files(move |store| Ok(store.verify(&slot, &compare).map_err(|error| error.fault()))).await?;
        // Altered files are the slot's own fault: it must not be tried again as it is.
        checked.map(|()| Observed::Nothing).map_err(|fault| match fault.code {
            Code::SlotTampered => release(fault),
            _ => environment(fault),
        })
    }

    /// Makes the folders that the units of `side` read.
    pub(super) async fn provide(&self, side: &Side, accept: AcceptAt) -> Result<Observed, Failure> {
        let route = &self.settings_of(&side.slot).route;
        let extra: Vec<_> = route.accept_variable(accept).into_iter().collect();
        // Units of one slot share its instances by number: one has a port if any of its units is the routed one.
        let mut instances = BTreeMap::<InstanceName, (bool, bool)>::new();
        let routed = self.settings.routed().map(|unit| &unit.name);
        for (unit, instance) in side.instances() {
            let is_routed = routed.is_some_and(|template| template.instance_of(&unit).is_some());
            // What systemd doesn't tell runs.
            let runs =
                is_routed && route.ports().is_some() && !self.status(&unit).await.is_ok_and(|status| status.is_down());
            let known = instances.entry(instance).or_default();
            *known = (known.0 | is_routed, known.1 | runs);
        }
        let ports = route.ports().map(|ports| ports.range);
        self.change(move |store| {
            instances.iter().try_for_each(|(instance, (is_routed, runs))| {
                let made = match ports.filter(|_| *is_routed) {
                    Some(ports) => store.publish_instance_with_port(instance, ports, *runs),
                    None => store.publish_instance(instance, &extra),
                };
                made.map(drop).map_err(|error| error.fault())
            })
        })
        .await
    }

    /// Exchanges `current` with the link that names the candidate.
    pub(super) async fn switch(&self, facts: &Facts) -> Result<Observed, Failure> {
        self.point(facts, &facts.to.slot, None).await
    }

    /// Lets `current` name `slot`. The record of a breaking migration goes with it: it is there before the candidate is
    /// live, and goes once what was live before is so again, unless its data couldn't be restored.
    pub(super) async fn point(
        &self,
        facts: &Facts,
        slot: &SlotName,
        ruling: Option<&Ruling>,
    ) -> Result<Observed, Failure> {
        let slot = slot.clone();
        let to_candidate = slot == facts.to.slot;
        let breaking = facts.is_breaking().then(|| Break {
            slot: facts.to.slot.clone(),
            deployment: facts.id.clone(),
            at: Timestamp::now(),
        });
        let is_stuck = ruling.is_some_and(|ruling| ruling.outcome == Outcome::Stuck);
        self.change(move |store| {
            let changed = match breaking {
                Some(new) if to_candidate => store.break_data(new).and_then(|()| store.ensure_current(&slot)),
                Some(old) if !is_stuck => {
                    store.ensure_current(&slot).and_then(|()| store.unbreak_data(&old.deployment))
                }
                _ => store.ensure_current(&slot),
            };
            changed.map_err(|error| error.fault())
        })
        .await
    }

    /// `next`, which names the slot that was left, over `fallback`. Then a quarantine that an operator overruled is
    /// lifted, since the slot has proved itself: as the last thing, so that nothing is left undone once it is gone.
    pub(super) async fn retire(&self, facts: &Facts) -> Result<Observed, Failure> {
        let (from, to) = (facts.from.as_ref().map(|side| side.slot.clone()), facts.to.slot.clone());
        let used = self.used(facts).await;
        let order = self.settings.versions;
        self.change(move |store| {
            if let Err(error) = store.write_used(&to, &used) {
                // Then nobody can tell what was set otherwise since.
                tracing::warn!("{}", error.fault());
            }
            // Where `fallback` was exchanged there is no `next`, unless somebody changed `fallback` in between.
            settle_next(store, from.as_ref())?;
            if let Some(from) = &from
                && let Err(error) = store.mark_left(from, Timestamp::now())
            {
                // By then it counts from its publication.
                tracing::warn!("{}", error.fault());
            }
            // It was an operator's word that went back behind a migration, and the data suits what is live.
            store.bar_nothing_above(&to, order).map_err(|error| error.fault())?;
            store.clear_quarantine(&to).map(drop).map_err(|error| error.fault())
        })
        .await
    }

    /// `next` goes; over `fallback` if it names the slot that was left for good.
    pub(super) async fn tidy_links(&self, facts: &Facts, chosen: Option<SlotName>) -> Result<Observed, Failure> {
        let left = facts.from.as_ref().map(|side| side.slot.clone()).filter(|from| Some(from) != chosen.as_ref());
        let left = left.filter(|_| chosen.as_ref() == Some(&facts.to.slot));
        self.change(move |store| settle_next(store, left.as_ref())).await
    }

    /// Ends the intent: it becomes the record of the last deployment.
    pub(super) async fn close(&self, context: &Context<'_>) -> Result<Observed, Failure> {
        let last = Intent::new(context.facts.clone(), Stage::Preparing, ended(context.report));
        let file = self.intent.clone();
        self.change(move |_| {
            file.close(&last).map_err(|error| error.fault())?;
            // On a full disk the next intent may find fewer spares; that is no reason not to close this one.
            file.refill().unwrap_or_else(|error| tracing::warn!("no room for the next intent: {error}"));
            Ok(())
        })
        .await
    }

    /// Writes the history. Without it nothing is lost but the past.
    pub(super) async fn record(&self, context: &Context<'_>) -> Result<Observed, Failure> {
        let Some(history) = &self.history else { return Ok(Observed::Nothing) };
        let report = ended(context.report);
        history.record(&report).await.map(|()| Observed::Nothing).map_err(|error| environment(error.fault()))
    }

    /// Keeps the evidence beside the slot, and quarantines it if the release is at fault.
    pub(super) async fn judge(&self, context: &Context<'_>, ruling: Ruling) -> Result<Observed, Failure> {
        let (slot, id) = (context.facts.to.slot.clone(), context.facts.id.clone());
        self.change(move |store| {
            let Some(fault) = &ruling.fault else { return Ok(()) };
            // The quarantine first: it decides what is tried again, and holds the evidence too.
            let quarantined = match ruling.blame {
                Blame::Release => {
                    let quarantine = Quarantine {
                        deployment: id.to_string(),
                        phase: ruling.phase,
                        fault: fault.clone(),
                        at: Timestamp::now(),
                    };
                    store.quarantine(&slot, &quarantine)
                }
                _ => Ok(()),
            };
            let kept = store.write_evidence(&slot, &id, fault);
            quarantined.and(kept).map_err(|error| error.fault())
        })
        .await
    }
}

/// Whether a hold mark up to `until` lasts through a step that begins `now`, and not much longer.
fn suits(until: Duration, now: Duration, limit: Duration) -> bool {
    (now + limit + GRACE..=now + limit + HOLD_SLACK).contains(&until)
}

/// `next` over `fallback` if it names `left`, else `next` goes.
fn settle_next(store: &crate::slots::SlotStore, left: Option<&SlotName>) -> Result<(), Fault> {
    let links = store.links().map_err(|error| error.fault())?;
    let result = match (&links.next, left) {
        (LinkState::Absent, _) => return Ok(()),
        (LinkState::Slot(next), Some(left)) if next == left => store.retire_next(),
        _ => store.drop_next(),
    };
    result.map_err(|error| error.fault())
}

/// The report as it will stand when all is over.
fn ended(report: &Report) -> Report {
    Report { state: State::Done, waiting: None, ..report.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_mark_follows_the_step_in_both_directions() {
        let seconds = Duration::from_secs;
        let (now, limit) = (seconds(1000), seconds(60));
        assert!(!suits(now + limit + GRACE - Duration::from_millis(1), now, limit), "it might end under the step");
        assert!(suits(now + limit + GRACE, now, limit));
        assert!(suits(now + limit + HOLD_SLACK, now, limit));
        assert!(!suits(now + seconds(600), now, limit), "left over from a step that compared a large tree");
    }
}
