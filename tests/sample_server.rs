//! The sample server keeps what it is a model for: a move from one version to the next loses no request. And it
//! misbehaves as its file BEHAVIOUR says, since other tests build on that.
//!
//! No systemd here: the test holds the listener and the notify socket as systemd would.

mod support;

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use support::wait_until;

/// For anything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_move_under_keep_alive_connections_loses_no_request() {
    let host = Host::new();
    let old = host.start("1.0.0", "");
    old.expect_ready();

    let clients = 8;
    let done = AtomicBool::new(false);
    // Answers of each client, by the version that gave them: 1.0.0, 2.0.0.
    let counts = Mutex::new(vec![[0_u32; 2]; clients]);
    let all = |what: &str, enough: fn(&[u32; 2]) -> bool| {
        wait_until(what, PATIENCE, || {
            let counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            if counts.iter().all(enough) { Ok(()) } else { Err(format!("{counts:?}")) }
        });
    };
    std::thread::scope(|scope| {
        let _stop_at_the_end = SetOnDrop(&done);
        let ask_on = |client: usize| {
            let (host, done, counts) = (&host, &done, &counts);
            scope.spawn(move || {
                let mut connection = host.connect();
                while !done.load(Ordering::Relaxed) {
                    let answer = connection.ask("/").expect("no request is lost");
                    assert_eq!(answer.status, 200);
                    let version = usize::from(!answer.body.starts_with("version 1.0.0 "));
                    counts.lock().unwrap_or_else(PoisonError::into_inner)[client][version] += 1;
                    if answer.closes {
                        connection = host.connect();
                    }
                }
            })
        };
        let clients: Vec<_> = (0..clients).map(ask_on).collect();
        all("50 answers of 1.0.0 to each client", |count| count[0] >= 50);
        // Stop, then start: in between the connections wait in the listener.
        assert!(old.stop().success());
        let new = host.start("2.0.0", "");
        new.expect_ready();
        all("50 answers of 2.0.0 to each client", |count| count[1] >= 50);
        done.store(true, Ordering::Relaxed);
        // While the new one still serves.
        clients.into_iter().for_each(|client| client.join().expect("no client failed"));
    });
}

#[test]
fn a_connection_that_idles_is_answered_once_more_and_told_to_close() {
    let host = Host::new();
    let server = host.start("1.0.0", "");
    server.expect_ready();
    let mut connection = host.connect();
    assert!(!connection.ask("/").expect("an answer").closes);

    server.terminate();
    server.expect_said("STOPPING=1");
    let last = connection.ask("/").expect("an answer during the linger");
    assert!(last.closes && last.body.starts_with("version 1.0.0 "), "{last:?}");
    assert!(server.wait().success());
    connection.ask("/").expect_err("closed");
}

#[test]
fn a_connection_that_asks_nothing_does_not_hold_up_the_stop() {
    let host = Host::new();
    let server = host.start("1.0.0", "");
    server.expect_ready();
    let _silent = host.connect();
    let mut idle = host.connect();
    idle.ask("/").expect("an answer");
    assert!(server.stop().success());
}

#[test]
fn answers_name_version_and_slot() {
    let host = Host::new();
    let server = host.start("1.4.2", "");
    server.expect_ready();
    let answer = host.connect().ask("/").expect("an answer");
    assert_eq!(answer.body, format!("version 1.4.2 slot 1.4.2@r2 pid {}\n", server.pid()));
    assert!(answer.head.contains("x-version: 1.4.2"), "{}", answer.head);
    assert_eq!(host.connect().ask("/health").expect("an answer").body, "ok version 1.4.2\n");
    assert_eq!(host.connect().ask("/other").expect("an answer").status, 404);
}

#[test]
fn the_health_socket_answers_too_and_goes_with_the_server() {
    let host = Host::new();
    let server = host.start("1.0.0", "");
    server.expect_ready();
    let answer = Connection::new(UnixStream::connect(host.health_socket()).expect("connected")).ask("/health");
    assert_eq!(answer.expect("an answer").body, "ok version 1.0.0\n");
    assert!(server.stop().success());
    assert!(!host.health_socket().exists());
}

#[test]
fn the_version_may_come_from_the_environment() {
    let host = Host::new();
    let server = host.start_in(&host.empty_release(), "3.1");
    server.expect_ready();
    assert!(host.connect().ask("/").expect("an answer").body.starts_with("version 3.1 "));
}

#[test]
fn exit_before_accept_says_nothing_and_has_its_code() {
    let host = Host::new();
    let status = host.start("3.0.0", "exit-before-accept 7").wait();
    assert_eq!(status.code(), Some(7));
    host.expect_nothing_said();
}

#[test]
fn never_ready_runs_until_it_is_stopped() {
    let host = Host::new();
    let server = host.start("3.0.0", "never-ready");
    // The health socket is bound after SIGTERM is handled: from then on a stop is orderly.
    wait_until("the health socket", PATIENCE, || {
        if host.health_socket().exists() { Ok(()) } else { Err("none".to_owned()) }
    });
    assert!(server.stop().success());
    host.expect_nothing_said();
}

#[test]
fn ready_then_die_and_crash_after_end_by_themselves() {
    let host = Host::new();
    let dies = host.start("3.0.0", "ready-then-die 50");
    dies.expect_ready();
    assert_eq!(dies.wait().code(), Some(1));
    let crashes = host.start("3.0.1", "crash-after 50");
    crashes.expect_ready();
    assert_eq!(crashes.wait().signal(), Some(Signal::SIGABRT as i32));
}

#[test]
fn health_fails_for_a_fault_of_its_own_or_of_the_environment() {
    let host = Host::new();
    let server = host.start("3.0.0", "health-500");
    server.expect_ready();
    assert_eq!(host.connect().ask("/health").expect("an answer").status, 500);
    assert_eq!(host.connect().ask("/").expect("an answer").status, 200);
    assert!(server.stop().success());

    let needed = host.folder.path().join("database");
    let server = host.start("3.0.1", &format!("slow-start 10\nhealth-file {}\n", needed.display()));
    server.expect_ready();
    assert_eq!(host.connect().ask("/health").expect("an answer").status, 503);
    fs::write(&needed, "").expect("written");
    assert_eq!(host.connect().ask("/health").expect("an answer").status, 200);
}

#[test]
fn hang_on_stop_has_to_be_killed() {
    let host = Host::new();
    let server = host.start("3.0.0", "hang-on-stop");
    server.expect_ready();
    let mut connection = host.connect();
    connection.ask("/").expect("an answer");
    server.terminate();
    server.expect_said("STOPPING=1");
    // It serves no more, and it is there.
    wait_until("the connection's end", PATIENCE, || connection.ask("/").map_or(Ok(()), |_| Err("answers".to_owned())));
    assert!(server.is_running());
}

#[test]
fn a_line_that_means_nothing_is_refused() {
    let host = Host::new();
    assert_eq!(host.start("3.0.0", "explode").wait().code(), Some(1));
    assert_eq!(host.start("3.0.0", "slow-start soon").wait().code(), Some(1));
    host.expect_nothing_said();
}

/// What systemd would hold: the listener, and the socket that READY=1 goes to.
struct Host {
    folder: TempDir,
    listener: TcpListener,
    notified: UnixDatagram,
}

/// A server that runs; killed when dropped.
struct Server<'a> {
    host: &'a Host,
    child: Mutex<Child>,
}

struct Connection<S>(BufReader<S>);

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
    closes: bool,
}

/// Ends the clients of a test that fails, too.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Host {
    fn new() -> Host {
        let folder = tempfile::tempdir().expect("a folder");
        let notified = UnixDatagram::bind(folder.path().join("notify")).expect("bound");
        notified.set_read_timeout(Some(PATIENCE)).expect("set");
        Host { folder, listener: TcpListener::bind("127.0.0.1:0").expect("bound"), notified }
    }

    fn start(&self, version: &str, behaviour: &str) -> Server<'_> {
        let release = self.folder.path().join(version);
        fs::create_dir_all(&release).expect("made");
        fs::write(release.join("VERSION"), format!("{version}\n")).expect("written");
        fs::write(release.join("BEHAVIOUR"), behaviour).expect("written");
        self.start_in(&release, "of the environment")
    }

    fn empty_release(&self) -> PathBuf {
        let release = self.folder.path().join("empty");
        fs::create_dir_all(&release).expect("made");
        release
    }

    fn start_in(&self, release: &Path, environment_version: &str) -> Server<'_> {
        let listener: OwnedFd = self.listener.try_clone().expect("cloned").into();
        // systemd hands the listener over as descriptor 3, and names the process that it is for.
        let line = r#"exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0""#;
        let child = Command::new("sh")
            .args(["-c", line])
            .arg(sample_server())
            .current_dir(release)
            .env("NOTIFY_SOCKET", self.folder.path().join("notify"))
            .env("HEALTH_SOCKET", self.health_socket())
            .env("SLOTD_VERSION", environment_version)
            .env("SLOTD_SLOT", "1.4.2@r2")
            .stdin(Stdio::from(listener))
            .stdout(Stdio::null())
            .spawn()
            .expect("started");
        Server { host: self, child: Mutex::new(child) }
    }

    fn health_socket(&self) -> PathBuf {
        self.folder.path().join("health.sock")
    }

    fn connect(&self) -> Connection<TcpStream> {
        let stream = TcpStream::connect(self.listener.local_addr().expect("bound")).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        Connection::new(stream)
    }

    #[track_caller]
    fn expect_nothing_said(&self) {
        self.notified.set_nonblocking(true).expect("set");
        let error = self.notified.recv(&mut [0; 64]).expect_err("nothing was said");
        self.notified.set_nonblocking(false).expect("set");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}

impl Server<'_> {
    #[track_caller]
    fn expect_ready(&self) {
        self.expect_said("READY=1");
    }

    /// The next thing that any server says to systemd.
    #[track_caller]
    fn expect_said(&self, what: &str) {
        let mut buffer = [0; 64];
        let length = self.host.notified.recv(&mut buffer).unwrap_or_else(|error| panic!("waiting for {what}: {error}"));
        assert_eq!(String::from_utf8_lossy(&buffer[..length]).trim(), what);
    }

    fn pid(&self) -> u32 {
        self.child().id()
    }

    fn terminate(&self) {
        let pid = Pid::from_raw(self.pid().try_into().expect("a pid"));
        kill(pid, Signal::SIGTERM).expect("sent");
    }

    /// An orderly stop, which it announces.
    #[track_caller]
    fn stop(&self) -> ExitStatus {
        self.terminate();
        self.expect_said("STOPPING=1");
        self.wait()
    }

    #[track_caller]
    fn wait(&self) -> ExitStatus {
        wait_until("the server's exit", PATIENCE, || {
            self.child().try_wait().expect("asked").ok_or_else(|| "runs".to_owned())
        })
    }

    fn is_running(&self) -> bool {
        self.child().try_wait().expect("asked").is_none()
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        // It may have ended; either way it must not be left behind.
        let _ = self.child().kill();
        let _ = self.child().wait();
    }
}

impl<S: Read + Write> Connection<S> {
    fn new(stream: S) -> Self {
        Connection(BufReader::new(stream))
    }

    /// Sends a request and reads the whole answer.
    fn ask(&mut self, path: &str) -> io::Result<Answer> {
        self.0.get_mut().write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes())?;
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

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Cargo builds examples beside the tests and doesn't say where.
fn sample_server() -> PathBuf {
    let here = std::env::current_exe().expect("known");
    let target = here.ancestors().nth(2).expect("target/debug/deps/TEST");
    let server = target.join("examples/sample-server");
    assert!(server.exists(), "{} is missing: cargo build --example sample-server", server.display());
    server
}
