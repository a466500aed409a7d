//! `systemctl` as a child. As root it talks to PID 1 directly where the bus is down, as at boot and shutdown.
//!
//! Its own messages go to the journal beside ours. Nothing here bounds a start or stop: the unit's own limits do.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::process::{Command, ExitStatus, Stdio};

use crate::model::{Template, UnitName};

/// Variables by which systemd passes descriptors and addresses to the gate alone.
const NOT_FOR_CHILDREN: [&str; 7] =
    ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// Most descriptors that are believed to have been passed.
const MAX_PASSED: i32 = 1024;

/// Runs `systemctl`.
#[derive(Debug, Clone)]
pub struct Systemctl {
    program: OsString,
}

/// How a unit stands, in systemd's words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub unit: String,
    /// LoadState: "loaded", "not-found", "masked" …
    pub load: String,
    /// ActiveState.
    pub active: String,
    /// SubState.
    pub sub: String,
    /// Result.
    pub result: String,
    /// ExecMainStatus: exit status or signal number of the last main process.
    pub status: String,
    /// Whether a job is queued for it.
    pub job: bool,
    /// The loaded units that are stopped with it.
    pub stops_with_it: Vec<String>,
}

/// Why `systemctl` didn't do it.
#[derive(Debug, thiserror::Error)]
pub enum SystemctlError {
    /// It couldn't be run.
    #[error("can't run systemctl: {0}")]
    Spawn(io::Error),
    /// It failed; its reason stands in the journal, in the lines above.
    #[error("`systemctl {verb} {}` failed ({status})", .units.join(" "))]
    Failed {
        /// "start", "stop" …
        verb: &'static str,
        /// The units.
        units: Vec<String>,
        /// How it ended.
        status: ExitStatus,
    },
}

impl Default for Systemctl {
    fn default() -> Self {
        Systemctl::new()
    }
}

impl Systemctl {
    /// The one on PATH.
    pub fn new() -> Self {
        Systemctl { program: "systemctl".into() }
    }

    /// Starts units and waits for all of the jobs. Nothing to start is success.
    pub fn start(&self, units: &[UnitName]) -> Result<(), SystemctlError> {
        self.act("start", &[], units)
    }

    /// Stops units and waits for all of the jobs. Nothing to stop is success.
    pub fn stop(&self, units: &[UnitName]) -> Result<(), SystemctlError> {
        // Quiet, or it warns each time that the socket may start the unit again, which is what it is for.
        self.act("stop", &["--quiet"], units)
    }

    /// Reloads units and waits for all of the jobs.
    pub fn reload(&self, units: &[UnitName]) -> Result<(), SystemctlError> {
        self.act("reload", &[], units)
    }

    /// Queues a start, without waiting.
    pub fn queue_start(&self, unit: &UnitName) -> Result<(), SystemctlError> {
        self.act("start", &["--no-block"], std::slice::from_ref(unit))
    }

    /// Queues a reload of what is up, or else a start, without waiting.
    pub fn queue_reload(&self, unit: &UnitName) -> Result<(), SystemctlError> {
        self.act("reload-or-restart", &["--no-block"], std::slice::from_ref(unit))
    }

    /// Queues a restart, without waiting.
    pub fn queue_restart(&self, unit: &UnitName) -> Result<(), SystemctlError> {
        self.act("restart", &["--no-block"], std::slice::from_ref(unit))
    }

    /// How units stand, in the order asked.
    pub fn show(&self, units: &[UnitName]) -> Result<Vec<Seen>, SystemctlError> {
        if units.is_empty() {
            return Ok(Vec::new());
        }
        let properties = "--property=Id,LoadState,ActiveState,SubState,Result,ExecMainStatus,Job,PropagatesStopTo";
        Ok(parse_show(&self.ask("show", &[properties], units.iter().map(UnitName::as_str))?))
    }

    /// The loaded instances of a template, whatever their state.
    pub fn instances(&self, template: &Template) -> Result<Vec<UnitName>, SystemctlError> {
        let pattern = format!("{template}*.service");
        let list = ["--all", "--plain", "--no-legend", "--full", "--type=service"];
        let text = self.ask("list-units", &list, [pattern.as_str()])?;
        let first = text.lines().filter_map(|line| line.split_whitespace().next());
        // The template's text may hold no wildcard, so the pattern is exact; still only its instances are taken.
        let ours = first.filter(|name| name.starts_with(template.as_str()) && name.ends_with(".service"));
        Ok(ours.map(UnitName::new).collect())
    }

    /// As whom a unit runs; empty: as root.
    pub fn user_of(&self, unit: &UnitName) -> Result<String, SystemctlError> {
        let shown = self.ask("show", &["--property=User", "--value"], [unit.as_str()])?;
        Ok(shown.trim().to_owned())
    }

    fn act(&self, verb: &'static str, options: &[&str], units: &[UnitName]) -> Result<(), SystemctlError> {
        if units.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = units.iter().map(|unit| unit.as_str().to_owned()).collect();
        let mut command = self.command(verb, options, names.iter().map(String::as_str));
        let status = command.stdout(Stdio::null()).status().map_err(SystemctlError::Spawn)?;
        if status.success() { Ok(()) } else { Err(SystemctlError::Failed { verb, units: names, status }) }
    }

    fn ask<'a>(
        &self,
        verb: &'static str,
        options: &[&str],
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<String, SystemctlError> {
        let names: Vec<&str> = names.into_iter().collect();
        let mut command = self.command(verb, options, names.iter().copied());
        let output = command.stderr(Stdio::inherit()).output().map_err(SystemctlError::Spawn)?;
        if !output.status.success() {
            let units = names.into_iter().map(str::to_owned).collect();
            return Err(SystemctlError::Failed { verb, units, status: output.status });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command<'a>(&self, verb: &str, options: &[&str], names: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--no-pager", "--no-ask-password"]).arg(verb).args(options).arg("--").args(names);
        command.env("LC_ALL", "C").env("SYSTEMD_COLORS", "0").stdin(Stdio::null());
        for name in NOT_FOR_CHILDREN {
            command.env_remove(name);
        }
        command
    }
}

/// Closes the listeners that systemd handed over when the socket started the gate, so that neither it nor a child
/// holds one. Must run before anything else is opened.
pub fn close_listeners() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
    if number("LISTEN_PID") != i32::try_from(std::process::id()).ok() {
        return;
    }
    for passed in 3..3 + number("LISTEN_FDS").unwrap_or(0).clamp(0, MAX_PASSED) {
        // One that isn't open is as good as closed.
        let _ = nix::unistd::close(passed);
    }
}

impl Seen {
    /// Whether it serves.
    pub fn is_up(&self) -> bool {
        matches!(self.active.as_str(), "active" | "reloading" | "refreshing")
    }

    /// Whether it runs, is on its way somewhere, or somebody wants something of it. What is stopping is on its way: to
    /// a restart by itself, or to an end that calls settle once more.
    pub fn is_busy(&self) -> bool {
        self.is_up() || matches!(self.active.as_str(), "activating" | "deactivating") || self.job
    }

    /// For a message: "web@1.service is failed/failed (exit-code 3)".
    pub fn words(&self) -> String {
        let Seen { unit, load, active, sub, result, status, .. } = self;
        match load.as_str() {
            "loaded" if result == "success" => format!("{unit} is {active}/{sub}"),
            "loaded" => format!("{unit} is {active}/{sub} ({result}, status {status})"),
            other => format!("{unit} is {other}"),
        }
    }
}

/// Reads the blocks of `systemctl show`, one a unit.
fn parse_show(text: &str) -> Vec<Seen> {
    let blocks = text.split("\n\n").map(str::trim).filter(|block| !block.is_empty());
    blocks
        .map(|block| {
            let fields: HashMap<&str, &str> = block.lines().filter_map(|line| line.split_once('=')).collect();
            let text = |name: &str| fields.get(name).copied().unwrap_or_default().to_owned();
            Seen {
                unit: text("Id"),
                load: text("LoadState"),
                active: text("ActiveState"),
                sub: text("SubState"),
                result: text("Result"),
                status: text("ExecMainStatus"),
                job: !matches!(text("Job").as_str(), "" | "0"),
                stops_with_it: text("PropagatesStopTo").split_whitespace().map(str::to_owned).collect(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_show() {
        let text = "Id=web.service\nLoadState=loaded\nActiveState=active\nSubState=exited\nResult=success\n\
                    PropagatesStopTo=web@1.service web@2.service\n\nId=web@1.service\nLoadState=loaded\nJob=17\n\
                    ActiveState=failed\nSubState=failed\nResult=exit-code\nExecMainStatus=3\n";
        let seen = parse_show(text);
        assert_eq!(seen.len(), 2);
        assert!(seen[0].is_up() && !seen[0].job);
        assert_eq!(seen[0].stops_with_it, ["web@1.service", "web@2.service"]);
        assert!(seen[1].is_busy() && !seen[1].is_up());
        assert_eq!(seen[1].words(), "web@1.service is failed/failed (exit-code, status 3)");
    }
}
