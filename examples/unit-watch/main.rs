//! How many instances of a template were ready and how many ran, at the least and at the most, while this watched.
//!
//!     unit-watch web@ --report FILE          until SIGTERM
//!
//! An instance is ready while systemd says `active` (a `Type=notify` unit: from READY=1 to its stop), and runs while it
//! says anything but `inactive` and `failed`. systemd tells each change by a signal, in the order in which they happened;
//! nothing is asked again. Of two changes of one unit within one turn of systemd's own loop only the later is told.
//!
//! The report is one line of JSON: `min_ready`, `max_running`, `changes`, and `ready` and `running` as it ended. The
//! least and the most count from the first moment, so there should be something to watch.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use futures_util::StreamExt;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use zbus::message::Type;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};
use zbus::{Connection, MatchRule, Message, MessageStream};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const ROOT: &str = "/org/freedesktop/systemd1";
const UNITS: &str = "/org/freedesktop/systemd1/unit";

/// Signals that wait to be read; systemd sends some dozen a deployment, and a lost one would falsify the rest.
const MOST_WAITING: usize = 4096;

/// How it was called.
#[derive(Debug, Parser)]
#[command(name = "unit-watch", about = "Counts ready and running instances of a template until SIGTERM")]
struct Settings {
    /// The template: NAME@
    template: String,
    /// Where the report goes
    #[arg(long)]
    report: PathBuf,
}

/// A unit as `ListUnitsByPatterns` gives it; of interest are its name and, the fourth, its ActiveState.
type Listed = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match watch(&Settings::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("unit-watch: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn watch(settings: &Settings) -> Result<(), Box<dyn std::error::Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let bus = Connection::system().await?;
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender(SYSTEMD)?
        .path_namespace(UNITS)?
        .interface("org.freedesktop.DBus.Properties")?
        .member("PropertiesChanged")?
        .build();
    // Before the list, so that no change falls between the two.
    let mut signals = MessageStream::for_match_rule(rule, &bus, Some(MOST_WAITING)).await?;
    bus.call_method(Some(SYSTEMD), ROOT, Some(MANAGER), "Subscribe", &()).await?;
    let patterns = (Vec::<&str>::new(), vec![format!("{}*.service", settings.template)]);
    let listed = bus.call_method(Some(SYSTEMD), ROOT, Some(MANAGER), "ListUnitsByPatterns", &patterns).await?;
    let listed: Vec<Listed> = listed.body().deserialize()?;
    let mut counts = Counts::of(listed.into_iter().map(|unit| (unit.0, unit.3)).collect());
    // From here on nothing is missed.
    sd_notify::notify(false, &[NotifyState::Ready])?;

    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            signal = signals.next() => {
                let signal = signal.ok_or("the bus is gone")??;
                if let Some((unit, state)) = change(&signal, &settings.template)? {
                    counts.set(unit, state);
                }
            }
        }
    }
    std::fs::write(&settings.report, format!("{}\n", counts.report()))?;
    Ok(())
}

/// The unit of the template whose ActiveState the signal tells, if it does.
fn change(signal: &Message, template: &str) -> Result<Option<(String, String)>, zbus::Error> {
    let header = signal.header();
    let name = header.path().and_then(|path| path.strip_prefix(UNITS)).map(|name| unescaped(name.trim_matches('/')));
    let Some(name) = name.filter(|name| name.starts_with(template) && name.ends_with(".service")) else {
        return Ok(None);
    };
    let body = signal.body();
    let (interface, changed, _): (String, HashMap<String, OwnedValue>, Vec<String>) = body.deserialize()?;
    if interface != UNIT {
        return Ok(None);
    }
    let Some(state) = changed.get("ActiveState") else { return Ok(None) };
    Ok(Some((name, String::try_from(state.try_clone()?)?)))
}

/// A unit's name from its object path, where all but letters and digits is `_` and two hexadecimal digits.
fn unescaped(name: &str) -> String {
    let mut parts = name.split('_');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) => {
                plain.push(char::from(byte));
                plain.push_str(&part[2..]);
            }
            None => plain.push_str(part),
        }
    }
    plain
}

/// The instances by their ActiveState, and what was seen.
#[derive(Debug)]
struct Counts {
    states: BTreeMap<String, String>,
    min_ready: usize,
    max_running: usize,
    changes: u64,
}

impl Counts {
    fn of(states: BTreeMap<String, String>) -> Counts {
        let mut counts = Counts { states, min_ready: usize::MAX, max_running: 0, changes: 0 };
        counts.look();
        counts
    }

    fn set(&mut self, unit: String, state: String) {
        self.states.insert(unit, state);
        self.changes += 1;
        self.look();
    }

    fn look(&mut self) {
        self.min_ready = self.min_ready.min(self.ready());
        self.max_running = self.max_running.max(self.running());
    }

    fn ready(&self) -> usize {
        self.states.values().filter(|state| *state == "active").count()
    }

    fn running(&self) -> usize {
        self.states.values().filter(|state| !["inactive", "failed"].contains(&state.as_str())).count()
    }

    fn report(&self) -> serde_json::Value {
        serde_json::json!({
            "min_ready": self.min_ready,
            "max_running": self.max_running,
            "changes": self.changes,
            "ready": self.ready(),
            "running": self.running(),
        })
    }
}
