//! The apps by name: tasks begun and ended as settings files come and go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::config::daemon::AtOnce;
use crate::config::{AppSettings, Apps, BrokenApp, HistoryKeeps};
use crate::control::api::ApiError;
use crate::deployment::neighbours::Neighbour;
use crate::deployment::reach::in_force;
use crate::inbox::WatchHub;
use crate::model::{AppName, Code, Fault, Layout, Timestamp};
use crate::slots::SlotStore;
use crate::units::UnitControl;

use super::app;
use super::ask::{AppHandle, Ask};
use super::deploy::Ground;
use super::orphan;
use super::set::with_chosen;
use super::shared::Shared;

/// All apps. Clones are handles to the same.
#[derive(Clone)]
pub struct Registry<U: UnitControl> {
    pub(super) shared: Shared<U>,
    hub: WatchHub,
    rescan: Arc<Mutex<Duration>>,
    pub(super) since: Timestamp,
    health: Arc<Mutex<BTreeMap<String, Fault>>>,
}

impl<U: UnitControl> Registry<U> {
    /// No apps yet.
    pub fn new(shared: Shared<U>, hub: WatchHub, rescan: Duration) -> Self {
        let rescan = Arc::new(Mutex::new(rescan));
        Registry { shared, hub, rescan, since: Timestamp::now(), health: Arc::default() }
    }

    /// How often the inboxes are looked through though nothing was heard.
    pub fn rescan(&self) -> Duration {
        *lock(&self.rescan)
    }

    /// The same from the next [`Registry::load`] on.
    pub fn set_rescan(&self, rescan: Duration) {
        *lock(&self.rescan) = rescan;
    }

    /// How much is done at a time, from now on.
    pub fn set_at_once(&self, at_once: AtOnce) {
        self.shared.turns.set(at_once);
    }

    /// Brings the apps in line with their settings files: new ones begin, changed ones take the change, and those whose
    /// file is gone deploy nothing more; they are shown as long as they have slots. One with a broken file keeps its
    /// last good settings, and health says so.
    pub async fn load(&self, loaded: Apps) {
        let broken: Vec<AppName> = loaded.broken.iter().filter_map(|broken| broken.name.clone()).collect();
        self.set_health(
            "config",
            loaded.broken.iter().map(|broken| (broken.file.display().to_string(), fault(broken))),
        );
        let good: Vec<AppName> = loaded.good.iter().map(|settings| settings.name.clone()).collect();
        // All of them first: a task that begins may look at any other app.
        loaded.good.iter().for_each(|settings| self.introduce(settings));
        for settings in loaded.good {
            self.begin_or_change(settings).await;
        }
        self.shared.directory.is_complete();
        if loaded.broken.iter().any(|broken| broken.name.is_none() && !broken.file.is_file()) {
            // The folder itself can't be read, so nothing says that a file is gone.
            return;
        }
        let gone: Vec<AppHandle> = {
            let apps = self.shared.directory.apps();
            let gone = apps.iter().filter(|(name, _)| !good.contains(name) && !broken.contains(name));
            gone.map(|(_, handle)| handle.clone()).collect()
        };
        for handle in gone {
            // A task that is gone needs no telling.
            let _ = handle.asks.send(Ask::Orphan).await;
        }
        for name in orphan::with_slots(&self.shared.state_dir, &self.shared.run_dir) {
            // Nobody knows what a broken file would say; health tells of it.
            let known = broken.contains(&name) || self.shared.directory.apps().contains_key(&name);
            if !known {
                self.begin_orphan(name);
            }
        }
    }

    /// Lets the others know of an app, by its settings as they are now.
    fn introduce(&self, settings: &AppSettings) {
        let (name, neighbours) = (&settings.name, &self.shared.directory.neighbours);
        let known = neighbours.get(name).map(|neighbour| neighbour.store);
        if let Some(store) = known.or_else(|| self.open(name)) {
            let settings = Some(Arc::new(in_force(settings, &store)));
            neighbours.put(name.clone(), Neighbour { settings, store });
        }
    }

    async fn begin_or_change(&self, settings: AppSettings) {
        let name = settings.name.clone();
        let layout = Layout::new(&self.shared.state_dir, &self.shared.run_dir, name.clone());
        let file = Arc::new(settings.clone());
        let (settings, fault) = with_chosen(settings, &layout);
        let settings = Arc::new(settings);
        self.set_health(&format!("chosen:{name}"), fault.into_iter().map(|fault| (String::new(), fault)));
        if let Some(handle) = self.shared.directory.handle(&name) {
            let _ = handle.asks.send(Ask::Settings { file, settings, rescan: self.rescan() }).await;
            return;
        }
        let Some(Neighbour { store, .. }) = self.shared.directory.neighbours.get(&name) else { return };
        let ground = Ground { settings, store, shared: self.shared.clone() };
        let (handle, task) = app::spawn(ground, file, self.hub.clone(), self.rescan());
        self.shared.directory.apps().insert(name.clone(), handle);
        self.miss(name, task);
    }

    /// An app that has slots and no settings file.
    fn begin_orphan(&self, name: AppName) {
        let Some(store) = self.open(&name) else { return };
        let neighbour = Neighbour { settings: None, store: Arc::clone(&store) };
        self.shared.directory.neighbours.put(name.clone(), neighbour);
        match orphan::spawn(&name, store, self.shared.clone(), self.hub.clone()) {
            Ok((handle, task)) => {
                tracing::warn!(SLOTD_APP = name.as_str(), "{name} has slots and no settings file");
                self.shared.directory.apps().insert(name.clone(), handle);
                self.miss(name, task);
            }
            Err(fault) => {
                lock(&self.health).insert(format!("state:{name}"), fault);
            }
        }
    }

    /// The app's slots; health says why they can't be opened.
    fn open(&self, name: &AppName) -> Option<Arc<SlotStore>> {
        let layout = Layout::new(&self.shared.state_dir, &self.shared.run_dir, name.clone());
        let key = format!("state:{name}");
        match SlotStore::open(layout) {
            Ok((store, warnings)) => {
                for warning in warnings {
                    tracing::warn!(SLOTD_APP = name.as_str(), "{warning}");
                }
                lock(&self.health).remove(&key);
                Some(Arc::new(store))
            }
            Err(error) => {
                tracing::error!(SLOTD_APP = name.as_str(), "{name} can't be served: {error}");
                lock(&self.health).insert(key, error.fault());
                None
            }
        }
    }

    /// Tells if the task of an app ends, which it does by a fault of slotd alone. Its deployment may go on, so it isn't
    /// begun anew beside it: a restart of slotd is, which recovers.
    fn miss(&self, name: AppName, task: JoinHandle<()>) {
        let health = Arc::clone(&self.health);
        tokio::spawn(async move {
            let Err(error) = task.await else { return };
            tracing::error!(SLOTD_APP = name.as_str(), "the task of {name} ended: {error}");
            let fault = Fault::new(Code::Internal, format!("nobody looks after {name}: `systemctl restart slotd`"));
            lock(&health).insert(format!("task:{name}"), fault);
        });
    }

    /// Whether the state of an app couldn't be opened: it isn't served until it is.
    pub fn is_incomplete(&self) -> bool {
        lock(&self.health).keys().any(|key| key.starts_with("state:"))
    }

    /// Replaces what is known to be wrong with one part of slotd.
    pub fn set_health(&self, part: &str, faults: impl Iterator<Item = (String, Fault)>) {
        let mut health = lock(&self.health);
        health.retain(|key, _| !key.starts_with(&format!("{part}:")));
        health.extend(faults.map(|(what, fault)| (format!("{part}:{what}"), fault)));
    }

    /// What is wrong with slotd itself.
    pub async fn health(&self) -> Vec<Fault> {
        let mut faults: Vec<Fault> = lock(&self.health).values().cloned().collect();
        if let Err(error) = self.shared.history.check().await {
            faults.push(error.fault());
        }
        faults
    }

    /// Lets go what the history is not to keep any more; that it can't be is told, and tried again.
    pub async fn prune_history(&self, keeps: HistoryKeeps) {
        if let Err(error) = self.shared.history.prune(keeps.deployments, keeps.events).await {
            tracing::warn!("the history isn't pruned: {error}");
        }
    }

    /// What is wrong with the app's settings file, while its last good settings are in force.
    pub(super) fn broken_file(&self, app: &AppName) -> Option<Fault> {
        let name = format!("/{app}.toml");
        let health = lock(&self.health);
        let broken = health.iter().find(|(key, _)| key.starts_with("config:") && key.ends_with(&name));
        broken.map(|(_, fault)| fault.clone())
    }

    /// One app more, whose task is a test's.
    #[cfg(test)]
    pub(super) fn put(&self, name: AppName, handle: AppHandle) {
        self.shared.directory.apps().insert(name, handle);
    }

    /// All apps, by name.
    pub fn all(&self) -> Vec<(AppName, AppHandle)> {
        self.shared.directory.apps().iter().map(|(name, handle)| (name.clone(), handle.clone())).collect()
    }

    /// One app.
    pub fn get(&self, name: &AppName) -> Result<AppHandle, ApiError> {
        self.shared.directory.handle(name).ok_or_else(|| {
            ApiError::new(Code::UnknownApp, format!("there is no app {name}"))
                .next(format!("slotctl status; slotctl check {name}; slotctl new {name}"))
        })
    }
}

/// All errors of a file as one fault; its settings from before stay in force.
fn fault(broken: &BrokenApp) -> Fault {
    let errors: Vec<String> = broken.errors.iter().map(ToString::to_string).collect();
    let code = broken.errors.first().map_or(Code::ConfigInvalid, |error| error.code);
    Fault::new(code, errors.join("\n"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it guards is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, watch};

    use super::*;
    use crate::agent::directory::Directory;
    use crate::agent::shared::{Events, Turns};
    use crate::history::History;
    use crate::units::fake::FakeUnits;

    #[tokio::test]
    async fn a_folder_that_cannot_be_read_orphans_nobody() {
        let base = tempfile::tempdir().expect("a folder");
        let shared = Shared {
            units: FakeUnits::new(),
            history: History::open(base.path().join("history.db")),
            worker: "/nonexistent".into(),
            events: Events::new(),
            turns: Turns::new(Default::default()),
            run_dir: base.path().into(),
            state_dir: base.path().into(),
            directory: Directory::new(),
            stopping: watch::Sender::new(false),
        };
        let registry = Registry::new(shared, WatchHub::default(), Duration::from_secs(60));
        let (asks, mut asked) = mpsc::channel(4);
        registry.put("web".parse().expect("a name"), AppHandle { asks });

        let missing = crate::config::load_apps(&base.path().join("apps"), &Default::default());
        registry.load(missing).await;
        assert!(asked.try_recv().is_err(), "nothing says that its file is gone");
        assert_eq!(registry.health().await.len(), 1);

        std::fs::create_dir(base.path().join("apps")).expect("made");
        registry.load(crate::config::load_apps(&base.path().join("apps"), &Default::default())).await;
        assert!(matches!(asked.try_recv(), Ok(Ask::Orphan)));
    }
}
