//! A point in time as people type it: `2026-12-24T18:00:00Z`, `2026-12-24 18:00+01:00`, or how long from now: `3d`, `1h 30m`.
//!
//! A date without a zone is refused: whose it is would be a guess.

use std::time::Duration;

use crate::model::Timestamp;

/// What may be typed, for the help.
pub const FORMS: &str = "a time as 2026-12-24T18:00:00Z or 2026-12-24 18:00+01:00, or how long from now: 3d";

/// The time that `text` names.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    at(text.trim(), Timestamp::now())
}

fn at(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let is_date =
        text.get(..5).is_some_and(|year| year.ends_with('-') && year[..4].bytes().all(|b| b.is_ascii_digit()));
    if !is_date {
        let span = humantime::parse_duration(text).map_err(|error| format!("{error}; it is {FORMS}"))?;
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        return Ok(Timestamp::from_unix_millis(now.unix_millis().saturating_add(millis)));
    }
    let Some((local, offset)) = zone(text) else {
        return Err(format!(
            "it says no time zone: with Z it is UTC, else as +01:00; `date -Is -d {text:?}` gives that of this host"
        ));
    };
    // Seconds may be left out.
    let seconds = if local.matches(':').count() == 1 { ":00" } else { "" };
    let named = humantime::parse_rfc3339_weak(&format!("{local}{seconds}")).map(Timestamp::from);
    let named = named.map_err(|error| format!("{error}; it is {FORMS}"))?;
    let (ahead, behind) = offset;
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    Ok(Timestamp::from_unix_millis(named.unix_millis().saturating_add(millis(behind)).saturating_sub(millis(ahead))))
}

/// The date and time without its zone, and how far the zone is ahead of UTC, or behind it.
fn zone(text: &str) -> Option<(&str, (Duration, Duration))> {
    if let Some(local) = text.strip_suffix(['Z', 'z']) {
        return Some((local, Default::default()));
    }
    let (local, zone) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let number = |range: std::ops::Range<usize>| {
        zone.get(range).filter(|it: &&str| it.bytes().all(|b| b.is_ascii_digit()))?.parse::<u64>().ok()
    };
    let (hours, minutes) = (number(1..3)?, number(4..6)?);
    if zone.get(3..4) != Some(":") || hours > 23 || minutes > 59 {
        return None;
    }
    let offset = Duration::from_secs((hours * 60 + minutes) * 60);
    match zone.as_bytes()[0] {
        b'+' => Some((local, (offset, Duration::ZERO))),
        b'-' => Some((local, (Duration::ZERO, offset))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_a_zone_and_spans_from_now_are_read() {
        let now = Timestamp::from_unix_millis(1_763_700_000_000);
        for (text, time) in [
            ("2026-12-24T18:00:00Z", "2026-12-24T18:00:00.000Z"),
            ("2026-12-24 18:00Z", "2026-12-24T18:00:00.000Z"),
            ("2026-12-24T18:00:00+01:00", "2026-12-24T17:00:00.000Z"),
            ("2026-12-24 18:00-05:30", "2026-12-24T23:30:00.000Z"),
            ("90s", "2025-11-21T04:41:30.000Z"),
            ("1d 2h", "2025-11-22T06:40:00.000Z"),
        ] {
            assert_eq!(at(text, now).map(|time| time.to_string()).as_deref(), Ok(time), "{text}");
        }
    }

    #[test]
    fn what_would_be_a_guess_is_refused() {
        let now = Timestamp::from_unix_millis(0);
        for (text, part) in [
            ("2026-12-24 18:00", "no time zone"),
            ("2026-12-24T18:00:00+1:00", "no time zone"),
            ("2026-12-24T18:00:00+25:00", "no time zone"),
            ("2026-13-24T18:00:00Z", "it is a time as"),
            ("2026-12-24Z", "it is a time as"),
            ("tomorrow", "it is a time as"),
            ("3", "it is a time as"),
            ("", "it is a time as"),
        ] {
            let error = at(text, now).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
