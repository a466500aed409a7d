//! `check`: whether an app's units have every line they need, and none that breaks a promise.
//!
//! Each rule stands for something that was seen to go wrong on a real systemd; its `why` says what.

mod firewall;
mod gate;
mod helper;
mod probe;
mod socket;
mod template;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::config::app::{Address, AppSettings, Probe, Route};
use crate::model::route::RouteCall;
use crate::model::{AppName, Code, Template};

use super::syntax::{self, Span};
use super::unitfile::{Entry, Found, SearchPath, UnitFile};

/// What an app's settings say of its units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The app.
    pub app: AppName,
    /// Its templates, in the order of starting.
    pub templates: Vec<Template>,
    /// Whether traffic comes through `APP.socket`.
    pub socket: bool,
    /// What the route's root helper has to be called with, if it has one.
    pub helper: Option<RouteCall>,
    /// Whether a probe connects to a Unix socket that the app binds.
    pub health_socket: bool,
    /// Whether anything but systemd's word proves an instance.
    pub probed: bool,
    /// The units that probes run: templates with their `@`, others with `.service`.
    pub probe_units: Vec<String>,
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

/// Everything that is wrong with the app's units: gate, socket or the route's helper, templates, units of probes, in this
/// order.
pub fn check(expected: &Expected, path: &SearchPath) -> Vec<Finding> {
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
    for (template, unit) in expected.templates.iter().zip(&templates) {
        if let Some(unit) = unit {
            template::check(expected, &Subject::template(unit, template), &mut findings);
        }
    }
    for name in &expected.probe_units {
        probe::check(expected, path, name, &mut findings);
    }
    findings.0
}

impl Expected {
    /// What `app` says.
    pub fn of(app: &AppSettings, state: &Path, profile: Profile) -> Self {
        let on_unix =
            |probe: &Probe| matches!(probe, Probe::Unix { .. } | Probe::Http { address: Address::Unix(_), .. });
        let unit_of = |probe: &Probe| match probe {
            Probe::Unit { name } => Some(name.clone()),
            _ => None,
        };
        Expected {
            app: app.name.clone(),
            templates: app.units.iter().map(|unit| unit.name.clone()).collect(),
            socket: matches!(app.route, Route::Socket { .. }),
            helper: helper::call_of(app),
            health_socket: app.all_probes().any(on_unix),
            probed: app.all_probes().any(|probe| !matches!(probe, Probe::Notify)),
            probe_units: app.all_probes().filter_map(unit_of).collect(),
            state: state.to_owned(),
            profile,
        }
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

/// A line that must be there.
struct Needed<'a> {
    severity: Severity,
    section: &'a str,
    key: &'a str,
    /// Its value as it is to be written.
    wanted: &'a str,
    why: &'a str,
}

struct Findings(Vec<Finding>);

/// What is said of a unit that isn't there.
struct Lost {
    why: String,
    /// Where it is missing; a mask has a cure of its own.
    fix: String,
}

impl Findings {
    fn add(&mut self, severity: Severity, place: Place<'_>, message: String, why: &str, fix: impl Into<String>) {
        self.0.push(Finding {
            severity,
            code: Code::ConfigUnit,
            file: place.file.to_owned(),
            line: place.line,
            message,
            why: why.to_owned(),
            fix: fix.into(),
        });
    }

    fn error(&mut self, place: Place<'_>, message: String, why: &str, fix: impl Into<String>) {
        self.add(Severity::Error, place, message, why, fix);
    }

    fn warning(&mut self, place: Place<'_>, message: String, why: &str, fix: impl Into<String>) {
        self.add(Severity::Warning, place, message, why, fix);
    }

    /// Something that the host can't give.
    fn unsupported(&mut self, place: Place<'_>, message: String, why: &str, fix: &str) {
        self.error(place, message, why, fix);
        if let Some(finding) = self.0.last_mut() {
            finding.code = Code::RouteUnsupported;
        }
    }

    /// The last line of the key must be good.
    fn need(&mut self, subject: &Subject<'_>, needed: Needed<'_>, good: impl Fn(&str) -> bool) {
        let Needed { severity, section, key, wanted, why } = needed;
        let fix = format!("[{section}] {key}={wanted}");
        match subject.unit.last(section, key) {
            Some(entry) if good(&subject.expand(&entry.value)) => {}
            Some(entry) => {
                self.add(severity, place(entry), format!("{key}={} should be {key}={wanted}", entry.value), why, fix);
            }
            None => {
                let (place, message) = subject.absent(section, key, wanted);
                self.add(severity, place, message, why, fix);
            }
        }
    }

    /// One of the lines of the key must be good.
    fn need_among(&mut self, subject: &Subject<'_>, needed: Needed<'_>, good: impl Fn(&str) -> bool) {
        let Needed { severity, section, key, wanted, why } = needed;
        let lines = subject.unit.list(section, key);
        if lines.iter().any(|entry| good(&subject.expand(&entry.value))) {
            return;
        }
        let fix = format!("[{section}] {key}={wanted}");
        match lines.last() {
            Some(entry) => {
                let message = format!("{key}={} should be {key}={wanted}", entry.value);
                self.add(severity, place(entry), message, why, fix);
            }
            None => {
                let (place, message) = subject.absent(section, key, wanted);
                self.add(severity, place, message, why, fix);
            }
        }
    }

    /// A dependency must be named.
    fn need_dependency(&mut self, subject: &Subject<'_>, key: &str, wanted: &str, why: &str) {
        let named = subject.unit.dependencies(key);
        let meant = subject.expand(wanted);
        if named.iter().any(|(name, _)| subject.expand(name) == meant) {
            return;
        }
        let fix = format!("[Unit] {key}={wanted}");
        // A name that is nearly it is most likely what was meant.
        let stem = wanted.split(['@', ':', '.']).next().unwrap_or(wanted);
        match named.iter().find(|(name, _)| name.starts_with(stem)) {
            Some((name, entry)) => {
                self.error(place(entry), format!("{key}={name} should be {key}={wanted}"), why, fix);
            }
            None => {
                let (place, message) = subject.absent("Unit", key, wanted);
                self.error(place, message, why, fix);
            }
        }
    }

    /// A dependency must not be named.
    fn no_dependency(&mut self, subject: &Subject<'_>, key: &str, unwanted: &str, why: &str) {
        for (name, entry) in subject.unit.dependencies(key) {
            if subject.expand(name) == unwanted {
                self.error(
                    place(entry),
                    format!("{key}={name} must not stand here"),
                    why,
                    format!("remove {name} from {key}="),
                );
            }
        }
    }

    /// Limits on starts must be off, under any of their names.
    fn need_no_start_limit(&mut self, subject: &Subject<'_>, severity: Severity, why: &str) {
        let old = [("Unit", "StartLimitInterval"), ("Service", "StartLimitInterval")];
        let off = |entry: &Entry| syntax::span(&entry.value) == Some(Span::Finite(Duration::ZERO));
        if old.iter().any(|(section, key)| subject.unit.last(section, key).is_some_and(off))
            && subject.unit.last("Unit", "StartLimitIntervalSec").is_none()
        {
            return;
        }
        let needed = Needed { severity, section: "Unit", key: "StartLimitIntervalSec", wanted: "0", why };
        self.need(subject, needed, |value| syntax::span(value) == Some(Span::Finite(Duration::ZERO)));
    }

    /// Reads a unit; what keeps it from being read is a finding.
    fn read(&mut self, path: &SearchPath, unit: &str, if_lost: &Lost) -> Option<UnitFile> {
        let file = Path::new("/etc/systemd/system").join(unit);
        let mut lost = |code, file: PathBuf, message: String, fix: String| {
            let why = if_lost.why.clone();
            self.0.push(Finding { severity: Severity::Error, code, file, line: None, message, why, fix });
        };
        match path.read(unit) {
            Ok(Found::Unit(read)) => {
                for ignored in read.ignored() {
                    let place = Place { file: &ignored.file, line: Some(ignored.line) };
                    let message = format!("{:?} is neither [section], KEY=VALUE nor comment", ignored.text);
                    self.error(place, message, "systemd goes on without the line", "write KEY=VALUE below a [section]");
                }
                return Some(read);
            }
            Ok(Found::Missing) => {
                lost(Code::UnitMissing, file, format!("{unit} doesn't exist"), if_lost.fix.clone());
            }
            Ok(Found::Masked(at)) => {
                let fix = format!("systemctl unmask {unit}, or remove {}", at.display());
                lost(Code::UnitMasked, at, format!("{unit} is masked"), fix);
            }
            Err(error) => {
                let path = error.path.clone();
                lost(Code::ConfigUnit, path, error.to_string(), "make it readable for everybody".to_owned());
            }
        }
        None
    }
}
