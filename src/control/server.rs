//! The accept loop: who is served, who is refused, and how everything ends.

use std::future::Future;
use std::time::Duration;

use axum::Router;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::access::Access;
use super::connection::{converse, refuse};
use super::limits::Limits;
use super::log::EventLog;
use super::peer::credentials;
use super::seats::Seats;
use super::service::Service;
use super::table::{Shared, router};

/// How long a failed accept (no descriptors left) is left alone before the next.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(100);

/// Serves the API on `listener`, to each connection by what `access` is when it comes, until `shutdown` is over, then lets what is under way end for
/// [`Limits::shutdown`]. What requests have set off at the service goes on in tasks of their own.
pub async fn serve<S: Service>(
    listener: UnixListener,
    service: S,
    access: watch::Receiver<Access>,
    shutdown: impl Future<Output = ()> + Send,
) {
    serve_with(listener, service, access, Limits::default(), shutdown).await;
}

/// [`serve`] with other limits.
pub async fn serve_with<S: Service>(
    listener: UnixListener,
    service: S,
    access: watch::Receiver<Access>,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) {
    let (log, collector) = EventLog::start(service.events());
    let (close, closing) = watch::channel(false);
    let server =
        Server { router: router(Shared { service, log, limits }), access, limits, seats: Seats::new(limits), closing };
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            _ = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => server.seat(stream, &mut connections),
                Err(error) => {
                    tracing::warn!("the control socket doesn't accept: {error}");
                    tokio::time::sleep(AFTER_FAILED_ACCEPT).await;
                }
            },
        }
    }
    drop(listener);
    close.send_replace(true);
    // The streams of events end with it.
    collector.abort();
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.shutdown, ended).await.is_err() {
        tracing::debug!("{} requests were cut short", connections.len());
    }
}

/// What every connection is given.
struct Server {
    router: Router,
    access: watch::Receiver<Access>,
    limits: Limits,
    seats: Seats,
    closing: watch::Receiver<bool>,
}

impl Server {
    /// Begins to serve `stream`, or to refuse it where there is no seat left; without a seat for that either it
    /// is closed.
    fn seat(&self, stream: UnixStream, connections: &mut JoinSet<()>) {
        let limits = self.limits;
        let creds = match credentials(&stream) {
            Ok(creds) => creds,
            Err(error) => return tracing::warn!("a connection without credentials: {error}"),
        };
        match self.seats.take(creds.uid) {
            Ok(seat) => {
                let (router, access, mut closing) = (self.router.clone(), *self.access.borrow(), self.closing.clone());
                connections.spawn(async move {
                    let closing = async { drop(closing.wait_for(|closing| *closing).await) };
                    converse(stream, creds, access, router, limits, closing).await;
                    drop(seat);
                });
            }
            Err(refusal) => {
                tracing::info!(uid = creds.uid, "refused: {refusal}");
                if let Some(seat) = self.seats.take_refusal() {
                    connections.spawn(async move {
                        refuse(stream, refusal, limits).await;
                        drop(seat);
                    });
                }
            }
        }
    }
}
