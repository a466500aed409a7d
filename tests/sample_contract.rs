//! The sample servers, of Rust, Python, Go and Node.js, keep what they are models for: a move from one version to the next loses no
//! request, however slotd moves them.
//!
//! No systemd here: the test holds the listener and the notify socket as systemd would. The story at saturation needs wrk,
//! and is told with the feature `host-tests`, as are those of Go and Node.js.

mod server_support;
mod support;

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use nix::sys::signal::Signal;

use server_support::{Connection, From, Host, PATIENCE, Program, Server};
use support::wait_until;

/// Tells a story of each program.
fn of_each(story: impl Fn(&Host)) {
    for program in Program::all() {
        println!("{program:?}");
        story(&Host::of(*program));
    }
}

#[test]
fn a_stop_and_a_start_under_keep_alive_connections_lose_no_request() {
    of_each(|host| {
        let old = host.start("1.0.0", "");
        old.expect_ready();
        under_load(host, |until| {
            until.answered_by("1.0.0");
            // Stop, then start: in between the connections wait in the listener.
            assert!(old.stop().success());
            let new = host.start("2.0.0", "");
            new.expect_ready();
            until.answered_by("2.0.0");
            vec![new]
        });
    });
}

#[test]
fn ten_moves_by_signals_under_keep_alive_connections_lose_no_request() {
    of_each(|host| {
        let (one, two) = (host.start_told("1.0.0", "now"), host.start_told("2.0.0", "signal"));
        under_load(host, |until| {
            until.answered_by("1.0.0");
            for _ in 0..5 {
                two.accept();
                one.be_quiet();
                until.answered_by("2.0.0");
                one.accept();
                two.be_quiet();
                until.answered_by("1.0.0");
            }
            // The fallback goes: nobody notices.
            assert!(two.stop().success());
            until.answered_by("1.0.0");
            vec![one]
        });
    });
}

#[cfg(feature = "host-tests")]
#[test]
fn moves_at_saturation_lose_no_request() {
    of_each(|host| {
        let mut serving = host.start_told("1.0.0", "now");
        let mut load = support::wrk::Wrk::start(&format!("http://{}/", host.listener.local_addr().expect("bound")));
        for version in 2..=7 {
            let next = host.start_told(&format!("{version}.0.0"), "signal");
            next.accept();
            serving.be_quiet();
            // Users are answered by it, and the one that was left ends while they are. Among 64 others each of these takes
            // its turn, so some thousand requests pass meanwhile.
            for _ in 0..50 {
                let body = host.connect().ask("/").expect("an answer").body;
                assert!(body.starts_with(&format!("version {version}.0.0 ")), "{body}");
            }
            assert!(serving.stop().success());
            serving = next;
        }
        let (requests, report) = load.ends();
        assert!(requests > 1000 && !report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
        println!("{requests} requests, 6 moves, 0 failed");
    });
}

#[test]
fn a_quiet_one_answers_health_questions_and_leaves_connections_in_the_listener() {
    of_each(|host| {
        let server = host.start_told("1.0.0", "signal");
        let mut waiting = host.connect();
        waiting.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("sent");
        assert_eq!(server.health().expect("an answer").body, "ok version 1.0.0\n");
        host.expect_still_waiting(waiting);
        server.accept();
        assert!(host.connect().ask("/").expect("an answer").body.starts_with("version 1.0.0 "));
        server.be_quiet();
        assert_eq!(server.health().expect("an answer").status, 200);
        host.expect_still_waiting(host.connect());
        assert!(server.stop().success());
        assert!(!host.health_socket("1.0.0").exists());
    });
}

#[test]
fn what_was_accepted_is_finished_after_the_signal_and_told_to_close() {
    of_each(|host| {
        let server = host.start_told("1.0.0", "now");
        let (mut half, mut idle) = (host.connect(), host.connect());
        assert!(!idle.ask("/").expect("an answer").closes);
        assert!(!half.ask("/").expect("an answer").closes);
        half.send("GET / HTTP/1.1\r\nHo").expect("sent");
        server.be_quiet();
        half.send("st: test\r\n\r\n").expect("sent");
        let last = half.answer().expect("what was begun is answered");
        assert!(last.closes && last.status == 200, "{last:?}");
        half.ask("/").expect_err("closed");
        // Nothing presses it: who idles may come back much later.
        assert!(idle.ask("/").expect("an answer").closes);

        // Told to accept again, it serves as ever.
        server.accept();
        assert!(!host.connect().ask("/").expect("an answer").closes);
    });
}

#[test]
fn a_connection_that_idles_is_answered_once_more_and_told_to_close() {
    of_each(|host| {
        let server = host.start("1.0.0", "");
        server.expect_ready();
        let mut connection = host.connect();
        assert!(!connection.ask("/").expect("an answer").closes);

        server.terminate();
        server.expect_said("STOPPING=1");
        let last = connection.ask("/").expect("an answer during the linger");
        assert!(last.closes && last.body.starts_with("version 1.0.0 "), "{last:?}");
        connection.ask("/").expect_err("closed");
        drop(connection);
        assert!(server.wait().success());
    });
}

#[test]
fn a_connection_that_asks_nothing_does_not_hold_up_the_stop() {
    of_each(|host| {
        let server = host.start("1.0.0", "");
        server.expect_ready();
        let _silent = host.connect();
        let mut idle = host.connect();
        idle.ask("/").expect("an answer");
        assert!(server.stop().success());
    });
}

#[test]
fn answers_name_version_and_slot() {
    of_each(|host| {
        let server = host.start("1.4.2", "");
        server.expect_ready();
        let answer = host.connect().ask("/").expect("an answer");
        let (rest, pid) = answer.body.rsplit_once(' ').expect("a pid");
        assert_eq!(rest, "version 1.4.2 slot 1.4.2@r2 pid");
        assert!(pid.trim() == server.pid().to_string() || !host.program.is_one_process(), "{pid}");
        assert!(answer.head.contains("x-version: 1.4.2"), "{}", answer.head);
        assert_eq!(host.connect().ask("/health").expect("an answer").body, "ok version 1.4.2\n");
        assert_eq!(host.connect().ask("/other").expect("an answer").status, 404);
    });
}

#[test]
fn a_port_of_its_own_is_one_of_all_addresses_and_loses_nothing_that_waits_in_it() {
    of_each(|host| {
        // A port that was just free; nobody else asks for one by number here.
        let port = std::net::TcpListener::bind("[::]:0").expect("bound").local_addr().expect("bound").port();
        let server = host.start_in(&host.release("1.0.0", ""), "1.0.0", From::Port(port));
        server.expect_ready();
        // 127.0.0.2 is reached by a listener on all addresses alone.
        for address in ["127.0.0.1", "127.0.0.2", "[::1]"] {
            let answer = Connection::to(&format!("{address}:{port}")).ask("/").expect("an answer");
            assert!(answer.body.starts_with("version 1.0.0 "), "{address}: {answer:?}");
        }
        if !host.program.is_one_process() {
            // The next part stops the process that accepts, which isn't the one whose PID is known.
            return;
        }
        // While it can't accept, requests come; then it is told to stop, and finds both at once.
        server.signal(Signal::SIGSTOP);
        let mut waiting: Vec<_> = (0..5).map(|_| Connection::to(&format!("127.0.0.1:{port}"))).collect();
        for connection in &mut waiting {
            connection.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("sent");
        }
        server.terminate();
        server.signal(Signal::SIGCONT);
        for connection in &mut waiting {
            assert_eq!(connection.answer().expect("accepted before it went").status, 200);
        }
        drop(waiting);
        server.expect_said("STOPPING=1");
        assert!(server.wait().success());
    });
}

/// What a story under load can wait for.
struct Until<'a> {
    /// Answers of each client, by the version that gave the last of them.
    clients: &'a [Client],
}

#[derive(Default)]
struct Client {
    /// The major version of the last answer.
    version: AtomicU32,
    answers: AtomicU32,
}

impl Client {
    /// Asks on and on.
    fn ask_on(&self, host: &Host, done: &AtomicBool) {
        let mut connection = host.connect();
        while !done.load(Ordering::Relaxed) {
            let answer = connection.ask("/").expect("no request is lost");
            let word = answer.body.strip_prefix("version ").and_then(|rest| rest.split('.').next());
            self.version.store(word.expect("a version").parse().expect("a number"), Ordering::Relaxed);
            self.answers.fetch_add(1, Ordering::Relaxed);
            if answer.closes {
                connection = host.connect();
            }
        }
    }
}

impl Until<'_> {
    /// All clients are answered by this version, twenty times each.
    #[track_caller]
    fn answered_by(&self, version: &str) {
        let major: u32 = version.split('.').next().expect("a number").parse().expect("a number");
        let before: Vec<u32> = self.clients.iter().map(|it| it.answers.load(Ordering::Relaxed)).collect();
        wait_until(&format!("20 answers of {version} to each client"), PATIENCE, || {
            let seen =
                |client: &Client| (client.version.load(Ordering::Relaxed), client.answers.load(Ordering::Relaxed));
            let all: Vec<_> = self.clients.iter().map(seen).collect();
            match all.iter().zip(&before).all(|((now, answers), before)| *now == major && *answers >= before + 20) {
                true => Ok(()),
                false => Err(format!("{all:?}, from {before:?}")),
            }
        });
    }
}

/// Eight clients ask on and on, each on one connection until it is told to close, while the story is told. None of their
/// requests may fail.
fn under_load<'a>(host: &'a Host, story: impl FnOnce(&Until<'_>) -> Vec<Server<'a>>) {
    let done = AtomicBool::new(false);
    let clients: Vec<Client> = (0..8).map(|_| Client::default()).collect();
    std::thread::scope(|scope| {
        let _stop_at_the_end = SetOnDrop(&done);
        let running: Vec<_> = clients.iter().map(|client| scope.spawn(|| client.ask_on(host, &done))).collect();
        let serving = story(&Until { clients: &clients });
        done.store(true, Ordering::Relaxed);
        // While one still serves.
        running.into_iter().for_each(|client| client.join().expect("no client failed"));
        drop(serving);
    });
}

/// Ends the clients of a test that fails, too.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Host {
    /// Nobody has accepted the connection: it is still in the listener, from which it is taken here.
    #[track_caller]
    fn expect_still_waiting(&self, connection: Connection<TcpStream>) {
        self.listener.set_nonblocking(true).expect("set");
        let (_, peer) = self.listener.accept().expect("one that waits");
        assert_eq!(peer, connection.address(), "the first that waits");
    }
}
