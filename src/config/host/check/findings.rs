//! What is found, and the questions that rules ask of a unit: a line must be there, or must not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::Code;

use super::super::syntax::{self, Span};
use super::super::unitfile::{Entry, Found, SearchPath, UnitFile};
use super::{Finding, Place, Severity, Subject, place};

/// A line that must be there.
pub(super) struct Needed<'a> {
    pub(super) severity: Severity,
    pub(super) section: &'a str,
    pub(super) key: &'a str,
    /// Its value as it is to be written.
    pub(super) wanted: &'a str,
    pub(super) why: &'a str,
}

pub(super) struct Findings(pub(super) Vec<Finding>);

/// What is said of a unit that isn't there.
pub(super) struct Lost {
    pub(super) why: String,
    /// Where it is missing; a mask has a cure of its own.
    pub(super) fix: String,
}

impl Findings {
    pub(super) fn add(
        &mut self,
        severity: Severity,
        place: Place<'_>,
        message: String,
        why: &str,
        fix: impl Into<String>,
    ) {
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

    pub(super) fn error(&mut self, place: Place<'_>, message: String, why: &str, fix: impl Into<String>) {
        self.add(Severity::Error, place, message, why, fix);
    }

    pub(super) fn warning(&mut self, place: Place<'_>, message: String, why: &str, fix: impl Into<String>) {
        self.add(Severity::Warning, place, message, why, fix);
    }

    /// Something that the host can't give.
    pub(super) fn unsupported(&mut self, place: Place<'_>, message: String, why: &str, fix: &str) {
        self.error(place, message, why, fix);
        if let Some(finding) = self.0.last_mut() {
            finding.code = Code::RouteUnsupported;
        }
    }

    /// The last line of the key must be good.
    pub(super) fn need(&mut self, subject: &Subject<'_>, needed: Needed<'_>, good: impl Fn(&str) -> bool) {
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
    pub(super) fn need_among(&mut self, subject: &Subject<'_>, needed: Needed<'_>, good: impl Fn(&str) -> bool) {
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
    pub(super) fn need_dependency(&mut self, subject: &Subject<'_>, key: &str, wanted: &str, why: &str) {
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
    pub(super) fn no_dependency(&mut self, subject: &Subject<'_>, key: &str, unwanted: &str, why: &str) {
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
    pub(super) fn need_no_start_limit(&mut self, subject: &Subject<'_>, severity: Severity, why: &str) {
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

    /// A oneshot has no limit on its start unless its unit says one.
    pub(super) fn need_limited_start(
        &mut self,
        unit: &Subject<'_>,
        severity: Severity,
        example: &str,
        why: &str,
        what: &str,
    ) {
        let fix = format!("[Service] TimeoutStartSec={example}, or what {what} takes at most");
        match unit.timeout("TimeoutStartSec") {
            (_, None) => {
                let (place, message) = unit.absent("Service", "TimeoutStartSec", example);
                self.add(severity, place, message, why, fix);
            }
            (Some(Span::Finite(_)), Some(_)) => {}
            (_, Some(entry)) => {
                self.add(severity, place(entry), format!("{}={} is no limit", entry.key, entry.value), why, fix);
            }
        }
    }

    /// Reads a unit; what keeps it from being read is a finding.
    pub(super) fn read(&mut self, path: &SearchPath, unit: &str, if_lost: &Lost) -> Option<UnitFile> {
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
                let listener = match unit.strip_suffix(".socket") {
                    // Not before: while they are masked its stop doesn't take gate and slot along, and a slot that is left
                    // holds the port.
                    Some(app) => format!(
                        "; masked while it listened it has lost its listener: once nothing is masked any more, \
                         systemctl stop {unit} and systemctl start {app}.service"
                    ),
                    None => String::new(),
                };
                let fix = format!("systemctl unmask {unit}, or remove {}{listener}", at.display());
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
