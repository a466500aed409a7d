//! The intent: the record of an open deployment, a file beside what it changes.
//!
//! It is durable before the stage that it announces has its first effect. Closing renames it to `last.json`, which so
//! holds how the last deployment ended.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::durable::{Ballast, DurableError, read_json};
use crate::model::{Layout, Report};

use super::clock;
use super::facts::Facts;
use super::stage::Stage;

/// Room that an intent has, and each of its spares: some hundred steps, and the evidence of a failure.
pub const INTENT_BYTES: usize = 128 * 1024;

/// The format that this version writes; another one is not read.
pub const INTENT_FORMAT: u32 = 2;

/// `intent.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// [`INTENT_FORMAT`].
    pub format: u32,
    /// What the deployment is about.
    pub facts: Facts,
    /// Where it stands.
    pub stage: Stage,
    /// The boot in which the stage was announced.
    pub boot: String,
    /// CLOCK_BOOTTIME at the announcement, in milliseconds.
    pub announced_ms: u64,
    /// What people are shown.
    pub report: Report,
}

impl Intent {
    /// A stage announced here and now.
    pub fn new(facts: Facts, stage: Stage, report: Report) -> Self {
        Intent {
            format: INTENT_FORMAT,
            facts,
            stage,
            boot: clock::boot_id(),
            announced_ms: clock::powered_on_ms(),
            report,
        }
    }
}

/// The intent's file, its spares, and the record of what ended last.
#[derive(Debug, Clone)]
pub struct IntentFile {
    ballast: Ballast,
    open: PathBuf,
    last: PathBuf,
}

impl IntentFile {
    /// The files of one app. Touches nothing yet.
    pub fn of(layout: &Layout) -> Self {
        let ballast = Ballast::new(layout.intent(), INTENT_BYTES);
        IntentFile { ballast, open: layout.intent(), last: layout.last() }
    }

    /// Sees to it that an intent can be written on a full disk. That it can't is worth a warning.
    pub fn refill(&self) -> Result<(), DurableError> {
        self.ballast.refill()
    }

    /// The open intent; none when nothing is open. One of another format is damaged to this version, whatever of it
    /// could be read.
    pub fn read(&self) -> Result<Option<Intent>, DurableError> {
        match read_json::<Intent>(&self.open)? {
            Some(intent) if intent.format != INTENT_FORMAT => {
                let why = format!("its format is {}, this slotd knows {INTENT_FORMAT}", intent.format);
                let source = serde::de::Error::custom(why);
                Err(DurableError::Damaged { path: self.open.clone(), source })
            }
            intent => Ok(intent),
        }
    }

    /// How the last deployment ended.
    pub fn last(&self) -> Result<Option<Intent>, DurableError> {
        read_json(&self.last)
    }

    /// Announces a stage, durably.
    pub fn write(&self, intent: &Intent) -> Result<(), DurableError> {
        self.ballast.write(&within(intent, INTENT_BYTES))
    }

    /// Writes how it ended, and closes it: it becomes the record of what ended last. Without an open intent nothing is
    /// done.
    pub fn close(&self, ended: &Intent) -> Result<(), DurableError> {
        if !self.open.exists() {
            return Ok(());
        }
        self.write(ended)?;
        self.ballast.retire(&self.last).map(drop)
    }

    /// Moves an unreadable intent out of the way of the next one; it stays beside it, for a person.
    pub fn set_aside(&self) -> Result<(), DurableError> {
        crate::durable::rename_over(&self.open, &self.open.with_extension("unreadable"))
    }
}

/// `intent` so that it takes at most `max` bytes: where the evidence is too long, its oldest journal lines go.
fn within(intent: &Intent, max: usize) -> Intent {
    let mut intent = intent.clone();
    let fits = |intent: &Intent| serde_json::to_vec(intent).is_ok_and(|bytes| bytes.len() <= max);
    while !fits(&intent) && shorten(&mut intent) {}
    intent
}

/// Drops something that the intent can do without; false when there is nothing left to drop.
fn shorten(intent: &mut Intent) -> bool {
    let ruled = match &mut intent.stage {
        Stage::Settling(settling) => settling.ruling.fault.as_mut(),
        _ => None,
    };
    let told = intent.report.steps.iter_mut().filter_map(|step| step.fault.as_mut());
    let mut journals = ruled.into_iter().chain(told).map(|fault| &mut fault.evidence.journal);
    match journals.find(|journal| !journal.is_empty()) {
        Some(journal) => {
            journal.drain(..journal.len().div_ceil(2));
            true
        }
        None => {
            let steps = &mut intent.report.steps;
            steps.drain(..steps.len().div_ceil(2)).next().is_some()
        }
    }
}
