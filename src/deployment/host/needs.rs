//! Whether the apps are up that this one depends on: asked before anything of it is touched.

use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::Instant;

use crate::model::AppName;
use crate::units::UnitControl;

use super::super::machine::{Failure, Observed};
use super::{Host, environment};

/// How long an app may take until it answers: it may have been switched just now.
const PATIENCE: Duration = Duration::from_secs(5);

impl<U: UnitControl> Host<U> {
    /// Asks all of them; the first that isn't up is the fault, and the environment's.
    pub(super) async fn ask_needs(&self, needs: &[AppName]) -> Result<Observed, Failure> {
        try_join_all(needs.iter().map(|on| self.ask_need(on))).await?;
        Ok(Observed::Nothing)
    }

    async fn ask_need(&self, on: &AppName) -> Result<(), Failure> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.neighbours.look(on, &self.units).await {
                Ok(_) => return Ok(()),
                Err(down) if Instant::now() >= end => return Err(environment(down.fault(&self.settings.name, on))),
                Err(_) => tokio::time::sleep(self.settings.proof.interval.min(PATIENCE)).await,
            }
        }
    }
}
