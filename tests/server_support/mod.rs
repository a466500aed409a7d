//! The sample servers as plain processes: the test holds the listener and the notify socket as systemd would.
//!
//! Those of Node.js and Go need both installed, and are there with the feature `host-tests`.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::support::wait_until;

/// For anything that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The servers that keep the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Sample,
    Python,
    Go,
    Node,
}

/// What systemd would hold: the listener, and the socket that READY=1 goes to.
pub struct Host {
    pub program: Program,
    pub folder: TempDir,
    pub listener: TcpListener,
    notified: UnixDatagram,
}

/// A server that runs; killed when dropped.
pub struct Server<'a> {
    host: &'a Host,
    version: String,
    child: Mutex<Child>,
}

pub struct Connection<S>(BufReader<S>);

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
    pub closes: bool,
}

/// Where a server gets its connections from.
#[derive(Debug, Clone, Copy)]
pub enum From<'a> {
    /// The shared listener, and `SLOTD_ACCEPT`.
    Shared(Option<&'a str>),
    /// A port of its own.
    Port(u16),
}

impl Program {
    /// All of them that can be tried here.
    pub fn all() -> &'static [Program] {
        match cfg!(feature = "host-tests") {
            true => &[Program::Sample, Program::Python, Program::Go, Program::Node],
            false => &[Program::Sample, Program::Python],
        }
    }

    /// Program and arguments.
    pub fn command(self) -> Vec<PathBuf> {
        let example = |path: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(path);
        match self {
            Program::Sample => vec![sample_server()],
            Program::Python => vec!["python3".into(), example("python-server/server.py")],
            Program::Go => vec![built(&example("go-server/main.go"))],
            Program::Node => vec!["node".into(), example("node-server/server.js")],
        }
    }

    /// Whether the process that is told is the one that answers.
    pub fn is_one_process(self) -> bool {
        self != Program::Node
    }
}

impl Host {
    pub fn new() -> Host {
        Host::of(Program::Sample)
    }

    pub fn of(program: Program) -> Host {
        let folder = tempfile::tempdir().expect("a folder");
        let notified = UnixDatagram::bind(folder.path().join("notify")).expect("bound");
        notified.set_read_timeout(Some(PATIENCE)).expect("set");
        Host { program, folder, listener: TcpListener::bind("127.0.0.1:0").expect("bound"), notified }
    }

    pub fn start(&self, version: &str, behaviour: &str) -> Server<'_> {
        let release = self.release(version, behaviour);
        self.start_in(&release, version, From::Shared(None))
    }

    /// One that says `STATUS=quiet`, or `STATUS=accepting`, by the value of `SLOTD_ACCEPT`.
    #[track_caller]
    pub fn start_told(&self, version: &str, accept: &str) -> Server<'_> {
        let server = self.start_in(&self.release(version, ""), version, From::Shared(Some(accept)));
        let status = if accept == "signal" { "quiet" } else { "accepting" };
        self.expect_said(&format!("READY=1\nSTATUS={status}"));
        server
    }

    pub fn release(&self, version: &str, behaviour: &str) -> PathBuf {
        let release = self.folder.path().join(version);
        fs::create_dir_all(&release).expect("made");
        fs::write(release.join("VERSION"), format!("{version}\n")).expect("written");
        fs::write(release.join("BEHAVIOUR"), behaviour).expect("written");
        release
    }

    pub fn empty_release(&self) -> PathBuf {
        let release = self.folder.path().join("empty");
        fs::create_dir_all(&release).expect("made");
        release
    }

    pub fn start_in(&self, release: &Path, environment_version: &str, from: From<'_>) -> Server<'_> {
        // systemd hands the listener over as descriptor 3, and names the process that it is for.
        let line = match from {
            From::Shared(_) => r#"exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@""#,
            From::Port(_) => r#"exec "$@""#,
        };
        let mut command = Command::new("sh");
        command
            .args(["-c", line, "sh"])
            .args(self.program.command())
            .current_dir(release)
            .env("NOTIFY_SOCKET", self.folder.path().join("notify"))
            .env("HEALTH_SOCKET", self.health_socket(environment_version))
            .env("SLOTD_VERSION", environment_version)
            .env("SLOTD_SLOT", "1.4.2@r2")
            .stdout(Stdio::null());
        let listener: OwnedFd = self.listener.try_clone().expect("cloned").into();
        match from {
            From::Shared(accept) => {
                command.stdin(Stdio::from(listener));
                accept.map(|accept| command.env("SLOTD_ACCEPT", accept));
            }
            From::Port(port) => {
                command.stdin(Stdio::null()).env("PORT", port.to_string());
            }
        }
        let child = command.process_group(0).spawn().expect("started");
        Server { host: self, version: environment_version.to_owned(), child: Mutex::new(child) }
    }

    pub fn health_socket(&self, version: &str) -> PathBuf {
        self.folder.path().join(format!("health-{version}.sock"))
    }

    pub fn connect(&self) -> Connection<TcpStream> {
        Connection::to(&self.listener.local_addr().expect("bound").to_string())
    }

    #[track_caller]
    pub fn expect_ready(&self) {
        self.expect_said("READY=1\nSTATUS=accepting");
    }

    /// The next thing that any server says to systemd.
    #[track_caller]
    pub fn expect_said(&self, what: &str) {
        loop {
            let mut buffer = [0; 64];
            let length = self.notified.recv(&mut buffer).unwrap_or_else(|error| panic!("waiting for {what}: {error}"));
            let said = String::from_utf8_lossy(&buffer[..length]);
            // systemd-notify asks so whether it was heard.
            if said != "BARRIER=1" {
                assert_eq!(said.trim(), what);
                return;
            }
        }
    }

    #[track_caller]
    pub fn expect_nothing_said(&self) {
        self.notified.set_nonblocking(true).expect("set");
        let error = self.notified.recv(&mut [0; 64]).expect_err("nothing was said");
        self.notified.set_nonblocking(false).expect("set");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}

impl Server<'_> {
    #[track_caller]
    pub fn expect_ready(&self) {
        self.host.expect_ready();
    }

    #[track_caller]
    pub fn expect_said(&self, what: &str) {
        self.host.expect_said(what);
    }

    /// A request to its own socket.
    pub fn health(&self) -> io::Result<Answer> {
        Connection::new(UnixStream::connect(self.host.health_socket(&self.version))?).ask("/health")
    }

    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// SIGUSR1, and what follows.
    #[track_caller]
    pub fn accept(&self) {
        self.signal(Signal::SIGUSR1);
        self.expect_said("STATUS=accepting");
    }

    /// SIGUSR2, and what follows.
    #[track_caller]
    pub fn be_quiet(&self) {
        self.signal(Signal::SIGUSR2);
        self.expect_said("STATUS=quiet");
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().try_into().expect("a pid")), signal).expect("sent");
    }

    /// An orderly stop, which it announces.
    #[track_caller]
    pub fn stop(&self) -> ExitStatus {
        self.terminate();
        self.expect_said("STOPPING=1");
        self.wait()
    }

    #[track_caller]
    pub fn wait(&self) -> ExitStatus {
        wait_until("the server's exit", PATIENCE, || {
            self.child().try_wait().expect("asked").ok_or_else(|| "runs".to_owned())
        })
    }

    pub fn is_running(&self) -> bool {
        self.child().try_wait().expect("asked").is_none()
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        // It may have ended; either way it must not be left behind, nor what it started.
        let group = Pid::from_raw(self.pid().try_into().expect("a pid"));
        let _ = nix::sys::signal::killpg(group, Signal::SIGKILL);
        let _ = self.child().wait();
    }
}

impl Connection<TcpStream> {
    pub fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        Connection::new(stream)
    }

    /// The client's own address.
    pub fn address(&self) -> std::net::SocketAddr {
        self.0.get_ref().local_addr().expect("connected")
    }
}

impl<S: Read + Write> Connection<S> {
    pub fn new(stream: S) -> Self {
        Connection(BufReader::new(stream))
    }

    /// Sends a request and reads the whole answer.
    pub fn ask(&mut self, path: &str) -> io::Result<Answer> {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))?;
        self.answer()
    }

    pub fn send(&mut self, text: &str) -> io::Result<()> {
        self.0.get_mut().write_all(text.as_bytes())
    }

    /// Reads a whole answer.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        head.make_ascii_lowercase();
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let mut body = vec![0; header("content-length:").expect("a length").parse().expect("a number")];
        self.0.read_exact(&mut body)?;
        Ok(Answer {
            status: head.split(' ').nth(1).expect("a status").parse().expect("a number"),
            closes: header("connection:") == Some("close"),
            body: String::from_utf8(body).expect("text"),
            head,
        })
    }
}

/// A Go program, built.
pub fn built(source: &Path) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // Several tests may build it at once, and one that runs must not be written over.
    let program = folder.join(format!("go-{}-{}", std::process::id(), nix::unistd::gettid()));
    let output = Command::new("go")
        .args([Path::new("build"), Path::new("-o"), &program, source])
        .env("GO111MODULE", "off")
        .env("GOCACHE", folder.join("go-cache"))
        .output()
        .expect("go, of the Debian package golang-go");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

/// Cargo builds examples beside the tests and doesn't say where.
fn sample_server() -> PathBuf {
    let here = std::env::current_exe().expect("known");
    let target = here.ancestors().nth(2).expect("target/debug/deps/TEST");
    let server = target.join("examples/sample-server");
    assert!(server.exists(), "{} is missing: cargo build --example sample-server", server.display());
    server
}
