//! The contract `accept = "signal"` of a shared socket: an instance starts quiet, takes connections on SIGUSR1 and no more
//! on SIGUSR2.
//!
//! A signal has no answer, so the app gives one: `STATUS=accepting…` or `STATUS=quiet…` by sd_notify(3), with READY=1 and
//! after each signal. systemd keeps it as StatusText, and what an instance says there is what it does. Whoever has said
//! neither doesn't know the contract, and would die of the signal: it is never sent one.

use std::collections::BTreeSet;
use std::fmt;
use std::slice;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use crate::model::evidence::{Evidence, cut};
use crate::model::{Code, Fault, Template, UnitName};
use crate::units::{Signal, UnitControl, UnitStatus};

use super::{Backend, not_asked};

/// How long an instance may take to say that it does what it was told. It opens or closes a door: what takes longer hangs.
pub const SIGNAL_LIMIT: Duration = Duration::from_secs(10);

/// Between two looks, should a change not be told.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Longest text of an app in a message, in bytes.
const MAX_SAID_BYTES: usize = 80;

/// The instances that share a socket, told by signals who accepts.
#[derive(Debug, Clone)]
pub(super) struct BySignal<U> {
    units: U,
    /// The template of those that have the socket. No other unit of the app gets a signal.
    template: Template,
}

/// What an instance says it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Accepting,
    Quiet,
}

impl Says {
    /// By the first word of its status; what follows is for people.
    fn of(status: &UnitStatus) -> Option<Says> {
        let text = status.said.as_deref()?;
        match text.split(|c: char| !c.is_ascii_alphabetic()).next()? {
            "accepting" => Some(Says::Accepting),
            "quiet" => Some(Says::Quiet),
            _ => None,
        }
    }

    fn signal(self) -> Signal {
        match self {
            Says::Accepting => Signal::Usr1,
            Says::Quiet => Signal::Usr2,
        }
    }

    fn code(self) -> Code {
        match self {
            Says::Accepting => Code::RouteNotAccepting,
            Says::Quiet => Code::RouteNotQuiet,
        }
    }
}

impl fmt::Display for Says {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Says::Accepting => "accepting",
            Says::Quiet => "quiet",
        })
    }
}

impl<U: UnitControl> BySignal<U> {
    pub(super) fn new(units: U, template: Template) -> Self {
        BySignal { units, template }
    }

    /// Has all of `to` accept, and only then every other instance that runs be quiet: at no instant does nobody accept.
    ///
    /// With [`Code::RouteNotQuiet`] users are where they should be, and one that should have none still takes its share.
    pub(super) async fn switch(&self, to: &BTreeSet<Backend>) -> Result<(), Fault> {
        let units = to.iter().map(|backend| &backend.unit).filter(|unit| self.template.instance_of(unit).is_some());
        first_fault(join_all(units.map(|unit| self.tell(unit, Says::Accepting))).await)?;
        let mut others = self.running().await?;
        others.retain(|(unit, _)| to.iter().all(|backend| backend.unit != *unit));
        first_fault(join_all(others.iter().map(|(unit, _)| self.tell(unit, Says::Quiet))).await)
    }

    /// Sees that these candidates began quiet: one that takes users unasked has them before it was proved.
    pub(super) async fn confirm_quiet(&self, candidates: &BTreeSet<Backend>) -> Result<(), Fault> {
        for Backend { unit, .. } in candidates.iter().filter(|it| self.template.instance_of(&it.unit).is_some()) {
            let status = self.status(unit).await?;
            if Says::of(&status) != Some(Says::Quiet) {
                let message = format!(
                    "{unit} should start quiet and {}; with SLOTD_ACCEPT=signal it has to say STATUS=quiet with READY=1",
                    said(&status)
                );
                return Err(about(Code::RouteNotQuiet, message, unit, &status));
            }
        }
        Ok(())
    }

    /// Those that say they accept.
    pub(super) async fn accepting(&self) -> Result<BTreeSet<Backend>, Fault> {
        let running = self.running().await?.into_iter().filter(|(_, status)| Says::of(status) == Some(Says::Accepting));
        Ok(running
            .filter_map(|(unit, _)| Some(Backend::new(unit.clone(), self.template.instance_of(&unit)?)))
            .collect())
    }

    /// Sends the signal unless the instance says what is wanted already, and waits until it does.
    async fn tell(&self, unit: &UnitName, wanted: Says) -> Result<(), Fault> {
        let end = Instant::now() + SIGNAL_LIMIT;
        // The run that was told: one that was started meanwhile knows nothing of it.
        let mut told = None;
        // Watched before it is looked at, so that no change falls between.
        let mut watch = self.units.watch(slice::from_ref(unit)).await.map_err(|error| not_asked(&error))?;
        loop {
            let status = self.status(unit).await?;
            match Says::of(&status) {
                // Nobody needs to be told who isn't there any more.
                _ if !status.is_up() && wanted == Says::Quiet => return Ok(()),
                _ if !status.is_up() => {
                    let message = format!("{unit} should accept and is {}", status.seen(unit).state);
                    return Err(about(Code::UnitExited, message, unit, &status));
                }
                Some(says) if says == wanted => return Ok(()),
                Some(_) if told != Some(status.invocation.clone()) => {
                    tracing::debug!(%unit, signal = %wanted.signal(), "told to be {wanted}");
                    self.units.kill(unit, wanted.signal()).await.map_err(|error| not_asked(&error))?;
                    told = Some(status.invocation);
                    continue;
                }
                says if Instant::now() >= end || says.is_none() && wanted == Says::Quiet => {
                    return Err(about(wanted.code(), disobeyed(unit, wanted, &status), unit, &status));
                }
                _ => {}
            }
            if let Ok(None) = timeout(LOOK_EVERY, watch.changed()).await {
                watch = self.units.watch(slice::from_ref(unit)).await.map_err(|error| not_asked(&error))?;
            }
        }
    }

    /// The instances that run, whatever their slot.
    async fn running(&self) -> Result<Vec<(UnitName, UnitStatus)>, Fault> {
        let pattern = format!("{}*.service", self.template);
        let mut running = Vec::new();
        for unit in self.units.list(&[pattern]).await.map_err(|error| not_asked(&error))? {
            let status = self.status(&unit).await?;
            if status.is_up() && self.template.instance_of(&unit).is_some() {
                running.push((unit, status));
            }
        }
        Ok(running)
    }

    async fn status(&self, unit: &UnitName) -> Result<UnitStatus, Fault> {
        self.units.status(unit).await.map_err(|error| not_asked(&error))
    }
}

/// All were waited for: one that hangs must not leave the others half told.
fn first_fault(results: Vec<Result<(), Fault>>) -> Result<(), Fault> {
    results.into_iter().collect()
}

fn disobeyed(unit: &UnitName, wanted: Says, status: &UnitStatus) -> String {
    let signal = wanted.signal();
    let said = said(status);
    match Says::of(status) {
        Some(_) => {
            let limit = humantime::format_duration(SIGNAL_LIMIT);
            format!("{unit} was told by {signal} to be {wanted} and {said} after {limit}: `systemctl status {unit}`")
        }
        None => format!(
            "{unit} can't be told to be {wanted}: it {said}, so it may not know {signal}, and die of it; it has to say \
             STATUS=accepting or STATUS=quiet with READY=1"
        ),
    }
}

fn said(status: &UnitStatus) -> String {
    match &status.said {
        Some(text) => format!("says {:?}", cut(text, MAX_SAID_BYTES)),
        None => "says nothing of itself".to_owned(),
    }
}

fn about(code: Code, message: String, unit: &UnitName, status: &UnitStatus) -> Fault {
    Fault::new(code, message).with(Evidence { unit: Some(status.seen(unit)), ..Evidence::default() })
}
