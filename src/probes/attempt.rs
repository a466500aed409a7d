//! One attempt of one probe.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};

use crate::config::app::Probe;
use crate::model::UnitName;
use crate::units::{JobResult, UnitControl, UnitError, UnitStatus};

use super::{Miss, Prober, Target, http, peer, text};

impl<U: UnitControl> Prober<U> {
    /// Asks `probe` once, for at most `timeout`; a unit that is stopped for taking longer may take as long again.
    pub async fn attempt(&self, probe: &Probe, target: &Target, timeout: Duration) -> Result<(), Miss> {
        let ask = async {
            // The port may be a shared socket: where nothing runs behind it, whoever connects has systemd start what
            // somebody has just stopped.
            if probe.tcp_address().is_some() {
                self.notify(target).await?;
            }
            match probe {
                Probe::Notify => self.notify(target).await,
                Probe::Http { address, path, status, headers, body } => {
                    let expected = http::Expected { status, headers, body: body.as_deref() };
                    http::ask(address, path, &expected, target).await
                }
                Probe::Tcp { address } => connect_tcp(&text::fill(address, target)).await.map(drop),
                Probe::Unix { path } => connect_unix(&text::fill(path, target), target).await.map(drop),
                Probe::Unit { name } => self.run_unit(name, target, timeout).await,
            }
        };
        if let Probe::Unit { .. } = probe {
            return ask.await;
        }
        match tokio::time::timeout(timeout, ask).await {
            Ok(answer) => answer,
            Err(_) => Err(Miss::silent(format!("no answer within {}", humantime::format_duration(timeout)))),
        }
    }

    async fn notify(&self, target: &Target) -> Result<(), Miss> {
        match self.units.status(&target.unit).await {
            Ok(status) => up(&status),
            Err(error) => Err(Miss::not_asked(error.to_string())),
        }
    }

    /// Runs a oneshot unit; its job's success is the answer. A condition in it that says no is a success to systemd,
    /// which forgets the unit at once, so nothing can be asked afterwards: a probe's unit must have none.
    async fn run_unit(&self, name: &str, target: &Target, timeout: Duration) -> Result<(), Miss> {
        let unit = match name.strip_suffix('@') {
            Some(_) => UnitName::new(format!("{name}{}.service", target.instance.encoded())),
            None => UnitName::new(name),
        };
        let before = self.units.status(&unit).await.map_err(|error| Miss::not_asked(error.to_string()))?;
        if before.is_up() {
            let why = format!("{unit} is active already, so starting it asks nothing: no RemainAfterExit= in a probe");
            return Err(Miss::not_asked(why));
        }
        match self.units.start(&unit, timeout).await {
            Ok(JobResult::Done) => Ok(()),
            Ok(JobResult::Failed | JobResult::Timeout) => Err(Miss::wrong(self.how_it_ended(&unit).await)),
            Ok(other) => Err(Miss::not_asked(format!("{unit} wasn't run: its job ended as {other:?}").to_lowercase())),
            Err(UnitError::Timeout { .. }) => {
                // Left alone, it would be the one that the next attempt joins.
                let stopped = self.units.stop(&unit, timeout).await;
                let still = if stopped.is_ok() { "" } else { ", and doesn't stop" };
                let limit = humantime::format_duration(timeout);
                Err(Miss::silent(format!("{unit} didn't end within {limit}{still}")))
            }
            Err(error) => Err(Miss::not_asked(error.to_string())),
        }
    }

    async fn how_it_ended(&self, unit: &UnitName) -> String {
        match self.units.status(unit).await {
            Ok(status) => match status.exit {
                Some(exit) => format!("{unit} {exit}"),
                None => format!("{unit} ended with {}", status.result),
            },
            Err(error) => format!("{unit} failed ({error})"),
        }
    }
}

/// Whether anybody answers at a probe's address, within `timeout`, with anything but the word that the server failed: whoever
/// it is, and whatever the probe expects of the slot that it proves.
pub async fn is_answered(probe: &Probe, target: &Target, timeout: Duration) -> bool {
    let ask = async {
        match probe {
            Probe::Http { address, path, .. } => {
                let (headers, status) = (BTreeMap::new(), (100..500).collect::<Vec<_>>());
                let expected = http::Expected { status: &status, headers: &headers, body: None };
                http::ask(address, path, &expected, target).await
            }
            Probe::Tcp { address } => connect_tcp(address).await.map(drop),
            Probe::Notify | Probe::Unix { .. } | Probe::Unit { .. } => Ok(()),
        }
    };
    tokio::time::timeout(timeout, ask).await.is_ok_and(|answer| answer.is_ok())
}

/// Whether systemd has it up.
pub(super) fn up(status: &UnitStatus) -> Result<(), Miss> {
    match status.is_up() {
        true => Ok(()),
        false => Err(Miss::silent(format!("not up: {:?} ({})", status.active, status.sub).to_lowercase())),
    }
}

/// A TCP connection to `HOST:PORT`.
pub(super) async fn connect_tcp(address: &str) -> Result<TcpStream, Miss> {
    TcpStream::connect(address).await.map_err(|error| Miss::silent(format!("connect to {address}: {error}")))
}

/// A connection to a Unix socket, on which no other instance than the one that is asked listens.
pub(super) async fn connect_unix(path: &str, target: &Target) -> Result<UnixStream, Miss> {
    let stream = UnixStream::connect(path).await.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => " (it needs a group that slotd is in, and UMask=0007 in the template)",
            _ => "",
        };
        Miss::silent(format!("connect to {path}: {error}{hint}"))
    })?;
    match peer::other_instance(&stream, &target.unit) {
        Some(other) => Err(Miss::wrong(format!("{path} is answered by {other}, not by {}", target.unit))),
        None => Ok(stream),
    }
}
