//! What was: deployments and events, in SQLite. Only this room knows SQL.
//!
//! Nothing depends on it. The file system is the truth about what is; a history that can't be written or read is an
//! item of `status` and never a reason not to deploy or not to roll back. So opening it can't fail: the file is
//! opened by the first call that needs it, and again by the next one after a failure, which is all that it takes to
//! go on after a person has moved a damaged file away or made room.
//!
//! One thread owns the connection, since SQLite blocks. Callers wait for its answer, [`DEADLINE`] at most.

mod error;
mod schema;
mod store;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::model::{AppName, DeploymentId, Report, Timestamp};

pub use error::HistoryError;
use store::Store;

/// The longest that a call waits.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// How many calls can wait for their turn; a further one waits for a place.
const MAX_QUEUED: usize = 64;

/// Something that happened, in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// To which app; to slotd itself if `None`.
    pub app: Option<AppName>,
    /// In which deployment.
    pub deployment: Option<DeploymentId>,
    /// A stable word for scripts: "artifact.refused", "unit.crash_loop".
    pub kind: String,
    /// A sentence for people.
    pub message: String,
}

/// The history. Clones share one connection.
#[derive(Debug, Clone)]
pub struct History {
    path: Arc<Path>,
    jobs: mpsc::Sender<Job>,
}

type Job = Box<dyn FnOnce(&mut Store) + Send>;

impl History {
    /// The history in the file `path`, which is made when something is first written or read.
    pub fn open(path: impl Into<PathBuf>) -> History {
        let path: PathBuf = path.into();
        let (jobs, mut queue) = mpsc::channel::<Job>(MAX_QUEUED);
        let mut store = Store::new(path.clone());
        let thread = std::thread::Builder::new().name("history".into()).spawn(move || {
            while let Some(job) = queue.blocking_recv() {
                job(&mut store);
            }
        });
        if let Err(error) = thread {
            // The queue went with the thread, so every call says `Gone`.
            tracing::error!(%error, "no thread for the history");
        }
        History { path: path.into(), jobs }
    }

    /// Whether it can be opened, brought to this version's form and read.
    ///
    /// # Errors
    /// [`HistoryError`], as for every call below.
    pub async fn check(&self) -> Result<(), HistoryError> {
        self.call(Store::check).await
    }

    /// Writes `report`, over what was written of the same deployment before.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn record(&self, report: &Report) -> Result<(), HistoryError> {
        let report = report.clone();
        self.call(move |store| store.record(&report)).await
    }

    /// The newest deployments of `app`, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn deployments(&self, app: &AppName, limit: u32) -> Result<Vec<Report>, HistoryError> {
        let app = app.clone();
        self.call(move |store| store.deployments(&app, limit)).await
    }

    /// One deployment; the newest, if a number was given twice because an older history was lost.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn deployment(&self, id: &DeploymentId) -> Result<Option<Report>, HistoryError> {
        let id = id.clone();
        self.call(move |store| store.deployment(&id)).await
    }

    /// The highest number of a deployment of `app`; 0 if there is none.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn highest_number(&self, app: &AppName) -> Result<u64, HistoryError> {
        let app = app.clone();
        self.call(move |store| store.highest_number(&app)).await
    }

    /// Writes an event.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn event(&self, event: Event) -> Result<(), HistoryError> {
        self.call(move |store| store.event(&event)).await
    }

    /// The newest events, of `app` or of all, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn events(&self, app: Option<&AppName>, limit: u32) -> Result<Vec<Event>, HistoryError> {
        let app = app.cloned();
        self.call(move |store| store.events(app.as_ref(), limit)).await
    }

    /// Forgets all but the newest `deployments` of each app and the newest `events` of all.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn prune(&self, deployments: u32, events: u32) -> Result<(), HistoryError> {
        self.call(move |store| store.prune(deployments, events)).await
    }

    async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Store) -> Result<T, HistoryError> + Send + 'static,
    ) -> Result<T, HistoryError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |store| {
            // Who no longer waits has been told so.
            let _ = answer.send(job(store));
        });
        let done = async {
            self.jobs.send(job).await.map_err(|_| HistoryError::Gone)?;
            answered.await.map_err(|_| HistoryError::Gone)?
        };
        let slow = || HistoryError::Slow { path: self.path.to_path_buf(), after: DEADLINE };
        tokio::time::timeout(DEADLINE, done).await.unwrap_or_else(|_| Err(slow()))
    }
}
