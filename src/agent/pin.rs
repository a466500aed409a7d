//! Pins: an operator's word that a slot is kept, or that the app stays on what is live.
//!
//! A pinned app goes on with what is under way; nothing begins by itself, no release and no further try of one that failed.
//! An operator's `activate`, `rollback` and `scale` are heard as ever.

use crate::control::api::{ApiError, PinRequest, Pinned, UnpinRequest};
use crate::control::service::Caller;
use crate::model::deployment::Blame;
use crate::model::slot::Pin;
use crate::model::{Code, Fault, Outcome, SlotName, Timestamp};
use crate::units::UnitControl;

use super::app::App;
use super::deploy::{Wanted, Word};
use super::queue::ended;
use super::verbs::Verb;

impl<U: UnitControl> App<U> {
    pub(super) fn pin(&mut self, request: PinRequest, caller: &Caller) -> Result<Pinned, ApiError> {
        let PinRequest { slot, message } = request;
        let pin = Pin { by: caller.name.clone(), at: Timestamp::now(), message };
        let changed = self.ground.store.pin(slot.as_ref(), &pin).map_err(|error| error.fault())?;
        self.noted(Verb::Pin, slot.as_ref(), caller, pin.message.clone());
        tracing::info!(SLOTD_APP = self.name(), "{} is {pin}", name_of(slot.as_ref()));
        if slot.is_none() {
            self.leave_what_comes_by_itself(&pin.to_string());
        }
        Ok(Pinned { slot, pin: Some(pin), changed })
    }

    pub(super) fn unpin(&mut self, request: UnpinRequest, caller: &Caller) -> Result<Pinned, ApiError> {
        let UnpinRequest { slot, message } = request;
        let changed = self.ground.store.unpin(slot.as_ref()).map_err(|error| error.fault())?;
        if changed {
            self.noted(Verb::Unpin, slot.as_ref(), caller, message);
            tracing::info!(SLOTD_APP = self.name(), "{} is unpinned by {}", name_of(slot.as_ref()), caller.name);
            if slot.is_none() {
                self.plan_retry();
                self.choose();
            }
        }
        Ok(Pinned { slot, pin: None, changed })
    }

    /// Whether nothing is to begin by itself; a pin that can't be read is one.
    pub(super) fn is_pinned(&self) -> bool {
        !matches!(self.ground.store.pinned(None), Ok(None))
    }

    /// A kill may have come between the pin and what it has to leave.
    pub(super) fn keep_to_the_pin(&mut self) {
        if let Ok(Some(pin)) = self.ground.store.pinned(None) {
            self.leave_what_comes_by_itself(&pin.to_string());
        }
    }

    /// What waits by nobody's word, or by that of whoever brought it, waits no longer: it is chosen again once the app is
    /// unpinned, the freeze over, or it is no longer deployed by hand.
    pub(super) fn leave_what_comes_by_itself(&mut self, why: &str) {
        self.retry_at = None;
        if let Some(Wanted { report, .. }) = self.queued.take_if(|wanted| wanted.word != Word::Operators) {
            let fault = Fault::new(Code::Cancelled, format!("the app was {why} before it began"));
            self.end_unbegun(report, ended(Outcome::Cancelled, fault, Blame::Operator), false);
            self.share_wanted();
        }
    }
}

fn name_of(slot: Option<&SlotName>) -> String {
    slot.map_or_else(|| "the app".to_owned(), ToString::to_string)
}
