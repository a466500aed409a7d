//! The sample server of Rust misbehaves as its file BEHAVIOUR says, since other tests build on that. What it does well,
//! together with the one of Python, stands in `sample_contract.rs`.

mod server_support;
mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;

use server_support::{From, Host, PATIENCE};
use support::wait_until;

#[test]
fn the_version_may_come_from_the_environment() {
    let host = Host::new();
    let server = host.start_in(&host.empty_release(), "3.1", From::Shared(None));
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
        if host.health_socket("3.0.0").exists() { Ok(()) } else { Err("none".to_owned()) }
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
fn it_can_be_deaf_to_signals_and_accept_unasked() {
    let host = Host::new();
    let release = host.release("3.0.0", "accept-unasked");
    let server = host.start_in(&release, "3.0.0", From::Shared(Some("signal")));
    server.expect_ready();
    assert_eq!(host.connect().ask("/").expect("an answer").status, 200);
    drop(server);
    for (behaviour, said, signal) in [
        ("deaf-to-accept", "READY=1\nSTATUS=quiet", Signal::SIGUSR1),
        ("deaf-to-quiet", "READY=1\nSTATUS=accepting", Signal::SIGUSR2),
    ] {
        let accept = if said.ends_with("quiet") { "signal" } else { "now" };
        let server = host.start_in(&host.release("3.0.1", behaviour), "3.0.1", From::Shared(Some(accept)));
        server.expect_said(said);
        server.signal(signal);
        // An answer comes after it.
        assert_eq!(server.health().expect("an answer").status, 200);
        host.expect_nothing_said();
    }
}

#[test]
fn a_line_that_means_nothing_is_refused() {
    let host = Host::new();
    assert_eq!(host.start("3.0.0", "explode").wait().code(), Some(1));
    assert_eq!(host.start("3.0.0", "slow-start soon").wait().code(), Some(1));
    host.expect_nothing_said();
}
