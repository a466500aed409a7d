//! `retry`: what failed last is tried again at once, on an operator's word.
//!
//! That is the deployment that ended last, if it didn't end well; else what lies in the inbox and was refused, or waits for
//! its next try. A word of an operator begins anew: it counts no tries before it. A release that failed by its own fault is
//! quarantined, and tried again only by force.

use crate::control::api::{Accepted, ApiError, RetryRequest};
use crate::control::service::Caller;
use crate::model::deployment::Otherwise;
use crate::model::{Code, Kind, Outcome};
use crate::units::UnitControl;

use super::ahead::Ahead;
use super::app::App;
use super::verbs::Verb;

impl<U: UnitControl> App<U> {
    pub(super) async fn try_again(&mut self, request: RetryRequest, caller: &Caller) -> Result<Accepted, ApiError> {
        let RetryRequest { message, force } = request;
        self.check_settings()?;
        self.admit(Verb::Retry)?;
        let failed = self.last.clone().filter(|last| {
            let ended = last.ended.as_ref();
            ended.is_some_and(|ended| ended.outcome != Outcome::Done)
                && self.ground.current().as_ref() != Some(&last.to)
        });
        let Some(last) = failed else { return self.take_again(caller, message).await };
        self.check_target(&last.to, force)?;
        self.check_pause()?;
        self.check_freeze(None)?;
        let message = message.or(last.message);
        let otherwise = Otherwise { strategy: last.strategy, migration: last.migration };
        let ahead = match last.kind {
            Kind::Deploy => Ahead::Staged,
            Kind::Rollback => Ahead::Nothing,
        };
        self.accept(last.kind, last.to, caller, message, otherwise, ahead).await
    }

    async fn take_again(&mut self, caller: &Caller, message: Option<String>) -> Result<Accepted, ApiError> {
        let files = self.inbox.retry().await;
        if files.is_empty() {
            let error = format!("nothing of {} has failed that could be tried again", self.name());
            return Err(ApiError::new(Code::UnknownDeployment, error).next(format!("slotctl status {}", self.name())));
        }
        self.noted(Verb::Retry, None, caller, message);
        Ok(Accepted::Again { files })
    }
}
