//! Rules of a route's root helper, `slotd-route@APP.service`, and of the host that its users come through.

use crate::config::app::{AppSettings, Route};
use crate::model::layout::DEFAULT_STATE_DIR;
use crate::model::route::{EPHEMERAL_PORTS, PortRange, RouteCall, RouteKind};

use super::super::scaffold::{HAPROXY_ADMIN_SOCKET, nginx_include, servers_for};
use super::super::syntax;
use super::super::unitfile::SearchPath;
use super::gate::{call, environment};
use super::{Expected, Findings, Needed, Severity, Subject, firewall, haproxy, place};

/// What the helper of `app` has to be called with, where its route has one.
pub(super) fn call_of(app: &AppSettings) -> Option<RouteCall> {
    let kind = match &app.route {
        Route::Nftables { port, .. } => RouteKind::Nftables { public: vec![*port] },
        Route::Haproxy { backend, .. } => RouteKind::Haproxy {
            backend: backend.clone(),
            socket: HAPROXY_ADMIN_SOCKET.into(),
            servers: servers_for(app.routed()?.instances),
        },
        Route::Nginx { .. } => RouteKind::Nginx { include: nginx_include(&app.name) },
        Route::None | Route::Socket { .. } => return None,
    };
    let (ports, template) = (app.route.ports()?.range, app.routed()?.name.clone());
    Some(RouteCall { app: app.name.clone(), kind, ports, template })
}

pub(super) fn check(
    expected: &Expected,
    helper: &RouteCall,
    unit: &Subject<'_>,
    path: &SearchPath,
    findings: &mut Findings,
) {
    let why = "it is active while its last run holds, so that a reload of the firewall or the proxy reaches it";
    for (key, wanted) in [("Type", "oneshot"), ("RemainAfterExit", "yes")] {
        let needed = Needed { severity: Severity::Error, section: "Service", key, wanted, why };
        findings
            .need(unit, needed, |value| value == wanted || (wanted == "yes" && syntax::boolean(value) == Some(true)));
    }
    commands(expected, helper, unit, findings);
    findings.need_no_start_limit(
        unit,
        Severity::Error,
        "each switch of a deployment runs it, and at its start limit users stay where they were",
    );
    if let Some(entry) = unit.unit.last("Service", "User")
        && entry.value != "root"
        && entry.value != "0"
    {
        let why = "only root may say where the kernel or the proxy sends users";
        findings.error(place(entry), format!("User={} must not stand here", entry.value), why, "remove User=");
    }
    followed(helper, unit, findings);
    let needed = Needed {
        severity: Severity::Warning,
        section: "Install",
        key: "WantedBy",
        wanted: "multi-user.target",
        why: "it can't be enabled, so after a boot without slotd users go nowhere",
    };
    findings.need_among(unit, needed, |value| value.split_whitespace().any(|it| it == "multi-user.target"));
    kernel(helper, unit, path, findings);
    match &helper.kind {
        RouteKind::Nftables { public } => {
            public.iter().for_each(|port| firewall::check(*port, helper.ports, path, findings));
        }
        RouteKind::Haproxy { backend, .. } => haproxy::check(backend, path, findings),
        RouteKind::Nginx { .. } => {}
    }
}

fn commands(expected: &Expected, helper: &RouteCall, unit: &Subject<'_>, findings: &mut Findings) {
    let wanted = format!("/usr/lib/slotd/slotd-gate route {helper}");
    for (key, why) in [
        (
            "ExecStart",
            "the settings of the app say otherwise, and it is this line that counts at a boot and at a switch",
        ),
        (
            "ExecReload",
            "at a switch, and after a reload of the firewall or the proxy, users would stay where they were",
        ),
    ] {
        let fix = format!("[Service] {key}={wanted}");
        match unit.unit.list("Service", key).as_slice() {
            [] => {
                let (place, message) = unit.absent("Service", key, &wanted);
                findings.error(place, message, why, fix);
            }
            [entry] => {
                let words = syntax::words(&unit.expand(&entry.value));
                let (program, state, rest) = call(&words);
                let is_gate = program.starts_with('/') && program.ends_with("/slotd-gate");
                let said = rest.split_first().filter(|(verb, _)| is_gate && **verb == "route");
                let said = said.map(|(_, rest)| rest.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
                // Options may come in another order.
                let said = said.and_then(|words| RouteCall::parse(&words).ok());
                if !said.is_some_and(|said| agrees(&said, helper)) {
                    findings.error(place(entry), format!("{key}= should be {wanted}"), why, fix);
                    continue;
                }
                let told = state.map(str::to_owned).or_else(|| environment(unit, "SLOTD_STATE_DIR"));
                let state = told.unwrap_or_else(|| DEFAULT_STATE_DIR.to_owned());
                if std::path::Path::new(&state) != expected.state {
                    findings.error(
                        place(entry),
                        format!("{key}= reads the state in {state}, slotd's is in {}", expected.state.display()),
                        "after a boot users would go to another app's slot, or nowhere",
                        format!("[Service] Environment=SLOTD_STATE_DIR={}", expected.state.display()),
                    );
                }
            }
            [.., entry] => findings.error(place(entry), format!("{key}= stands there more than once"), why, fix),
        }
    }
}

/// Whether a unit says what the settings need. Where the proxy has its socket and its files is not their business.
fn agrees(said: &RouteCall, needed: &RouteCall) -> bool {
    let kind = match (&said.kind, &needed.kind) {
        (RouteKind::Haproxy { backend, servers, .. }, RouteKind::Haproxy { backend: named, servers: least, .. }) => {
            backend == named && servers >= least
        }
        (RouteKind::Nginx { .. }, RouteKind::Nginx { .. }) => true,
        // One more, from which or to which users move.
        (RouteKind::Nftables { public: allowed }, RouteKind::Nftables { public }) => {
            public.iter().all(|port| allowed.contains(port))
        }
        (said, needed) => said == needed,
    };
    kind && (&said.app, said.ports, &said.template) == (&needed.app, needed.ports, &needed.template)
}

/// What wipes or forgets what the helper did has to be followed by it.
fn followed(helper: &RouteCall, unit: &Subject<'_>, findings: &mut Findings) {
    let (of, keys, why): (_, &[&str], _) = match helper.kind {
        RouteKind::Nftables { .. } => (
            "nftables.service",
            &["PartOf", "ReloadPropagatedFrom", "After"],
            "its start and its reload begin with `flush ruleset`, which takes the route away: users are refused until the next \
             switch",
        ),
        RouteKind::Haproxy { .. } => (
            "haproxy.service",
            &["PartOf", "ReloadPropagatedFrom", "Before"],
            "HAProxy would start with the servers of before, and a reload could go by an old file",
        ),
        RouteKind::Nginx { .. } => {
            ("nginx.service", &["Before"], "after a boot nginx would start with the servers of before")
        }
    };
    for key in keys {
        findings.need_dependency(unit, key, of, why);
    }
}

/// The range is nobody else's, and the helper may do what it has to.
fn kernel(helper: &RouteCall, unit: &Subject<'_>, path: &SearchPath, findings: &mut Findings) {
    let ephemeral = path.host_file(EPHEMERAL_PORTS).and_then(|text| PortRange::of_kernel(&text));
    if let Some(message) = ephemeral.and_then(|ephemeral| helper.ports.refused(ephemeral)) {
        findings.unsupported(
            unit.heading("Service"),
            message,
            "such a deployment is refused (route.unsupported)",
            "ports = \"20000-20099\" in [route], and --ports of the helper; or another ip_local_port_range",
        );
    }
    if !matches!(helper.kind, RouteKind::Nftables { .. }) {
        return;
    }
    let bounds = unit.unit.list("Service", "CapabilityBoundingSet");
    let words = || bounds.iter().flat_map(|entry| entry.value.split_whitespace());
    if let (Some(last), false) = (bounds.last(), words().any(|word| word == "CAP_NET_ADMIN")) {
        let why = "without it the kernel refuses the rules, and each switch fails";
        let fix = "[Service] CapabilityBoundingSet=CAP_NET_ADMIN CAP_DAC_READ_SEARCH";
        findings.error(place(last), "CAP_NET_ADMIN is missing from CapabilityBoundingSet=".to_owned(), why, fix);
    }
}
