//! Rules of a build's template, beside those of every hook: it gets the tree and an environment of its own, and no network.

use super::super::syntax;
use super::{Expected, Findings, Needed, Severity, Subject, place, template};

/// The slice that packages bring.
const SLICE: &str = "slotd-build.slice";

pub(super) fn check(expected: &Expected, unit: &Subject<'_>, findings: &mut Findings) {
    // Also where slotd is root: the tree is lent to an ordinary user only.
    let why = "whoever can deploy decides what it runs, and must not become root by that";
    template::not_root(expected, unit, why, findings);
    if let Some(entry) = unit.unit.last("Service", "DynamicUser")
        && syntax::boolean(&entry.value) == Some(true)
    {
        findings.error(
            place(entry),
            format!("DynamicUser={} must be off in a build", entry.value),
            "the tree is lent to the unit's user before it starts, and there is none yet",
            "remove DynamicUser=, and make the user by sysusers.d",
        );
    }
    if let Some(entry) = unit.unit.last("Service", "User")
        && entry.value == "slotd"
    {
        findings.error(
            place(entry),
            "User=slotd must not stand in a build".to_owned(),
            "what a release brings could do all that slotd may: start and stop every app",
            "[Service] User= with a user of its own, made by sysusers.d",
        );
    }
    let root = expected.builds();
    let env = format!("{root}/%i/env");
    let needed = Needed {
        severity: Severity::Error,
        section: "Service",
        key: "EnvironmentFile",
        wanted: &env,
        why: "CI, SLOTD_VERSION and what stands under [build.env] wouldn't reach the build",
    };
    findings.need_among(unit, needed, |value| value == unit.expand(&env));
    let tree = format!("{root}/%i/tree");
    let wanted = format!("{tree}:/srv/{}", expected.app);
    let needed = Needed {
        severity: Severity::Error,
        section: "Service",
        key: "BindPaths",
        wanted: &wanted,
        why: "the tree lies below folders of slotd alone; systemd must bring it to where the build can write, best to where \
              the slot will see it",
    };
    findings.need_among(unit, needed, |value| {
        value.split_whitespace().any(|bind| bind.split(':').next() == Some(unit.expand(&tree).as_str()))
    });
    if !expected.build_network {
        let needed = Needed {
            severity: Severity::Error,
            section: "Service",
            key: "PrivateNetwork",
            wanted: "yes",
            why: "what a build fetches is in no digest; each build is refused, unless the app's file says network = true \
                  under [build]",
        };
        findings.need(unit, needed, |value| syntax::boolean(value) == Some(true));
    }
    let needed = Needed {
        severity: Severity::Warning,
        section: "Service",
        key: "Slice",
        wanted: SLICE,
        why: "a build takes processor and disk from what serves",
    };
    findings.need(unit, needed, |value| value == SLICE);
    if let Some(entry) = unit.unit.last("Service", "KillMode")
        && !matches!(entry.value.as_str(), "control-group" | "mixed")
    {
        findings.error(
            place(entry),
            format!("KillMode={} must not stand in a build", entry.value),
            "what it leaves running could still write while its files are taken",
            "remove KillMode=",
        );
    }
}
