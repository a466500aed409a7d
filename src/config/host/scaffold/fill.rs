//! The templates, and the words that are put into them.

use std::path::Path;

use crate::config::app::Accept;
use crate::model::HookPoint;
use crate::model::layout::DEFAULT_STATE_DIR;

use super::{GATE_PROGRAM, Scaffold, ScaffoldRoute, servers_for};

pub(super) const SYSUSERS: &str = include_str!("../../../../systemd/templates/sysusers.conf.in");
pub(super) const TMPFILES: &str = include_str!("../../../../systemd/templates/tmpfiles.conf.in");
pub(super) const POLKIT: &str = include_str!("../../../../systemd/templates/polkit.rules.in");
pub(super) const SOCKET: &str = include_str!("../../../../systemd/templates/app.socket.in");
pub(super) const GATE: &str = include_str!("../../../../systemd/templates/app.service.in");
pub(super) const HELPER: &str = include_str!("../../../../systemd/templates/route.service.in");
pub(super) const HAPROXY: &str = include_str!("../../../../systemd/templates/haproxy.cfg.in");
pub(super) const NGINX: &str = include_str!("../../../../systemd/templates/nginx.conf.in");
pub(super) const TEMPLATE: &str = include_str!("../../../../systemd/templates/app@.service.in");
pub(super) const APP: &str = include_str!("../../../../systemd/templates/app.toml.in");

impl Scaffold {
    /// Fills a template: `@WORD@` by its value, lines that begin with `@IF_…@` kept or dropped.
    pub(super) fn fill(&self, template: &str) -> String {
        let helper = self.helper();
        let own_ports = helper.is_some();
        // Where the probes ask each instance at an address of its own, none of them says what users see.
        let users_elsewhere = own_ports || self.has_socket() && self.accept == Accept::Signal;
        let conditions = [
            ("@IF_SOCKET@", self.has_socket()),
            ("@IF_HELPER@", own_ports),
            ("@IF_NFTABLES@", own_ports && self.route == ScaffoldRoute::Nftables),
            ("@IF_HAPROXY@", own_ports && self.route == ScaffoldRoute::Haproxy),
            ("@IF_NGINX@", own_ports && self.route == ScaffoldRoute::Nginx),
            ("@IF_PROXY@", own_ports && self.route != ScaffoldRoute::Nftables),
            ("@IF_PROBE@", own_ports || self.health.is_some()),
            ("@IF_TCP@", own_ports && self.health.is_none()),
            ("@IF_HEALTH@", self.health.is_some()),
            ("@IF_OUTSIDE@", users_elsewhere),
            ("@IF_OUTSIDE_HEALTH@", users_elsewhere && self.health.is_some()),
            ("@IF_NOTIFY@", self.notifies),
            ("@IF_PROBE_UNITS@", !self.probe_units.is_empty()),
            ("@IF_HOOKS@", self.hooks.all().next().is_some()),
            ("@IF_BUILD@", self.hooks.at(HookPoint::Build).is_some()),
            ("@IF_STATE@", self.state != Path::new(DEFAULT_STATE_DIR)),
        ];
        let app = self.app.as_str();
        let port = self.port.map(|port| port.to_string()).unwrap_or_default();
        let state = self.state.display().to_string();
        let service_type = self.service_type.to_string();
        let stop = if self.has_socket() { format!("{app}.socket") } else { format!("{app}.service") };
        let route = match (self.port, self.route) {
            (None, _) => "none",
            (Some(_), route) => &route.to_string(),
        };
        let servers = servers_for(1).to_string();
        let (call, ports) = (helper.map(|call| call.to_string()).unwrap_or_default(), self.ports.to_string());
        let probe_units = self.probe_units.iter().map(|name| pattern(name)).collect::<Vec<_>>().join("|");
        let hooks = self.hooks.all().map(|(_, name)| pattern(name.as_str())).collect::<Vec<_>>().join("|");
        let build = self.hooks.at(HookPoint::Build).map(|name| pattern(name.as_str())).unwrap_or_default();
        let accept = self.accept.to_string();
        let probed = match self.accept {
            Accept::Signal => format!("/run/slots/{app}/{{instance}}/health.sock"),
            Accept::Ready if own_ports => "127.0.0.1:{port}".to_owned(),
            Accept::Ready => format!("127.0.0.1:{port}"),
        };
        let words = [
            ("@APP@", app),
            ("@PORT@", port.as_str()),
            ("@STATE@", state.as_str()),
            ("@GATE@", GATE_PROGRAM),
            ("@TYPE@", service_type.as_str()),
            ("@USER@", self.user()),
            ("@STOP@", stop.as_str()),
            ("@ROUTE@", route),
            ("@CALL@", call.as_str()),
            ("@SERVERS@", servers.as_str()),
            ("@PORTS@", ports.as_str()),
            ("@PROBE_UNITS@", probe_units.as_str()),
            ("@HOOKS@", hooks.as_str()),
            ("@BUILD@", build.as_str()),
            ("@ACCEPT@", accept.as_str()),
            ("@PROBED@", probed.as_str()),
            ("@HEALTH@", self.health.as_deref().unwrap_or_default()),
            // Last, so that nothing is replaced inside of it.
            ("@EXEC@", self.exec.as_str()),
        ];
        let mut filled = String::new();
        for line in template.lines() {
            let condition = conditions.iter().find_map(|(mark, holds)| Some((line.strip_prefix(mark)?, *holds)));
            let (line, kept) = condition.unwrap_or((line, true));
            if kept {
                let line = words.iter().fold(line.to_owned(), |line, (word, value)| line.replace(word, value));
                filled.push_str(&line);
                filled.push('\n');
            }
        }
        filled
    }
}

/// A regular expression for the unit of a probe or a hook, without ".service"; of a template for its instances.
fn pattern(name: &str) -> String {
    let escaped = name.strip_suffix(".service").unwrap_or(name).replace('.', "\\.");
    if name.ends_with('@') { escaped + "[A-Za-z0-9][A-Za-z0-9@._-]*" } else { escaped }
}
