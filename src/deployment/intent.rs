//! The intent: the record of an open deployment, a file beside what it changes.
//!
//! It is durable before the stage that it announces has its first effect. Closing renames it to `last.json`, which so
//! holds how the last deployment ended.

use serde::{Deserialize, Serialize};

use crate::model::Report;

use super::stage::{Facts, Stage};

/// The format that this version writes; another one is not read.
pub const INTENT_FORMAT: u32 = 1;

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

/// `last.json`: the deployment that ended last, with its facts so that it can be tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// [`INTENT_FORMAT`].
    pub format: u32,
    /// What people are shown; `ended` is there.
    pub report: Report,
}

/// `intent`, as bytes of at most `max`: where the evidence is too long, its oldest journal lines go.
pub fn bytes_within(intent: &Intent, max: usize) -> Result<Vec<u8>, serde_json::Error> {
    let mut intent = intent.clone();
    loop {
        let bytes = serde_json::to_vec_pretty(&intent)?;
        if bytes.len() <= max || !shorten(&mut intent) {
            return Ok(bytes);
        }
    }
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
