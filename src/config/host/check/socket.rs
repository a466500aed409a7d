//! Rules of `APP.socket`.

use std::time::Duration;

use super::super::syntax::{self, Span};
use super::{Expected, Findings, Needed, Severity, Subject, place};

/// A shorter backlog drops what a busy site gets in the second or two of a stop-start deployment.
const SMALL_BACKLOG: u64 = 128;

pub(super) fn check(expected: &Expected, socket: &Subject<'_>, findings: &mut Findings) {
    let app = &expected.app;
    let gate = app.gate_unit();

    if !socket.unit.section("Socket").any(|entry| entry.key == "ListenStream" && !entry.value.is_empty()) {
        findings.error(
            socket.heading("Socket"),
            "ListenStream= is missing from [Socket]".into(),
            "without it there is nothing to connect to",
            "[Socket] ListenStream=PORT",
        );
    }

    // systemd's default is the service of the socket's own name, which is the gate.
    if let Some(entry) = socket.unit.last("Socket", "Service")
        && socket.expand(&entry.value) != gate.as_str()
    {
        findings.error(
            place(entry),
            format!("Service={} should be Service={gate}", entry.value),
            "a connection would start that unit, whatever is live: an old slot comes back",
            format!("[Socket] Service={gate}"),
        );
    }

    if let Some(entry) = socket.unit.last("Socket", "Accept")
        && syntax::boolean(&entry.value) == Some(true)
    {
        findings.error(
            place(entry),
            format!("Accept={} must be off", entry.value),
            "systemd would start an instance of the template for every connection",
            "remove Accept=",
        );
    }

    let why = "after 20 starts in 2 s systemd gives the socket up, and with it the connections that wait; \
               the gate paces itself";
    let needed =
        Needed { severity: Severity::Error, section: "Socket", key: "TriggerLimitIntervalSec", wanted: "0", why };
    findings.need(socket, needed, |value| syntax::span(value) == Some(Span::Finite(Duration::ZERO)));

    findings.need_no_start_limit(
        socket,
        Severity::Warning,
        "five starts of the socket within 10 s leave it failed, and the app can't be reached",
    );

    if let Some(entry) = socket.unit.last("Socket", "FlushPending")
        && syntax::boolean(&entry.value) == Some(true)
    {
        findings.error(
            place(entry),
            format!("FlushPending={} must be off", entry.value),
            "the connections that wait for the next slot would be thrown away",
            "remove FlushPending=",
        );
    }

    if let Some(entry) = socket.unit.last("Socket", "Backlog")
        && !entry.value.parse::<u64>().is_ok_and(|backlog| backlog >= SMALL_BACKLOG)
    {
        findings.warning(
            place(entry),
            format!("Backlog={} is small", entry.value),
            "while no slot accepts, connections wait in it; beyond it clients try again after 1 and 3 s",
            "[Socket] Backlog=4096",
        );
    }

    findings.no_dependency(
        socket,
        "StopPropagatedFrom",
        gate.as_str(),
        "systemd 257 stops the socket at each restart of the gate, and clients are refused",
    );

    let paused = format!("!{}/paused", expected.root());
    let needed = Needed {
        severity: Severity::Warning,
        section: "Unit",
        key: "ConditionPathExists",
        wanted: &paused,
        why: "a paused app would listen again after a boot",
    };
    findings.need_among(socket, needed, |value| value == paused);

    let needed = Needed {
        severity: Severity::Warning,
        section: "Install",
        key: "WantedBy",
        wanted: "sockets.target",
        why: "after a boot nothing listens until the gate is started",
    };
    findings.need(socket, needed, |_| true);
}
