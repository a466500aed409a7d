//! What the server is told while it runs: by signals, which have no answer, so it says what it does.
//!
//! All handlers are there before READY=1: a signal without one ends the process.

use std::io;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// SIGTERM: finish and go.
    Stop,
    /// SIGUSR1: take connections.
    Accept,
    /// SIGUSR2: take no more, and finish those that were taken.
    BeQuiet,
}

/// The signals.
#[derive(Debug)]
pub struct Orders {
    stop: Signal,
    accept: Signal,
    quiet: Signal,
}

impl Orders {
    /// From here on signals are orders.
    pub fn heard() -> io::Result<Orders> {
        Ok(Orders {
            stop: signal(SignalKind::terminate())?,
            accept: signal(SignalKind::user_defined1())?,
            quiet: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next one. Nothing is lost where the future is dropped before it is ready.
    pub async fn next(&mut self) -> Order {
        tokio::select! {
            // No other order counts any more.
            biased;
            _ = self.stop.recv() => Order::Stop,
            _ = self.accept.recv() => Order::Accept,
            _ = self.quiet.recv() => Order::BeQuiet,
        }
    }

    /// SIGTERM; the others keep.
    pub async fn stop(&mut self) {
        self.stop.recv().await;
    }
}

/// READY=1, and in the same breath whether it takes connections: slotd signals nobody who hasn't said so.
pub fn say_ready(accepts: bool) -> io::Result<()> {
    sd_notify::notify(false, &[NotifyState::Ready, status(accepts)])
}

/// Whether it takes connections. Nobody may be listening, and it goes on whatever comes of it.
pub fn say(accepts: bool) {
    let _ = sd_notify::notify(false, &[status(accepts)]);
}

/// That it goes.
pub fn say_stopping() {
    let _ = sd_notify::notify(false, &[NotifyState::Stopping]);
}

fn status(accepts: bool) -> NotifyState<'static> {
    NotifyState::Status(if accepts { "accepting" } else { "quiet" })
}
