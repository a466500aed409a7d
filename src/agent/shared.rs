//! What the tasks of all apps share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};

use crate::config::daemon::AtOnce;
use crate::control::api::{Event, EventKind};
use crate::history::History;
use crate::model::{AppName, Timestamp};

use super::directory::Directory;

/// Events that a slow listener may lag behind before it is told to ask again.
const EVENTS_KEPT: usize = 1024;

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

/// Turns for what is done to few artifacts at a time, over all apps. Clones are handles to the same.
#[derive(Debug, Clone)]
pub struct Turns {
    /// To be unpacked: that is bound by one core and the disk.
    pub intakes: Limit,
    /// To be built.
    pub builds: Limit,
}

impl Turns {
    /// So many at a time.
    pub fn new(at_once: AtOnce) -> Self {
        Turns { intakes: Limit::new(at_once.intakes), builds: Limit::new(at_once.builds) }
    }

    /// The same from now on; what has its turn keeps it.
    pub fn set(&self, at_once: AtOnce) {
        self.intakes.set(at_once.intakes);
        self.builds.set(at_once.builds);
    }
}

/// How many may do something at a time.
#[derive(Debug, Clone)]
pub struct Limit {
    turns: Arc<Semaphore>,
    size: Arc<Mutex<u32>>,
}

impl Limit {
    fn new(size: u32) -> Self {
        Limit { turns: Arc::new(Semaphore::new(places(size))), size: Arc::new(Mutex::new(size)) }
    }

    fn set(&self, size: u32) {
        let mut now = self.size.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match size.checked_sub(*now) {
            Some(more) => self.turns.add_permits(places(more)),
            None => {
                let fewer = *now - size;
                let turns = Arc::clone(&self.turns);
                tokio::spawn(async move {
                    // Those that are taken are given up as they come back.
                    if let Ok(permits) = turns.acquire_many(fewer).await {
                        permits.forget();
                    }
                });
            }
        }
        *now = size;
    }

    /// Waits for a turn, in the order of those who came.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }
}

fn places(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_limit_grows_at_once_and_shrinks_as_turns_end() {
        let soon = std::time::Duration::from_secs(1);
        let limit = Limit::new(1);
        let first = limit.turn().await.expect("a turn");
        assert!(tokio::time::timeout(soon, limit.turn()).await.is_err(), "there is one");
        limit.set(2);
        let second = limit.turn().await.expect("a second turn");
        limit.set(1);
        // It waits for its turn to give one up.
        tokio::task::yield_now().await;
        drop(first);
        assert!(tokio::time::timeout(soon, limit.turn()).await.is_err(), "one is one too many");
        drop(second);
        assert!(limit.turn().await.is_some());
    }
}
