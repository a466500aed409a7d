//! The daemon: settings, wiring, reload, shutdown.
//!
//! `run` is the whole of it. What systemd is told: READY once every app has begun, STATUS with what is waited for,
//! WATCHDOG from the loop below, RELOADING and STOPPING.

mod access;
mod args;
mod lock;
mod log;
mod reload;
mod socket;
mod tell;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::agent::directory::Directory;
use crate::agent::registry::Registry;
use crate::agent::shared::{Events, Shared, Turns};
use crate::artifact::worker;
use crate::config::{DaemonSettings, load_apps, load_daemon};
use crate::control;
use crate::history::History;
use crate::inbox::WatchHub;
use crate::model::{Exit, Fault};
use crate::units::systemd::Systemd;

use args::{Args, Command};
use reload::Settings;
use tell::Teller;

/// How often an app whose folders couldn't be opened is tried again.
const OPEN_RETRY: Duration = Duration::from_secs(10);

/// How often what the history is not to keep goes.
const PRUNE_HISTORY: Duration = Duration::from_secs(24 * 60 * 60);

/// What requests under way get to end before the daemon goes: within 2 seconds, deployments left to the next start.
const SHUTDOWN: Duration = Duration::from_millis(1500);

/// slotd's `main`.
pub fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == worker::ARGUMENT) {
        return worker::main();
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(help) => {
            // Help and version end well, a wrong command line doesn't; clap knows which is which.
            let _ = help.print();
            return ExitCode::from(u8::try_from(help.exit_code()).unwrap_or(Exit::Usage as u8));
        }
    };
    let settings = match load_daemon(&args.config) {
        Ok(settings) => settings,
        Err(errors) => {
            for error in errors {
                eprintln!("slotd: {error}");
            }
            return ExitCode::from(Exit::Refused as u8);
        }
    };
    match args.command() {
        Command::Check => check(&settings),
        Command::Run => serve(&args, settings),
    }
}

/// Reads all settings and says what is wrong with them.
fn check(settings: &DaemonSettings) -> ExitCode {
    let apps = load_apps(&settings.apps_dir, &settings.defaults);
    for error in apps.broken.iter().flat_map(|broken| &broken.errors) {
        eprintln!("{error}");
    }
    println!("{} apps, {} broken", apps.good.len(), apps.broken.len());
    if apps.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(Exit::Degraded as u8) }
}

fn serve(args: &Args, settings: DaemonSettings) -> ExitCode {
    let level = log::start(settings.log);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the runtime doesn't start: {error}"), Exit::Internal),
    };
    let code = match runtime.block_on(run(args, settings, level)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => failed(&fault.to_string(), fault.code.exit()),
    };
    // File work under way is short; whatever else there is goes with the process, and the next start goes on.
    runtime.shutdown_timeout(Duration::from_millis(400));
    code
}

fn failed(message: &str, exit: Exit) -> ExitCode {
    tracing::error!("{message}");
    ExitCode::from(exit as u8)
}

async fn run(args: &Args, settings: DaemonSettings, level: log::Level) -> Result<(), Fault> {
    // Before anything is touched: a second daemon must not even sweep.
    let _locked = lock::take(&settings.state_dir)?;
    let listener = socket::listener(&settings.socket)?;
    let units = Systemd::connect()
        .await
        .map_err(|error| Fault::new(crate::model::Code::UnitControl, format!("slotd can't reach systemd: {error}")))?;
    let shared = Shared {
        units,
        history: History::open(&settings.history),
        worker: args.worker.clone(),
        events: Events::new(),
        turns: Turns::new(settings.at_once),
        run_dir: settings.run_dir.clone(),
        state_dir: settings.state_dir.clone(),
        directory: Directory::new(),
        stopping: watch::Sender::new(false),
    };
    // Ends deployments, which the next start goes on with, and the server.
    let stop = shared.stopping.clone();
    let registry = Registry::new(shared, WatchHub::default(), settings.rescan);
    // Watched before they are read: what changes in between is read twice rather than never.
    let mut settings = Settings::new(&args.config, settings, registry.clone(), level);
    settings.read_apps().await;
    let stopped = until(stop.subscribe());
    let server = tokio::spawn(control::serve(listener, registry.clone(), settings.access(), stopped));
    let (mut hangup, mut terminate, mut interrupt) =
        (on(SignalKind::hangup())?, on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    let mut teller = Teller::new(registry.clone());
    teller.ready().await;
    let mut again = tokio::time::interval(OPEN_RETRY);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut prune = tokio::time::interval(PRUNE_HISTORY);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                teller.reloading();
                settings.read().await;
                teller.ready().await;
            }
            () = settings.changed() => settings.read().await,
            _ = again.tick(), if registry.is_incomplete() => settings.read_apps().await,
            // In a task of its own: a history that is slow must not hold up a shutdown.
            _ = prune.tick() => drop(tokio::spawn({
                let (registry, keeps) = (registry.clone(), settings.history_keeps());
                async move { registry.prune_history(keeps).await }
            })),
            () = teller.due() => teller.tell().await,
        }
    }
    // First of all: a host that shuts down stops the apps' units too, which mustn't pass for somebody's word.
    stop.send_replace(true);
    teller.stopping();
    // Connections that don't end in time end with the process.
    let _ = tokio::time::timeout(SHUTDOWN, server).await;
    Ok(())
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // That the sender is gone means the same.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

fn on(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Fault> {
    signal(kind).map_err(|error| Fault::new(crate::model::Code::Internal, format!("no signal handler: {error}")))
}
