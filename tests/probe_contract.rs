//! `slotctl probe --contract` on programs that keep the contract of a route, and on such that break one rule each.

mod server_support;
mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use server_support::Program;
use tempfile::TempDir;

/// A program that takes connections and answers, and has never heard of signals.
const NAIVE: &str = r#"
import os, socket
listener = socket.socket(fileno=3)
listener.setblocking(True)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
    systemd.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
while True:
    client, _ = listener.accept()
    client.recv(65536)
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    client.close()
"#;

/// What came of a trial.
#[derive(Debug)]
struct Trial {
    exit: Option<i32>,
    /// Outcome and what was seen, by rule.
    rules: BTreeMap<String, (String, String)>,
    output: Value,
}

impl Trial {
    fn of(output: &Output) -> Trial {
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        let word = |line: &Value, key: &str| line[key].as_str().expect("text").to_owned();
        let lines = report["rules"].as_array().expect("rules").iter();
        Trial {
            exit: output.status.code(),
            rules: lines.map(|line| (word(line, "rule"), (word(line, "outcome"), word(line, "seen")))).collect(),
            output: report["output"].clone(),
        }
    }

    /// The rules that weren't kept, with an outcome each.
    fn broken(&self) -> Vec<String> {
        let broken = self.rules.iter().filter(|(_, (outcome, _))| outcome != "ok");
        broken.map(|(rule, (outcome, _))| format!("{rule} {outcome}")).collect()
    }
}

/// Tries a command by the rules of a route, in a folder that holds this BEHAVIOUR.
fn tried(route: &str, behaviour: &str, words: &[&str], command: &[PathBuf]) -> Trial {
    let release = TempDir::new().expect("a folder");
    std::fs::write(release.path().join("VERSION"), "1.0.0").expect("written");
    std::fs::write(release.path().join("BEHAVIOUR"), behaviour).expect("written");
    let mut slotctl = Command::new(env!("CARGO_BIN_EXE_slotctl"));
    slotctl.args(["--json", "probe", "--contract", "--route", route]).args(words).arg("--").args(command);
    Trial::of(&slotctl.current_dir(release.path()).output().expect("slotctl runs"))
}

fn sample() -> Vec<PathBuf> {
    Program::Sample.command()
}

fn python(script: &str) -> Vec<PathBuf> {
    vec!["python3".into(), "-c".into(), script.into()]
}

#[test]
fn the_samples_keep_every_rule_of_every_route() {
    for program in Program::all() {
        for (route, rules) in [("socket-ready", 9), ("socket-signal", 16), ("port", 9)] {
            let trial = tried(route, "", &[], &program.command());
            assert_eq!((trial.exit, trial.rules.len()), (Some(0), rules), "{program:?} {route}: {trial:#?}");
            assert_eq!(trial.broken(), [""; 0], "{program:?} {route}: {trial:#?}");
        }
    }
}

#[test]
fn each_breach_is_told_by_its_rule() {
    let brief = &["--stop-limit", "1s"][..];
    for (route, behaviour, words, broken) in [
        ("socket-signal", "accept-unasked", &[][..], &["starts-quiet failed"][..]),
        (
            "socket-signal",
            "deaf-to-quiet",
            &[],
            // It serves on as if nothing had been said, and is stopped well.
            &["gets-quiet failed", "quiet-finishes failed", "quiet-idle failed"],
        ),
        ("socket-signal", "health-500", &[], &["always-healthy failed", "health failed"]),
        ("socket-ready", "health-500", &[], &["health note"]),
        ("socket-ready", "hang-on-stop", brief, &["exits failed"]),
    ] {
        let trial = tried(route, behaviour, words, &sample());
        assert_eq!(trial.broken(), broken, "{behaviour}: {trial:#?}");
        assert_eq!(trial.exit, Some(if broken.iter().any(|line| line.ends_with("failed")) { 3 } else { 0 }));
    }
}

#[test]
fn one_that_never_accepts_leaves_the_rest_untested() {
    let trial = tried("socket-signal", "deaf-to-accept", &[], &sample());
    assert_eq!(trial.rules["accepts"].0, "failed", "{trial:#?}");
    assert!(trial.rules["accepts"].1.starts_with("no STATUS=accepting within 10"), "{trial:#?}");
    assert_eq!((trial.rules["gets-quiet"].0.as_str(), trial.exit), ("untested", Some(3)));
    assert_eq!(trial.rules["always-healthy"].0, "ok", "{trial:#?}");
}

#[test]
fn one_that_does_not_start_says_why() {
    let trial = tried("socket-ready", "exit-before-accept 7", &[], &sample());
    assert!(trial.rules["ready"].1.starts_with("it ended with exit status: 7"), "{trial:#?}");
    assert!(trial.output[0].as_str().is_some_and(|line| line.contains("can't start")), "{trial:#?}");
    assert_eq!((trial.broken().len(), trial.exit), (9, Some(3)));

    let silent = tried("socket-ready", "", &["--start-limit", "200ms"], &["sleep".into(), "1h".into()]);
    assert!(silent.rules["ready"].1.starts_with("nothing within"), "{silent:#?}");
    let absent = tried("socket-ready", "", &[], &["/nowhere/at/all".into()]);
    assert!(absent.rules["ready"].1.starts_with("it ended with exit status: 127"), "{absent:#?}");
}

#[test]
fn a_program_without_handlers_is_ended_by_what_it_does_not_know() {
    let trial = tried("socket-signal", "", &[], &python(NAIVE));
    assert!(trial.rules["starts-quiet"].1.starts_with("it accepted a connection, and says no STATUS"), "{trial:#?}");
    assert!(trial.rules["accepts"].1.starts_with("SIGUSR1 ended it: signal: 10"), "{trial:#?}");
    assert!(trial.rules["health"].1.starts_with("nobody is there"), "{trial:#?}");

    let trial = tried("socket-ready", "", &[], &python(NAIVE));
    let expected = ["exits failed", "health note", "non-blocking failed", "says-stopping note"];
    assert_eq!(trial.broken(), expected, "{trial:#?}");
    assert!(trial.rules["exits"].1.starts_with("signal: 15"), "{trial:#?}");
}

/// What README.md says of the shutdown that Node.js and Go bring along, and why the samples don't use it.
#[cfg(feature = "host-tests")]
#[test]
fn the_shutdown_of_node_and_go_loses_what_is_on_its_way() {
    const NODE: &str = r#"
const server = require("node:http").createServer((request, response) => response.end("ok\n"));
const notify = (word) => require("node:child_process").execFile("systemd-notify", [word]);
server.listen({ fd: 3 }, () => notify("--ready"));
process.on("SIGTERM", () => server.close(() => process.exit(0)));
"#;
    const GO: &str = r#"
package main
import ("context"; "net"; "net/http"; "os"; "os/signal"; "syscall")
func main() {
	l, _ := net.FileListener(os.NewFile(3, "listener"))
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("ok\n")) })}
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	go s.Serve(l)
	n, _ := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	n.Write([]byte("READY=1"))
	<-c
	s.Shutdown(context.Background())
}
"#;
    let folder = TempDir::new().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let node = vec!["node".into(), write("server.js", NODE)];
    let go = vec![server_support::built(&write("main.go", GO))];
    for program in [node, go] {
        let trial = tried("socket-ready", "", &[], &program);
        assert_eq!((trial.rules["answers"].0.as_str(), trial.exit), ("ok", Some(3)), "{program:?} {trial:#?}");
        assert_eq!(trial.rules["stop-finishes"].0, "failed", "{program:?} {trial:#?}");
        assert_eq!(trial.rules["stop-idle"].0, "failed", "{program:?} {trial:#?}");
    }
}

#[cfg(feature = "host-tests")]
#[test]
fn gunicorn_keeps_the_rules_of_ready_as_it_comes() {
    let folder = TempDir::new().expect("a folder");
    let app = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/wsgi/app.py");
    std::fs::copy(app, folder.path().join("app.py")).expect("copied");
    std::fs::write(folder.path().join("VERSION"), "1.0.0").expect("written");
    let words = ["gunicorn", "--workers", "2", "--chdir"].map(PathBuf::from);
    let command: Vec<PathBuf> = words.into_iter().chain([folder.path().to_owned(), "app:app".into()]).collect();
    let trial = tried("socket-ready", "", &[], &command);
    assert_eq!((trial.broken(), trial.exit), (vec!["health note".into(), "says-stopping note".into()], Some(0)));
}

#[test]
fn people_get_a_line_a_rule_and_what_a_broken_one_asks_for() {
    let release = TempDir::new().expect("a folder");
    std::fs::write(release.path().join("VERSION"), "1.0.0").expect("written");
    std::fs::write(release.path().join("BEHAVIOUR"), "accept-unasked").expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_slotctl"))
        .args(["probe", "--contract", "--route", "socket-signal", "--"])
        .args(sample())
        .current_dir(release.path())
        .output()
        .expect("slotctl runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    for line in [
        "failed    starts-quiet    it accepted a connection, and says STATUS=accepting with READY=1\n",
        "asked: with SLOTD_ACCEPT=signal it says STATUS=quiet with READY=1 and accepts nothing\n",
        "ok        gets-quiet      STATUS=quiet after 0.",
        "  it wrote: version 1.0.0 slot - serves on 127.0.0.1:",
        "\n1 rule isn't kept: README.md, ",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn a_target_is_an_app_or_a_command() {
    let exit = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_slotctl")).args(words).output().expect("slotctl runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(exit(&["probe", "web"]).0, Some(2));
    assert_eq!(exit(&["probe", "--contract"]).0, Some(2));
    assert_eq!(exit(&["probe", "--contract", "web", "--", "sleep"]).0, Some(2));
    // As root there is no such app; as anybody else, no leave to look.
    let (status, text) = exit(&["probe", "--contract", "no-such-app-of-all"]);
    assert!(matches!(status, Some(4 | 7)), "{text}");
}
