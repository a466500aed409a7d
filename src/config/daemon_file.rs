//! `/etc/slotd/slotd.toml`: from text to [`DaemonSettings`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::daemon::{Access, AtOnce, DaemonSettings, Defaults, HistoryKeeps, LogLevel, Profile};
use super::document::{Document, Section};
use super::error::ConfigError;
use super::sections;

/// Where state can't lie: anybody can make folders there (CVE-2026-3888).
const PUBLIC_DIRS: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// The most of one kind that the history can be told to keep.
const MAX_KEPT: u64 = 1_000_000;

/// The most artifacts that can be in hand at a time.
const MAX_AT_ONCE: u64 = 64;

/// Reads the text of the daemon's file. `file` is for the errors only.
///
/// # Errors
/// All that is wrong, in the order of the file.
pub fn parse_daemon(file: &Path, text: &str) -> Result<DaemonSettings, Vec<ConfigError>> {
    Document::read(file, text, |top| Some(daemon(top)))
}

fn daemon(top: &Section<'_>) -> DaemonSettings {
    let default = DaemonSettings::default();
    let state_dir = folder(top, "state_dir").unwrap_or(default.state_dir);
    let run_dir = folder(top, "run_dir").unwrap_or(default.run_dir);
    let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
    let rescan = Duration::from_secs(1)..=Duration::from_secs(3600);
    DaemonSettings {
        profile: top
            .choice("profile", &[("user", Profile::User), ("root", Profile::Root)], &[])
            .unwrap_or(default.profile),
        socket: path(top, "socket").unwrap_or_else(|| run_dir.join("slotd.sock")),
        apps_dir: path(top, "apps_dir").unwrap_or(default.apps_dir),
        history: path(top, "history").unwrap_or_else(|| state_dir.join("history.db")),
        history_keeps: HistoryKeeps {
            deployments: kept(top, "history_deployments", default.history_keeps.deployments),
            events: kept(top, "history_events", default.history_keeps.events),
        },
        access: access(top, default.access),
        log: top.choice("log", &levels.map(|level| (level.as_str(), level)), &[]).unwrap_or(default.log),
        rescan: top.duration("rescan", rescan).unwrap_or(default.rescan),
        at_once: AtOnce {
            intakes: few(top, "intakes", default.at_once.intakes),
            builds: few(top, "builds", default.at_once.builds),
        },
        defaults: defaults(top, default.defaults),
        state_dir,
        run_dir,
    }
}

/// How many of something the history keeps.
fn kept(top: &Section<'_>, key: &'static str, default: u32) -> u32 {
    top.number(key, 1..=MAX_KEPT).map_or(default, sections::to_u32)
}

/// How many of something there are at a time.
fn few(top: &Section<'_>, key: &'static str, default: u32) -> u32 {
    top.number(key, 1..=MAX_AT_ONCE).map_or(default, sections::to_u32)
}

/// An absolute path without `..`.
fn path(section: &Section<'_>, key: &'static str) -> Option<PathBuf> {
    section.parsed(key, |text| {
        let good = text.starts_with('/') && !text.contains(|c: char| c.is_control());
        match good && text.split('/').all(|part| part != ".." && part != ".") {
            true => Ok(PathBuf::from(text)),
            false => Err(format!("`{key}` must be an absolute path without . and .., not {text:?}")),
        }
    })
}

/// A path that isn't below a folder in which anybody can make things.
fn folder(section: &Section<'_>, key: &'static str) -> Option<PathBuf> {
    let path = path(section, key)?;
    if let Some(public) = PUBLIC_DIRS.iter().find(|public| path.starts_with(public)) {
        let message = format!("`{key}` can't lie in {public}, where anybody can make and replace folders");
        section.error(section.place_of(key), message, None);
    }
    Some(path)
}

fn access(top: &Section<'_>, default: Access) -> Access {
    let Some(section) = top.section("access") else { return default };
    let group = |key| {
        section.parsed(key, |text| {
            let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            match !text.is_empty() && text.len() <= 32 && text.chars().all(known) && !text.starts_with('-') {
                true => Ok(text.to_owned()),
                false => Err(format!("{text:?} is no group's name")),
            }
        })
    };
    let access = Access {
        read_group: group("read_group").unwrap_or(default.read_group),
        operate_group: group("operate_group").unwrap_or(default.operate_group),
    };
    section.finish();
    access
}

fn defaults(top: &Section<'_>, default: Defaults) -> Defaults {
    let Some(section) = top.section("defaults") else { return default };
    let defaults = Defaults {
        retention: sections::retention(&section, default.retention),
        proof: sections::proof(&section, default.proof),
        crash_loop: sections::crash_loop(&section, default.crash_loop),
        limits: sections::limits(&section, default.limits),
    };
    section.finish();
    defaults
}
