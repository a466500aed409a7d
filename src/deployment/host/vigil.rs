//! The effects that watch: the soak time, and the wait for an operator's word.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::deployment::Blame;
use crate::model::{Code, Fault, UnitName};
use crate::units::UnitControl;

use super::super::machine::{Failure, Observed};
use super::super::stage::{Runs, Stage};
use super::super::world::Context;
use super::blame::control;
use super::{AWAIT_LIMIT, Host};

/// For how long a live slot may answer badly in the soak time before it counts.
pub(super) const SOAK_PATIENCE: Duration = Duration::from_secs(5);

/// While something is watched the hold mark is renewed for this long at each look: should slotd end for good meanwhile,
/// the app must not rest for as long as the watching would have taken.
pub(super) const WATCH_HOLD: Duration = Duration::from_secs(60);

/// How often it is told durably how much of the soak time is left: so much of it a power cut can give back.
const TELL_EVERY: Duration = Duration::from_secs(60);

impl<U: UnitControl> Host<U> {
    /// Watches the new slot for what is left of the soak time.
    pub(super) async fn soak(&self, context: &Context<'_>, runs: &Runs) -> Result<Observed, Failure> {
        let Some(Stage::Soaking { left, .. }) = context.stage else { return Ok(Observed::Nothing) };
        let mut told = *left;
        self.watch_over(context, runs, *left, true, &mut |left| {
            // What is left after a boot is what was told last.
            let due = told.saturating_sub(left) >= TELL_EVERY;
            if due {
                told = left;
            }
            due
        })
        .await
        .map(|()| Observed::Nothing)
    }

    /// Watches what is proved until the driver hears an operator's word.
    pub(super) async fn await_word(&self, context: &Context<'_>, runs: &Runs) -> Result<Observed, Failure> {
        self.watch_over(context, runs, AWAIT_LIMIT, false, &mut |_| false).await?;
        let limit = humantime::format_duration(AWAIT_LIMIT);
        let app = &self.settings.name;
        let fault = Fault::new(Code::Cancelled, format!("nobody said `slotctl promote {app}` within {limit}"));
        Err(Failure { fault, blame: Blame::Operator, rests: false })
    }

    /// Sees for `time` that these runs go on and answer well, and from outside too where they are live.
    async fn watch_over(
        &self,
        context: &Context<'_>,
        runs: &Runs,
        time: Duration,
        live: bool,
        tell: &mut (dyn FnMut(Duration) -> bool + Send),
    ) -> Result<(), Failure> {
        let end = Instant::now() + time;
        let units: Vec<UnitName> = runs.keys().cloned().collect();
        let mut watch = self.units.watch(&units).await.map_err(|error| control(&error))?;
        loop {
            self.confirm(runs).await?;
            for (unit, instance) in context.facts.to.instances() {
                if !runs.contains_key(&unit) {
                    continue;
                }
                let target = self.target(unit.clone(), instance);
                if let Err(fault) = self.ask_until(&target, SOAK_PATIENCE).await {
                    // That it couldn't be asked says nothing about it.
                    let code = if fault.code == Code::UnitControl { fault.code } else { Code::SoakFailed };
                    return Err(self.candidate_failure(&unit, Fault { code, ..fault }).await);
                }
            }
            if live {
                self.ask_outside(context.facts, runs).await?;
            }
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(());
            }
            if tell(rest) {
                self.tell_left(context, rest).await?;
            }
            self.hold(context, WATCH_HOLD).await?;
            // A change of a unit or the next look, whichever comes first; a lost watch leaves the looks.
            let pause = rest.min(self.settings.proof.interval.max(Duration::from_secs(1)));
            let _ = tokio::time::timeout(pause, watch.changed()).await;
        }
    }
}
