//! Rules of a unit that a probe of kind `unit` runs: it ends by itself, in time, and its end is the answer.

use super::super::syntax;
use super::super::unitfile::SearchPath;
use super::{Expected, Findings, Lost, Needed, SAMPLE, Severity, Subject, place};

pub(super) fn check(expected: &Expected, path: &SearchPath, name: &str, findings: &mut Findings) {
    let (file, instance) = match name.strip_suffix('@') {
        Some(_) => (format!("{name}.service"), SAMPLE),
        None => (name.to_owned(), ""),
    };
    let lost = Lost {
        why: format!("no release of {} can prove itself: the probe {name} can't be asked", expected.app),
        fix: format!(
            "write {file} with [Service] Type=oneshot, ExecStart= and TimeoutStartSec=, or remove the [[probe]]"
        ),
    };
    let Some(unit) = findings.read(path, &file, &lost) else { return };
    let prefix = file.split(['@', '.']).next().unwrap_or_default();
    let unit = &Subject { unit: &unit, prefix, instance };

    let needed = Needed {
        severity: Severity::Error,
        section: "Service",
        key: "Type",
        wanted: "oneshot",
        why: "of any other service systemd says that it is up as soon as it was begun, whatever it finds",
    };
    findings.need(unit, needed, |value| value == "oneshot");

    // Asserts aren't meant: where one says no, the job fails.
    for entry in unit.unit.section("Unit").filter(|entry| entry.key.starts_with("Condition") && !entry.value.is_empty())
    {
        findings.error(
            place(entry),
            format!("{}= must not stand in the unit of a probe", entry.key),
            "where a condition says no, systemd skips the unit and calls it a success: the probe would pass unasked",
            format!("remove {0}=, or write Assert{1}=", entry.key, &entry.key["Condition".len()..]),
        );
    }
    if let Some(entry) = unit.unit.last("Service", "RemainAfterExit")
        && syntax::boolean(&entry.value) == Some(true)
    {
        findings.error(
            place(entry),
            format!("RemainAfterExit={} must be off in the unit of a probe", entry.value),
            "it would stay active after its first run, and starting it again asks nothing",
            "remove RemainAfterExit=",
        );
    }
    limit(unit, findings);
}

/// A oneshot has no limit on its start by default.
fn limit(unit: &Subject<'_>, findings: &mut Findings) {
    let why = "slotd stops it after the proof's timeout, but one started by hand, or left by a slotd that ended, hangs for \
               ever, and the next attempt joins it";
    findings.need_limited_start(unit, Severity::Warning, "5s", why, "the check");
}
