//! The real world of a deployment: slots on disk, units of systemd, probes, the route.
//!
//! Each effect asks for what is and does what is missing. Work on files runs on a blocking thread, and none of it may
//! be left half-way ([`Effect::is_interruptible`]); what waits for systemd or for a probe may.

mod along;
mod blame;
mod evidence;
mod gate;
mod hook;
mod needs;
mod outside;
mod records;
mod reroute;
#[cfg(test)]
mod tests;
mod traffic;
mod unit;
mod used;
mod vigil;

use along::REJOIN_LIMIT;
pub use blame::{is_hosts_fault, not_done, unusable};
pub use gate::is_awake;
pub use hook::{TRY_AGAIN, endless, how_it_ended};
use unit::ASK_AGAIN_LIMIT;
pub use unit::target;
use vigil::SOAK_PATIENCE;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use crate::config::AppSettings;
use crate::history::History;
use crate::model::deployment::Blame;
use crate::model::measured::SeenOutside;
use crate::model::{Code, Fault, Report};
use crate::routes::AnyRoute;
use crate::slots::SlotStore;
use crate::units::UnitControl;

use super::effect::Effect;
use super::intent::IntentFile;
use super::machine::{Failure, Observed};
use super::neighbours::Neighbours;
use super::stage::Stage;
use super::world::{Context, World};

/// A start is given this much beyond the unit's own limit; a unit without one is given this and no more.
const START_SLACK: Duration = Duration::from_secs(30);

/// For effects that only touch files of slotd's own.
const FILES_LIMIT: Duration = Duration::from_secs(60);

/// For comparing a tree with its manifest, byte by byte.
const VERIFY_LIMIT: Duration = Duration::from_secs(600);

/// How long an operator's `promote` is waited for; then it goes back.
const AWAIT_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Where the deployments of one app act.
pub struct Host<U: UnitControl> {
    /// The app's settings as they were when the deployment began.
    pub settings: Arc<AppSettings>,
    /// Its slots.
    pub store: Arc<SlotStore>,
    /// systemd.
    pub units: U,
    /// How traffic reaches its instances.
    pub route: AnyRoute<U>,
    /// How it reached them before, where that changes.
    before: Option<reroute::Before<U>>,
    /// Past deployments; may be out of order.
    pub history: Option<History>,
    /// The other apps, some of which this one may depend on.
    pub neighbours: Neighbours,
    /// The record of the deployment while it is open.
    pub intent: IntentFile,
    /// Where reports are shown.
    pub shown: watch::Sender<Option<Report>>,
    /// Start and stop limits of the units, as systemd told them before the first effect.
    limits: Mutex<Limits>,
    /// Whether this deployment has started its gate. After an interruption it hasn't: recovery has looked whether the
    /// app is awake.
    gate_started: AtomicBool,
    /// What users at the outside address see.
    outside: outside::Watch,
}

/// The longest that the app's units may take.
#[derive(Debug, Clone)]
struct Limits {
    start: Duration,
    stop: Duration,
    /// How many units both sides have together.
    units: u32,
    /// Those of the hooks.
    hooks: Vec<hook::HookLimit>,
}

impl Default for Limits {
    /// systemd's own defaults, until it has been asked.
    fn default() -> Self {
        Limits { start: Duration::from_secs(90), stop: Duration::from_secs(90), units: 0, hooks: Vec::new() }
    }
}

impl<U: UnitControl> Host<U> {
    /// The world of one deployment.
    pub fn new(
        settings: Arc<AppSettings>,
        store: Arc<SlotStore>,
        units: U,
        route: AnyRoute<U>,
        history: Option<History>,
        shown: watch::Sender<Option<Report>>,
    ) -> Self {
        let limits = Mutex::new(Limits::default());
        let intent = IntentFile::of(store.layout());
        let gate_started = AtomicBool::new(false);
        let outside = outside::Watch::default();
        let neighbours = Neighbours::default();
        let before = None;
        Host {
            settings,
            store,
            units,
            route,
            before,
            history,
            neighbours,
            intent,
            shown,
            limits,
            gate_started,
            outside,
        }
    }

    /// The same on a host with these apps.
    #[must_use]
    pub fn among(self, neighbours: Neighbours) -> Self {
        Host { neighbours, ..self }
    }

    fn limits(&self) -> Limits {
        // A poisoned lock still holds durations.
        self.limits.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn set_limits(&self, limits: Limits) {
        *self.limits.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = limits;
    }

    /// Runs file work on a blocking thread.
    async fn files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&SlotStore) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Failure> {
        let store = Arc::clone(&self.store);
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        match done {
            Ok(result) => result.map_err(environment),
            Err(panic) => Err(environment(Fault::new(Code::Internal, format!("work on files was torn: {panic}")))),
        }
    }

    /// Runs file work that has nothing to tell.
    async fn change(
        &self,
        work: impl FnOnce(&SlotStore) -> Result<(), Fault> + Send + 'static,
    ) -> Result<Observed, Failure> {
        self.files(work).await.map(|()| Observed::Nothing)
    }
}

impl<U: UnitControl> World for Host<U> {
    async fn perform(&self, effect: &Effect, context: Context<'_>) -> Result<Observed, Failure> {
        if let Err(failure) = self.renew_hold(effect, &context).await {
            if context.ruling.is_none() {
                return Err(failure);
            }
            // The way back is worth more than the mark, without which the gate may only start the slot that is live.
            tracing::warn!("the hold mark can't be renewed: {}", failure.fault);
        }
        self.watch_outside(effect.kind(), &context);
        match effect {
            Effect::Announce => self.announce(&context).await,
            Effect::Hold => self.hold(&context, self.limit(effect)).await,
            Effect::AskNeeds(on) => self.ask_needs(on).await,
            Effect::CheckUnits => self.check_units(context.facts).await,
            Effect::RaiseMark => self.raise_mark(context.facts).await,
            Effect::Gate => self.start_gate().await,
            Effect::LinkNext => {
                let slot = context.facts.to.slot.clone();
                self.change(move |store| store.link_next(&slot).map_err(|error| error.fault())).await
            }
            Effect::Verify(slot) => self.verify(slot.clone()).await,
            Effect::Provide(side, accept) => {
                self.note_way(context.facts, side).await?;
                self.provide(side, *accept).await
            }
            Effect::AskLive => self.ask_live(context.facts).await,
            Effect::Hook(hook) => self.run_hook(hook).await,
            Effect::EndHooks(units) => self.end_hooks(units).await,
            Effect::Stop(units) => self.stop_units(units).await,
            Effect::Start(units) => self.start_units(units, true).await,
            Effect::Prove(instances, runs) => self.prove(context.facts, instances, runs).await,
            Effect::Switch => self.switch(context.facts).await,
            Effect::Route(traffic) => self.route_to(context.facts, traffic).await,
            Effect::Drain(leaving) => self.drain(leaving).await,
            Effect::Await(runs) => self.await_word(&context, runs).await,
            Effect::AskOutside => {
                let runs = context.stage.map(Stage::runs).unwrap_or_default();
                self.ask_outside(context.facts, &runs).await
            }
            Effect::Soak(runs) => self.soak(&context, runs).await,
            Effect::Confirm(runs) => self.confirm(runs).await,
            Effect::Retire => self.retire(context.facts).await,
            Effect::StopOthers(side) => self.stop_others(context.facts, side.as_ref()).await,
            Effect::Return(to) => self.return_to(context.facts, to).await,
            Effect::Restore(units) => self.start_units(units, false).await,
            Effect::Point(slot) => self.point(context.facts, slot, context.ruling).await,
            Effect::Links(slot) => self.tidy_links(context.facts, slot.clone()).await,
            Effect::AskAgain(side) => self.ask_again(side).await,
            Effect::Judge(ruling) => self.judge(&context, ruling.clone()).await,
            Effect::Rejoin(_) => self.rejoin(context.facts).await,
            Effect::Close => self.close(&context).await,
            Effect::Unhold => self.unhold().await,
            Effect::Rest => self.rest(context.facts).await,
            Effect::Record => self.record(&context).await,
        }
    }

    fn limit(&self, effect: &Effect) -> Duration {
        let limits = self.limits();
        let each = |count: usize, limit: Duration| limit * u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        let proof = &self.settings.proof;
        match effect {
            Effect::Hook(hook) => self.hook_limit(&hook.unit).run,
            Effect::EndHooks(units) => units.iter().map(|unit| self.hook_limit(unit).stop).sum(),
            Effect::Stop(units) => each(units.len(), limits.stop),
            Effect::Start(units) => each(units.len(), limits.start),
            Effect::Restore(units) => each(units.len(), limits.start),
            Effect::StopOthers(_) => limits.stop * limits.units.max(1) + FILES_LIMIT,
            Effect::Gate | Effect::Rest => self.gate_limit(),
            Effect::Prove(instances, _) => each(instances.len(), proof.deadline + proof.stable_for),
            Effect::AskAgain(side) => each(side.unit_names().len(), proof.deadline + ASK_AGAIN_LIMIT),
            Effect::AskLive | Effect::AskOutside => proof.deadline,
            Effect::Rejoin(units) => each(units.len(), REJOIN_LIMIT),
            Effect::Drain(_) => self.drain_limit() + FILES_LIMIT,
            // The last look may take its time.
            Effect::Soak(_) => self.settings.soak.longest() + SOAK_PATIENCE + proof.timeout + proof.deadline,
            Effect::Await(_) => AWAIT_LIMIT,
            Effect::Verify(_) => VERIFY_LIMIT,
            _ => FILES_LIMIT,
        }
    }

    fn seen_outside(&self) -> Option<SeenOutside> {
        self.outside.seen()
    }

    fn publish(&self, report: &Report) {
        self.log(report);
        self.shown.send_replace(Some(report.clone()));
    }
}

/// A fault of the environment.
fn environment(fault: Fault) -> Failure {
    Failure { fault, blame: Blame::Environment, rests: false }
}

/// A fault of the release.
fn release(fault: Fault) -> Failure {
    Failure { fault, blame: Blame::Release, rests: false }
}
