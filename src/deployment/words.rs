//! In which stage of a deployment an operator's word is heard. Pure; every pair is written out.

use crate::model::Code;
use crate::model::deployment::Say;

use super::facts::Facts;
use super::stage::Stage;

/// A word came at a time when it can't be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The candidate is live for good.
    #[error("it has gone live and only tidies up; `slotctl rollback` goes back")]
    TooLate,
    /// It is on the way back.
    #[error("it is already on its way back")]
    Reverting,
    /// It is over.
    #[error("it is over")]
    Over,
    /// It doesn't wait.
    #[error("it doesn't wait for `promote`")]
    NothingToPromote,
    /// It wasn't begun with `confirm`, or isn't live yet.
    #[error("it doesn't wait for `confirm`")]
    NothingToConfirm,
    /// The new slot is being brought up again after an interruption.
    #[error("the new slot is being brought up again after an interruption; say it once it is watched")]
    NotYet,
}

impl Refused {
    /// Its stable name, by what was said.
    pub fn code(say: Say) -> Code {
        match say {
            Say::Cancel => Code::RequestBusy,
            Say::Promote | Say::Confirm => Code::RequestInvalid,
        }
    }
}

impl Say {
    /// Whether a deployment in `stage` follows it.
    pub fn heard_in(self, stage: &Stage, facts: &Facts) -> Result<(), Refused> {
        use Say::{Cancel, Confirm, Promote};
        match (self, stage) {
            (_, Stage::Settling(_)) => Err(Refused::Reverting),
            (Cancel, Stage::Post { .. } | Stage::Telling { .. }) => Err(Refused::TooLate),
            (
                Cancel,
                Stage::Preparing
                | Stage::Clearing { .. }
                | Stage::Hooking { .. }
                | Stage::Starting { .. }
                | Stage::Proving { .. }
                | Stage::Shifting { .. }
                | Stage::Draining { .. }
                | Stage::Waiting { .. }
                | Stage::Switching { .. }
                | Stage::Soaking { .. }
                | Stage::Reviving { .. },
            ) => Ok(()),
            (Promote, Stage::Waiting { .. }) => Ok(()),
            (
                Promote,
                Stage::Preparing
                | Stage::Clearing { .. }
                | Stage::Hooking { .. }
                | Stage::Starting { .. }
                | Stage::Proving { .. }
                | Stage::Shifting { .. }
                | Stage::Draining { .. }
                | Stage::Switching { .. }
                | Stage::Soaking { .. }
                | Stage::Reviving { .. }
                | Stage::Post { .. }
                | Stage::Telling { .. },
            ) => Err(Refused::NothingToPromote),
            (Confirm, Stage::Soaking { .. }) if facts.plan.confirm => Ok(()),
            (Confirm, Stage::Reviving { .. }) => Err(Refused::NotYet),
            (
                Confirm,
                Stage::Preparing
                | Stage::Clearing { .. }
                | Stage::Hooking { .. }
                | Stage::Starting { .. }
                | Stage::Proving { .. }
                | Stage::Shifting { .. }
                | Stage::Draining { .. }
                | Stage::Waiting { .. }
                | Stage::Switching { .. }
                | Stage::Soaking { .. }
                | Stage::Post { .. }
                | Stage::Telling { .. },
            ) => Err(Refused::NothingToConfirm),
        }
    }
}
