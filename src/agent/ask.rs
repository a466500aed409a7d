//! What an app's task is asked, and what it shows of itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::config::AppSettings;
use crate::control::api::{
    Accepted, ActivateRequest, ApiError, DeployedStaged, FreezeRequest, Frozen, PinRequest, Pinned, PruneQuery, Pruned,
    RedeployRequest, RefusedItem, RetryRequest, RollbackRequest, ScaleRequest, SetAnswer, SetRequest, SlotInfo, Staged,
    UnpinRequest, UploadQuery, Uploaded, WaitingItem,
};
use crate::control::service::Caller;
use crate::model::deployment::Say;
use crate::model::release::Provenance;
use crate::model::slot::Pin;
use crate::model::{DeploymentId, Fault, Freeze, Report, SlotName, SlotState, Timestamp};
use crate::slots::SlotStore;

use super::build::Now;

/// The answer to one question.
pub type Answer<T> = oneshot::Sender<Result<T, ApiError>>;

/// A handle to an app's task.
#[derive(Clone)]
pub struct AppHandle {
    /// Its questions.
    pub asks: mpsc::Sender<Ask>,
}

impl AppHandle {
    /// How the app stands; `None` if its task is gone.
    pub async fn view(&self) -> Option<View> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask::View(answer)).await.ok()?;
        answered.await.ok()
    }

    /// What would go live next, by itself or by an operator's word.
    pub async fn goes_next(&self) -> Option<SlotName> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask::GoesNext(answer)).await.ok()?;
        answered.await.ok()?
    }
}

/// A question, or a wish.
pub enum Ask {
    /// How it stands, without asking systemd.
    View(oneshot::Sender<View>),
    /// Take in the bytes at this path.
    Upload(PathBuf, UploadQuery, Caller, Answer<Uploaded>),
    /// Make a slot live.
    Activate(ActivateRequest, Caller, Answer<Accepted>),
    /// Go back.
    Rollback(RollbackRequest, Caller, Answer<Accepted>),
    /// What would go live next, by itself or by an operator's word.
    GoesNext(oneshot::Sender<Option<SlotName>>),
    /// Make that live, before this deployment of another app.
    GoAhead(DeploymentId, Caller, Answer<Option<DeploymentId>>),
    /// Run another number of instances.
    Scale(ScaleRequest, Caller, Answer<Accepted>),
    /// A word to the deployment under way.
    Say(Say, Option<String>, Caller, Answer<Accepted>),
    /// Try again what failed last.
    Retry(RetryRequest, Caller, Answer<Accepted>),
    /// Remove what isn't kept; or only say what that is.
    Prune {
        /// Only say; and why.
        query: PruneQuery,
        /// Who.
        caller: Caller,
        /// Where to.
        answer: Answer<Pruned>,
    },
    /// Keep a slot, or stay on what is live.
    Pin(PinRequest, Caller, Answer<Pinned>),
    /// Lift a pin.
    Unpin(UnpinRequest, Caller, Answer<Pinned>),
    /// Go forward no more, for a time.
    Freeze(FreezeRequest, Caller, Answer<Frozen>),
    /// Go forward again.
    Unfreeze(Caller, Answer<Frozen>),
    /// All apps are frozen, or no longer: look.
    Look,
    /// Lift a quarantine.
    Clear(SlotName, Option<String>, Caller, Answer<()>),
    /// What waits to be deployed.
    Staged(Answer<Vec<Staged>>),
    /// Make the slot that `deploy-staged` would bring live, for a plan of it.
    Prepare(Caller, Answer<SlotName>),
    /// Deploy all of that.
    DeployStaged(RedeployRequest, Caller, Answer<DeployedStaged>),
    /// Deploy what is live once more.
    Redeploy(RedeployRequest, Caller, Answer<Accepted>),
    /// Choose a setting.
    Set(SetRequest, Caller, Answer<SetAnswer>),
    /// Take other settings from now on.
    Settings {
        /// What the app's file says.
        file: Arc<AppSettings>,
        /// That, with what operators chose over it.
        settings: Arc<AppSettings>,
        /// How often the inbox is looked through.
        rescan: Duration,
    },
    /// The settings file is gone: deploy nothing more.
    Orphan,
}

impl Ask {
    /// What was asked needs a slot that couldn't be built.
    pub fn refuse(self, error: ApiError) {
        // Nobody may be left who waits for it.
        match self {
            Ask::Prepare(_, answer) => drop(answer.send(Err(error))),
            Ask::GoAhead(_, _, answer) => drop(answer.send(Err(error))),
            Ask::DeployStaged(_, _, answer) => drop(answer.send(Err(error))),
            // Nothing else is put off for a build.
            _ => {}
        }
    }
}

/// An artifact that is being taken in.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The slot that it is to become, where that is known.
    pub slot: Option<SlotName>,
    /// Where it stands.
    pub now: Now,
    /// Since when.
    pub since: Timestamp,
    /// Who brought it.
    pub by: String,
    /// Their message.
    pub message: Option<String>,
}

impl Taken {
    /// Its line in the list of slots.
    pub fn info(&self) -> Option<SlotInfo> {
        let state = match &self.now {
            Now::Processing => SlotState::Processing,
            Now::Waiting(_) => SlotState::Waiting { reason: "other builds come first".to_owned() },
            Now::Building(..) => SlotState::Building,
        };
        Some(SlotInfo {
            slot: self.slot.clone()?,
            state,
            fallback: false,
            pinned: None,
            waits: None,
            barred: None,
            artifact: None,
            created: self.since,
            bytes: 0,
            by: self.by.clone(),
            message: self.message.clone(),
            release: Provenance::default(),
        })
    }
}

/// An app without what only systemd knows.
#[derive(Clone)]
pub struct View {
    /// Its settings.
    pub settings: Arc<AppSettings>,
    /// Its slots.
    pub store: Arc<SlotStore>,
    /// Whether its settings file is gone.
    pub orphaned: bool,
    /// The deployment under way, or queued.
    pub deployment: Option<Report>,
    /// The one that waits for it.
    pub queued: Option<Report>,
    /// The one that ended last.
    pub last: Option<Report>,
    /// The live slot crash-loops.
    pub crash_loop: Option<Fault>,
    /// What waits.
    pub waiting: Vec<WaitingItem>,
    /// What is being taken in.
    pub taking: Option<Taken>,
    /// What was refused and is still in the inbox.
    pub refused: Vec<RefusedItem>,
    /// Why the app's state can't be brought in order; tried again by itself.
    pub fault: Option<Fault>,
    /// What is wrong with its inbox.
    pub problem: Option<Fault>,
    /// Why nothing goes live by itself, if somebody said so.
    pub pinned: Option<Pin>,
    /// What keeps it from going forward.
    pub frozen: Option<Freeze>,
    /// What is wanted at a time to come, or was refused at its time.
    pub scheduled: Option<Report>,
    /// What an operator should know.
    pub notes: Vec<String>,
}
