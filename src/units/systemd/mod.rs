//! [`UnitControl`] over D-Bus.
//!
//! A start, stop or reload is our own job from beginning to end: signals are subscribed to first, the job is known by its
//! path, and when signals may have been missed (systemd reloaded or executed itself anew, the bus went away)
//! the unit is read again instead. It never asks for a daemon-reload.

mod bonds;
mod job;
mod link;
mod trouble;
mod view;

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::select_all;
use tokio::sync::{Mutex, mpsc, watch};
use zbus::zvariant::{OwnedObjectPath, OwnedValue};
use zbus::{MatchRule, MessageStream};

use crate::model::evidence::JournalLine;
use crate::model::{Template, Timestamp, UnitName};

use super::{Bonds, JobResult, Signal, UnitControl, UnitError, UnitStatus, UnitWatch, journal};
use job::Verb;
use link::{Event, Link, SYSTEMD, bounded};
use trouble::{Patience, Trouble};
use view::{Properties, View};

/// The interface that all units have.
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A row of ListUnitsByPatterns: name, description, load state, active state, sub state, followed unit, path, and
/// the job's number, type and path. Taken as text, since each systemd adds sub states.
type ListedUnit = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// Makes a connection, at first and whenever one was lost.
type Dial = dyn Fn() -> Pin<Box<dyn Future<Output = zbus::Result<zbus::Connection>> + Send>> + Send + Sync;

/// systemd, by D-Bus. Clones share one connection.
#[derive(Clone)]
pub struct Systemd {
    shared: Arc<Shared>,
}

struct Shared {
    /// `None`: the connection was given, and there is no other.
    dial: Option<Box<Dial>>,
    link: Mutex<Option<Arc<Link>>>,
}

impl Systemd {
    /// systemd on the system bus. A connection that is lost later is made anew.
    pub async fn connect() -> Result<Self, UnitError> {
        Self::with_connector(|| async { zbus::connection::Builder::system()?.build().await }).await
    }

    /// systemd behind whatever `dial` connects to.
    pub async fn with_connector<F, C>(dial: F) -> Result<Self, UnitError>
    where
        F: Fn() -> C + Send + Sync + 'static,
        C: Future<Output = zbus::Result<zbus::Connection>> + Send + 'static,
    {
        let dial: Box<Dial> = Box::new(move || Box::pin(dial()));
        let systemd = Systemd { shared: Arc::new(Shared { dial: Some(dial), link: Mutex::new(None) }) };
        systemd.link().await.map_err(no_bus)?;
        Ok(systemd)
    }

    /// systemd behind `connection`, to a bus or peer to peer. Once it is lost, every call fails.
    pub async fn with_connection(connection: zbus::Connection) -> Result<Self, UnitError> {
        let link = Link::open(connection).await.map_err(no_bus)?;
        Ok(Systemd { shared: Arc::new(Shared { dial: None, link: Mutex::new(Some(Arc::new(link))) }) })
    }

    /// The open connection, or a new one.
    async fn link(&self) -> Result<Arc<Link>, Trouble> {
        let mut link = self.shared.link.lock().await;
        if let Some(open) = link.as_ref().filter(|link| link.is_open()) {
            return Ok(Arc::clone(open));
        }
        let Some(dial) = &self.shared.dial else {
            return Err(Trouble::Final("the connection to the bus is gone".to_owned()));
        };
        let new = Arc::new(Link::open(bounded(dial()).await?).await?);
        *link = Some(Arc::clone(&new));
        Ok(new)
    }

    async fn try_status(&self, unit: &UnitName) -> Result<UnitStatus, Trouble> {
        Ok(look(&*self.link().await?, unit).await?.status)
    }

    /// The InvocationID alone, without the hundreds of other properties.
    async fn try_invocation(&self, unit: &UnitName) -> Result<Option<String>, Trouble> {
        let link = self.link().await?;
        let path = bounded(link.manager.load_unit(unit.as_str())).await?;
        bounded(async {
            let property = ("org.freedesktop.systemd1.Unit", "InvocationID");
            let reply = link.connection.call_method(Some(SYSTEMD), path, Some(PROPERTIES), "Get", &property).await?;
            let value: OwnedValue = reply.body().deserialize()?;
            Ok(view::invocation(&Vec::<u8>::try_from(value)?))
        })
        .await
    }

    async fn try_reset_failed(&self, unit: &UnitName) -> Result<(), Trouble> {
        let link = self.link().await?;
        match bounded(link.manager.reset_failed_unit(unit.as_str())).await {
            Err(trouble) if trouble.no_such_unit() => Ok(()),
            other => other,
        }
    }

    async fn try_kill(&self, unit: &UnitName, signal: Signal) -> Result<(), Trouble> {
        let number = match signal {
            Signal::Usr1 => nix::sys::signal::Signal::SIGUSR1,
            Signal::Usr2 => nix::sys::signal::Signal::SIGUSR2,
        };
        bounded(self.link().await?.manager.kill_unit(unit.as_str(), "main", number as i32)).await
    }

    async fn try_list(&self, patterns: &[String]) -> Result<Vec<UnitName>, Trouble> {
        let link = self.link().await?;
        let arguments = (Vec::<String>::new(), patterns);
        let rows: Vec<ListedUnit> = bounded(link.manager.inner().call("ListUnitsByPatterns", &arguments)).await?;
        // A name that something refers to, without a file and without a process, is no unit.
        let phantom = |row: &ListedUnit| row.2 == "not-found" && row.3 == "inactive";
        Ok(rows.into_iter().filter(|row| !phantom(row)).map(|row| UnitName::new(row.0)).collect())
    }

    async fn try_watch(&self, units: &[UnitName]) -> Result<UnitWatch, Trouble> {
        let link = self.link().await?;
        let rereads = link.rereads();
        let mut streams = Vec::with_capacity(units.len());
        for unit in units {
            let path = bounded(link.manager.load_unit(unit.as_str())).await?;
            let changes = bounded(changes_of(&link, &path)).await?;
            let unit = unit.clone();
            // An error is the end of the connection, which `rereads` tells.
            streams.push(changes.filter_map(move |change| ready(change.ok().map(|_| unit.clone()))));
        }
        let (sender, watch) = UnitWatch::channel();
        tokio::spawn(forward(select_all(streams), rereads, sender));
        Ok(watch)
    }

    /// systemd sends these signals to slotd anyway.
    async fn try_watch_jobs(&self, templates: &[Template]) -> Result<UnitWatch, Trouble> {
        let mut events = self.link().await?.events()?;
        let templates = templates.to_vec();
        let (sender, watch) = UnitWatch::channel();
        tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    () = sender.closed() => return,
                    event = events.recv() => event,
                };
                // Where some may have been missed the receiver watches anew.
                let Ok(Event::JobRemoved { unit, .. }) = event else { return };
                let unit = UnitName::new(unit);
                if templates.iter().any(|template| template.as_str() == unit.prefix()) {
                    drop(sender.try_send(unit));
                }
            }
        });
        Ok(watch)
    }
}

impl UnitControl for Systemd {
    async fn start(&self, unit: &UnitName, at_most: Duration) -> Result<JobResult, UnitError> {
        self.run(Verb::Start, unit, at_most).await
    }

    async fn stop(&self, unit: &UnitName, at_most: Duration) -> Result<JobResult, UnitError> {
        self.run(Verb::Stop, unit, at_most).await
    }

    async fn reload(&self, unit: &UnitName, at_most: Duration) -> Result<JobResult, UnitError> {
        self.run(Verb::Reload, unit, at_most).await
    }

    async fn reset_failed(&self, unit: &UnitName) -> Result<(), UnitError> {
        let patience = Patience::new();
        loop {
            match self.try_reset_failed(unit).await {
                Ok(()) => return Ok(()),
                Err(trouble) => patience.again(trouble).await.map_err(|last| last.of("reset", unit))?,
            }
        }
    }

    /// After a lost reply it is sent once more: to an app that got it the second one says nothing new.
    async fn kill(&self, unit: &UnitName, signal: Signal) -> Result<(), UnitError> {
        let patience = Patience::new();
        loop {
            match self.try_kill(unit, signal).await {
                Ok(()) => return Ok(()),
                Err(trouble) => patience.again(trouble).await.map_err(|last| last.of("signal", unit))?,
            }
        }
    }

    async fn status(&self, unit: &UnitName) -> Result<UnitStatus, UnitError> {
        let patience = Patience::new();
        loop {
            match self.try_status(unit).await {
                Ok(status) => return Ok(status),
                Err(trouble) => patience.again(trouble).await.map_err(|last| last.of("read", unit))?,
            }
        }
    }

    async fn list(&self, patterns: &[String]) -> Result<Vec<UnitName>, UnitError> {
        let patience = Patience::new();
        loop {
            match self.try_list(patterns).await {
                Ok(units) => return Ok(units),
                Err(trouble) => patience.again(trouble).await.map_err(no_bus)?,
            }
        }
    }

    async fn bonds(&self, unit: &UnitName) -> Result<Bonds, UnitError> {
        let patience = Patience::new();
        loop {
            match self.try_bonds(unit).await {
                Ok(bonds) => return Ok(bonds),
                Err(trouble) => patience.again(trouble).await.map_err(|last| last.of("read", unit))?,
            }
        }
    }

    async fn watch(&self, units: &[UnitName]) -> Result<UnitWatch, UnitError> {
        let patience = Patience::new();
        loop {
            match self.try_watch(units).await {
                Ok(watch) => return Ok(watch),
                Err(trouble) => patience.again(trouble).await.map_err(no_bus)?,
            }
        }
    }

    async fn watch_jobs(&self, templates: &[Template]) -> Result<UnitWatch, UnitError> {
        let patience = Patience::new();
        loop {
            match self.try_watch_jobs(templates).await {
                Ok(watch) => return Ok(watch),
                Err(trouble) => patience.again(trouble).await.map_err(no_bus)?,
            }
        }
    }

    async fn journal(&self, invocation: &str, lines: usize) -> Vec<JournalLine> {
        journal::read(invocation, lines).await
    }

    async fn journal_since(&self, unit: &UnitName, since: Timestamp, lines: usize) -> Vec<JournalLine> {
        journal::read_since(unit, since, lines).await
    }
}

/// One look at `unit`, which is loaded if it isn't.
async fn look(link: &Link, unit: &UnitName) -> Result<View, Trouble> {
    let path = bounded(link.manager.load_unit(unit.as_str())).await?;
    let mut common = properties(link, &path, "org.freedesktop.systemd1.Unit").await?;
    let mut own = match unit.as_str().rsplit_once('.') {
        Some((_, "service")) => properties(link, &path, "org.freedesktop.systemd1.Service").await?,
        Some((_, "socket")) => properties(link, &path, "org.freedesktop.systemd1.Socket").await?,
        _ => Properties::new(),
    };
    Ok(View::new(&mut common, &mut own))
}

/// All properties of one interface, by one call.
async fn properties(link: &Link, path: &OwnedObjectPath, interface: &str) -> Result<Properties, Trouble> {
    bounded(async {
        let reply = link.connection.call_method(Some(SYSTEMD), path, Some(PROPERTIES), "GetAll", &interface).await?;
        reply.body().deserialize()
    })
    .await
}

/// Signals that a property of the unit at `path` changed; the bus sends no other unit's.
async fn changes_of(link: &Link, path: &OwnedObjectPath) -> zbus::Result<MessageStream> {
    let rule = MatchRule::builder()
        .msg_type(zbus::message::Type::Signal)
        .sender(SYSTEMD)?
        .path(path.as_ref())?
        .interface(PROPERTIES)?
        .member("PropertiesChanged")?
        .build();
    MessageStream::for_match_rule(rule, &link.connection, None).await
}

/// Hands hints on until the watch is dropped, systemd reloads or the connection ends.
async fn forward(
    mut changes: impl futures_util::Stream<Item = UnitName> + Unpin,
    mut rereads: watch::Receiver<()>,
    sender: mpsc::Sender<UnitName>,
) {
    loop {
        tokio::select! {
            () = sender.closed() => return,
            // A reload, or the end of the connection: the receiver watches anew.
            _ = rereads.changed() => return,
            Some(unit) = changes.next() => drop(sender.try_send(unit)),
        }
    }
}

/// For calls that aren't about one unit.
fn no_bus(trouble: Trouble) -> UnitError {
    match trouble {
        Trouble::Lost(why) | Trouble::Final(why) | Trouble::Answer(_, why) => UnitError::Bus(why),
    }
}
