//! Hints that something in an inbox changed, from inotify.
//!
//! All inboxes share one inotify instance, since an ordinary host gives 128 to a user. Hints are kept by name, the last
//! one for each, so that a long upload costs one entry; where there would be too many, or where the kernel says that
//! it lost some, only that is kept: look at everything.
//!
//! That something is written to is no reason to look: the close will be. Only the first write to a file that was seen
//! empty is one, since what was said of it isn't true any more; for such names the watch is armed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::settle::{Evidence, after};

/// Most names of which hints are kept; beyond it everything has to be looked at anyway.
const MAX_NAMES: usize = 4096;

/// The one inotify instance; clones share it.
#[derive(Debug, Clone, Default)]
pub struct WatchHub {
    watcher: Arc<Mutex<Option<RecommendedWatcher>>>,
    inboxes: Inboxes,
}

type Inboxes = Arc<Mutex<HashMap<PathBuf, Arc<Heard>>>>;

/// A watch on one inbox; it ends when it is dropped.
#[derive(Debug)]
pub struct InboxWatch {
    hub: WatchHub,
    dir: PathBuf,
    heard: Arc<Heard>,
}

/// What was heard since the last time.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// By name.
    pub names: BTreeMap<String, Evidence>,
    /// Whether it is worth a look: something was closed, moved or removed, not just written to.
    pub look: bool,
    /// Some hints were lost.
    pub overflow: bool,
    /// The folder itself was moved or removed: nothing more will be heard.
    pub lost: bool,
}

/// Where hints are kept until they are taken.
#[derive(Debug, Default)]
struct Heard {
    kept: Mutex<Kept>,
    wake: Notify,
}

/// One lock for both: between a look and what it arms no write slips through.
#[derive(Debug, Default)]
struct Kept {
    hints: Hints,
    /// Names whose next write is worth a look.
    armed: BTreeSet<String>,
}

/// The folder can't be watched.
#[derive(Debug, thiserror::Error)]
#[error("{path} can't be watched: {source}", path = .path.display())]
pub struct WatchError {
    /// The folder.
    pub path: PathBuf,
    /// Why.
    pub source: notify::Error,
}

impl WatchHub {
    /// Watches `dir`, an absolute path; a watch that was on it before hears nothing more. Blocks for a moment.
    ///
    /// # Errors
    /// The folder isn't there, or the user's share of inotify instances or watches is used up.
    pub fn watch(&self, dir: &Path) -> Result<InboxWatch, WatchError> {
        let failed = |source| WatchError { path: dir.to_owned(), source };
        let heard = Arc::new(Heard::default());
        let mut watcher = lock(&self.watcher);
        // Before the watch begins, so that its first event finds its way.
        lock(&self.inboxes).insert(dir.to_owned(), heard.clone());
        let watch = InboxWatch { hub: self.clone(), dir: dir.to_owned(), heard };
        let result = begin(&mut watcher, &self.inboxes, dir);
        // The guard goes first: should it have failed, dropping the watch takes the lock again.
        drop(watcher);
        result.map_err(failed)?;
        Ok(watch)
    }
}

fn begin(watcher: &mut Option<RecommendedWatcher>, inboxes: &Inboxes, dir: &Path) -> Result<(), notify::Error> {
    let watcher = match watcher {
        Some(watcher) => watcher,
        None => {
            let inboxes = inboxes.clone();
            watcher.insert(notify::recommended_watcher(move |event| dispatch(&inboxes, event))?)
        }
    };
    // A watch that a moved folder took with it would hide the new one; there being none is the ordinary case.
    let _ = watcher.unwatch(dir);
    watcher.watch(dir, RecursiveMode::NonRecursive)
}

impl InboxWatch {
    /// Waits until there are hints that are worth a look. Can be dropped at any time without losing one.
    pub async fn changed(&self) {
        self.heard.wake.notified().await;
    }

    /// What was heard since the last time.
    pub fn take(&self) -> Hints {
        std::mem::take(&mut lock(&self.heard.kept).hints)
    }

    /// Has the next write to each of these names, and of no others, be worth a look; one that was heard since the last
    /// [`InboxWatch::take`] is it already.
    pub fn arm(&self, names: BTreeSet<String>) {
        let mut kept = lock(&self.heard.kept);
        let written = |name: &String| kept.hints.names.get(name) == Some(&Evidence::Writing);
        let missed = names.iter().any(written);
        kept.armed = names;
        if missed {
            kept.hints.look = true;
            drop(kept);
            self.heard.wake.notify_one();
        }
    }

    /// As if the kernel had said that it lost events.
    #[cfg(test)]
    pub(super) fn overflow(&self) {
        dispatch(&self.hub.inboxes, Ok(Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan)));
    }
}

impl Drop for InboxWatch {
    fn drop(&mut self) {
        let mut watcher = lock(&self.hub.watcher);
        let mut inboxes = lock(&self.hub.inboxes);
        let ours = inboxes.get(&self.dir).is_some_and(|heard| Arc::ptr_eq(heard, &self.heard));
        if ours {
            inboxes.remove(&self.dir);
            drop(inboxes);
            if let Some(watcher) = watcher.as_mut() {
                // It may be gone already, with its folder.
                let _ = watcher.unwatch(&self.dir);
            }
        }
    }
}

/// Brings an event to the inbox that it is about.
fn dispatch(inboxes: &Inboxes, event: Result<Event, notify::Error>) {
    let inboxes = lock(inboxes);
    let event = match event {
        Ok(event) if !event.need_rescan() => event,
        Ok(_) => return inboxes.values().for_each(|heard| heard.note(|hints| hints.overflow = true)),
        Err(error) => {
            tracing::warn!(%error, "inotify failed; the inboxes are looked through");
            return inboxes.values().for_each(|heard| heard.note(|hints| hints.overflow = true));
        }
    };
    // With a rename inside one folder a second event names both paths; the first has said it all.
    let Some(path) = event.paths.first().filter(|_| event.paths.len() == 1) else { return };
    if let Some(heard) = inboxes.get(path) {
        if matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))) {
            heard.note(|hints| hints.lost = true);
        }
    } else if let Some(heard) = path.parent().and_then(|dir| inboxes.get(dir))
        && let Some(name) = path.file_name()
        // slotd's own files on their way are hidden; no artifact is.
        && !name.as_encoded_bytes().starts_with(b".")
    {
        heard.event(name.to_string_lossy().into_owned(), event.kind);
    }
}

impl Heard {
    fn event(&self, name: String, kind: EventKind) {
        let heard = match kind {
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Evidence::MovedIn,
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => Evidence::Closed,
            EventKind::Create(CreateKind::Folder) => Evidence::Made,
            EventKind::Create(_) => Evidence::New,
            EventKind::Modify(ModifyKind::Metadata(_)) => Evidence::Touched,
            EventKind::Modify(ModifyKind::Data(_)) => return self.written(name),
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
                return self.note(|hints| {
                    hints.names.remove(&name);
                });
            }
            _ => return,
        };
        self.note(|hints| hints.hear(name, heard));
    }

    /// Heard of very often, and a reason to look only where it is waited for.
    fn written(&self, name: String) {
        let mut kept = lock(&self.kept);
        let awaited = kept.armed.remove(&name);
        kept.hints.hear(name, Evidence::Writing);
        if awaited {
            kept.hints.look = true;
            drop(kept);
            self.wake.notify_one();
        }
    }

    fn note(&self, note: impl FnOnce(&mut Hints)) {
        let mut kept = lock(&self.kept);
        note(&mut kept.hints);
        kept.hints.look = true;
        drop(kept);
        self.wake.notify_one();
    }
}

impl Hints {
    fn hear(&mut self, name: String, heard: Evidence) {
        if self.names.len() >= MAX_NAMES {
            self.names.clear();
            self.overflow = true;
        }
        let now = after(self.names.get(&name).copied(), heard);
        self.names.insert(name, now);
    }
}

/// Nothing is left half done under these locks, so a panic elsewhere is no reason to follow.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::DataChange;

    const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));

    fn watch() -> InboxWatch {
        let heard = Arc::new(Heard::default());
        InboxWatch { hub: WatchHub::default(), dir: "/nowhere".into(), heard }
    }

    async fn wakes(watch: &InboxWatch) -> bool {
        let mut changed = std::pin::pin!(watch.changed());
        std::future::poll_fn(|context| std::task::Poll::Ready(changed.as_mut().poll(context).is_ready())).await
    }

    #[tokio::test]
    async fn the_first_write_to_an_armed_name_wakes_and_no_later_one() {
        let watch = watch();
        let names = || BTreeSet::from(["web-1.tar".to_owned()]);
        watch.heard.event("web-1.tar".into(), WRITTEN);
        assert!(!wakes(&watch).await && !watch.take().look, "a write alone is no reason to look");
        watch.arm(names());
        watch.heard.event("web-2.tar".into(), WRITTEN);
        assert!(!wakes(&watch).await, "another file's");
        watch.heard.event("web-1.tar".into(), WRITTEN);
        assert!(wakes(&watch).await && watch.take().look);
        watch.heard.event("web-1.tar".into(), WRITTEN);
        assert!(!wakes(&watch).await && !watch.take().look, "once");
        // Heard after the look and before the arming.
        watch.heard.event("web-1.tar".into(), WRITTEN);
        watch.arm(names());
        assert!(wakes(&watch).await && watch.take().look);
    }
}
