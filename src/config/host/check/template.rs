//! Rules of a template, `APP@.service`.

use std::time::Duration;

use super::super::syntax::{self, Span};
use super::{Expected, Findings, Needed, Profile, SAMPLE, Severity, Subject, place};

/// A crashing slot without start limit starts this often at most.
const SHORTEST_RESTART: Duration = Duration::from_secs(1);

/// `takes_socket`: it is the one that the shared listener is for.
pub(super) fn check(expected: &Expected, template: &Subject<'_>, takes_socket: bool, findings: &mut Findings) {
    life(expected, template, findings);
    dependencies(expected, template, findings);
    if takes_socket {
        socket(expected, template, findings);
    }
    files(expected, template, findings);
    user(expected, template, findings);
    restarts_and_limits(expected, template, findings);
}

/// With `accept = "signal"` what a slot says of itself is how slotd knows what it does.
pub(super) fn check_by_signal(template: &Subject<'_>, findings: &mut Findings) {
    let (kind, access) = (template.unit.last("Service", "Type"), template.unit.last("Service", "NotifyAccess"));
    let heard = kind.is_some_and(|it| matches!(it.value.as_str(), "notify" | "notify-reload"))
        || access.is_some_and(|it| matches!(it.value.as_str(), "main" | "exec" | "all"));
    if !heard {
        let (at, kind) = match kind {
            Some(entry) => (place(entry), entry.value.as_str()),
            None => (template.heading("Service"), "simple"),
        };
        findings.error(
            at,
            format!("Type={kind}, and accept = \"signal\""),
            "a slot has to say STATUS=quiet and STATUS=accepting, and systemd hears nothing of it",
            "[Service] Type=notify",
        );
    }
}

/// What ties a slot to its gate, and its end to settle.
fn life(expected: &Expected, template: &Subject<'_>, findings: &mut Findings) {
    let gate = expected.app.gate_unit();
    findings.need_dependency(
        template,
        "StopPropagatedFrom",
        gate.as_str(),
        &format!("systemctl stop {} would leave its slots running", expected.app),
    );
    findings.need_no_start_limit(
        template,
        Severity::Error,
        "a candidate that reaches its start limit takes the live slot's socket down",
    );
    let settle = format!("slotd-settle@{}:%N.service", expected.app);
    let why = "when a slot is down for good the gate stays active over nothing: is-active says that all is well, and \
               clients of a socket hang; one settle unit a slot, since starts of a shared one coalesce";
    findings.need_dependency(template, "OnFailure", &settle, why);
    findings.need_dependency(template, "OnSuccess", &settle, why);

    let path = format!("{}/instances/%i", expected.root());
    let needed = Needed {
        severity: Severity::Error,
        section: "Unit",
        key: "AssertPathExists",
        wanted: &path,
        why: "a slot that isn't there, or was removed, would start into an error that blames the program",
    };
    findings.need_among(template, needed, |value| value == template.expand(&path));

    for entry in template.unit.section("Install") {
        findings.error(
            place(entry),
            format!("{}= in [Install] must not stand in a template", entry.key),
            "an enabled instance is a version that every boot starts, whatever is live",
            "remove [Install]; the gate is what is enabled",
        );
    }
    if let Some(entry) = template.unit.last("Service", "RemainAfterExit")
        && syntax::boolean(&entry.value) == Some(true)
    {
        findings.error(
            place(entry),
            format!("RemainAfterExit={} must be off", entry.value),
            "a slot that has ended would count as running",
            "remove RemainAfterExit=",
        );
    }
    for entry in template.unit.entries().iter().filter(|entry| entry.value.contains("%I")) {
        findings.error(
            place(entry),
            format!("%I in {}=", entry.key),
            "%I turns each - of the version into /",
            "write %i",
        );
    }
}

/// Dependencies on the gate that were seen to deadlock or to reach the wrong slot.
fn dependencies(expected: &Expected, template: &Subject<'_>, findings: &mut Findings) {
    let gate = expected.app.gate_unit();
    let deadlock = "the gate waits for the slot's start and the slot for the gate's: neither ends";
    for (key, why) in [
        ("After", deadlock),
        ("BindsTo", deadlock),
        ("PartOf", "a restart of the gate would restart candidates too"),
        ("Upholds", "systemd would start the gate again and again, against settle and against an administrator's stop"),
    ] {
        findings.no_dependency(template, key, gate.as_str(), why);
    }
    findings.no_dependency(
        template,
        "PropagatesStopTo",
        expected.app.socket_unit().as_str(),
        "the end of a slot would stop the socket, and clients are refused",
    );
}

fn socket(expected: &Expected, template: &Subject<'_>, findings: &mut Findings) {
    let socket = expected.app.socket_unit();
    let why = "without it the slot isn't given the shared listener";
    let needed = Needed { severity: Severity::Error, section: "Service", key: "Sockets", wanted: socket.as_str(), why };
    findings.need_among(template, needed, |value| value.split_whitespace().any(|name| name == socket.as_str()));
    let needed = Needed {
        severity: if expected.by_signal.is_some() { Severity::Error } else { Severity::Warning },
        section: "Service",
        key: "NonBlocking",
        wanted: "yes",
        why: "each start makes the listener blocking for all slots that share it: one that runs then hangs in an accept",
    };
    findings.need(template, needed, |value| syntax::boolean(value) == Some(true));
    let why = "the listener must be there before the slot inherits it, and stopping it must take the slot along";
    findings.need_dependency(template, "Requires", socket.as_str(), why);
    findings.need_dependency(template, "After", socket.as_str(), why);
}

/// The slot's files: the environment and the tree.
fn files(expected: &Expected, template: &Subject<'_>, findings: &mut Findings) {
    let env = format!("{}/instances/%i/env", expected.root());
    let needed = Needed {
        severity: Severity::Error,
        section: "Service",
        key: "EnvironmentFile",
        wanted: &env,
        why: "the slot's environment wouldn't reach the program",
    };
    let meant = template.expand(&env);
    findings.need_among(template, needed, |value| value.trim_start_matches('-') == meant);

    let root = format!("{}/instances/%i/root", expected.root());
    let wanted = format!("{root}:/srv/{}", expected.app);
    let needed = Needed {
        severity: Severity::Error,
        section: "Service",
        key: "BindReadOnlyPaths",
        wanted: &wanted,
        why: "the slot's files lie below folders of slotd alone; systemd must bring them to a place where the user can read",
    };
    findings.need_among(template, needed, |value| !bound_at(value, &template.expand(&root)).is_empty());

    runs(template, findings);
}

/// What every unit of a slot needs to be any use.
pub(super) fn runs(template: &Subject<'_>, findings: &mut Findings) {
    if template.unit.list("Service", "ExecStart").is_empty() {
        let (place, message) = template.absent("Service", "ExecStart", "…");
        findings.error(place, message, "there is nothing to run", "[Service] ExecStart=PROGRAM");
    }
}

/// Whoever controls slotd controls what the slot runs: so not root.
fn user(expected: &Expected, template: &Subject<'_>, findings: &mut Findings) {
    if expected.profile == Profile::User {
        let why = "whoever can deploy decides what it runs, and must not become root by that";
        not_root(expected, template, why, findings);
    }
    if let Some(entry) = template.unit.last("Service", "DynamicUser")
        && syntax::boolean(&entry.value) == Some(true)
    {
        let severity = if expected.health_socket { Severity::Error } else { Severity::Warning };
        findings.add(
            severity,
            place(entry),
            format!("DynamicUser={}", entry.value),
            "its runtime folder is closed to everybody else and its group to slotd, so no probe reaches a health socket",
            "remove DynamicUser=, and make the user by sysusers.d",
        );
    }
    if expected.health_socket {
        let needed = Needed {
            severity: Severity::Error,
            section: "Service",
            key: "UMask",
            wanted: "0007",
            why: "a Unix socket bound under umask 0022 can't be connected to by slotd, which is in its group",
        };
        findings.need(template, needed, |value| u32::from_str_radix(value, 8).is_ok_and(|mask| mask & 0o020 == 0));
    }
}

/// Another user than root, in all that it runs.
pub(super) fn not_root(expected: &Expected, template: &Subject<'_>, why: &str, findings: &mut Findings) {
    let needed =
        Needed { severity: Severity::Error, section: "Service", key: "User", wanted: expected.app.as_str(), why };
    let dynamic =
        template.unit.last("Service", "DynamicUser").is_some_and(|it| syntax::boolean(&it.value) == Some(true));
    if !dynamic || template.unit.last("Service", "User").is_some() {
        findings.need(template, needed, |value| value != "root" && value != "0");
    }
    as_root(expected, template, why, findings);
}

/// Commands with a prefix that lifts `User=`, run from the slot's tree.
fn as_root(expected: &Expected, template: &Subject<'_>, why: &str, findings: &mut Findings) {
    let root = template.expand(&format!("{}/instances/%i/root", expected.root()));
    let binds = template.unit.list("Service", "BindReadOnlyPaths");
    let trees: Vec<String> = binds.iter().flat_map(|entry| bound_at(&template.expand(&entry.value), &root)).collect();
    let commands = template.unit.section("Service").filter(|entry| entry.key.starts_with("Exec"));
    for entry in commands {
        let prefix: String = entry.value.chars().take_while(|c| "@-:+!|".contains(*c)).collect();
        let of_tree = trees.iter().any(|tree| entry.value.contains(&format!("{tree}/")));
        if of_tree && prefix.contains(['+', '!']) {
            findings.error(
                place(entry),
                format!("{}={prefix}… runs a file of the slot as root", entry.key),
                why,
                format!("remove the {prefix}"),
            );
        }
    }
}

fn restarts_and_limits(expected: &Expected, template: &Subject<'_>, findings: &mut Findings) {
    let needed = Needed {
        severity: Severity::Warning,
        section: "Service",
        key: "Restart",
        wanted: "always",
        why: "a live slot that ends stays down until a connection, or somebody, starts the gate",
    };
    findings.need(template, needed, |value| value == "always");
    let needed = Needed {
        severity: Severity::Warning,
        section: "Service",
        key: "RestartSec",
        wanted: "1s",
        why: "there is no start limit: a slot that crashes at once starts ten times a second by systemd's default",
    };
    let slow = |value: &str| syntax::span(value).is_some_and(|span| span >= Span::Finite(SHORTEST_RESTART));
    findings.need(template, needed, slow);

    for (key, wanted) in [("TimeoutStartSec", "90s"), ("TimeoutStopSec", "30s")] {
        if let (limit, Some(entry)) = template.timeout(key)
            && !matches!(limit, Some(Span::Finite(_)))
        {
            findings.error(
                place(entry),
                format!("{}={} is no limit", entry.key, entry.value),
                "a start or stop that hangs would hang the deployment, and how long a rollback takes couldn't be said",
                format!("[Service] {key}={wanted}"),
            );
        }
    }
    service_type(expected, template, findings);
    if let Some(entry) = template.unit.last("Service", "KillMode") {
        let message = format!("KillMode={}", entry.value);
        let why = "processes of the old slot would live on beside the new one";
        match entry.value.as_str() {
            "none" => findings.error(place(entry), message, why, "[Service] KillMode=mixed"),
            "process" => findings.warning(place(entry), message, why, "[Service] KillMode=mixed"),
            _ => {}
        }
    }
}

fn service_type(expected: &Expected, template: &Subject<'_>, findings: &mut Findings) {
    let entry = template.unit.last("Service", "Type");
    let (kind, at) = match entry {
        Some(entry) => (entry.value.as_str(), place(entry)),
        None => ("simple", template.heading("Service")),
    };
    match kind {
        "notify" | "notify-reload" => {}
        "oneshot" => findings.error(
            at,
            "Type=oneshot runs to its end and is no service".into(),
            "nothing would run once it has started",
            "[Service] Type=notify",
        ),
        _ if expected.probed => {}
        other => findings.warning(
            at,
            format!("Type={other} and no probe"),
            "that a process was started is all that proves a release",
            "[Service] Type=notify, or a [[probe]] in the app's file",
        ),
    }
}

/// Where a line of `BindReadOnlyPaths=` puts `source`: SOURCE[:DESTINATION[:OPTIONS]], several parted by blanks.
fn bound_at(value: &str, source: &str) -> Vec<String> {
    debug_assert!(source.contains(SAMPLE));
    syntax::words(value)
        .iter()
        .filter_map(|word| {
            let mut parts = word.trim_start_matches('-').split(':');
            let from = parts.next()?;
            (from == source).then(|| parts.next().unwrap_or(from).trim_end_matches('/').to_owned())
        })
        .collect()
}
