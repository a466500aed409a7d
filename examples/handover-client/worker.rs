//! The workers: each asks, counts what came of it, and asks again.

use std::cell::{Cell, RefCell, RefMut};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::Uri;
use tokio::time::{sleep, timeout};

use crate::connection::{Broken, Connection, Failure, Server};
use crate::settings::Settings;
use crate::tally::{Kind, Outcome, Tally};

/// Pause after a failed request. A refused connection takes no time: without a pause the one that nobody answers for a
/// second would count as thousands.
const AFTER_FAILURE: Duration = Duration::from_millis(10);

/// What all workers share.
pub struct Load {
    server: SocketAddr,
    path: Uri,
    pace: Duration,
    timeout: Duration,
    ended: Cell<bool>,
    tally: RefCell<Tally>,
}

impl Load {
    /// A load that begins now.
    pub fn new(settings: &Settings) -> Load {
        Load {
            server: settings.server,
            path: settings.path.clone(),
            pace: settings.pace,
            timeout: settings.timeout,
            ended: Cell::new(false),
            tally: RefCell::new(Tally::new(Instant::now())),
        }
    }

    /// What was counted; not to be held over an await.
    pub fn tally(&self) -> RefMut<'_, Tally> {
        self.tally.borrow_mut()
    }

    /// No request is begun from here on.
    pub fn end(&self) {
        self.ended.set(true);
    }
}

/// Asks until the load has ended.
pub async fn work(load: Rc<Load>, kind: Kind) {
    let worker = load.tally().join(kind);
    let mut kept = None;
    while !load.ended.get() {
        let begun = Instant::now();
        load.tally().begin(worker);
        let asked = timeout(load.timeout, ask(&load, kind, &mut kept)).await;
        let (outcome, fresh) = asked.unwrap_or((Err(Failure::Timeout), true));
        if outcome.is_err() {
            kept = None;
        }
        let failed = outcome.is_err();
        load.tally().count(worker, Outcome { begun, fresh, server: outcome });
        let pause = if failed { load.pace.max(AFTER_FAILURE) } else { load.pace };
        if pause > Duration::ZERO {
            sleep(pause).await;
        }
    }
}

/// One request, and whether a connection was opened for it.
async fn ask(load: &Load, kind: Kind, kept: &mut Option<Connection>) -> (Result<Server, Failure>, bool) {
    let mut retries = false;
    if let Some(mut connection) = kept.take() {
        if connection.is_open().await {
            match connection.ask(&load.path, false).await {
                Ok(server) => {
                    *kept = Some(connection);
                    return (Ok(server), false);
                }
                Err(Broken { failure, unanswered: false }) => return (Err(failure), false),
                Err(Broken { unanswered: true, .. }) => retries = true,
            }
        } else {
            load.tally().reopened();
        }
    }
    let mut connection = match Connection::open(load.server).await {
        Ok(connection) => connection,
        Err(failure) => return (Err(failure), true),
    };
    let answer = connection.ask(&load.path, kind == Kind::New).await;
    if kind == Kind::KeepAlive && answer.is_ok() {
        *kept = Some(connection);
    }
    if retries && answer.is_ok() {
        load.tally().retried();
    }
    (answer.map_err(|broken| broken.failure), true)
}
