//! Rules of the unit that is started when a deployment has ended with a result that somebody wants to be told of.

use super::super::syntax;
use super::super::unitfile::SearchPath;
use super::{Expected, Findings, Lost, Needed, Profile, Severity, Subject, place};

/// The template; its instances are ids of deployments.
const FILE: &str = "slotd-notify@.service";

pub(super) fn check(expected: &Expected, path: &SearchPath, findings: &mut Findings) {
    let app = &expected.app;
    let lost = Lost {
        why: format!("nobody is told how deployments of {app} end, though on_result asks for it"),
        fix: format!("write /etc/systemd/system/{FILE}, see examples/notify; or remove on_result"),
    };
    let Some(unit) = findings.read(path, FILE, &lost) else { return };
    let instance = format!("{app}-17");
    let unit = &Subject { unit: &unit, prefix: "slotd-notify", instance: &instance };
    let needed = Needed {
        severity: Severity::Error,
        section: "Service",
        key: "Type",
        wanted: "oneshot",
        why: "of any other service systemd says that it is up as soon as it was begun: slotd would take it for told, and stop it",
    };
    findings.need(unit, needed, |value| value == "oneshot");
    let needed = Needed {
        severity: Severity::Error,
        section: "Service",
        key: "RemainAfterExit",
        wanted: "yes",
        why: "else systemd forgets that it has run, and if slotd is killed just then the same end is told twice",
    };
    findings.need(unit, needed, |value| syntax::boolean(value) == Some(true));
    limit(unit, findings);
    user(expected, unit, findings);
}

/// A oneshot has no limit on its start by default.
fn limit(unit: &Subject<'_>, findings: &mut Findings) {
    let why = "a mail server or a forge that doesn't answer would have it hang for ever";
    findings.need_limited_start(unit, Severity::Warning, "1min", why, "it");
}

/// It needs no more than to read what slotctl shows.
fn user(expected: &Expected, unit: &Subject<'_>, findings: &mut Findings) {
    let why = "whoever controls slotd starts it; to read what slotctl shows it needs a user with the group slotd-read, no more";
    let fix = "[Service] DynamicUser=yes and Group=slotd-read";
    let dynamic =
        unit.unit.last("Service", "DynamicUser").and_then(|entry| syntax::boolean(&entry.value)) == Some(true);
    if dynamic || expected.profile == Profile::Root {
        return;
    }
    match unit.unit.last("Service", "User").filter(|entry| !entry.value.is_empty()) {
        None => {
            let (place, message) = unit.absent("Service", "User", "…");
            findings.warning(place, format!("{message}: it runs as root"), why, fix);
        }
        Some(entry) if matches!(entry.value.as_str(), "root" | "0") => {
            findings.warning(place(entry), format!("User={}: it runs as root", entry.value), why, fix);
        }
        Some(_) => {}
    }
}
