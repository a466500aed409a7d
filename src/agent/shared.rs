//! What the tasks of all apps share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{Semaphore, broadcast, watch};

use crate::control::api::{Event, EventKind};
use crate::history::History;
use crate::model::{AppName, Timestamp};

use super::directory::Directory;

/// Events that a slow listener may lag behind before it is told to ask again.
const EVENTS_KEPT: usize = 1024;

/// Artifacts unpacked at once, over all apps: unpacking is bound by one core and the disk.
const INTAKES_AT_ONCE: usize = 2;

/// Builds at once, over all apps: each may take all the cores that its slice leaves it.
const BUILDS_AT_ONCE: usize = 2;

/// What the tasks of all apps share.
#[derive(Clone)]
pub struct Shared<U> {
    /// systemd.
    pub units: U,
    /// The past.
    pub history: History,
    /// The binary that the unpack worker is, normally slotd itself.
    pub worker: PathBuf,
    /// What happens, for whoever listens.
    pub events: Events,
    /// Turns for unpacking, and for builds.
    pub turns: Turns,
    /// The tmpfs folder with hold marks.
    pub run_dir: PathBuf,
    /// Where slots and inboxes lie.
    pub state_dir: PathBuf,
    /// All apps.
    pub directory: Directory,
    /// Whether slotd goes: deployments are left as they are, for the next start.
    pub stopping: watch::Sender<bool>,
}

/// The stream of events, numbered while the daemon runs.
#[derive(Clone)]
pub struct Events {
    sender: broadcast::Sender<Event>,
    next: Arc<AtomicU64>,
    order: Arc<Mutex<()>>,
}

impl Events {
    /// A stream with nobody listening yet.
    pub fn new() -> Self {
        Events {
            sender: broadcast::Sender::new(EVENTS_KEPT),
            next: Arc::new(AtomicU64::new(1)),
            order: Arc::new(Mutex::new(())),
        }
    }

    /// Tells of `what`. That nobody listens is fine.
    pub fn tell(&self, app: &AppName, what: EventKind) {
        // Number and place in the stream must agree.
        let _order = self.order.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let seq = self.next.fetch_add(1, Ordering::Relaxed);
        let _ = self.sender.send(Event { seq, at: Timestamp::now(), app: app.clone(), what });
    }

    /// Listens from now on.
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }
}

impl Default for Events {
    fn default() -> Self {
        Events::new()
    }
}

/// Turns for what is done to few artifacts at a time, over all apps.
#[derive(Debug, Clone)]
pub struct Turns {
    /// To be unpacked.
    pub intakes: Arc<Semaphore>,
    /// To be built.
    pub builds: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Self {
        let of = |turns| Arc::new(Semaphore::new(turns));
        Turns { intakes: of(INTAKES_AT_ONCE), builds: of(BUILDS_AT_ONCE) }
    }
}
