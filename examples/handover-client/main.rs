//! A load client that tells what a move from one version to the next costs those who ask.
//!
//! Its workers ask `GET PATH`, each one request after the other and by default without a pause, in two kinds: one opens
//! a new connection for each request, the other keeps its connection. A good answer has status 200 and says who gave it:
//! `version X slot Y …` in its body, or `X-Version: X`. All else is a failed request, and so is one that is still
//! unanswered a while after the end. What is not:
//!
//! - *retried*: a connection that was used before is closed before a byte of the answer came, and the same request is
//!   answered well on a new one. A server may close an idle connection at any time (RFC 9112, 9.3.1), and what HTTP
//!   libraries do then is done here: once, for connections that were used before, and for no others.
//! - *reopened*: a kept connection that was closed between two requests, as announced or not, and was known to be.
//!
//! Whether users are moved in one step is told by `stale`: requests on a new connection, begun after the switch to a
//! slot was recorded, that another slot answered. For that the client has to hear of the switch, on standard input or by
//! `--current` (see `control`). The report is one line of JSON (see `report`); memory doesn't grow with the time.
//!
//! Not for: anything but plain HTTP/1.1 over TCP, and comparing servers; one thread does it all.

mod connection;
mod control;
mod histogram;
mod intervals;
mod report;
mod settings;
mod tally;
mod worker;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

use settings::Settings;
use tally::Kind;
use worker::Load;

/// How long after the end an answer may still come.
const GRACE: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match LocalSet::new().run_until(run(Settings::read())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("handover-client: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("can't handle signals: {0}")]
    Signal(io::Error),
    #[error("can't write {path}: {cause}", path = .path.display())]
    Report { path: PathBuf, cause: io::Error },
}

async fn run(settings: Settings) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signal)?;

    let load = Rc::new(Load::new(&settings));
    let workers: Vec<_> = std::iter::repeat_n(Kind::New, settings.new)
        .chain(std::iter::repeat_n(Kind::KeepAlive, settings.keep_alive))
        .map(|kind| tokio::task::spawn_local(worker::work(Rc::clone(&load), kind)))
        .collect();
    if let Some(link) = settings.current.clone() {
        tokio::task::spawn_local(control::follow(link, Rc::clone(&load)));
    }
    let time_is_over = async {
        match settings.time {
            Some(time) => sleep(time).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = control::listen(Rc::clone(&load)) => {}
        () = time_is_over => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }

    load.end();
    let all_ended = async {
        for worker in workers {
            // It has no way to fail, and what it was about to say is in the tally.
            let _ = worker.await;
        }
    };
    // Who hasn't ended by then has a request open, which the report counts as unanswered.
    let _ = timeout(GRACE, all_ended).await;
    let report = format!("{}\n", load.tally().report());
    match settings.report {
        Some(path) => {
            std::fs::write(&path, report).map_err(|cause| RunError::Report { path, cause })?;
        }
        None => print!("{report}"),
    }
    Ok(())
}
