//! nginx: the servers of an upstream stand in a file that the administrator's configuration includes.
//!
//! The file is renamed in and nginx tests its configuration with it; if that fails, the old file comes back. A running
//! nginx is then told to reload by its own command, not through its unit: that is ordered after the helper's, so a job of
//! it would wait for this very run. The run ends when none of the workers that had the old file takes new connections any
//! more, so that from then on who was taken out only becomes less.
//!
//! Who stands by is a backup server: a request that none of the others takes is passed to it at once. For that the others
//! are never left out for a while after a failure (`max_fails`): users go to the new slot as long as it takes them.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::gate::wait_for;
use crate::model::route::RouteBackend;

use super::file;

/// What is run.
const PROGRAM: &str = "nginx";

/// Where Debian's nginx has its process id.
const PID_FILE: &str = "/run/nginx.pid";

/// How long the old workers may take to stop accepting.
const RELOAD_LIMIT: Duration = Duration::from_secs(20);

/// How nginx names its workers, and those that finish what they have.
const WORKER: &str = "nginx: worker process";
const LEAVING: &str = "nginx: worker process is shutting down";

/// What nginx is to do for an app.
#[derive(Debug)]
pub struct Nginx<'a> {
    /// The file that the upstream includes.
    pub include: &'a Path,
    /// What the running nginx was last told.
    pub told: PathBuf,
    /// Whom users are sent to.
    pub backends: &'a [RouteBackend],
    /// Who gets a request that none of these takes.
    pub standby: &'a [RouteBackend],
}

/// Why it doesn't do it.
#[derive(Debug, thiserror::Error)]
pub enum NginxError {
    /// A file can't be read or written.
    #[error(transparent)]
    File(io::Error),
    /// It couldn't be run.
    #[error("can't run nginx: {0}")]
    Run(io::Error),
    /// Its configuration is refused with this file; the old one is back.
    #[error("nginx refuses its configuration: {0}")]
    Refused(String),
    /// Nothing includes the file.
    #[error("no upstream of nginx's configuration has `include {};`", .0.display())]
    NotIncluded(PathBuf),
    /// It was told to reload, and the old workers still accept.
    #[error(
        "nginx was told to reload and its old workers still accept after {}; see: journalctl -u nginx and its error log",
        humantime::format_duration(RELOAD_LIMIT)
    )]
    NotReloaded,
}

impl Nginx<'_> {
    /// Brings file and process to the set. One that doesn't run will find its file.
    pub fn apply(&self) -> Result<(), NginxError> {
        match self.bring(&self.text()) {
            // Some ways to choose a server (ip_hash, hash, random) know no backup.
            Err(NginxError::Refused(_)) if !self.standby.is_empty() => {
                let alone = Nginx { standby: &[], told: self.told.clone(), ..*self };
                alone.bring(&alone.text())
            }
            other => other,
        }
    }

    fn bring(&self, text: &str) -> Result<(), NginxError> {
        let before = file::read(self.include).map_err(NginxError::File)?;
        if before.as_deref() != Some(text) {
            file::replace(self.include, text).map_err(NginxError::File)?;
        }
        let back = |error| {
            if let Some(before) = &before
                && let Err(also) = file::replace(self.include, before)
            {
                eprintln!("slotd-gate: the old file can't be put back: {also}");
            }
            error
        };
        match self.test() {
            // The file has to be there before anybody can include it.
            Err(error @ NginxError::NotIncluded(_)) => return Err(error),
            tested => tested.map_err(back)?,
        }
        let told = file::read(&self.told).map_err(NginxError::File)?;
        if let Some(master) = master().filter(|_| told.as_deref() != Some(text)) {
            reload(master).map_err(back)?;
        }
        file::replace(&self.told, text).map_err(NginxError::File)
    }

    fn text(&self) -> String {
        let mut text = String::from("# Written by slotd-gate route, and included in an upstream.\n");
        for RouteBackend { instance, port, weight } in self.backends {
            let always = if self.standby.is_empty() { "" } else { " max_fails=0" };
            text.push_str(&format!("server 127.0.0.1:{port} weight={weight}{always}; # {instance}\n"));
        }
        for RouteBackend { instance, port, .. } in self.standby {
            text.push_str(&format!("server 127.0.0.1:{port} backup; # {instance}\n"));
        }
        if self.backends.is_empty() {
            // An upstream without any server is an error.
            text.push_str("server 127.0.0.1:1 down; # nobody\n");
        }
        text
    }

    /// Whether nginx takes its configuration, and reads the file at all.
    fn test(&self) -> Result<(), NginxError> {
        let shown = run(&["-T", "-q"])?;
        let heading = format!("# configuration file {}:", self.include.display());
        match shown.lines().any(|line| line == heading) {
            true => Ok(()),
            false => Err(NginxError::NotIncluded(self.include.to_owned())),
        }
    }
}

/// The first process, if nginx runs.
fn master() -> Option<u32> {
    let pid: u32 = std::fs::read_to_string(PID_FILE).ok()?.trim().parse().ok()?;
    (std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim() == PROGRAM).then_some(pid)
}

fn reload(master: u32) -> Result<(), NginxError> {
    let old = workers(master);
    run(&["-s", "reload"])?;
    let over = || {
        let now = workers(master);
        let accepts = |(pid, title): &(u32, String)| old.iter().any(|(it, _)| it == pid) && !title.starts_with(LEAVING);
        let new = now.iter().any(|(pid, title)| !title.starts_with(LEAVING) && old.iter().all(|(it, _)| it != pid));
        (new && !now.iter().any(accepts)).then_some(())
    };
    wait_for(RELOAD_LIMIT, over).ok_or(NginxError::NotReloaded)
}

/// The workers with their titles.
fn workers(master: u32) -> Vec<(u32, String)> {
    // Without the list of children nothing is known, and the wait runs out.
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Behind the name, which may hold anything: state, parent.
        let parent: u32 = status.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        let title = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let title = String::from_utf8_lossy(&title).trim_end_matches('\0').to_owned();
        (parent == master && title.starts_with(WORKER)).then_some((pid, title))
    })
    .collect()
}

fn run(arguments: &[&str]) -> Result<String, NginxError> {
    let output = Command::new(PROGRAM).args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).output();
    let output = output.map_err(NginxError::Run)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" / ");
    Err(NginxError::Refused(if said.is_empty() { output.status.to_string() } else { said }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_never_without_a_server() {
        let text = |backends: &[RouteBackend], standby: &[RouteBackend]| {
            Nginx { include: Path::new("/x"), told: PathBuf::new(), backends, standby }
                .text()
                .lines()
                .skip(1)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(text(&[], &[]), ["server 127.0.0.1:1 down; # nobody"]);
        let backend = |name: &str, port, weight| RouteBackend { instance: name.parse().expect("a name"), port, weight };
        assert_eq!(
            text(&[backend("1+b", 20000, 1), backend("1+b@2", 20001, 3)], &[]),
            ["server 127.0.0.1:20000 weight=1; # 1+b", "server 127.0.0.1:20001 weight=3; # 1+b@2"]
        );
        assert_eq!(
            text(&[backend("2", 20002, 1)], &[backend("1", 20000, 1)]),
            ["server 127.0.0.1:20002 weight=1 max_fails=0; # 2", "server 127.0.0.1:20000 backup; # 1"]
        );
    }
}
