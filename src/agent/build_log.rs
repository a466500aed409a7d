//! What a build said: read from the journal when it is over, and kept with the slot.

use std::time::Duration;

use crate::model::evidence::JournalLine;
use crate::model::slot::Built;
use crate::model::{Digest, Fault, Timestamp, UnitName};
use crate::slots::{SlotStore, Stored};
use crate::units::UnitControl;

use super::build::{Hands, Unit};
use super::intake::Refused;

/// How many lines of a build are kept.
const LOG_LINES: usize = 10_000;

/// Between two looks whether the journal has the end of a build, and how many there are: systemd's last word may come to it
/// a little later than to us.
const LOG_LOOK: Duration = Duration::from_millis(200);
const LOG_LOOKS: u32 = 15;

impl<U: UnitControl> Hands<U> {
    /// What the build wrote, once systemd's last word on it is there.
    pub(super) async fn lines(&self, unit: &UnitName, since: Timestamp) -> Vec<JournalLine> {
        let mut lines = Vec::new();
        for _ in 0..LOG_LOOKS {
            lines = self.units.journal_since(unit, since, LOG_LINES).await;
            let of_systemd = |line: &JournalLine| line.source == "systemd";
            // "Starting …" is its first one.
            if lines.last().is_some_and(of_systemd) && lines.iter().filter(|line| of_systemd(line)).count() > 1 {
                break;
            }
            tokio::time::sleep(LOG_LOOK).await;
        }
        lines
    }
}

/// What is kept of a build: by what, when, what it said, how it ended.
pub(super) fn told(unit: &Unit, began: Timestamp, lines: &[JournalLine], fault: Option<&Refused>) -> String {
    let Built { inputs, text } = &unit.built;
    let mut log = format!("{began} {} begins; its files: {text}", unit.name);
    if !inputs.env.is_empty() {
        let names: Vec<&str> = inputs.env.keys().map(String::as_str).collect();
        log.push_str(&format!("; [build.env]: {}", names.join(", ")));
    }
    log.push('\n');
    for line in lines {
        log.push_str(&format!("{} {}: {}\n", line.at, line.source, line.text));
    }
    let end = Timestamp::now();
    let took = began.until(end).as_secs_f64();
    match fault {
        None => log.push_str(&format!("{end} it ended well after {took:.1} s\n")),
        Some(refused) => log.push_str(&format!("{end} {} ({took:.1} s)\n", refused.fault)),
    }
    log
}

/// What the log of a slot says whose tree was there.
pub(super) fn reused(store: &SlotStore, key: &Digest, unit: &Unit) -> Result<String, Fault> {
    let slots = store.slots().map_err(|error| error.fault())?;
    let of = slots.into_iter().find_map(|entry| match entry.stored {
        Stored::Slot(record) if record.tree == *key => Some(record.slot),
        _ => None,
    });
    let Some(of) = of else {
        return Ok(format!("{} {} isn't run: its tree is there already\n", Timestamp::now(), unit.name));
    };
    let before = store.build_log(&of).map_err(|error| error.fault())?.unwrap_or_default();
    Ok(format!(
        "{} {} isn't run: {of} was built of the same artifact by the same build, and its tree is used; its log:\n{before}",
        Timestamp::now(),
        unit.name
    ))
}
