//! What systemd is to a program: who starts it, with which descriptors and variables, who hears what it says, and who
//! sends signals to its main process.

use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Gid, Pid, Uid};
use rustix::fs::OFlags;

use crate::model::Timestamp;

use super::client::Client;
use super::ear::{Ear, Said};

/// Between two looks at whether it still runs, while it is listened to.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Variables that only whoever starts a program can give it.
const NOT_INHERITED: [&str; 9] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "HEALTH_SOCKET",
    "PORT",
    "SLOTD_ACCEPT",
];

/// What is started.
#[derive(Debug)]
pub struct Target {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// Its environment; `None` is the caller's.
    pub environment: Option<Vec<(String, String)>>,
    /// Who has to reach the sockets.
    pub user: Option<(Uid, Gid)>,
}

/// Where its connections come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// The shared listener.
    Listener,
    /// A port of its own.
    Port,
}

/// The folder, the listener and the notify socket; the folder goes at the end.
#[derive(Debug)]
pub struct Bench {
    folder: PathBuf,
    /// None where the program has a port of its own.
    listener: Option<TcpListener>,
    address: SocketAddr,
    ear: Ear,
}

/// A program that runs; ended when dropped, with whatever it started.
#[derive(Debug)]
pub struct Program<'a> {
    bench: &'a Bench,
    child: Child,
    ended: Option<ExitStatus>,
    /// All that it said, in order.
    pub said: Vec<Said>,
}

impl Bench {
    /// A new one.
    pub fn new(given: Given, user: Option<(Uid, Gid)>) -> io::Result<Bench> {
        let name = format!("slotctl-probe-{}-{}", std::process::id(), Timestamp::now().unix_millis());
        let folder = std::env::temp_dir().join(name);
        // Made, never taken over: a name that somebody else has guessed is an error.
        DirBuilder::new().mode(0o700).create(&folder)?;
        let made = Bench::within(&folder, given, user);
        if made.is_err() {
            let _ = std::fs::remove_dir_all(&folder);
        }
        made
    }

    fn within(folder: &Path, given: Given, user: Option<(Uid, Gid)>) -> io::Result<Bench> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let notify = UnixDatagram::bind(folder.join("notify"))?;
        if let Some((uid, gid)) = user {
            for path in [folder, &folder.join("notify")] {
                std::os::unix::fs::chown(path, Some(uid.as_raw()), Some(gid.as_raw()))?;
            }
        }
        // A port that was just free is the program's own.
        let listener = (given == Given::Listener).then_some(listener);
        Ok(Bench { folder: folder.to_owned(), listener, address, ear: Ear::on(notify)? })
    }

    /// Starts the program as systemd would.
    pub fn start(&self, target: &Target, accept: Option<&str>) -> io::Result<Program<'_>> {
        // Without unsafe code a descriptor can be given as standard input alone; the shell puts it where sd_listen_fds(3)
        // wants it, and then is the program, so that its PID is the one that LISTEN_PID names.
        let line = match &self.listener {
            Some(_) => r#"exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@""#,
            None => r#"exec "$@""#,
        };
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line, "sh"]).args(&target.command);
        if let Some(variables) = &target.environment {
            command.env_clear().envs(variables.iter().cloned());
        }
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        command.env("NOTIFY_SOCKET", self.folder.join("notify")).env("HEALTH_SOCKET", self.health_socket());
        if let Some(accept) = accept {
            command.env("SLOTD_ACCEPT", accept);
        }
        match &self.listener {
            Some(listener) => {
                // As NonBlocking= of the template has it, at each start.
                listener.set_nonblocking(true)?;
                command.stdin(Stdio::from(OwnedFd::from(listener.try_clone()?)))
            }
            None => command.stdin(Stdio::null()).env("PORT", self.address.port().to_string()),
        };
        let output = File::create(self.output())?;
        // A run that was killed leaves its path behind; systemd empties the runtime folder.
        let _ = std::fs::remove_file(self.health_socket());
        // What it says before this run isn't heard any more.
        while self.ear.hear(Duration::ZERO).is_some() {}
        let child = command.stderr(output.try_clone()?).stdout(output).process_group(0).spawn()?;
        Ok(Program { bench: self, child, ended: None, said: Vec::new() })
    }

    /// Where it is asked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it may answer health questions.
    pub fn health_socket(&self) -> PathBuf {
        self.folder.join("health.sock")
    }

    /// Whether a connection waits in the listener: nobody has accepted it. It is looked at and not taken out, since
    /// O_NONBLOCK is the program's to set, for all who share the listener.
    pub fn waits(&self, client: &Client) -> bool {
        let Some(SocketAddr::V4(peer)) = client.address else { return false };
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        table.lines().any(|row| is_unaccepted(row, self.address.port(), peer.port()))
    }

    /// Whether the listener is still as it was handed over.
    pub fn is_non_blocking(&self) -> bool {
        let flags = |listener| rustix::fs::fcntl_getfl(listener).unwrap_or_else(|_| OFlags::empty());
        self.listener.as_ref().is_none_or(|listener| flags(listener).contains(OFlags::NONBLOCK))
    }

    /// The last lines that it wrote.
    pub fn last_lines(&self, lines: usize) -> Vec<String> {
        let text = std::fs::read(self.output()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
    }

    fn output(&self) -> PathBuf {
        self.folder.join("output")
    }
}

/// Whether a row of /proc/net/tcp (proc_net_tcp of the kernel's documentation) is the server's end of a connection that is
/// open, and no process has a descriptor of: its inode is 0.
fn is_unaccepted(row: &str, server: u16, client: u16) -> bool {
    let fields: Vec<&str> = row.split_whitespace().collect();
    let port = |field: &str| field.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
    let [_, local, remote, "01", _, _, _, _, _, "0", ..] = fields[..] else { return false };
    port(local) == Some(server) && port(remote) == Some(client)
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("slotctl: {} is left: {error}", self.folder.display());
        }
    }
}

impl Program<'_> {
    /// Waits for a message, for at most `limit`; those before it are passed over. Nothing comes of one that has ended.
    pub fn hears(&mut self, limit: Duration, is: impl Fn(&Said) -> bool) -> Option<Said> {
        let end = Instant::now() + limit;
        loop {
            // Looked at first: what it said last is still there to be heard.
            let runs = self.runs();
            match self.bench.ear.hear(LOOK_EVERY) {
                Some(said) => {
                    self.said.push(said.clone());
                    if is(&said) {
                        return Some(said);
                    }
                }
                None if runs && Instant::now() < end => {}
                None => return None,
            }
        }
    }

    /// Whether its main process said it. systemd believes no other one unless NotifyAccess= says so.
    pub fn is_own_word(&self, said: &Said) -> bool {
        said.pid == self.pid().as_raw()
    }

    /// Lets time pass, and hears what is said meanwhile.
    pub fn wait(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Some(rest) = end.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero()) {
            // One that has ended says nothing, and the time passes all the same.
            if self.hears(rest, |_| false).is_none() && !self.runs() {
                std::thread::park_timeout(rest);
            }
        }
    }

    /// Sends a signal to the main process.
    pub fn signal(&mut self, signal: Signal) {
        if self.runs() {
            // It may end between the look and the signal; then there is nobody to be told.
            let _ = kill(self.pid(), signal);
        }
    }

    /// How it ended, once it has, within `limit`.
    pub fn end(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.hears(limit, |_| false);
        self.runs();
        self.ended
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended.is_none()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // Its group is its own: whatever it started goes with it, as KillMode= has it.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
