//! What follows from the end of a deployment, and from a quarantine that is lifted.

use tokio::task::JoinError;
use tokio::time::Instant;

use crate::control::api::ApiError;
use crate::control::service::Caller;
use crate::deployment::driver::Driven;
use crate::model::{Code, Outcome, Report, SlotName};
use crate::units::UnitControl;

use super::app::{App, RECOVERY_RETRY, Work};
use super::verbs::Verb;

impl<U: UnitControl> App<U> {
    pub(super) async fn driven(&mut self, result: Result<Driven, JoinError>) {
        self.work = Work::Nothing;
        self.strays.look_soon();
        self.go_by_what_is_live();
        match result {
            Ok(driven) => {
                self.note_end(&driven.report);
                self.tell(&driven.report);
                self.absolve(&driven.report);
                self.unkeep(&driven.report.id);
                self.last = Some(driven.report);
                if driven.open {
                    self.recover_at = Some(Instant::now() + RECOVERY_RETRY);
                } else if self.fault.is_some() {
                    // It may have been the way out; if not, the fault is told again.
                    self.recover().await;
                }
                self.plan_retry();
                self.watch_live().await;
                self.choose();
                self.prune_quietly();
            }
            Err(error) => {
                tracing::error!(SLOTD_APP = self.name(), "the deployment was torn: {error}");
                self.recover().await;
            }
        }
    }

    /// A slot that went live although it was quarantined has proved itself: it is a way back from now on.
    fn absolve(&self, report: &Report) {
        if report.ended.as_ref().is_some_and(|ended| ended.outcome == Outcome::Done)
            && let Err(error) = self.ground.store.clear_quarantine(&report.to)
        {
            tracing::warn!(SLOTD_APP = self.name(), "the quarantine of {} stays: {}", report.to, error.fault());
        }
    }

    pub(super) fn clear(&mut self, slot: &SlotName, message: Option<String>, caller: &Caller) -> Result<(), ApiError> {
        let cleared = self.ground.store.clear_quarantine(slot).map_err(|error| error.fault())?;
        match cleared {
            true => {
                tracing::info!(
                    SLOTD_APP = self.name(),
                    SLOTD_SLOT = slot.to_string(),
                    "{} lifts the quarantine of {slot}",
                    caller.name
                );
                self.noted(Verb::Clear, Some(slot), caller, message);
                Ok(())
            }
            false => Err(ApiError::new(Code::UnknownSlot, format!("{slot} of {} isn't quarantined", self.name()))
                .next(format!("slotctl quarantine list {}", self.name()))),
        }
    }
}
