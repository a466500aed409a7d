//! `check`: whether an app's units have every line they need, and none that breaks a promise.
//!
//! Each rule stands for something that was seen to go wrong on a real systemd; its `why` says what.

mod along;
mod build;
mod findings;
mod firewall;
mod gate;
mod haproxy;
mod helper;
mod hook;
mod leave;
mod probe;
mod socket;
mod telling;
mod template;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::config::app::{Accept, Address, AppSettings, Probe, Route};
use crate::model::route::RouteCall;
use crate::model::{AppName, Code, HookPoint, Hooks, Template};

use super::polkit::PolkitRules;
use super::syntax::{self, Span};
use super::unitfile::{Entry, SearchPath, UnitFile};

use findings::{Findings, Lost, Needed};

/// What an app's settings say of its units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The app.
    pub app: AppName,
    /// Its templates, in the order of starting.
    pub templates: Vec<Template>,
    /// Whether traffic comes through `APP.socket`.
    pub socket: bool,
    /// The template whose instances are told by signals when to accept.
    pub by_signal: Option<Template>,
    /// What the route's root helper has to be called with, if it has one.
    pub helper: Option<RouteCall>,
    /// Whether a probe connects to a Unix socket that the app binds.
    pub health_socket: bool,
    /// Whether anything but systemd's word proves an instance.
    pub probed: bool,
    /// The units that probes run: templates with their `@`, others with `.service`.
    pub probe_units: Vec<String>,
    /// What is run for a candidate.
    pub hooks: Hooks,
    /// Whether builds may have the host's network.
    pub build_network: bool,
    /// Whether somebody is told of results.
    pub notifies: bool,
    /// The state folder.
    pub state: PathBuf,
    /// As whom slotd runs.
    pub profile: Profile,
}

/// As whom slotd runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// As user slotd, with polkit: whoever controls slotd must not become root through an app.
    #[default]
    User,
    /// As root.
    Root,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Breaks a promise: deployments or boots will go wrong by it.
    Error,
    /// Works, and somebody will wonder.
    Warning,
}

/// Something that `check` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// `config.unit`, `unit.missing`, `unit.masked` or `route.unsupported`.
    pub code: Code,
    /// The file.
    pub file: PathBuf,
    /// From 1. For a missing line that of the section's heading; `None` where the section is missing too.
    pub line: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// What comes of it.
    pub why: String,
    /// The line to write, or what to do.
    pub fix: String,
}

/// Everything that is wrong with the app's units: gate, socket or the route's helper, templates, units of probes, hooks,
/// the one that tells of results, in this order.
pub fn check(expected: &Expected, path: &SearchPath, rules: &PolkitRules) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    let lost = Lost {
        why: format!("without it {} can't be started or stopped", expected.app),
        fix: format!("slotctl new {} --exec … shows one", expected.app),
    };
    let templates: Vec<Option<UnitFile>> =
        expected.templates.iter().map(|template| findings.read(path, template.unit_file().as_str(), &lost)).collect();
    let before = std::mem::take(&mut findings.0);
    if let Some(unit) = findings.read(path, expected.app.gate_unit().as_str(), &lost) {
        gate::check(expected, &Subject::plain(&unit, &expected.app), templates.iter().flatten(), &mut findings);
    }
    if expected.socket
        && let Some(unit) = findings.read(path, expected.app.socket_unit().as_str(), &lost)
    {
        socket::check(expected, &Subject::plain(&unit, &expected.app), &mut findings);
    }
    if let Some(call) = &expected.helper {
        let lost = Lost {
            why: "nobody sends users to the instances, and each deployment is refused".to_owned(),
            fix: format!("slotctl new {} --exec … --port … --route … shows one", expected.app),
        };
        if let Some(unit) = findings.read(path, expected.app.route_unit().as_str(), &lost) {
            let subject = Subject { unit: &unit, prefix: "slotd-route", instance: expected.app.as_str() };
            helper::check(expected, call, &subject, path, &mut findings);
        }
    }
    findings.0.extend(before);
    for (number, (template, unit)) in expected.templates.iter().zip(&templates).enumerate() {
        if let Some(unit) = unit {
            let subject = Subject::template(unit, template);
            // Users go to the first unit; a worker beside it has nothing to accept.
            template::check(expected, &subject, expected.socket && number == 0, &mut findings);
            if expected.by_signal.as_ref() == Some(template) {
                template::check_by_signal(&subject, &mut findings);
            }
        }
    }
    for name in &expected.probe_units {
        probe::check(expected, path, name, &mut findings);
        let lost = format!("no release of {} can prove itself", expected.app);
        leave::check(expected, rules, name, &lost, &mut findings);
    }
    for (point, name) in expected.hooks.all() {
        hook::check(expected, path, point, name, &mut findings);
        let lost = format!("no release of {} can go live", expected.app);
        leave::check(expected, rules, name.as_str(), &lost, &mut findings);
        if point == HookPoint::Build {
            leave::check(expected, rules, &format!("slotd-lend@{}:{name}", expected.app), &lost, &mut findings);
        }
    }
    if expected.notifies {
        telling::check(expected, path, &mut findings);
        let lost = format!("nobody is told how deployments of {} end", expected.app);
        leave::check(expected, rules, &format!("slotd-notify@{}-", expected.app), &lost, &mut findings);
    }
    along::check(expected, path, rules, &mut findings);
    findings.0
}

impl Expected {
    /// What `app` says.
    pub fn of(app: &AppSettings, state: &Path, profile: Profile) -> Self {
        let on_unix =
            |probe: &Probe| matches!(probe, Probe::Unix { .. } | Probe::Http { address: Address::Unix(_), .. });
        Expected {
            app: app.name.clone(),
            templates: app.units.iter().map(|unit| unit.name.clone()).collect(),
            socket: matches!(app.route, Route::Socket { .. }),
            by_signal: match app.route {
                Route::Socket { accept: Accept::Signal } => app.routed().map(|unit| unit.name.clone()),
                _ => None,
            },
            helper: helper::call_of(app),
            health_socket: app.all_probes().any(on_unix),
            probed: app.all_probes().any(|probe| !matches!(probe, Probe::Notify)),
            probe_units: app.probe_units(),
            hooks: app.hooks.clone(),
            build_network: app.build.network,
            notifies: !app.on_result.is_empty(),
            state: state.to_owned(),
            profile,
        }
    }

    /// Where the trees of builds lie.
    fn builds(&self) -> String {
        format!("{}/builds", self.root())
    }

    /// `apps/APP` below the state folder.
    fn root(&self) -> String {
        format!("{}/apps/{}", self.state.display(), self.app)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, " {severity}: {} ({})\n  why: {}\n  fix: {}", self.message, self.code, self.why, self.fix)
    }
}

/// The instance that specifiers are tried with: no other text may come out of them.
const SAMPLE: &str = "1.4.2@r2@3";

/// A unit, and what its specifiers stand for.
struct Subject<'a> {
    unit: &'a UnitFile,
    prefix: &'a str,
    instance: &'a str,
}

/// Where a finding points.
struct Place<'a> {
    file: &'a Path,
    line: Option<u32>,
}

impl<'a> Subject<'a> {
    fn plain(unit: &'a UnitFile, app: &'a AppName) -> Self {
        Subject { unit, prefix: app.as_str(), instance: "" }
    }

    fn template(unit: &'a UnitFile, template: &'a Template) -> Self {
        Subject { unit, prefix: template.as_str().trim_end_matches('@'), instance: SAMPLE }
    }

    fn expand(&self, text: &str) -> String {
        syntax::expand(text, self.prefix, self.instance)
    }

    /// Where a line of `section` would stand.
    fn heading(&self, section: &str) -> Place<'a> {
        Place { file: &self.unit.path, line: self.unit.heading(section) }
    }

    /// A line that is missing: where it belongs, or where it stands in vain.
    fn absent(&self, section: &str, key: &str, wanted: &str) -> (Place<'a>, String) {
        let elsewhere = self.unit.entries().iter().find(|entry| entry.key == key && entry.section != section);
        match elsewhere {
            Some(entry) => (place(entry), format!("{key}= stands in [{}], where systemd ignores it", entry.section)),
            None => (self.heading(section), format!("{key}={wanted} is missing from [{section}]")),
        }
    }

    /// A limit on time: its own key or `TimeoutSec=`, whichever comes last; 90 s where neither stands there.
    fn timeout(&self, key: &str) -> (Option<Span>, Option<&'a Entry>) {
        let lines = self.unit.section("Service").filter(|entry| entry.key == key || entry.key == "TimeoutSec");
        match lines.last().filter(|entry| !entry.value.is_empty()) {
            // systemd.service(5): 0 is without end, as "infinity".
            Some(entry) => match syntax::span(&entry.value) {
                Some(Span::Finite(Duration::ZERO)) => (Some(Span::Infinity), Some(entry)),
                other => (other, Some(entry)),
            },
            None => (Some(Span::Finite(DEFAULT_TIMEOUT)), None),
        }
    }
}

/// `DefaultTimeoutStartSec=` and `DefaultTimeoutStopSec=`, unless the manager's settings say otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(90);

fn place(entry: &Entry) -> Place<'_> {
    Place { file: &entry.file, line: Some(entry.line) }
}
