//! The journal of one run, through `journalctl -o json`.
//!
//! It starts a child process, so it is asked only when something went wrong. A journal that can't be read is
//! an empty one: evidence is never a reason to fail.

use std::future::Future;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::model::evidence::{JournalLine, MAX_TEXT_BYTES, cut};
use crate::model::{Timestamp, UnitName};

/// How long journalctl may take; evidence that comes later holds up the way back.
const DEADLINE: Duration = Duration::from_secs(5);

/// How much of its output is read, the newest first: 40 lines, each with the longest message that journald takes, 48 KiB; or
/// the ten thousand of a build.
const MAX_OUTPUT: u64 = 8 << 20;

/// How long after the last line that names the run one that doesn't may still be of it.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// The last `lines` lines of the run `invocation`, oldest first: what its processes wrote, and what systemd says of it.
pub(super) async fn read(invocation: &str, lines: usize) -> Vec<JournalLine> {
    in_time(invocation, gather(invocation, lines)).await
}

/// The last `lines` lines of `unit` since a time, oldest first, and what systemd says of it.
pub(super) async fn read_since(unit: &UnitName, since: Timestamp, lines: usize) -> Vec<JournalLine> {
    let matches = [format!("--unit={unit}"), format!("--since=@{}", seconds(since.unix_millis() * 1000))];
    let read = async { Ok(run(&matches, lines).await?.into_iter().map(|entry| entry.line).collect()) };
    in_time(unit.as_str(), read).await
}

async fn in_time(what: &str, read: impl Future<Output = std::io::Result<Vec<JournalLine>>>) -> Vec<JournalLine> {
    match tokio::time::timeout(DEADLINE, read).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::warn!(%error, what, "journalctl can't be run");
            Vec::new()
        }
        Err(_) => {
            tracing::warn!(what, "journalctl didn't end within {}", humantime::format_duration(DEADLINE));
            Vec::new()
        }
    }
}

/// Asks twice: the last words of a process that died young carry its unit, and not the run, which journald looks up
/// too late.
async fn gather(invocation: &str, lines: usize) -> std::io::Result<Vec<JournalLine>> {
    let named = [format!("_SYSTEMD_INVOCATION_ID={invocation}"), "+".to_owned(), format!("INVOCATION_ID={invocation}")];
    let mut entries = run(&named, lines).await?;
    let unit = entries.iter().find_map(|entry| entry.unit.clone());
    if let (Some(unit), Some(first), Some(last)) = (unit, entries.first(), entries.last()) {
        let begin = seconds(first.microseconds);
        let end = seconds(last.microseconds + AFTERWARDS.as_micros() as u64);
        let unnamed = [format!("--since=@{begin}"), format!("--until=@{end}"), format!("_SYSTEMD_UNIT={unit}")];
        let more = run(&unnamed, lines).await?;
        entries.extend(more.into_iter().filter(|entry| entry.invocation.is_none()));
        // Stable: what came at the same time keeps its order.
        entries.sort_by_key(|entry| entry.microseconds);
    }
    let surplus = entries.len().saturating_sub(lines);
    Ok(entries.into_iter().skip(surplus).map(|entry| entry.line).collect())
}

/// Seconds since 1970 as journalctl takes them.
fn seconds(microseconds: u64) -> String {
    format!("{}.{:06}", microseconds / 1_000_000, microseconds % 1_000_000)
}

async fn run(matches: &[String], lines: usize) -> std::io::Result<Vec<Entry>> {
    let mut child = Command::new("journalctl")
        .arg("--output=json")
        .arg("--output-fields=MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_COMM,UNIT,_SYSTEMD_UNIT,_SYSTEMD_INVOCATION_ID")
        // Without --all a message above 4,096 bytes is null.
        .args(["--all", "--no-pager", "--quiet", "--reverse"])
        .arg(format!("--lines={lines}"))
        .args(matches)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_OUTPUT).read_to_end(&mut output).await?;
    }
    // Its output was closed, or is too long: what it exits with says no more.
    child.start_kill().ok();
    child.wait().await?;
    Ok(output.split(|byte| *byte == b'\n').rev().filter_map(entry).collect())
}

/// A line, and what tells whose it is.
struct Entry {
    microseconds: u64,
    unit: Option<String>,
    invocation: Option<String>,
    line: JournalLine,
}

/// An entry as journalctl writes it: numbers are text, and what isn't UTF-8 is a list of bytes.
#[derive(Deserialize)]
struct Fields {
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    at: String,
    #[serde(rename = "PRIORITY")]
    priority: Option<Value>,
    #[serde(rename = "SYSLOG_IDENTIFIER")]
    identifier: Option<Value>,
    #[serde(rename = "_COMM")]
    command: Option<Value>,
    #[serde(rename = "MESSAGE")]
    message: Option<Value>,
    /// Whom systemd speaks of.
    #[serde(rename = "UNIT")]
    about: Option<Value>,
    /// Who speaks; systemd itself is `init.scope`.
    #[serde(rename = "_SYSTEMD_UNIT")]
    by: Option<Value>,
    #[serde(rename = "_SYSTEMD_INVOCATION_ID")]
    invocation: Option<Value>,
}

/// One line of output; what isn't an entry is left out.
fn entry(json: &[u8]) -> Option<Entry> {
    let fields: Fields = serde_json::from_slice(json).ok()?;
    let microseconds: u64 = fields.at.parse().ok()?;
    // 6 is journald's own default.
    let priority = fields.priority.and_then(text).and_then(|priority| priority.parse().ok()).unwrap_or(6);
    let line = JournalLine {
        at: Timestamp::from_unix_millis(microseconds / 1000),
        priority,
        source: fields.identifier.and_then(text).or_else(|| fields.command.and_then(text)).unwrap_or_default(),
        text: cut(&text(fields.message?)?, MAX_TEXT_BYTES),
    };
    let unit = fields.about.and_then(text).or_else(|| fields.by.and_then(text));
    Some(Entry { microseconds, unit, invocation: fields.invocation.and_then(text), line })
}

/// A field that came once as text, once as bytes, or, repeated in one entry, as a list of either.
fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Array(items) => {
            let bytes: Option<Vec<u8>> =
                items.iter().map(|item| item.as_u64().and_then(|byte| u8::try_from(byte).ok())).collect();
            match bytes {
                Some(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
                None => items.into_iter().next().and_then(text),
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(json: &[u8]) -> Option<JournalLine> {
        entry(json).map(|entry| entry.line)
    }

    #[test]
    fn text_bytes_and_repeated_fields() {
        let plain =
            br#"{"__REALTIME_TIMESTAMP":"1763700000123456","PRIORITY":"3","SYSLOG_IDENTIFIER":"web","MESSAGE":"no"}"#;
        let expected = JournalLine {
            at: Timestamp::from_unix_millis(1_763_700_000_123),
            priority: 3,
            source: "web".into(),
            text: "no".into(),
        };
        assert_eq!(line(plain), Some(expected));

        let bytes = br#"{"__REALTIME_TIMESTAMP":"1000","_COMM":"sh","MESSAGE":[27,91,109,255]}"#;
        let seen = line(bytes).expect("a line");
        assert_eq!((seen.source.as_str(), seen.priority, seen.text.as_str()), ("sh", 6, "\u{1b}[m\u{fffd}"));

        let twice = br#"{"__REALTIME_TIMESTAMP":"1000","MESSAGE":["first","second"]}"#;
        assert_eq!(line(twice).expect("a line").text, "first");
        assert_eq!(line(b""), None);
        assert_eq!(line(br#"{"__REALTIME_TIMESTAMP":"1000","MESSAGE":null}"#), None);
    }

    #[test]
    fn whose_a_line_is() {
        let systemd =
            br#"{"__REALTIME_TIMESTAMP":"1","MESSAGE":"Started.","UNIT":"web@2.service","_SYSTEMD_UNIT":"init.scope"}"#;
        assert_eq!(entry(systemd).expect("a line").unit.as_deref(), Some("web@2.service"));
        let own = br#"{"__REALTIME_TIMESTAMP":"1","MESSAGE":"no","_SYSTEMD_UNIT":"web@2.service"}"#;
        let own = entry(own).expect("a line");
        assert_eq!((own.unit.as_deref(), own.invocation), (Some("web@2.service"), None));
        assert_eq!(seconds(1_763_700_000_000_042), "1763700000.000042");
    }

    #[tokio::test]
    async fn a_run_that_never_was_has_no_lines() {
        assert_eq!(read(&"0".repeat(32), 5).await, Vec::new());
    }
}
