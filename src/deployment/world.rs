//! What the driver needs of the world: effects performed, and a limit for each.

use std::future::Future;
use std::time::Duration;

use crate::model::Report;
use crate::model::measured::SeenOutside;

use super::effect::Effect;
use super::facts::Facts;
use super::machine::{Failure, Observed};
use super::stage::{Ruling, Stage};

/// Where a deployment stands when an effect is performed.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// What it is about.
    pub facts: &'a Facts,
    /// The stage; none while it closes.
    pub stage: Option<&'a Stage>,
    /// How it ends, once that is decided.
    pub ruling: Option<&'a Ruling>,
    /// What people are shown.
    pub report: &'a Report,
}

/// Performs the effects of a deployment.
///
/// Each effect asks for what is and does what is missing, so that performing it twice is performing it once. Each has
/// a bound of its own and ends with an error when it passes.
pub trait World: Sync {
    /// Performs `effect`.
    fn perform(&self, effect: &Effect, context: Context<'_>) -> impl Future<Output = Result<Observed, Failure>> + Send;

    /// The longest that `effect` may take: shown to people, and the hold mark is renewed for it.
    fn limit(&self, effect: &Effect) -> Duration;

    /// What users at the outside address have seen since this world began, where it is watched.
    fn seen_outside(&self) -> Option<SeenOutside> {
        None
    }

    /// Tells everybody how the deployment stands.
    fn publish(&self, report: &Report);
}
