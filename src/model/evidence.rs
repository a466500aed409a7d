//! Evidence: what was seen when something went wrong, kept beside the slot that it concerns.

use serde::{Deserialize, Serialize};

use super::code::Code;
use super::names::{InstanceName, UnitName};
use super::time::Timestamp;

/// Most journal lines that a piece of evidence keeps.
pub const MAX_JOURNAL_LINES: usize = 40;

/// Longest text kept of one answer or journal line, in bytes.
pub const MAX_TEXT_BYTES: usize = 2048;

/// A refusal or fault: what, why, and what was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Its stable code.
    pub code: Code,
    /// One sentence for a person, without the code and without the step.
    pub message: String,
    /// What was seen.
    #[serde(default, skip_serializing_if = "Evidence::is_empty")]
    pub evidence: Evidence,
}

/// What was seen. Each part is there only where it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The last attempt of the probe that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeSeen>,
    /// The unit's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitSeen>,
    /// The last lines of that run's journal, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub journal: Vec<JournalLine>,
    /// The entry of the archive, or the path, that a refusal is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
}

/// The last attempt of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeSeen {
    /// The probe as its settings name it: "http http://127.0.0.1:8080/health". The same for every instance, so that two
    /// of them can be compared.
    pub probe: String,
    /// How it was put to this instance, where that differs: its own socket, its release's path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// The instance that was asked.
    pub instance: InstanceName,
    /// How many attempts were made; from 1.
    pub attempts: u32,
    /// What came back last, or why nothing did.
    pub last: String,
    /// When that was.
    pub at: Timestamp,
}

/// How a unit stood, or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitSeen {
    /// The unit.
    pub unit: UnitName,
    /// systemd's ActiveState and SubState: "failed/failed".
    pub state: String,
    /// systemd's Result: "exit-code", "signal", "timeout" …
    pub result: String,
    /// The main process's end: "exited with status 3", "killed by SIGKILL".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<String>,
    /// The run's InvocationID, as `journalctl _SYSTEMD_INVOCATION_ID=` takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<String>,
    /// How often systemd restarted it by itself.
    #[serde(default)]
    pub restarts: u32,
}

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalLine {
    /// When.
    pub at: Timestamp,
    /// syslog's priority, 0 (emergency) to 7 (debug).
    pub priority: u8,
    /// Who: the syslog identifier.
    pub source: String,
    /// The text, cut at [`MAX_TEXT_BYTES`].
    pub text: String,
}

impl Fault {
    /// A fault without evidence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Fault { code, message: message.into(), evidence: Evidence::default() }
    }

    /// The same fault, with `evidence`.
    #[must_use]
    pub fn with(mut self, evidence: Evidence) -> Self {
        self.evidence = evidence;
        self
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for Fault {}

impl Evidence {
    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        *self == Evidence::default()
    }
}

/// `text` cut to at most `max` bytes at a character's border, with a mark where it was cut.
pub fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let end = (0..=max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}
