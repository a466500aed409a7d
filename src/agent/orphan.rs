//! An app whose settings file was gone already when slotd began: its slots are shown, and nothing is done to them.
//!
//! Nobody knows by which proof a deployment of it would be judged, so one that was left open stays so, and the links
//! and units are as they were. The task waits for the file; then it is the app's task.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::daemon::Defaults;
use crate::config::{AppSettings, parse_app};
use crate::control::api::{ApiError, WaitingItem};
use crate::deployment::intent::IntentFile;
use crate::inbox::WatchHub;
use crate::model::{AppName, Code, Fault, Layout, Link};
use crate::slots::SlotStore;
use crate::units::UnitControl;

use super::app::{ASKS, App};
use super::ask::{Answer, AppHandle, Ask, View};
use super::deploy::Ground;
use super::shared::Shared;
use super::turn::TurnFile;

/// What an operator should know of an app without settings.
pub const NOTE: &str = "its settings file is gone: what is live stays so, and nothing else is done";

/// The apps that have slots, or a live one, in this state folder.
pub fn with_slots(state: &Path, run: &Path) -> Vec<AppName> {
    // A folder that can't be listed shows nobody; each app's own tells what is wrong with it.
    let entries = std::fs::read_dir(state.join("apps")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<AppName>().ok());
    let has_slots = |name: &AppName| {
        let layout = Layout::new(state, run, name.clone());
        let any = std::fs::read_dir(layout.slots()).is_ok_and(|mut slots| slots.next().is_some());
        any || layout.link(Link::Current).symlink_metadata().is_ok()
    };
    let mut names: Vec<AppName> = names.filter(has_slots).collect();
    names.sort();
    names
}

/// The refusal of whatever would need the settings.
pub fn settings_are_gone(app: &str) -> ApiError {
    ApiError::new(Code::UnknownApp, format!("the settings file of {app} is gone"))
        .next(format!("restore /etc/slotd/apps/{app}.toml; slotctl check {app}"))
}

/// Starts the task of such an app.
pub fn spawn<U: UnitControl>(
    name: &AppName,
    store: Arc<SlotStore>,
    shared: Shared<U>,
    hub: WatchHub,
) -> Result<(AppHandle, JoinHandle<()>), Fault> {
    let settings = Arc::new(stand_in(name)?);
    let (asks, mut asked) = mpsc::channel(ASKS);
    let task = tokio::spawn(async move {
        while let Some(ask) = asked.recv().await {
            match ask {
                Ask::View(answer) => {
                    let _ = answer.send(view(&settings, &store));
                }
                Ask::Settings { file, settings, rescan } => {
                    let ground = Ground { settings, store, shared };
                    return App { file, ..App::new(ground, hub, rescan) }.run(asked).await;
                }
                // Nothing of it goes live.
                Ask::GoesNext(answer) => drop(answer.send(None)),
                Ask::GoAhead(_, _, answer) => drop(answer.send(Ok(None))),
                Ask::Upload(path, _, _, answer) => refuse_upload(name_of(&settings), &path, answer),
                Ask::Activate(_, _, answer)
                | Ask::Rollback(_, _, answer)
                | Ask::Scale(_, _, answer)
                | Ask::Redeploy(_, _, answer)
                | Ask::Say(_, _, _, answer)
                | Ask::Retry(_, _, answer) => {
                    refuse(name_of(&settings), answer);
                }
                Ask::Prune { answer, .. } => refuse(name_of(&settings), answer),
                Ask::Pin(_, _, answer) | Ask::Unpin(_, _, answer) => refuse(name_of(&settings), answer),
                Ask::Staged(answer) => refuse(name_of(&settings), answer),
                Ask::Prepare(_, answer) => refuse(name_of(&settings), answer),
                Ask::DeployStaged(_, _, answer) => refuse(name_of(&settings), answer),
                Ask::Set(_, _, answer) => refuse(name_of(&settings), answer),
                Ask::Clear(_, _, _, answer) => refuse(name_of(&settings), answer),
                Ask::Freeze(_, _, answer) | Ask::Unfreeze(_, answer) => refuse(name_of(&settings), answer),
                Ask::Look => {}
                Ask::Orphan => {}
            }
        }
    });
    Ok((AppHandle { asks }, task))
}

/// Settings for what is only looked at: nothing goes live by them.
fn stand_in(name: &AppName) -> Result<AppSettings, Fault> {
    let text = format!("deploy = \"manual\"\n[[unit]]\nname = \"{name}@\"\n");
    parse_app(name, Path::new(name.as_str()), &text, &Defaults::default()).map_err(|errors| {
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Fault::new(Code::Internal, format!("no settings can stand in for those of {name}: {}", told.join("; ")))
    })
}

fn name_of(settings: &AppSettings) -> &str {
    settings.name.as_str()
}

fn refuse<T>(app: &str, answer: Answer<T>) {
    let _ = answer.send(Err(settings_are_gone(app)));
}

fn refuse_upload<T>(app: &str, path: &Path, answer: Answer<T>) {
    // Swept at the next start if it can't be removed now.
    let _ = crate::durable::remove_file(path);
    refuse(app, answer);
}

fn view(settings: &Arc<AppSettings>, store: &Arc<SlotStore>) -> View {
    let file = IntentFile::of(store.layout());
    let open = file.read().ok().flatten().map(|intent| intent.report);
    let queued = TurnFile::of(store.layout()).read().ok().flatten().map(|turn| turn.report);
    let queued = queued.filter(|report| report.ended.is_none());
    let scheduled = TurnFile::scheduled(store.layout()).read().ok().flatten().map(|turn| turn.report);
    let scheduled = scheduled.filter(|report| report.ended.is_none());
    let left = open.iter().map(|report| (report, "was left open, and is brought to an end"));
    let left = left.chain(queued.iter().map(|report| (report, "waits, and begins")));
    let left = left.chain(scheduled.iter().map(|report| (report, "is scheduled, and begins at its time")));
    let waiting = left.map(|(report, how)| WaitingItem {
        what: report.to.to_string(),
        reason: format!("{} {how} once the settings file is back", report.id),
    });
    View {
        waiting: waiting.collect(),
        taking: None,
        settings: settings.clone(),
        store: store.clone(),
        orphaned: true,
        deployment: None,
        last: file.last().ok().flatten().map(|intent| intent.report),
        queued,
        crash_loop: None,
        refused: Vec::new(),
        fault: None,
        problem: None,
        frozen: store.frozen(),
        scheduled,
        pinned: store.pinned(None).ok().flatten(),
        notes: vec![NOTE.into()],
    }
}
