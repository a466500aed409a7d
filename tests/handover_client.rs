//! The load client (examples/handover-client) counts what it is built to count, told by a server that plays a script.

mod handover_script;
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::{Value, json};

use handover_script::{Server, Step};

use Step::{Answer, Break, Close, Reset, Say, Stall};

const SERVER_ERROR: Step = Say("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 14\r\n\r\nversion 1.0.0\n");
const NAMELESS: Step = Say("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n");
const BY_HEADER: Step = Say("HTTP/1.1 200 OK\r\nX-Version: 7.0\r\nContent-Length: 6\r\n\r\nhello\n");

#[test]
fn answers_are_counted_by_kind_and_by_who_gave_them() {
    let server = Server::new(&[&[BY_HEADER]]);
    let client = server.ask(&["--new", "2", "--keep-alive", "2"]);
    server.until_answered(100);
    server.be("2.0.0");
    server.until_answered(100);
    let report = client.end();
    assert_eq!(
        (&report["failed"], &report["retried"], &report["stale"]),
        (&json!(0), &json!(0), &json!(0)),
        "{report}"
    );
    let kinds = [&report["new"], &report["keep_alive"]].map(|kind| kind["answered"].as_u64().expect("a number"));
    assert!(kinds.iter().all(|answered| *answered > 10), "{report}");
    let versions = report["versions"].as_array().expect("a list");
    let named =
        |name: &str| versions.iter().find(|version| version["version"] == name).unwrap_or_else(|| panic!("{report}"));
    let answers = |name: &str| named(name)["answers"].as_u64().expect("a number");
    assert_eq!(answers("7.0"), 1);
    assert_eq!(named("2.0.0")["slot"], "2.0.0@r2");
    assert_eq!(answers("7.0") + answers("1.0.0") + answers("2.0.0"), kinds[0] + kinds[1]);
    assert_eq!(report["requests"], kinds[0] + kinds[1]);
    // A worker met 1.0.0, then 2.0.0; the one that met 7.0 met it first.
    assert!([1, 2].map(|most| json!(most)).contains(&report["changes"]), "{report}");
}

#[test]
fn a_kept_connection_that_is_closed_without_a_word_is_retried_once() {
    for end in [Close, Reset] {
        let report = Server::new(&[&[Answer, Answer, end]]).report_of(&["--new", "0", "--keep-alive", "1"], 3);
        assert_eq!((&report["failed"], &report["retried"]), (&json!(0), &json!(1)), "{end:?}: {report}");
    }
}

#[test]
fn a_retry_that_fails_is_a_failure() {
    let report = Server::new(&[&[Answer, Close], &[Close]]).report_of(&["--new", "0", "--keep-alive", "1"], 2);
    assert_eq!(report["keep_alive"]["failed"], json!({"read": 1}), "{report}");
    assert_eq!(report["retried"], 0, "{report}");
}

#[test]
fn what_is_lost_in_the_middle_of_an_answer_is_not_retried() {
    let report = Server::new(&[&[Answer, Break("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nversion 1.0.0")]])
        .report_of(&["--new", "0", "--keep-alive", "1"], 2);
    assert_eq!(report["keep_alive"]["failed"], json!({"read": 1}), "{report}");
    let report = Server::new(&[&[Answer, Break("HT")]]).report_of(&["--new", "0", "--keep-alive", "1"], 2);
    assert_eq!(report["keep_alive"]["failed"], json!({"read": 1}), "{report}");
}

#[test]
fn the_first_request_of_a_connection_is_never_retried() {
    for end in [Close, Reset] {
        for kind in ["new", "keep_alive"] {
            let counts: [&str; 4] = match kind {
                "new" => ["--new", "1", "--keep-alive", "0"],
                _ => ["--new", "0", "--keep-alive", "1"],
            };
            let report = Server::new(&[&[end]]).report_of(&counts, 1);
            assert_eq!(report["retried"], 0, "{report}");
            let failed = &report[kind]["failed"];
            // A reset may meet the request while it is being sent.
            let one = failed == &json!({"read": 1}) || failed == &json!({"write": 1});
            assert!(one, "{end:?} {kind}: {report}");
        }
    }
}

#[test]
fn a_connection_that_is_closed_while_it_idles_is_opened_again() {
    let server = Server::new(&[&[Answer]]);
    let report = server.report_of(&["--new", "0", "--keep-alive", "1", "--pace", "50ms"], 2);
    assert_eq!(report["failed"], 0, "{report}");
    let again = ["retried", "reopened"].map(|key| report[key].as_u64().expect("a number"));
    // The client is asleep when it is closed, or it was slow and asks at that moment.
    assert_eq!(again[0] + again[1], 1, "{report}");
}

#[test]
fn a_bad_status_and_an_answer_from_nobody_are_failures() {
    let report = Server::new(&[&[SERVER_ERROR], &[NAMELESS]]).report_of(&["--new", "1", "--keep-alive", "0"], 1);
    assert_eq!(report["new"]["failed"], json!({"status": 1, "nameless": 1}), "{report}");
}

#[test]
fn an_answer_that_takes_too_long_is_a_failure_and_the_slowest() {
    let report = Server::new(&[&[Stall]]).report_of(&["--new", "1", "--keep-alive", "0", "--timeout", "200ms"], 1);
    assert_eq!(report["new"]["failed"], json!({"timeout": 1}), "{report}");
    assert!(report["slowest_ms"].as_u64() >= Some(200), "{report}");
}

#[test]
fn the_longest_time_without_an_answer_is_told() {
    let report =
        Server::new(&[&[Answer], &[Stall]]).report_of(&["--new", "1", "--keep-alive", "0", "--timeout", "300ms"], 3);
    assert!(report["gap_ms"].as_u64() >= Some(300), "{report}");
}

#[test]
fn a_request_that_is_open_at_the_end_is_a_failure() {
    let server = Server::new(&[&[Stall]]);
    let client = server.ask(&["--new", "1", "--keep-alive", "0"]);
    server.until_stalled();
    let report = client.end();
    assert_eq!(report["new"]["failed"], json!({"unanswered": 1}), "{report}");
    assert_eq!((&report["requests"], &report["failed"]), (&json!(1), &json!(1)));
}

#[test]
fn a_refused_connection_is_a_failure_and_is_not_tried_without_end() {
    let free = TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address");
    let report = Client::start(free, &["--new", "1", "--keep-alive", "1", "--time", "300ms"]).rest();
    let refused = |kind: &str| report[kind]["failed"]["refused"].as_u64().expect("a number");
    assert!(refused("new") > 0 && refused("keep_alive") > 0, "{report}");
    assert!(refused("new") <= 31, "a pause follows each: {report}");
}

#[test]
fn an_old_slot_that_answers_after_the_mark_is_stale() {
    let server = Server::new(&[]);
    let mut client = server.ask(&["--new", "1", "--keep-alive", "0"]);
    server.until_answered(20);
    client.tell("mark 2.0.0@r2");
    server.until_answered(20);
    server.be("2.0.0");
    server.until_answered(20);
    let report = client.end();
    let answers = report["versions"][0]["answers"].as_u64().expect("a number");
    let stale = report["stale"].as_u64().expect("a number");
    // Those before the mark aren't, the one that was under way isn't, and those of 2.0.0 aren't.
    assert!(stale >= 18 && stale + 20 <= answers, "{report}");
}

#[test]
fn a_move_that_was_announced_has_two_who_may_answer_until_its_mark() {
    let server = Server::new(&[]);
    let mut client = server.ask(&["--new", "1", "--keep-alive", "0"]);
    client.tell("mark 1.0.0@r2");
    for version in ["2.0.0", "1.0.0", "2.0.0"] {
        server.until_answered(20);
        client.tell(&format!("expect {version}@r2"));
        server.be(version);
        server.until_answered(20);
        client.tell(&format!("mark {version}@r2"));
    }
    let report = client.end();
    assert_eq!((&report["stale"], &report["changes"], &report["marks"]), (&json!(0), &json!(3), &json!(4)), "{report}");
}

#[test]
fn a_kept_connection_may_stay_with_its_slot() {
    let server = Server::new(&[]);
    let mut client = server.ask(&["--new", "0", "--keep-alive", "1"]);
    server.until_answered(20);
    client.tell("mark 2.0.0@r2");
    server.until_answered(20);
    let report = client.end();
    assert_eq!(report["stale"], 0, "{report}");
}

#[test]
fn the_link_to_the_live_slot_marks() {
    let folder = tempfile::tempdir().expect("a folder");
    let current = folder.path().join("current");
    std::os::unix::fs::symlink("slots/1.0.0@r2", &current).expect("linked");
    let server = Server::new(&[]);
    let client = server.ask(&["--new", "1", "--keep-alive", "0", "--current", current.to_str().expect("text")]);
    server.until_answered(50);
    std::fs::remove_file(&current).expect("removed");
    std::os::unix::fs::symlink("slots/2.0.0@r2", &current).expect("linked");
    // It looks every millisecond; these take longer.
    server.until_answered(200);
    let report = client.end();
    assert_eq!(report["marks"], 2, "{report}");
    let [stale, answers] =
        [&report["stale"], &report["new"]["answered"]].map(|count| count.as_u64().expect("a number"));
    assert!(stale > 0 && stale + 50 <= answers, "{report}");
}

impl Server {
    fn ask(&self, arguments: &[&str]) -> Client {
        Client::start(self.address, arguments)
    }

    /// The report of a client that was ended when the script was over and so many good answers were given.
    #[track_caller]
    fn report_of(&self, arguments: &[&str], answers: u64) -> Value {
        let client = self.ask(arguments);
        self.until_answered(answers);
        client.end()
    }
}

/// A client that runs; killed when dropped.
struct Client {
    child: Child,
    said: BufReader<ChildStderr>,
}

impl Client {
    fn start(server: SocketAddr, arguments: &[&str]) -> Client {
        let mut child = Command::new(program())
            .arg(server.to_string())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let said = BufReader::new(child.stderr.take().expect("a pipe"));
        Client { child, said }
    }

    /// Tells it a line, and waits until it was heard.
    fn tell(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().expect("a pipe"), "{line}").expect("told");
        let mut heard = String::new();
        self.said.read_line(&mut heard).expect("readable");
        assert_eq!(heard.trim(), format!("heard {line}"));
    }

    /// Ends it, and returns its report.
    fn end(mut self) -> Value {
        self.tell("end");
        self.rest()
    }

    /// Its report when it has ended by itself.
    fn rest(mut self) -> Value {
        let mut report = String::new();
        self.child.stdout.take().expect("a pipe").read_to_string(&mut report).expect("readable");
        let mut said = String::new();
        self.said.read_to_string(&mut said).expect("readable");
        assert!(self.child.wait().expect("ended").success(), "{said}");
        serde_json::from_str(&report).unwrap_or_else(|error| panic!("{error}: {report}{said}"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended; either way it must not be left behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Cargo builds examples beside the tests and doesn't say where.
fn program() -> PathBuf {
    let here = std::env::current_exe().expect("known");
    let target = here.ancestors().nth(2).expect("target/debug/deps/TEST");
    let program = target.join("examples/handover-client");
    assert!(program.exists(), "{} is missing: cargo build --example handover-client", program.display());
    program
}
