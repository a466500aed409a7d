//! Rules of the gate, `APP.service`.

use std::path::Path;
use std::time::Duration;

use crate::model::layout::DEFAULT_STATE_DIR;

use super::super::syntax::{self, Span};
use super::super::unitfile::UnitFile;
use super::{Expected, Findings, Needed, Severity, Subject, place};

/// The longest pause of the gate after a failure (`gate::pacing::LONGEST`).
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

pub(super) fn check<'a>(
    expected: &Expected,
    gate: &Subject<'_>,
    templates: impl Iterator<Item = &'a UnitFile> + Clone,
    findings: &mut Findings,
) {
    let why = "the gate is active while its slots run, though its own process has ended";
    for (key, wanted) in [("Type", "oneshot"), ("RemainAfterExit", "yes")] {
        let needed = Needed { severity: Severity::Error, section: "Service", key, wanted, why };
        findings
            .need(gate, needed, |value| value == wanted || (wanted == "yes" && syntax::boolean(value) == Some(true)));
    }
    commands(expected, gate, findings);
    findings.need_no_start_limit(
        gate,
        Severity::Error,
        "a gate at its start limit takes the socket down with it; slotd-gate paces itself",
    );
    dependencies(expected, gate, findings);
    limits(gate, templates, findings);

    if let Some(entry) = gate.unit.last("Service", "User")
        && entry.value != "root"
        && entry.value != "0"
    {
        findings.error(
            place(entry),
            format!("User={} must not stand here", entry.value),
            "only root may start units without asking, and read the state of slotd",
            "remove User=; slotd-gate runs no code of a release",
        );
    }
    let paused = format!("!{}/paused", expected.root());
    let needed = Needed {
        severity: Severity::Warning,
        section: "Unit",
        key: "ConditionPathExists",
        wanted: &paused,
        why: "a paused app would start again at a boot",
    };
    findings.need_among(gate, needed, |value| value == paused);
    let needed = Needed {
        severity: Severity::Warning,
        section: "Install",
        key: "WantedBy",
        wanted: "multi-user.target",
        why: "the app can't be enabled, so a boot doesn't start it",
    };
    findings.need(gate, needed, |_| true);
}

fn commands(expected: &Expected, gate: &Subject<'_>, findings: &mut Findings) {
    let app = &expected.app;
    let templates: Vec<&str> = expected.templates.iter().map(|template| template.as_str()).collect();
    for (key, verb, needed, why) in [
        ("ExecStart", "start", true, "it starts these templates in this order, and nothing else"),
        (
            "ExecStop",
            "stop",
            true,
            "what isn't stopped by name runs on: systemd 252 leaves a candidate alone at a restart",
        ),
        ("ExecReload", "reload", false, "a reload would not reach the live slot"),
    ] {
        let wanted = format!("/usr/lib/slotd/slotd-gate {verb} {app} {}", templates.join(" "));
        let fix = format!("[Service] {key}={wanted}");
        match gate.unit.list("Service", key).as_slice() {
            [] if !needed => {}
            [] => {
                let (place, message) = gate.absent("Service", key, &wanted);
                findings.error(place, message, why, fix);
            }
            [entry] => {
                let words = syntax::words(&gate.expand(&entry.value));
                let (program, state, rest) = call(&words);
                // A prefix such as `-` would count a failure as success.
                let is_gate =
                    program.starts_with('/') && Path::new(program).file_name().is_some_and(|it| it == "slotd-gate");
                let mut good = vec![verb, app.as_str()];
                good.extend(&templates);
                if !is_gate || rest != good {
                    findings.error(place(entry), format!("{key}= should be {wanted}"), why, fix);
                    continue;
                }
                let told = state.map(str::to_owned).or_else(|| environment(gate, "SLOTD_STATE_DIR"));
                let state = told.unwrap_or_else(|| DEFAULT_STATE_DIR.to_owned());
                if key != "ExecStop" && Path::new(&state) != expected.state {
                    findings.error(
                        place(entry),
                        format!("{key}= reads the state in {state}, slotd's is in {}", expected.state.display()),
                        "the gate would see another app's folder, or none",
                        format!("[Service] Environment=SLOTD_STATE_DIR={}", expected.state.display()),
                    );
                }
            }
            [.., entry] => {
                findings.error(place(entry), format!("{key}= stands there more than once"), why, fix);
            }
        }
    }
}

/// Program, `--state-dir`, and what follows the options.
pub(super) fn call(words: &[String]) -> (&str, Option<&str>, Vec<&str>) {
    let (program, mut rest) = words.split_first().map_or(("", words), |(program, rest)| (program.as_str(), rest));
    let mut state = None;
    while let [option, value, tail @ ..] = rest
        && matches!(option.as_str(), "--state-dir" | "--run-dir")
    {
        if option == "--state-dir" {
            state = Some(value.as_str());
        }
        rest = tail;
    }
    (program, state, rest.iter().map(String::as_str).collect())
}

pub(super) fn environment(gate: &Subject<'_>, name: &str) -> Option<String> {
    let lines = gate.unit.list("Service", "Environment");
    let mut words = lines.iter().rev().flat_map(|entry| syntax::words(&entry.value).into_iter().rev());
    words.find_map(|word| Some(word.split_once('=').filter(|(key, _)| *key == name)?.1.to_owned()))
}

fn dependencies(expected: &Expected, gate: &Subject<'_>, findings: &mut Findings) {
    let socket = expected.app.socket_unit();
    if expected.socket {
        let why =
            "the listener must be there before a slot inherits it, and stopping it is how the app is stopped for good";
        findings.need_dependency(gate, "Requires", socket.as_str(), why);
        findings.need_dependency(gate, "After", socket.as_str(), why);
    }
    if expected.helper.is_some() {
        let why = "an app that is started by hand would have no users: the helper sends them";
        findings.need_dependency(gate, "Wants", expected.app.route_unit().as_str(), why);
    }
    findings.no_dependency(
        gate,
        "PropagatesStopTo",
        socket.as_str(),
        "systemd 257 stops the socket at each restart of the gate, and clients are refused",
    );
}

fn limits<'a>(gate: &Subject<'_>, templates: impl Iterator<Item = &'a UnitFile> + Clone, findings: &mut Findings) {
    let limit = |unit: &'a UnitFile, key| match (Subject { unit, prefix: "", instance: "" }).timeout(key).0 {
        Some(Span::Finite(limit)) => limit,
        // A finding of the template's own.
        _ => Duration::ZERO,
    };
    let slowest_stop = templates.clone().map(|unit| limit(unit, "TimeoutStopSec")).max().unwrap_or_default();
    let (stop, entry) = gate.timeout("TimeoutStopSec");
    if stop.is_some_and(|stop| stop < Span::Finite(slowest_stop)) {
        let place = entry.map_or_else(|| gate.heading("Service"), place);
        let shown = humantime::format_duration(slowest_stop);
        findings.error(
            place,
            format!("TimeoutStopSec= is shorter than that of its template, {shown}"),
            "the gate is killed while a slot still stops, and a restart starts the next one beside it",
            format!("[Service] TimeoutStopSec={}", (slowest_stop + Duration::from_secs(15)).as_secs()),
        );
    }

    // A oneshot's start has no limit of its own; one that is set must leave room for all that the gate does.
    let set = gate.unit.section("Service").any(|entry| matches!(entry.key.as_str(), "TimeoutStartSec" | "TimeoutSec"));
    let all_starts: Duration = templates.map(|unit| limit(unit, "TimeoutStartSec")).sum();
    let room = all_starts + slowest_stop + LONGEST_PAUSE;
    if let (true, (Some(start), Some(entry))) = (set, gate.timeout("TimeoutStartSec"))
        && start < Span::Finite(room)
    {
        findings.error(
            place(entry),
            format!("{}={} is too short", entry.key, entry.value),
            "systemd would end the gate in a start or in its pause after a failure, and a broken slot would start again at once",
            format!("remove it, or [Service] TimeoutStartSec={}", room.as_secs()),
        );
    }
}
