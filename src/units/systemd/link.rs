//! One connection to systemd: its proxies, and the one task that hands its signals to whoever waits.
//!
//! Signals come before any call: the link is open once systemd was told to send them. Only what systemd itself
//! sent counts (zbus compares the sender with the owner of the name), since any user of the bus can address a
//! forged signal to slotd.

use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt;
use systemd_zbus::ManagerProxy;
use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;
use zbus::fdo::DBusProxy;
use zbus::proxy::CacheProperties;
use zbus::zvariant::OwnedObjectPath;

use super::trouble::Trouble;

/// systemd's name on the bus.
pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";

/// The longest that one call may take. It is what libdbus and sd-bus wait by default; a daemon-reload, during
/// which systemd answers nobody, takes a fraction of it even with thousands of units.
const CALL_LIMIT: Duration = Duration::from_secs(25);

/// How many job signals may wait for a slow reader before it is told to read the state again instead.
const EVENTS: usize = 256;

/// What a waiting call is told.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// A job ended.
    JobRemoved {
        /// Which.
        job: OwnedObjectPath,
        /// Of which unit.
        unit: String,
        /// systemd's word for how.
        result: String,
    },
    /// systemd read its units again or executed itself anew: what happened meanwhile may not have been told.
    ReadAgain,
}

/// An open connection.
pub(super) struct Link {
    pub(super) connection: zbus::Connection,
    pub(super) manager: ManagerProxy<'static>,
    /// Ends with the dispatcher, and so tells a waiting call that the connection is gone.
    events: broadcast::WeakSender<Event>,
    /// The same for watches, which don't care about jobs.
    rereads: watch::Receiver<()>,
    dispatcher: AbortHandle,
}

impl Link {
    /// Subscribes to systemd's signals on `connection`.
    pub(super) async fn open(connection: zbus::Connection) -> Result<Link, Trouble> {
        bounded(async {
            let manager = ManagerProxy::builder(&connection).cache_properties(CacheProperties::No).build().await?;
            let signals = Signals {
                jobs: manager.receive_job_removed().await?,
                reloads: manager.receive_reloading().await?,
                owners: DBusProxy::new(&connection)
                    .await?
                    .receive_name_owner_changed_with_args(&[(0, SYSTEMD)])
                    .await?,
            };
            let (events, _) = broadcast::channel(EVENTS);
            let (reread, rereads) = watch::channel(());
            let weak = events.downgrade();
            // The streams must be read from here on: a full one would hold up the replies too.
            let dispatcher = tokio::spawn(dispatch(manager.clone(), signals, events, reread)).abort_handle();
            let link = Link { connection, manager, events: weak, rereads, dispatcher };
            subscribe(&link.manager).await?;
            Ok(link)
        })
        .await
    }

    /// Whether it can still be used.
    pub(super) fn is_open(&self) -> bool {
        !self.connection.is_closed() && self.events.strong_count() > 0
    }

    /// All job signals from now on; taken before the call whose job is waited for.
    pub(super) fn events(&self) -> Result<broadcast::Receiver<Event>, Trouble> {
        self.events.upgrade().map(|events| events.subscribe()).ok_or_else(Trouble::gone)
    }

    /// Changes at each [`Event::ReadAgain`]; ends with the connection.
    pub(super) fn rereads(&self) -> watch::Receiver<()> {
        let mut rereads = self.rereads.clone();
        rereads.mark_unchanged();
        rereads
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.dispatcher.abort();
    }
}

/// Waits for `call`, at most [`CALL_LIMIT`].
pub(super) async fn bounded<T>(call: impl Future<Output = zbus::Result<T>>) -> Result<T, Trouble> {
    match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(answer) => answer.map_err(Trouble::from),
        Err(_) => Err(Trouble::Lost(format!("no reply within {}", humantime::format_duration(CALL_LIMIT)))),
    }
}

struct Signals {
    jobs: systemd_zbus::JobRemovedStream,
    reloads: systemd_zbus::ReloadingStream,
    owners: zbus::fdo::NameOwnerChangedStream,
}

/// Hands on signals until the connection ends.
async fn dispatch(
    manager: ManagerProxy<'static>,
    mut signals: Signals,
    events: broadcast::Sender<Event>,
    reread: watch::Sender<()>,
) {
    let connection = manager.inner().connection().clone();
    loop {
        let back = tokio::select! {
            () = connection.closed() => return,
            Some(signal) = signals.jobs.next() => {
                if let Ok(args) = signal.args() {
                    let (job, unit) = (args.job.to_owned().into(), args.unit.to_owned());
                    let result = args.result.to_owned();
                    // No receiver means that nobody waits.
                    let _ = events.send(Event::JobRemoved { job, unit, result });
                }
                false
            }
            Some(signal) = signals.reloads.next() => signal.args().is_ok_and(|args| !args.active),
            Some(signal) = signals.owners.next() => signal.args().is_ok_and(|args| args.new_owner.is_some()),
            else => return,
        };
        if back {
            // Not here: the reply would wait behind signals that nobody reads meanwhile.
            let (manager, events, reread) = (manager.clone(), events.clone(), reread.clone());
            tokio::spawn(async move {
                if bounded(subscribe(&manager)).await.is_err() {
                    tracing::warn!("systemd reloaded and doesn't take a subscription; its state is read again anyway");
                }
                let _ = events.send(Event::ReadAgain);
                reread.send_replace(());
            });
        }
    }
}

/// Asks for signals; twice is once.
async fn subscribe(manager: &ManagerProxy<'static>) -> zbus::Result<()> {
    match manager.subscribe().await {
        Err(zbus::Error::MethodError(name, ..)) if name.ends_with(".AlreadySubscribed") => Ok(()),
        other => other,
    }
}
