//! Words for people: times, sizes, and text from elsewhere that a terminal must not obey.

use std::time::Duration;

use crate::model::evidence::cut;
use crate::model::release::Provenance;
use crate::model::slot::Pin;
use crate::model::{Freeze, Timestamp};

/// Most bytes of a release's notes in a table.
const NOTES_BYTES: usize = 60;

/// `text` on one line, without the control characters that a terminal acts on.
pub fn plain(text: &str) -> String {
    text.trim_end().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// `text` as one word of a shell.
pub fn quoted(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(harmless) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A duration in at most two units: "0.4 s", "12 s", "3 min 4 s", "2 h 5 min", "9 days".
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => pair(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => pair(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        86_400..172_800 => "1 day".to_owned(),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn pair(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    }
}

/// Long ago in the largest unit: "now", "12 s ago", "3 min ago", "2 h ago", "9 days ago".
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = at.until(now).as_secs();
    match seconds {
        0 => "now".to_owned(),
        1..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        86_400..172_800 => "1 day ago".to_owned(),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// The time in UTC, to the second: "2025-11-21 04:40:00Z".
pub fn stamp(at: Timestamp) -> String {
    let text = at.to_string();
    match text.get(..19) {
        Some(seconds) => format!("{}Z", seconds.replace('T', " ")),
        None => text,
    }
}

/// The time of day in UTC, to the millisecond: "04:40:00.123".
pub fn clock(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(11..23).map_or_else(|| text.clone(), str::to_owned)
}

/// Both: "3 min ago (2025-11-21 04:40:00Z)".
pub fn when(at: Timestamp, now: Timestamp) -> String {
    format!("{} ({})", ago(at, now), stamp(at))
}

/// A size: "512 B", "1.5 kB", "12 MB".
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = usize::from(value < 9.95);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// Where a release comes from, on one line: commit and branch, who built it, the first line of its notes.
pub fn release_text(release: &Provenance) -> String {
    let Provenance { commit, branch, builder, notes } = release;
    let commit = commit.as_ref().map(|commit| commit.chars().take(12).collect::<String>());
    let place: Vec<String> = commit.into_iter().chain(branch.clone()).collect();
    let builder = builder.as_ref().map(|builder| format!("built by {builder}"));
    let place = Some(place.join(" ")).filter(|place| !place.is_empty());
    let source: Vec<String> = place.into_iter().chain(builder).collect();
    let notes = notes.as_ref().and_then(|notes| notes.lines().find(|line| !line.trim().is_empty()));
    let notes = notes.map(|line| cut(line.trim(), NOTES_BYTES));
    let parts: Vec<String> =
        Some(source.join(", ")).filter(|source| !source.is_empty()).into_iter().chain(notes).collect();
    plain(&parts.join(": "))
}

/// Who pinned it, when and why.
pub fn pin_text(pin: &Pin, now: Timestamp) -> String {
    let message = pin.message.as_ref().map(|message| format!(": {message}"));
    format!("by {}, {}{}", pin.by, when(pin.at, now), message.unwrap_or_default())
}

/// Who froze it, when, until when and why.
pub fn freeze_text(freeze: &Freeze, now: Timestamp) -> String {
    let all = if freeze.all { "with all apps, " } else { "" };
    let until = freeze.until.map(|until| format!(", until {}", stamp(until)));
    let message = freeze.message.as_ref().map(|message| format!(": {message}"));
    let (until, message) = (until.unwrap_or_default(), message.unwrap_or_default());
    format!("{all}by {}, {}{until}{message}", freeze.by, when(freeze.at, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_elsewhere_cannot_steer_the_terminal() {
        assert_eq!(plain("\u{1b}[2Jgone\r\n"), "\u{fffd}[2Jgone");
        assert_eq!(plain("two\nlines ü"), "two\u{fffd}lines ü");
    }

    #[test]
    fn a_shell_takes_words_back() {
        assert_eq!(quoted("web-1.4.2+b5"), "web-1.4.2+b5");
        assert_eq!(quoted("it's new"), "'it'\\''s new'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn spans_and_times() {
        for (seconds, text) in [(4, "4.0 s"), (12, "12 s"), (184, "3 min 4 s"), (7200, "2 h"), (90_000, "1 day")] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
        let now = Timestamp::from_unix_millis(1_763_700_000_123);
        let then = Timestamp::from_unix_millis(1_763_700_000_123 - 200_000);
        assert_eq!(when(then, now), "3 min ago (2025-11-21 04:36:40Z)");
        assert_eq!(ago(now, then), "now");
        assert_eq!(clock(now), "04:40:00.123");
    }

    #[test]
    fn where_a_release_comes_from() {
        let text = |commit: &str, branch: &str, builder: &str, notes: &str| {
            let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            let (commit, branch) = (some(commit), some(branch));
            release_text(&Provenance { commit, branch, builder: some(builder), notes: some(notes) })
        };
        assert_eq!(
            text("8f14e45fceea167a5a", "main", "ci 7", "\n  Faster\nand more"),
            "8f14e45fceea main, built by ci 7: Faster"
        );
        assert_eq!(text("", "main", "", ""), "main");
        assert_eq!(text("", "", "ci", ""), "built by ci");
        assert_eq!(text("", "", "", "New \u{1b}[31m"), "New \u{fffd}[31m");
        assert_eq!(text("", "", "", ""), "");
    }

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (12_345_678, "12 MB"),
            (999_700, "1.0 MB"),
            (2_000_000_000, "2.0 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
