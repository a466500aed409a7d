//! Connections from accept to close, and the ways to stop that lose none of them.
//!
//! A client may send its next request on an open connection at any moment, so closing one that idles can lose a request
//! that is on its way. Therefore a stop has two phases. First each answer says `Connection: close`: who asks again is
//! told to come by a new connection, which waits in the shared listener, or is taken by another version. Only what has
//! idled through all of [`LINGER`] is closed unasked.
//!
//! A server that is told to be quiet stays in the first of them: nothing presses it, so nothing is closed unasked.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::answers::Answers;
use crate::listeners::{Listeners, Stream};
use crate::orders::{self, Order, Orders};

/// How long a stop waits for the next request of connections that idle. New connections wait as long, so it is short.
const LINGER: Duration = Duration::from_millis(500);

/// After an accept that failed for want of descriptors or memory, which only time brings back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the server stands; connections watch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Connections stay open after an answer.
    Serving,
    /// No new ones are taken, and each answer is its connection's last.
    Lingering,
    /// Connections that idle are closed.
    Closing,
}

/// A server before it serves.
#[derive(Debug)]
pub struct Server {
    answers: Arc<Answers>,
    phase: watch::Sender<Phase>,
    deaf_to: Option<Order>,
    connections: JoinSet<()>,
}

impl Server {
    /// One that gives these answers, and does nothing on the order to which it is deaf.
    pub fn new(answers: Answers, deaf_to: Option<Order>) -> Self {
        let phase = watch::Sender::new(Phase::Serving);
        Server { answers: Arc::new(answers), phase, deaf_to, connections: JoinSet::new() }
    }

    /// Serves as it is ordered until it is told to stop, then until the last connection is closed.
    ///
    /// A request that takes longer than the unit's TimeoutStopSec= is cut by systemd; there is no second limit here.
    pub async fn serve(mut self, listeners: Listeners, mut orders: Orders, mut accepts: bool) {
        loop {
            tokio::select! {
                order = orders.next() => match order {
                    deaf if self.deaf_to == Some(deaf) => {}
                    Order::Stop => break,
                    order => {
                        accepts = order == Order::Accept;
                        self.phase.send_replace(if accepts { Phase::Serving } else { Phase::Lingering });
                        // Only now, when it is so.
                        orders::say(accepts);
                    }
                },
                accepted = listeners.accept(accepts) => match accepted {
                    Ok(stream) => self.take(stream),
                    // The client went away while it waited.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        eprintln!("sample-server: can't accept a connection: {error}");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                // Only to forget it.
                Some(_) = self.connections.join_next() => {}
            }
        }
        orders::say_stopping();
        self.phase.send_replace(Phase::Lingering);
        listeners.leave().into_iter().for_each(|stream| self.take(stream));
        if timeout(LINGER, self.all_closed()).await.is_err() {
            self.phase.send_replace(Phase::Closing);
            self.all_closed().await;
        }
    }

    async fn all_closed(&mut self) {
        while self.connections.join_next().await.is_some() {}
    }

    fn take(&mut self, stream: Box<dyn Stream>) {
        let answers = Arc::clone(&self.answers);
        let phase = self.phase.subscribe();
        let mut closing = self.phase.subscribe();
        let service = service_fn(move |request| {
            let (takes, mut answer, phase) = (answers.takes(&request), answers.to(&request), phase.clone());
            async move {
                sleep(takes).await;
                // Asked when the answer is ready, not when the request came: a stop in between counts.
                if *phase.borrow() != Phase::Serving {
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer)
            }
        });
        self.connections.spawn(async move {
            // The timer ends connections that send half a request, or nothing for 30 s.
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new());
            let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
            tokio::select! {
                // An error is the client's: it went away, or spoke no HTTP.
                _ = connection.as_mut() => return,
                _ = closing.wait_for(|phase| *phase == Phase::Closing) => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
    }
}
