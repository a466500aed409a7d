//! What the control server asks of the agents: a handle, never the state.

use std::future::Future;
use std::path::PathBuf;

use tokio::sync::broadcast;

use crate::model::deployment::{Report, Say};
use crate::model::{AppName, DeploymentId, SlotName};

use super::api::{
    Accepted, ActivateRequest, ApiError, AppStatus, BuildLog, DaemonStatus, DeployedStaged, DiffQuery, Difference,
    Event, FreezeRequest, Frozen, PastEvent, PinRequest, Pinned, PlanQuery, Planned, PruneQuery, Pruned,
    QuarantineItem, RedeployRequest, RetryRequest, RollbackRequest, SayRequest, ScaleRequest, SetAnswer, SetRequest,
    Setting, SlotDetail, SlotInfo, Staged, UnpinRequest, UploadQuery, Uploaded,
};

/// Who asks, by the peer credentials of the connection; never by a PID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Effective user.
    pub uid: u32,
    /// Their name, or "uid 1000" where there is none.
    pub name: String,
}

/// Answers the verbs of the API.
///
/// What changes something runs to its end even if the caller goes away: the server calls it in a task of its own.
pub trait Service: Clone + Send + Sync + 'static {
    /// Everything at a glance.
    fn status(&self) -> impl Future<Output = DaemonStatus> + Send;
    /// One app.
    fn app(&self, app: &AppName) -> impl Future<Output = Result<AppStatus, ApiError>> + Send;
    /// Its slots, highest version first.
    fn slots(&self, app: &AppName) -> impl Future<Output = Result<Vec<SlotInfo>, ApiError>> + Send;
    /// One slot.
    fn slot(&self, app: &AppName, slot: &SlotName) -> impl Future<Output = Result<SlotDetail, ApiError>> + Send;
    /// The most bytes that an upload of this app may have.
    fn upload_limit(&self, app: &AppName) -> impl Future<Output = Result<u64, ApiError>> + Send;
    /// Whether so many bytes more have room beside what has to stay free; asked before an upload and while it comes.
    fn upload_room(&self, app: &AppName, bytes: u64) -> impl Future<Output = Result<(), ApiError>> + Send;
    /// Where the bytes of an upload are put while they arrive: the name, not yet taken, of a file in the app's
    /// spool. The server makes the file, and removes it unless all bytes came.
    fn upload_path(&self, app: &AppName) -> impl Future<Output = Result<PathBuf, ApiError>> + Send;
    /// Takes the bytes in, which are written and not yet flushed to the disk; the file at `path` is removed
    /// whatever comes.
    fn upload(
        &self,
        app: &AppName,
        path: PathBuf,
        query: UploadQuery,
        caller: Caller,
    ) -> impl Future<Output = Result<Uploaded, ApiError>> + Send;
    /// What a deployment to a slot would do.
    fn plan(
        &self,
        app: &AppName,
        slot: &SlotName,
        query: PlanQuery,
    ) -> impl Future<Output = Result<Planned, ApiError>> + Send;
    /// What `redeploy` by the way that is set would do.
    fn plan_route(&self, app: &AppName, query: PlanQuery) -> impl Future<Output = Result<Planned, ApiError>> + Send;
    /// What `deploy-staged` would do; the slot that it would bring live is made, if it isn't there.
    fn plan_staged(
        &self,
        app: &AppName,
        query: PlanQuery,
        caller: Caller,
    ) -> impl Future<Output = Result<Planned, ApiError>> + Send;
    /// Makes a slot live.
    fn activate(
        &self,
        app: &AppName,
        request: ActivateRequest,
        caller: Caller,
    ) -> impl Future<Output = Result<Accepted, ApiError>> + Send;
    /// Goes back.
    fn rollback(
        &self,
        app: &AppName,
        request: RollbackRequest,
        caller: Caller,
    ) -> impl Future<Output = Result<Accepted, ApiError>> + Send;
    /// Has another number of instances run, of the live slot and of all that come.
    fn scale(
        &self,
        app: &AppName,
        request: ScaleRequest,
        caller: Caller,
    ) -> impl Future<Output = Result<Accepted, ApiError>> + Send;
    /// A word to the app's deployment under way; answers once it is heard, not once what it asks for is done.
    fn say(
        &self,
        app: &AppName,
        say: Say,
        request: SayRequest,
        caller: Caller,
    ) -> impl Future<Output = Result<Accepted, ApiError>> + Send;
    /// Tries what failed last again, now.
    fn retry(
        &self,
        app: &AppName,
        request: RetryRequest,
        caller: Caller,
    ) -> impl Future<Output = Result<Accepted, ApiError>> + Send;
    /// Removes what retention doesn't keep.
    fn prune(
        &self,
        app: &AppName,
        query: PruneQuery,
        caller: Caller,
    ) -> impl Future<Output = Result<Pruned, ApiError>> + Send;
    /// Every setting, with its origin; `reveal`: also those of which others are shown the key alone.
    fn settings(&self, app: &AppName, reveal: bool) -> impl Future<Output = Result<Vec<Setting>, ApiError>> + Send;
    /// Chooses a setting, over the app's file.
    fn set(
        &self,
        app: &AppName,
        request: SetRequest,
        caller: Caller,
    ) -> impl Future<Output = Result<SetAnswer, ApiError>> + Send;
    /// How what is live differs from what is set, or two slots from one another.
    fn diff(&self, app: &AppName, query: DiffQuery) -> impl Future<Output = Result<Difference, ApiError>> + Send;
    /// What waits to be deployed.
    fn staged(&self, app: &AppName) -> impl Future<Output = Result<Vec<Staged>, ApiError>> + Send;
    /// Deploys all of that at once.
    fn deploy_staged(
        &self,
        app: &AppName,
        request: RedeployRequest,
        caller: Caller,
    ) -> impl Future<Output = Result<DeployedStaged, ApiError>> + Send;
    /// Deploys what is live once more, without anything that is staged.
    fn redeploy(
        &self,
        app: &AppName,
        request: RedeployRequest,
        caller: Caller,
    ) -> impl Future<Output = Result<Accepted, ApiError>> + Send;
    /// Keeps a slot, or has the app stay on what is live.
    fn pin(
        &self,
        app: &AppName,
        request: PinRequest,
        caller: Caller,
    ) -> impl Future<Output = Result<Pinned, ApiError>> + Send;
    /// Lifts a pin.
    fn unpin(
        &self,
        app: &AppName,
        request: UnpinRequest,
        caller: Caller,
    ) -> impl Future<Output = Result<Pinned, ApiError>> + Send;
    /// Has an app, or all of them, go forward no more.
    fn freeze(
        &self,
        app: Option<&AppName>,
        request: FreezeRequest,
        caller: Caller,
    ) -> impl Future<Output = Result<Frozen, ApiError>> + Send;
    /// Lifts a freeze.
    fn unfreeze(&self, app: Option<&AppName>, caller: Caller) -> impl Future<Output = Result<Frozen, ApiError>> + Send;
    /// The quarantined slots.
    fn quarantined(&self, app: &AppName) -> impl Future<Output = Result<Vec<QuarantineItem>, ApiError>> + Send;
    /// Lifts a quarantine.
    fn quarantine_clear(
        &self,
        app: &AppName,
        slot: &SlotName,
        message: Option<String>,
        caller: Caller,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;
    /// Past deployments, newest first.
    fn history(&self, app: &AppName, limit: u32) -> impl Future<Output = Result<Vec<Report>, ApiError>> + Send;
    /// One deployment, under way or past.
    fn deployment(&self, id: &DeploymentId) -> impl Future<Output = Result<Report, ApiError>> + Send;
    /// Past events of the app, newest first.
    fn past_events(&self, app: &AppName, limit: u32) -> impl Future<Output = Result<Vec<PastEvent>, ApiError>> + Send;
    /// Events from now on. A receiver that lags is told so and asks for the state again.
    fn events(&self) -> broadcast::Receiver<Event>;
    /// What the build of a slot said, or says.
    fn build_log(&self, app: &AppName, slot: &SlotName) -> impl Future<Output = Result<BuildLog, ApiError>> + Send;
    /// The units of a slot, or the app's own and the live slot's, for `logs`: names and shell patterns
    /// (`web@1.4.2.service`, `web@1.4.2@*.service`) as `journalctl --unit` takes them.
    fn units(
        &self,
        app: &AppName,
        slot: Option<&SlotName>,
    ) -> impl Future<Output = Result<Vec<String>, ApiError>> + Send;
}
