//! Freezes: a time in which nothing moves an app forward, by itself or by `activate` and `scale`.
//!
//! What is under way goes on, and hears `cancel`, `promote` and `confirm`; going back is always possible; and an operator
//! who says `activate --force` is heard. A release that comes becomes ready and waits. When the freeze is over, or lifted,
//! what waited goes live, also if slotd was down meanwhile: the files are the truth, the clock is asked at each look.

use crate::control::api::{ApiError, FreezeRequest, Frozen};
use crate::control::service::Caller;
use crate::model::{Code, Freeze, SlotName, Timestamp};
use crate::units::UnitControl;

use super::app::App;

impl<U: UnitControl> App<U> {
    pub(super) fn freeze(&mut self, request: FreezeRequest, caller: &Caller) -> Result<Frozen, ApiError> {
        let freeze = freeze_of(request, caller, false)?;
        let changed = self.ground.store.freeze(&freeze).map_err(|error| error.fault())?;
        tracing::info!(SLOTD_APP = self.name(), "the app is {freeze}");
        // At once, and not only before the next thing begins.
        self.notice_freeze();
        Ok(Frozen { app: Some(self.ground.settings.name.clone()), freeze: Some(freeze), changed })
    }

    pub(super) fn unfreeze(&mut self, caller: &Caller) -> Result<Frozen, ApiError> {
        let changed = self.ground.store.unfreeze().map_err(|error| error.fault())?;
        if changed {
            tracing::info!(SLOTD_APP = self.name(), "the app is unfrozen by {}", caller.name);
        }
        self.notice_freeze();
        Ok(Frozen { app: Some(self.ground.settings.name.clone()), freeze: self.frozen.clone(), changed })
    }

    /// Looks whether the app is frozen; what waited for the end of that goes on. Asked before anything begins, and when
    /// the freeze that was seen last is to end.
    pub(super) fn notice_freeze(&mut self) {
        let now = self.ground.store.frozen();
        let before = std::mem::replace(&mut self.frozen, now);
        match (before, &self.frozen) {
            (None, Some(freeze)) => {
                let why = freeze.to_string();
                self.leave_what_comes_by_itself(&why);
            }
            (Some(freeze), None) => {
                tracing::info!(SLOTD_APP = self.name(), "the app is no longer {freeze}");
                if !self.is_deploying() {
                    self.plan_retry();
                }
                self.choose();
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
    }

    /// Whether nothing is to begin by itself: the app is pinned, or frozen.
    pub(super) fn is_held(&self) -> bool {
        self.is_pinned() || self.ground.store.frozen().is_some()
    }

    /// Refuses while the app is frozen. `instead`: what would be heard all the same.
    pub(super) fn check_freeze(&self, instead: Option<&SlotName>) -> Result<(), ApiError> {
        self.ground.store.frozen().map_or(Ok(()), |freeze| Err(refusal(self.name(), &freeze, instead)))
    }
}

/// Why a frozen app doesn't go forward.
pub(super) fn refusal(app: &str, freeze: &Freeze, instead: Option<&SlotName>) -> ApiError {
    let force = instead.map(|slot| format!("; slotctl activate {app} {slot} --force")).unwrap_or_default();
    ApiError::new(Code::AppFrozen, format!("{app} is {freeze}")).next(format!("{}{force}", freeze.lifted_by(app)))
}

/// What is asked for, by whom, if it can be.
pub(super) fn freeze_of(request: FreezeRequest, caller: &Caller, all: bool) -> Result<Freeze, ApiError> {
    let FreezeRequest { until, message } = request;
    let at = Timestamp::now();
    let freeze = Freeze { by: caller.name.clone(), at, until, message, all };
    match until {
        Some(until) if !freeze.holds(at) => {
            Err(ApiError::new(Code::RequestInvalid, format!("{} is over already", until.to_the_second())))
        }
        _ => Ok(freeze),
    }
}
