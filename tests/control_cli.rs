//! `slotctl` against a daemon: what it asks, what it shows, and the status that it ends with.

mod control_fake;

use control_fake::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use slotd::control::api::*;
use slotd::model::evidence::Evidence;
use slotd::model::{Code, Fault, Outcome, Report, State};

#[test]
fn a_daemon_that_is_not_there() {
    let folder = tempfile::tempdir().expect("folder");
    let world = World::new();
    let socket = folder.path().join("none.sock");
    let ran = world.slotctl(&["--socket", socket.to_str().expect("path"), "status"]);
    assert_eq!(ran.code, 8);
    contains(&ran.stderr, &["slotctl: status: slotd doesn't answer on", "(daemon.unreachable)"]);
    contains(&ran.stderr, &["\n  next: systemctl status slotd"]);
    assert_eq!(ran.stdout, "");
    let ran = world.slotctl(&["--socket", socket.to_str().expect("path"), "--json", "status"]);
    assert_eq!(document::<ApiError>(&ran).fault.code, Code::Unreachable);
}

#[test]
fn each_outcome_has_its_exit_status() {
    let world = with_app();
    let fault = || Some(Fault::new(Code::ProbeFailed, "wrong answers"));
    for (number, outcome, code) in [
        (1, Outcome::Done, 0),
        (2, Outcome::RolledBack, 10),
        (3, Outcome::Failed, 11),
        (4, Outcome::Cancelled, 12),
        (5, Outcome::Superseded, 12),
        (6, Outcome::Stuck, 13),
    ] {
        let cause = if outcome == Outcome::Done { None } else { fault() };
        let report = ended(step(queued(number), State::Proving, "ask"), outcome, cause, None);
        world.fake.put(report.clone());
        world.fake.set(|script| script.accepted.push_back(Ok(deployment(number))));
        let ran = world.slotctl(&["activate", "web", "3.0.0"]);
        assert_eq!(ran.code, code, "{ran:?}");
        contains(&ran.stdout, &["proving", "ask", "at most: stop 30s, start 90s"]);
        if outcome == Outcome::Done {
            contains(&ran.stdout, &["web-1: 3.0.0 is live, 2.0.0 is the fallback"]);
        } else {
            contains(&ran.stderr, &[outcome.as_str(), "in proving: wrong answers (probe.failed)", "next: slotctl why"]);
        }
        world.fake.set(|script| script.accepted.push_back(Ok(deployment(number))));
        let ran = world.slotctl(&["rollback", "web", "--json"]);
        assert_eq!(ran.code, code);
        let said = documents(&ran);
        assert_eq!(serde_json::from_value::<Accepted>(said[0].clone()).expect("answer"), deployment(number));
        assert_eq!(serde_json::from_value::<Report>(said[1].clone()).expect("report"), report);
    }
}

#[test]
fn a_wait_shows_the_steps_as_they_pass() {
    let world = with_app();
    let mut report = queued(1);
    world.fake.put(report.clone());
    world.fake.set(|script| script.accepted.push_back(Ok(deployment(1))));
    let child = world.start_slotctl(&["rollback", "web", "--to", "3.0.0", "-m", "back"], |_| {});
    world.until(1, || world.fake.calls().len());
    for (state, what) in [(State::Starting, "start web@3.0.0.service"), (State::Switching, "current -> 3.0.0")] {
        report = step(report, state, what);
        world.fake.tell(report.clone());
    }
    world.fake.tell(ended(report, Outcome::Done, None, None));
    let ran = world.finish(child);
    assert_eq!(ran.code, 0, "{ran:?}");
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{ran:?}");
    contains(lines[1], &["ok   starting   start web@3.0.0.service", "0.1 s"]);
    contains(lines[2], &["ok   switching  current -> 3.0.0"]);
    assert_eq!(world.fake.calls(), [r#"rollback web Some(3.0.0) Some("back") false"#]);
}

#[test]
fn a_wait_lives_through_a_restart_of_the_daemon() {
    let mut world = with_app();
    world.fake.put(step(queued(1), State::Starting, "start web@3.0.0.service"));
    world.fake.set(|script| script.accepted.push_back(Ok(deployment(1))));
    let child = world.start_slotctl(&["activate", "web", "3.0.0"], |_| {});
    world.until(1, || world.fake.calls().len());
    world.stop();
    let over = step(step(queued(1), State::Starting, "start web@3.0.0.service"), State::Proving, "ask");
    world.fake.put(ended(over, Outcome::Done, None, None));
    world.start();
    let ran = world.finish(child);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.stdout.matches("starting").count(), 1, "{ran:?}");
    contains(&ran.stdout, &["proving", "web-1: 3.0.0 is live"]);
}

#[test]
fn ctrl_c_leaves_the_deployment_alone_and_says_so() {
    let world = with_app();
    world.fake.put(queued(1));
    world.fake.set(|script| script.accepted.push_back(Ok(deployment(1))));
    let mut child = world.start_slotctl(&["activate", "web", "3.0.0"], |_| {});
    // The first line stands before the wait begins; the signal may come before the handler does, so it comes
    // once a step has been shown.
    let mut shown = child.stdout.take().expect("stdout");
    world.until(1, || world.fake.calls().len());
    world.fake.tell(step(queued(1), State::Starting, "start web@3.0.0.service"));
    let mut seen = String::new();
    world.runtime.block_on(async {
        use tokio::io::AsyncReadExt;
        let mut piece = [0; 256];
        while !seen.contains("starting") {
            let read = tokio::time::timeout(PATIENCE, shown.read(&mut piece)).await.expect("in time").expect("read");
            assert!(read > 0, "ended early: {seen}");
            seen.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
    });
    let pid = i32::try_from(child.id().expect("running")).expect("PID");
    kill(Pid::from_raw(pid), Signal::SIGINT).expect("signal");
    let ran = world.finish(child);
    assert_eq!(ran.code, 130, "{ran:?}");
    contains(&ran.stderr, &["web-1 goes on without you", "slotctl status web", "slotctl cancel web"]);
    assert_eq!(world.fake.calls().len(), 1, "nothing was cancelled");
}

#[test]
fn what_is_so_already_and_what_nobody_waits_for() {
    let world = with_app();
    world.fake.set(|script| {
        script.accepted.push_back(Ok(Accepted::Unchanged { current: slot("2.0.0") }));
        script.accepted.push_back(Ok(deployment(1)));
        script.accepted.push_back(Ok(deployment(1)));
    });
    let ran = world.slotctl(&["activate", "web", "2.0.0"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "web: nothing to do, 2.0.0 is live already\n"));
    let ran = world.slotctl(&["activate", "web", "3.0.0", "--no-wait", "--force", "-m", "now"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "web-1, at most: stop 30s, start 90s\n"));
    let ran = world.slotctl(&["cancel", "web"]);
    assert_eq!(ran.code, 0);
    contains(&ran.stdout, &["web-1 is being undone", "next: slotctl status web"]);
    let again = Accepted::Cancelled {
        id: "web-3".parse().expect("an id"),
        to: slot("3.0.0"),
        again: Some("web-2".parse().expect("an id")),
    };
    world.fake.set(|script| script.accepted.push_back(Ok(again)));
    let ran = world.slotctl(&["cancel", "web"]);
    assert_eq!(ran.code, 0);
    contains(
        &ran.stdout,
        &["web-3 is cancelled before it began: 3.0.0 isn't tried again after web-2", "next: slotctl why web-2"],
    );
    assert_eq!(world.fake.calls()[1..], [r#"activate web 3.0.0 Some("now") true"#, "cancel web", "cancel web"]);
}

#[test]
fn a_deployment_that_waits_for_a_word_gets_it_and_another_strategy_is_wished_for_one_time() {
    let world = with_app();
    world.fake.set(|script| {
        script.accepted.push_back(Ok(Accepted::Unchanged { current: slot("2.0.0") }));
        script.accepted.push_back(Ok(Accepted::Unchanged { current: slot("2.0.0") }));
        script.accepted.push_back(Ok(Accepted::Unchanged { current: slot("2.0.0") }));
    });
    for words in [&["promote", "web"][..], &["confirm", "web"], &["activate", "web", "3.0.0", "--strategy", "rolling"]]
    {
        assert_eq!(world.slotctl(words).code, 0, "{words:?}");
    }
    assert_eq!(world.fake.calls(), ["promote web", "confirm web", "activate web 3.0.0 None false rolling"]);
    let ran = world.slotctl(&["activate", "web", "3.0.0", "--strategy", "rollling"]);
    assert_eq!(ran.code, 2);
    contains(&ran.stderr, &["is no strategy: stop-start, blue-green or rolling"]);
}

#[test]
fn refusals_name_step_cause_and_next_command() {
    let world = with_app();
    for (code, exit) in [
        (Code::RequestBusy, 6),
        (Code::AuthDenied, 7),
        (Code::ReleaseQuarantined, 5),
        (Code::UnknownSlot, 4),
        (Code::DiskFull, 22),
        (Code::Internal, 1),
    ] {
        let refused = ApiError::new(code, "as it is").next("slotctl list web");
        world.fake.set(|script| script.accepted.push_back(Err(refused)));
        let ran = world.slotctl(&["activate", "web", "3.0.0"]);
        assert_eq!(ran.code, exit, "{ran:?}");
        let expected = format!("slotctl: activate web 3.0.0: as it is ({code})\n  next: slotctl list web\n");
        assert_eq!(ran.stderr, expected);
    }
    let ran = world.slotctl(&["list", "api", "--json"]);
    assert_eq!((ran.code, document::<ApiError>(&ran).fault.code), (4, Code::UnknownApp));
    contains(&ran.stderr, &["there is no app api (unknown.app)\n  next: slotctl status"]);
    for usage in [&["activate", "web"][..], &["nonsense"], &["activate", "Web", "1"], &["list", "web", "--bogus"]] {
        assert_eq!(world.slotctl(usage).code, 2, "{usage:?}");
    }
}

#[test]
fn another_user_reads_and_does_not_operate() {
    if !geteuid().is_root() {
        // The decision itself is tested in `control::access`.
        eprintln!("not tried: only root can come as another user");
        return;
    }
    let world = with_app();
    // The binary lies where other users may not look. Copied by a child: a descriptor of ours, open for writing,
    // could be in another test's child when the copy is to be run.
    let copy = world.folder.path().join("slotctl");
    let copied = std::process::Command::new("cp").arg(env!("CARGO_BIN_EXE_slotctl")).arg(&copy).status();
    assert!(copied.expect("cp").success());
    let other = |args: &[&str]| {
        let mut command = tokio::process::Command::new(&copy);
        command.args(args).env("SLOTD_SOCKET", world.socket()).uid(65534).gid(65534).current_dir("/");
        let output = world.runtime.block_on(async { command.output().await }).expect("ran");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Ran { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    };
    assert_eq!(other(&["status"]).code, 0);
    let ran = other(&["activate", "web", "3.0.0"]);
    assert_eq!(ran.code, 7, "{ran:?}");
    contains(&ran.stderr, &["(uid 65534) may not change", "(auth.denied)\n  next: sudo slotctl activate web 3.0.0"]);
    assert!(world.fake.calls().is_empty());
}

#[test]
fn deploy_sends_a_file_and_waits() {
    let world = with_app();
    let artifact = world.folder.path().join("web-3.0.0+b5.tar.zst");
    let bytes: Vec<u8> = (0..700_000u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(&artifact, &bytes).expect("artifact");
    world.fake.put(ended(queued(1), Outcome::Done, None, None));
    let uploaded =
        Uploaded { slot: slot("3.0.0+b5"), known: false, deployment: Some(id(1)), not_live: None, next: None };
    world.fake.set(|script| script.uploaded.push_back(Ok(uploaded.clone())));
    let path = artifact.to_str().expect("path");
    let ran = world.slotctl(&["deploy", path, "--app", "web", "-m", "a & b=c", "--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(serde_json::from_value::<Uploaded>(documents(&ran)[0].clone()).expect("answer"), uploaded);
    assert!(document::<Report>(&ran).ended.is_some());
    assert!(world.fake.set(|script| script.bytes[0] == bytes));
    contains(&world.fake.calls()[0], &[r#"upload web web-3.0.0+b5.tar.zst None Some("a & b=c")"#]);
}

#[test]
fn deploy_streams_standard_input() {
    let world = with_app();
    for (begin, name) in [
        (&b"\x28\xb5\x2f\xfd and more"[..], "stdin.tar.zst"),
        (b"\x1f\x8b and more", "stdin.tar.gz"),
        (b"\xfd7zXZ\0 and more", "stdin.tar.xz"),
        (b"bin", "stdin.tar"),
        (b"", "stdin.tar"),
    ] {
        let not_live = Some("1.0.0 is below the mark 2.0.0".to_owned());
        let uploaded = Uploaded { slot: slot("1.0.0"), known: false, deployment: None, not_live, next: None };
        world.fake.set(|script| script.uploaded.push_back(Ok(uploaded)));
        let ran = world.slotctl_with(&["deploy", "-", "--app", "web", "--version", "1.0.0"], begin);
        assert_eq!(ran.code, 20, "{ran:?}");
        contains(&ran.stdout, &["1.0.0 is ready", "below the mark 2.0.0", "next: slotctl activate web 1.0.0"]);
        assert_eq!(world.fake.set(|script| script.bytes.pop()), Some(begin.to_vec()));
        contains(world.fake.calls().last().expect("call"), &[&format!("upload web {name} Some(1.0.0)")]);
    }
}

#[test]
fn an_artifact_that_is_refused() {
    let world = with_app();
    let big = vec![0; 3 << 20];
    let artifact = world.folder.path().join("web-1.tar");
    std::fs::write(&artifact, &big).expect("artifact");
    let path = artifact.to_str().expect("path");
    // Told by its length at once; found out in mid-stream while the sender still sends.
    for ran in
        [world.slotctl(&["deploy", path, "--app", "web"]), world.slotctl_with(&["deploy", "-", "--app", "web"], &big)]
    {
        assert_eq!(ran.code, 21, "{ran:?}");
        contains(&ran.stderr, &["more than the 1048576 bytes that the app allows (archive.limit)"]);
    }
    let hostile = Fault::new(Code::ArchivePathEscape, "the path leaves the tree")
        .with(Evidence { entry: Some("../../etc/passwd".into()), ..Evidence::default() });
    world.fake.set(|script| script.uploaded.push_back(Err(hostile.into())));
    let ran = world.slotctl_with(&["deploy", "-", "--app", "web"], b"x");
    assert_eq!(ran.code, 21);
    contains(&ran.stderr, &["(archive.path_escape)", "at: ../../etc/passwd"]);
    let missing = world.slotctl(&["deploy", "/nowhere/web-1.tar", "--app", "web"]);
    contains(&missing.stderr, &["can't read /nowhere/web-1.tar: No such file", "(ingest.unreadable)"]);
    let folder = world.slotctl(&["deploy", world.folder.path().to_str().expect("path"), "--app", "web"]);
    assert_eq!(folder.code, 21);
    world.until(0, || world.fake.spooled());
}
