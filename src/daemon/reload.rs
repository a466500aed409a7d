//! Settings that change while the daemon runs: what is taken over, and what waits for a restart.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::agent::registry::Registry;
use crate::config::{DaemonSettings, HistoryKeeps, load_apps, load_daemon};
use crate::control::Access;
use crate::model::{Code, Fault};
use crate::units::UnitControl;

use super::access;
use super::log::Level;

/// An editor writes a file in several steps; they are one change.
const SETTLE: Duration = Duration::from_millis(200);

/// slotd.toml and the folder of app files, watched. What can't be watched is read at SIGHUP only, and that is told.
pub struct Files {
    hints: mpsc::Receiver<()>,
    /// When the pause after a change is over.
    settled: Option<Instant>,
    _watcher: Option<RecommendedWatcher>,
}

impl Files {
    /// Watches the daemon's `file` and the app files in `dir` from now on.
    pub fn watch(file: &Path, dir: &Path) -> Self {
        let (sender, hints) = mpsc::channel(1);
        let (own, apps) = (file.to_path_buf(), dir.to_path_buf());
        let hint = move |event: notify::Result<notify::Event>| {
            let ours = |path: &PathBuf| *path == own || path.starts_with(&apps);
            let passed_over = event.as_ref().is_ok_and(|event| {
                (event.kind.is_access() && !is_close_after_write(event))
                    || (!event.paths.is_empty() && !event.paths.iter().any(ours))
            });
            if !passed_over {
                // One hint in the channel is enough.
                let _ = sender.try_send(());
            }
        };
        let watcher = RecommendedWatcher::new(hint, notify::Config::default());
        let watcher = watcher.inspect_err(|error| unwatched(dir, error)).ok().map(|mut watcher| {
            // An editor puts another file in its place, so its folder is watched.
            for folder in [file.parent().unwrap_or(Path::new("/")), dir] {
                if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                    unwatched(folder, &error);
                }
            }
            watcher
        });
        Files { hints, settled: None, _watcher: watcher }
    }

    /// Waits for a change, and for the pause after it. Who stops waiting in the middle, and comes back, misses nothing.
    pub async fn changed(&mut self) {
        let settled = match self.settled {
            Some(settled) => settled,
            None => match self.hints.recv().await {
                Some(()) => *self.settled.insert(Instant::now() + SETTLE),
                None => std::future::pending().await,
            },
        };
        tokio::time::sleep_until(settled).await;
        while self.hints.try_recv().is_ok() {}
        self.settled = None;
    }
}

fn unwatched(folder: &Path, error: &notify::Error) {
    tracing::warn!("{} can't be watched, `systemctl reload slotd` reads it: {error}", folder.display());
}

fn is_close_after_write(event: &notify::Event) -> bool {
    use notify::event::{AccessKind, AccessMode, EventKind};
    event.kind == EventKind::Access(AccessKind::Close(AccessMode::Write))
}

/// The settings in force, and whom a change of them concerns.
pub struct Settings<U: UnitControl> {
    file: PathBuf,
    in_force: DaemonSettings,
    files: Files,
    registry: Registry<U>,
    access: watch::Sender<Access>,
    log: Level,
}

impl<U: UnitControl> Settings<U> {
    /// Those that the daemon began with, read from `file`; from now on their files are watched.
    pub fn new(file: &Path, settings: DaemonSettings, registry: Registry<U>, log: Level) -> Self {
        // Its folder is watched, also where the command line names it from here. Without a current folder it stays.
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
        Settings {
            files: Files::watch(&file, &settings.apps_dir),
            file,
            access: watch::Sender::new(access::of(&settings.access)),
            in_force: settings,
            registry,
            log,
        }
    }

    /// Who may use the control socket, as it is at any time.
    pub fn access(&self) -> watch::Receiver<Access> {
        self.access.subscribe()
    }

    /// What the history keeps, as it is now.
    pub fn history_keeps(&self) -> HistoryKeeps {
        self.in_force.history_keeps
    }

    /// Waits until a file has changed.
    pub async fn changed(&mut self) {
        self.files.changed().await;
    }

    /// Reads the apps' files.
    pub async fn read_apps(&self) {
        self.registry.load(load_apps(&self.in_force.apps_dir, &self.in_force.defaults)).await;
    }

    /// Reads all files again. A broken slotd.toml leaves the last good settings in force, and what can't change while
    /// the daemon runs stays as it is; health says so of both.
    pub async fn read(&mut self) {
        match load_daemon(&self.file) {
            Ok(settings) => {
                let waiting = waiting(&self.in_force, &settings);
                for (_, fault) in &waiting {
                    tracing::warn!("{}: {fault}", self.file.display());
                }
                self.registry.set_health("slotd.toml", waiting.into_iter());
                self.take_over(settings);
            }
            Err(errors) => {
                let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
                tracing::error!(
                    "{} is broken, the settings from before stay:\n{}",
                    self.file.display(),
                    text.join("\n")
                );
                let fault = Fault::new(Code::ConfigInvalid, text.join("\n"));
                self.registry.set_health("slotd.toml", std::iter::once(("broken".to_owned(), fault)));
            }
        }
        self.read_apps().await;
    }

    fn take_over(&mut self, settings: DaemonSettings) {
        // Groups are looked up anew though their names are the same: they may have been made meanwhile.
        self.access.send_replace(access::of(&settings.access));
        self.log.set(settings.log);
        self.registry.set_rescan(settings.rescan);
        self.registry.set_at_once(settings.at_once);
        if settings.apps_dir != self.in_force.apps_dir {
            self.files = Files::watch(&self.file, &settings.apps_dir);
        }
        let DaemonSettings { state_dir, run_dir, socket, history, .. } = self.in_force.clone();
        self.in_force = DaemonSettings { state_dir, run_dir, socket, history, ..settings };
    }
}

/// What of `read` waits for a restart, by its key.
fn waiting(in_force: &DaemonSettings, read: &DaemonSettings) -> Vec<(String, Fault)> {
    let places = |settings: &DaemonSettings| {
        let DaemonSettings { state_dir, run_dir, socket, history, .. } = settings;
        [
            ("state_dir", state_dir.clone()),
            ("run_dir", run_dir.clone()),
            ("socket", socket.clone()),
            ("history", history.clone()),
        ]
    };
    let pairs = places(in_force).into_iter().zip(places(read));
    let changed = pairs.filter(|((_, now), (_, then))| now != then);
    let told = changed.map(|((key, now), (_, then))| {
        let units = if key == "socket" { "slotd.socket slotd" } else { "slotd" };
        let message = format!(
            "{key} is {}, and {} only after `systemctl restart {units}`: where things lie doesn't change while slotd runs",
            now.display(),
            then.display()
        );
        (key.to_owned(), Fault::new(Code::ConfigInvalid, message))
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::directory::Directory;
    use crate::agent::shared::{Events, Shared, Turns};
    use crate::config::daemon::LogLevel;
    use crate::history::History;
    use crate::inbox::WatchHub;
    use crate::units::fake::FakeUnits;

    /// Settings as the daemon begins with them, in a folder of their own.
    fn begun(folder: &Path) -> Settings<FakeUnits> {
        let shared = Shared {
            units: FakeUnits::new(),
            history: History::open(folder.join("history.db")),
            worker: "/nonexistent".into(),
            events: Events::new(),
            turns: Turns::new(Default::default()),
            run_dir: folder.into(),
            state_dir: folder.into(),
            directory: Directory::new(),
            stopping: watch::Sender::new(false),
        };
        std::fs::create_dir_all(folder.join("apps")).expect("made");
        let settings = DaemonSettings { apps_dir: folder.join("apps"), ..DaemonSettings::default() };
        let registry = Registry::new(shared, WatchHub::default(), settings.rescan);
        Settings::new(&folder.join("slotd.toml"), settings, registry, Level::unheard())
    }

    async fn told(settings: &Settings<FakeUnits>) -> Vec<String> {
        settings.registry.health().await.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn groups_level_and_rescan_are_taken_over_and_noticed_by_themselves() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = begun(folder.path());
        let apps = folder.path().join("apps");
        let text = format!(
            "apps_dir = {apps:?}\nlog = \"debug\"\nrescan = \"7s\"\n[access]\nread_group = \"root\"\noperate_group = \"root\"\n"
        );
        std::fs::write(folder.path().join("slotd.toml"), text).expect("written");
        tokio::time::timeout(Duration::from_secs(20), settings.changed()).await.expect("noticed");
        settings.read().await;
        assert_eq!(*settings.access().borrow(), Access { read_group: Some(0), operate_group: Some(0) });
        assert_eq!(settings.log.get(), LogLevel::Debug);
        assert_eq!(settings.registry.rescan(), Duration::from_secs(7));
        assert!(told(&settings).await.is_empty(), "{:?}", told(&settings).await);
    }

    #[tokio::test]
    async fn a_change_is_noticed_though_other_things_come_in_between() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = begun(folder.path());
        std::fs::write(folder.path().join("apps/web.toml"), "").expect("written");
        // As the daemon's loop does, which turns to what comes first.
        let noticed = async { while tokio::time::timeout(SETTLE / 10, settings.changed()).await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(20), noticed).await.expect("noticed");
    }

    #[tokio::test]
    async fn what_waits_for_a_restart_is_named_until_it_is_as_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = begun(folder.path());
        let (file, apps) = (folder.path().join("slotd.toml"), folder.path().join("apps"));
        std::fs::write(&file, format!("apps_dir = {apps:?}\nstate_dir = \"/srv/slots\"\nlog = \"warn\"\n"))
            .expect("written");
        // Read again it is still not so.
        for _ in 0..2 {
            settings.read().await;
            let told = told(&settings).await;
            assert_eq!(told.len(), 2, "state_dir, and history with it: {told:?}");
            assert!(told.iter().any(|line| line.starts_with("state_dir is /var/lib/slotd, and /srv/slots only after")));
            assert!(told.iter().any(|line| line.starts_with("history is /var/lib/slotd/history.db, and ")), "{told:?}");
            assert_eq!(settings.log.get(), LogLevel::Warn, "the rest is taken over");
        }
        std::fs::write(&file, format!("apps_dir = {apps:?}\n")).expect("written");
        settings.read().await;
        assert!(told(&settings).await.is_empty());

        std::fs::write(&file, "loog = 1\n").expect("written");
        settings.read().await;
        assert!(told(&settings).await.iter().any(|line| line.contains("loog")));
        assert_eq!(settings.in_force.apps_dir, apps);
    }
}
