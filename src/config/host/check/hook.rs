//! Rules of a hook's template: it ends by itself, in time, sees the release, and isn't root.

use super::super::syntax;
use super::super::syntax::Span;
use super::super::unitfile::SearchPath;
use super::{Expected, Findings, Lost, Needed, Profile, Severity, Subject, build, place, template};
use crate::model::{HookPoint, Template};

pub(super) fn check(
    expected: &Expected,
    path: &SearchPath,
    point: HookPoint,
    name: &Template,
    findings: &mut Findings,
) {
    let file = name.unit_file();
    let lost = Lost {
        why: format!("no release of {} can go live: its {point} hook {name} can't be run", expected.app),
        fix: format!(
            "write {file} with [Service] Type=oneshot, ExecStart= and TimeoutStartSec=, or take {point} out of [hooks]"
        ),
    };
    let Some(unit) = findings.read(path, file.as_str(), &lost) else { return };
    let unit = &Subject::template(&unit, name);

    let needed = Needed {
        severity: Severity::Error,
        section: "Service",
        key: "Type",
        wanted: "oneshot",
        why: "of any other service systemd says that it is up as soon as it was begun, and the deployment would go on",
    };
    findings.need(unit, needed, |value| value == "oneshot");
    if let Some(entry) = unit.unit.last("Service", "RemainAfterExit")
        && syntax::boolean(&entry.value) == Some(true)
    {
        findings.error(
            place(entry),
            format!("RemainAfterExit={} must be off in a hook", entry.value),
            "it would stay active after its first run, and the next try of the release would run nothing",
            "remove RemainAfterExit=",
        );
    }
    if let Some(entry) = unit.unit.last("Service", "Restart")
        && !matches!(entry.value.as_str(), "" | "no")
    {
        findings.error(
            place(entry),
            format!("Restart={} must not stand in a hook", entry.value),
            "systemd would run it again by itself, whatever has become of the deployment meanwhile",
            "remove Restart=",
        );
    }
    if let Some(entry) = unit.unit.last("Unit", "CollectMode")
        && entry.value == "inactive-or-failed"
    {
        findings.error(
            place(entry),
            format!("CollectMode={} must not stand in a hook", entry.value),
            "systemd would forget that it failed, and a slotd that was restarted meanwhile take it for done",
            "remove CollectMode=",
        );
    }
    limit(unit, findings);
    template::runs(unit, findings);
    if point == HookPoint::Build {
        build::check(expected, unit, findings);
    } else if expected.profile == Profile::User {
        let why = "whoever can deploy decides what it works on, and must not become root by that";
        template::not_root(expected, unit, why, findings);
    }
}

/// A oneshot has no limit on its start by default.
fn limit(unit: &Subject<'_>, findings: &mut Findings) {
    let why = "a hook that hangs would hang the deployment; each one with such a hook is refused";
    findings.need_limited_start(unit, Severity::Error, "5min", why, "it");
    let why = "a hook that doesn't stop would hang the way back";
    if let (limit, Some(entry)) = unit.timeout("TimeoutStopSec")
        && !matches!(limit, Some(Span::Finite(_)))
    {
        let message = format!("{}={} is no limit", entry.key, entry.value);
        findings.error(place(entry), message, why, "[Service] TimeoutStopSec=30s");
    }
}
