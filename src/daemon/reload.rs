//! Settings that change while the daemon runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::agent::registry::Registry;
use crate::config::{DaemonSettings, load_daemon};
use crate::model::{Code, Fault};
use crate::units::UnitControl;

/// An editor writes a file in several steps; they are one change.
const SETTLE: Duration = Duration::from_millis(200);

/// The folder of app files, watched. A folder that can't be watched is read at SIGHUP only, and that is told.
pub struct AppFiles {
    hints: mpsc::Receiver<()>,
    _watcher: Option<RecommendedWatcher>,
}

impl AppFiles {
    /// Watches `dir` from now on.
    pub fn watch(dir: &Path) -> Self {
        let (sender, hints) = mpsc::channel(1);
        let hint = move |event: notify::Result<notify::Event>| {
            let reading = event.as_ref().is_ok_and(|event| event.kind.is_access());
            if !reading || event.is_ok_and(|event| is_close_after_write(&event)) {
                // One hint in the channel is enough.
                let _ = sender.try_send(());
            }
        };
        let watcher = RecommendedWatcher::new(hint, notify::Config::default()).and_then(|mut watcher| {
            watcher.watch(dir, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!("{} can't be watched, `systemctl reload slotd` reads it: {error}", dir.display());
        });
        AppFiles { hints, _watcher: watcher.ok() }
    }

    /// Waits for a change, and for the pause after it.
    pub async fn changed(&mut self) {
        match self.hints.recv().await {
            Some(()) => {
                tokio::time::sleep(SETTLE).await;
                while self.hints.try_recv().is_ok() {}
            }
            None => std::future::pending().await,
        }
    }
}

fn is_close_after_write(event: &notify::Event) -> bool {
    use notify::event::{AccessKind, AccessMode, EventKind};
    event.kind == EventKind::Access(AccessKind::Close(AccessMode::Write))
}

/// Reads the daemon's own settings again. A broken file leaves the last good ones in force, and health says so; where
/// things lie doesn't change while the daemon runs.
pub fn daemon<U: UnitControl>(
    file: &Path,
    before: &Arc<DaemonSettings>,
    registry: &Registry<U>,
) -> Arc<DaemonSettings> {
    match load_daemon(file) {
        Ok(settings) => {
            let places = |settings: &DaemonSettings| {
                [&settings.state_dir, &settings.run_dir, &settings.socket, &settings.history].map(PathBuf::clone)
            };
            let moved = places(&settings) != places(before);
            let fault = moved.then(|| {
                let message = "where slotd keeps its things changes with `systemctl restart slotd`";
                ("moved".to_owned(), Fault::new(Code::ConfigInvalid, message))
            });
            registry.set_health("slotd.toml", fault.into_iter());
            Arc::new(settings)
        }
        Err(errors) => {
            let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
            tracing::error!("{} is broken, the settings from before stay:\n{}", file.display(), text.join("\n"));
            let fault = Fault::new(Code::ConfigInvalid, text.join("\n"));
            registry.set_health("slotd.toml", std::iter::once(("broken".to_owned(), fault)));
            Arc::clone(before)
        }
    }
}
