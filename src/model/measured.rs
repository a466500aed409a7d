//! What slotd measures of each deployment, and keeps with it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Times in milliseconds, and counts. What isn't there didn't happen, or can't be seen on the app's route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Measured {
    /// From the start of a batch's first instance to the proof of its last one; of the slowest batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_ms: Option<u64>,
    /// From the first word to the route, once all is proved, to the exchange of `current`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch_ms: Option<u64>,
    /// The longest that no instance of one of the units was up: from the stop of the last one to the start of the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down_ms: Option<u64>,
    /// The longest that users at the outside address waited for an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_ms: Option<u64>,
    /// What came of the questions there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// What was taken out, until it had stopped: the time in which open connections could end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_ms: Option<u64>,
    /// Connections that ended by themselves, and that were open at the deadline, where the route counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<Connections>,
    /// From the first step to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_ms: Option<u64>,
}

/// Questions at the outside address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// How many.
    pub asked: u64,
    /// How many of them had no answer, or one that says that the server failed (status 500 and above).
    pub failed: u64,
}

/// Open connections of instances that were taken out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// They ended by themselves.
    pub drained: u64,
    /// They were open at the deadline, and ended with the instance.
    pub cut: u64,
}

/// What users at the outside address saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SeenOutside {
    /// The longest that they waited for an answer.
    pub gap: Duration,
    /// What came of the questions.
    pub asked: Asked,
}

impl Measured {
    /// Takes in what users have seen since `before`.
    pub fn add_outside(&mut self, before: &Measured, seen: &SeenOutside) {
        let asked = before.asked.unwrap_or_default();
        self.gap_ms = before.gap_ms.max(Some(millis(seen.gap)));
        self.asked = Some(Asked { asked: asked.asked + seen.asked.asked, failed: asked.failed + seen.asked.failed });
    }

    /// Nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Measured::default()
    }
}

/// The median, which is one that was measured, and the greatest; `None` of nothing.
pub fn median_and_worst(mut times: Vec<u64>) -> Option<(u64, u64)> {
    times.sort_unstable();
    Some((*times.get(times.len().checked_sub(1)? / 2)?, *times.last()?))
}

/// Whole milliseconds.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
