//! A small HTTP server that can be moved from one version to the next behind a shared socket without losing a request:
//! a model for an app's own server, and the app of the tests and the demo.
//!
//! What an app has to do for that:
//!
//! 1. take the listener from systemd instead of binding one (`listeners`), so that connections which nobody accepts
//!    yet wait in it;
//! 2. say `READY=1` once it answers, not before (below);
//! 3. on SIGTERM say `STOPPING=1`, accept no more, and answer what is open with `Connection: close` (`server`): a
//!    client that was told so opens a new connection, which waits for the next version;
//! 4. say which version answers (`answers`), for probes and people;
//! 5. answer health questions on a socket of its own, `$HEALTH_SOCKET`, if the route's port isn't its own
//!    (`listeners`).
//!
//! `behaviour` is for tests alone: it makes a release misbehave.

mod answers;
mod behaviour;
mod listeners;
mod server;
mod settings;

use std::future;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use answers::Answers;
use behaviour::Behaviour;
use listeners::Listeners;
use server::Server;
use settings::{Settings, SettingsError};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sample-server: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Why it can't serve.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("can't handle SIGTERM: {0}")]
    Signal(io::Error),
    #[error(transparent)]
    Listen(#[from] listeners::ListenError),
    #[error("can't tell systemd that it is ready: {0}")]
    Notify(io::Error),
}

async fn run() -> Result<ExitCode, RunError> {
    let Settings { port, own_port, tree, health_socket } = Settings::read();
    let release = settings::release(&tree)?;
    let behaviour = settings::behaviour(&tree)?;
    if let Some(code) = behaviour.exit_before_accept {
        eprintln!("sample-server: version {} can't start: {}", release.version, behaviour::WHY_IT_EXITS);
        return Ok(ExitCode::from(code));
    }

    // Before READY=1: from there on SIGTERM is a request, not a death.
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signal)?;
    let mut stopped = std::pin::pin!(async move {
        terminate.recv().await;
        // Nobody may be listening, and the stop goes on whatever comes of it.
        let _ = sd_notify::notify(false, &[NotifyState::Stopping]);
    });

    let listeners = Listeners::open(port, own_port, health_socket.as_deref())?;
    tokio::select! {
        () = started(&behaviour) => {}
        () = &mut stopped => return Ok(ExitCode::SUCCESS),
    }
    println!("version {} slot {} serves on {listeners}", release.version, release.slot);
    let hang_on_stop = behaviour.hang_on_stop;
    let death = death(behaviour.ready_then_die, behaviour.crash_after);
    let server = Server::new(Answers::new(release, behaviour.health));
    // The listener holds what comes from here on, so the first answer may follow a moment later.
    sd_notify::notify(false, &[NotifyState::Ready]).map_err(RunError::Notify)?;

    tokio::select! {
        () = server.serve(listeners, stopped) => {}
        code = death => return Ok(code),
    }
    if hang_on_stop {
        future::pending::<()>().await;
    }
    Ok(ExitCode::SUCCESS)
}

/// Ends when the start-up work is done; here there is none but what a test asks for.
async fn started(behaviour: &Behaviour) {
    if behaviour.never_ready {
        future::pending::<()>().await;
    }
    if let Some(time) = behaviour.slow_start {
        sleep(time).await;
    }
}

/// The end that a test asks for; never comes otherwise.
async fn death(ready_then_die: Option<Duration>, crash_after: Option<Duration>) -> ExitCode {
    match (ready_then_die, crash_after) {
        (Some(time), _) => {
            sleep(time).await;
            eprintln!("sample-server: {}", behaviour::WHY_IT_EXITS);
            ExitCode::FAILURE
        }
        (None, Some(time)) => {
            sleep(time).await;
            std::process::abort()
        }
        (None, None) => future::pending().await,
    }
}
