//! The sections that apps and the daemon's `[defaults]` have in common, read over what holds without them.

use std::time::Duration;

use super::app::{CrashLoop, Limits, Proof};
use super::document::Section;
use crate::model::Retention;

/// The longest that any setting may make slotd wait.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The most slots that can be kept.
const MAX_KEEP: u64 = 1000;

const NOTHING: Duration = Duration::ZERO;
const LEAST: Duration = Duration::from_millis(1);

/// `[proof]`.
pub(super) fn proof(parent: &Section<'_>, default: Proof) -> Proof {
    let Some(section) = parent.section("proof") else { return default };
    let proof = Proof {
        interval: section.duration("interval", LEAST..=MAX_WAIT).unwrap_or(default.interval),
        timeout: section.duration("timeout", LEAST..=MAX_WAIT).unwrap_or(default.timeout),
        successes: section.number("successes", 1..=1000).map_or(default.successes, to_u32),
        deadline: section.duration("deadline", LEAST..=MAX_WAIT).unwrap_or(default.deadline),
        stable_for: section.duration("stable_for", NOTHING..=MAX_WAIT).unwrap_or(default.stable_for),
    };
    section.finish();
    let text = |duration| humantime::format_duration(duration).to_string();
    if proof.timeout > proof.deadline {
        let message = format!(
            "one attempt may take {} (`timeout`), which is longer than all of them ({}, `deadline`)",
            text(proof.timeout),
            text(proof.deadline)
        );
        let key = if section.has("timeout") { "timeout" } else { "deadline" };
        section.error(section.place_of(key), message, None);
    }
    let least = proof.interval.saturating_mul(proof.successes.saturating_sub(1));
    if least >= proof.deadline {
        let message = format!(
            "{} successes, one each {}, take {} at least: the `deadline` of {} leaves no room for them",
            proof.successes,
            text(proof.interval),
            text(least),
            text(proof.deadline)
        );
        let keys = ["deadline", "successes", "interval"];
        let key = keys.into_iter().find(|key| section.has(key)).unwrap_or("deadline");
        section.error(section.place_of(key), message, None);
    }
    proof
}

/// `[retention]`.
pub(super) fn retention(parent: &Section<'_>, default: Retention) -> Retention {
    let Some(section) = parent.section("retention") else { return default };
    let retention = Retention {
        keep: section.number("keep", 0..=MAX_KEEP).map_or(default.keep, to_u32),
        max_age: section.age("max_age").unwrap_or(default.max_age),
        max_bytes: section.size("max_bytes").or(default.max_bytes),
    };
    section.finish();
    retention
}

/// `crash_loop`.
pub(super) fn crash_loop(parent: &Section<'_>, default: CrashLoop) -> CrashLoop {
    let Some(section) = parent.section("crash_loop") else { return default };
    let crash_loop = CrashLoop {
        restarts: section.number("restarts", 1..=1000).map_or(default.restarts, to_u32),
        within: section.duration("within", Duration::from_secs(1)..=MAX_WAIT).unwrap_or(default.within),
    };
    section.finish();
    crash_loop
}

/// `[limits]`.
pub(super) fn limits(parent: &Section<'_>, default: Limits) -> Limits {
    let Some(section) = parent.section("limits") else { return default };
    let limits = Limits {
        packed_bytes: section.size("packed_bytes").unwrap_or(default.packed_bytes),
        unpacked_bytes: section.size("unpacked_bytes").unwrap_or(default.unpacked_bytes),
        file_bytes: section.size("file_bytes").unwrap_or(default.file_bytes),
        entries: section.number("entries", 1..=u64::MAX).unwrap_or(default.entries),
        ratio: section.number("ratio", 1..=u64::MAX).unwrap_or(default.ratio),
        time: section.duration("time", Duration::from_secs(1)..=MAX_WAIT).unwrap_or(default.time),
        grace: section.duration("grace", LEAST..=MAX_WAIT).unwrap_or(default.grace),
    };
    section.finish();
    if limits.file_bytes > limits.unpacked_bytes {
        let message = format!(
            "one file may have {} bytes (`file_bytes`), more than all together ({}, `unpacked_bytes`)",
            limits.file_bytes, limits.unpacked_bytes
        );
        let key = if section.has("file_bytes") { "file_bytes" } else { "unpacked_bytes" };
        section.error(section.place_of(key), message, None);
    }
    limits
}

/// For numbers whose range was checked.
pub(super) fn to_u32(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
