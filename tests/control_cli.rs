//! `slotctl` against a daemon: what it asks, what it shows, and the status that it ends with.

mod control_fake;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use control_fake::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use slotd::control::api::*;
use slotd::model::deployment::Waiting;
use slotd::model::evidence::{Evidence, JournalLine, ProbeSeen, UnitSeen};
use slotd::model::slot::{Phase, Quarantine};
use slotd::model::{AppState, Blame, Code, Fault, Outcome, Report, SlotState, State, Timestamp, UnitName};

fn with_app() -> World {
    let world = World::new();
    world.fake.set(|script| script.apps.insert(app_name(), online()));
    world
}

/// The documents on standard output.
fn documents(ran: &Ran) -> Vec<serde_json::Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{ran:?}"))).collect()
}

fn document<T: serde::de::DeserializeOwned>(ran: &Ran) -> T {
    let one = documents(ran).pop().unwrap_or_else(|| panic!("{ran:?}"));
    serde_json::from_value(one).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} isn't in:\n{text}");
    }
}

/// What a release leaves behind that dies before it is ready.
fn evidence() -> Fault {
    let at = Timestamp::from_unix_millis(1_763_700_000_123);
    let line = |priority, text: &str| JournalLine { at, priority, source: "web".into(), text: text.into() };
    Fault::new(Code::ProbeFailed, "3.0.0 gave wrong answers up to the deadline").with(Evidence {
        probe: Some(ProbeSeen {
            probe: "http http://127.0.0.1:8080/health".into(),
            instance: slot("3.0.0").instance(1),
            attempts: 121,
            last: "503 Service Unavailable: \u{1b}[31mno database".into(),
            at,
        }),
        unit: Some(UnitSeen {
            unit: UnitName::new("web@3.0.0.service"),
            state: "failed/failed".into(),
            result: "exit-code".into(),
            exit: Some("exited with status 3".into()),
            invocation: Some("0123456789abcdef0123456789abcdef".into()),
            restarts: 0,
        }),
        journal: vec![line(6, "listening"), line(3, "cannot reach db:5432")],
        entry: None,
    })
}

fn failed() -> Report {
    let report = step(queued(17), State::Starting, "start web@3.0.0.service");
    let report = step(report, State::Proving, "ask http http://127.0.0.1:8080/health");
    ended(report, Outcome::RolledBack, Some(evidence()), Some(Blame::Release))
}

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
fn status_ends_with_three_unless_all_is_well() {
    let world = with_app();
    let ran = world.slotctl(&["status"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    contains(&ran.stdout, &["APP  STATE   LIVE", "web  online  2.0.0  1.0.0     automatic"]);
    assert!(!ran.stdout.contains('\u{1b}'), "no colours into a pipe: {ran:?}");
    let one = world.slotctl(&["status", "web"]);
    assert_eq!(one.code, 0);
    contains(&one.stdout, &["web: online on 2.0.0", "web@2.0.0.service active/running", "accepts unsigned"]);

    let stuck = ended(queued(3), Outcome::Stuck, Some(Fault::new(Code::Stuck, "neither side")), None);
    world.fake.set(|script| script.apps.get_mut(&app_name()).expect("web").last = Some(stuck));
    assert_eq!(world.slotctl(&["status"]).code, 3);
    assert_eq!(world.slotctl(&["status", "web"]).code, 3);

    let fault = Box::new(Fault::new(Code::CrashLoop, "6 restarts within 60s"));
    let degraded = AppStatus { state: AppState::Degraded { fault }, ..online() };
    world.fake.set(|script| script.apps.insert(app_name(), degraded.clone()));
    let ran = world.slotctl(&["status"]);
    assert_eq!(ran.code, 3);
    contains(&ran.stdout, &["degraded: 6 restarts within 60s (unit.crash_loop)", "slotctl why web"]);
    assert_eq!(document::<AppStatus>(&world.slotctl(&["--json", "status", "web"])), degraded);

    world.fake.set(|script| {
        script.apps.insert(app_name(), online());
        script.health.push(Fault::new(Code::HistoryUnavailable, "history.db is read-only"));
    });
    let ran = world.slotctl(&["status", "--json"]);
    assert_eq!(ran.code, 3);
    assert_eq!(document::<DaemonStatus>(&ran).health.len(), 1);
    contains(&world.slotctl(&["status"]).stdout, &["history.db is read-only (history.unavailable)"]);
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
    assert_eq!(world.fake.calls()[1..], [r#"activate web 3.0.0 Some("now") true"#, "cancel web"]);
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
    let other = |args: &[&str]| {
        // The binary lies where other users may not look.
        let copy = world.folder.path().join("slotctl");
        std::fs::copy(env!("CARGO_BIN_EXE_slotctl"), &copy).expect("copied");
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
    let uploaded = Uploaded { slot: slot("3.0.0+b5"), known: false, deployment: Some(id(1)), not_live: None };
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
        let uploaded = Uploaded { slot: slot("1.0.0"), known: false, deployment: None, not_live };
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

#[test]
fn why_shows_the_evidence_on_one_screen() {
    let world = with_app();
    let failed = failed();
    world.fake.put(failed.clone());
    world.fake.set(|script| script.apps.get_mut(&app_name()).expect("web").last = Some(failed.clone()));
    for what in ["web-17", "web"] {
        let ran = world.slotctl(&["why", what]);
        assert_eq!(ran.code, 0, "{ran:?}");
        contains(
            &ran.stdout,
            &[
                "web-17: deploy 3.0.0 over 2.0.0: rolled-back",
                "failed in   proving: ask http http://127.0.0.1:8080/health",
                "cause       3.0.0 gave wrong answers up to the deadline (probe.failed)",
                "probe       http http://127.0.0.1:8080/health of 3.0.0, 121 attempts",
                "last answer 503 Service Unavailable: \u{fffd}[31mno database (at 04:40:00.123Z)",
                "unit        web@3.0.0.service: failed/failed, result exit-code, exited with status 3",
                "journal     of run 0123456789abcdef0123456789abcdef",
                "04:40:00.123      web: listening",
                "04:40:00.123 err  web: cannot reach db:5432",
                "slotd       returned to 2.0.0, which serves as before",
                "blame       the release: it is quarantined",
                "asked by    ann, ",
                ": the new page",
                "ok   starting   start web@3.0.0.service",
                "fail proving    ask http",
                "next        slotctl logs web 3.0.0",
            ],
        );
        assert!(ran.stdout.lines().count() <= 24, "one screen: {}", ran.stdout);
    }
    assert_eq!(document::<Report>(&world.slotctl(&["why", "web-17", "--json"])), failed);
    assert_eq!(document::<AppStatus>(&world.slotctl(&["why", "web", "--json"])).last, Some(failed));
    assert_eq!(world.slotctl(&["why", "web-18"]).code, 4);
    assert_eq!(world.slotctl(&["why", "NOT"]).code, 4);
}

#[test]
fn why_tells_of_what_waits_and_what_was_refused() {
    let world = with_app();
    let mut report = step(queued(18), State::Starting, "start web@3.0.0.service");
    report.state = State::Proving;
    let (what, at_most) = ("web@3.0.0.service to become ready".into(), Duration::from_secs(60));
    report.waiting = Some(Waiting { what, since: Timestamp::now(), at_most });
    let waiting = vec![WaitingItem { what: "web-4.tar".into(), reason: "still being written".into() }];
    let fault = Fault::new(Code::ArchiveDamaged, "the archive is cut short");
    let refused = vec![RefusedItem { file: "web-5.tar".into(), fault }];
    world.fake.set(|script| {
        script.apps.insert(app_name(), AppStatus { deployment: Some(report), waiting, refused, ..online() })
    });
    let parts = ["web-4.tar: still being written", "web-5.tar: the archive is cut short (archive.damaged)"];
    let waits = "proving; waits for web@3.0.0.service to become ready";
    for args in [&["why", "web"][..], &["status", "web"]] {
        let ran = world.slotctl(args);
        contains(&ran.stdout, &parts);
        contains(&ran.stdout, &[waits, "of at most 1 min"]);
    }
    contains(&world.slotctl(&["status"]).stdout, &parts);
    contains(&world.slotctl(&["why", "web"]).stdout, &["next        slotctl cancel web"]);
}

#[test]
fn lists_come_as_tables_and_as_json() {
    let world = with_app();
    let created = Timestamp::now();
    let info = |name: &str, state| SlotInfo {
        slot: slot(name),
        state,
        fallback: name == "1.0.0",
        artifact: Some("0f".repeat(32).parse().expect("digest")),
        created,
        bytes: 12_345_678,
        by: "ann".into(),
        message: Some("spring".into()),
        commit: None,
    };
    let quarantine = Quarantine { deployment: "web-17".into(), phase: Phase::Proving, fault: evidence(), at: created };
    let fault = Box::new(evidence());
    let slots = vec![
        info("3.0.0+b5", SlotState::Failed { phase: Phase::Proving, fault }),
        info("2.0.0", SlotState::Active),
        info("1.0.0", SlotState::Ready),
    ];
    let detail = SlotDetail {
        info: slots[0].clone(),
        record: None,
        units: vec![],
        quarantine: Some(quarantine.clone()),
        files: Some(12),
        tree_path: Some("/var/lib/slotd/apps/web/trees/0f".into()),
    };
    let items = vec![QuarantineItem { slot: slot("3.0.0+b5"), quarantine }];
    let pruned = Pruned {
        slots: vec![PruneItem { slot: slot("1.0.0"), kept: false, reason: "beyond the 5 newest".into() }],
        warnings: vec!["trees/0f: busy".into()],
    };
    let failed = failed();
    world.fake.put(failed.clone());
    world.fake.set(|script| {
        script.slots.clone_from(&slots);
        script.detail = Some(detail.clone());
        script.quarantine.clone_from(&items);
        script.pruned = Some(pruned.clone());
        script.cleared.extend([Ok(()), Ok(())]);
    });

    let ran = world.slotctl(&["list", "web"]);
    contains(&ran.stdout, &["SLOT      STATE", "3.0.0+b5  failed", "1.0.0     ready, fallback", "12 MB", "spring"]);
    assert_eq!(document::<Vec<SlotInfo>>(&world.slotctl(&["list", "web", "--json"])), slots);

    let ran = world.slotctl(&["inspect", "web", "3.0.0+b5"]);
    contains(&ran.stdout, &["web 3.0.0+b5: failed", "quarantined by web-17", "cannot reach db:5432", "trees/0f"]);
    assert_eq!(document::<SlotDetail>(&world.slotctl(&["inspect", "web", "3.0.0+b5", "--json"])), detail);
    assert_eq!(world.slotctl(&["inspect", "web", "9"]).code, 4);

    let ran = world.slotctl(&["quarantine", "list", "web"]);
    contains(&ran.stdout, &["3.0.0+b5", "web-17", "(probe.failed)"]);
    assert_eq!(document::<Vec<QuarantineItem>>(&world.slotctl(&["--json", "quarantine", "list", "web"])), items);
    let ran = world.slotctl(&["quarantine", "clear", "web", "3.0.0+b5"]);
    contains(&ran.stdout, &["3.0.0+b5 is no longer quarantined", "next: slotctl activate web 3.0.0+b5"]);

    let ran = world.slotctl(&["prune", "web", "--dry-run"]);
    contains(&ran.stdout, &["1.0.0  would go  beyond the 5 newest", "1 of 1 would be removed"]);
    contains(&ran.stderr, &["warning: trees/0f: busy"]);
    assert_eq!(document::<Pruned>(&world.slotctl(&["prune", "web", "--json"])), pruned);
    assert_eq!(world.fake.calls(), ["clear web 3.0.0+b5", "prune web true", "prune web false"]);

    let ran = world.slotctl(&["history", "web", "-n", "5"]);
    contains(&ran.stdout, &["web-17", "deploy 3.0.0", "rolled-back (probe.failed)", "the new page"]);
    assert_eq!(document::<Vec<Report>>(&world.slotctl(&["history", "web", "--json"])), [failed]);
}

#[test]
fn logs_are_journalctls() {
    let world = with_app();
    let bin = world.folder.path().join("bin");
    std::fs::create_dir(&bin).expect("bin");
    std::fs::write(bin.join("journalctl"), "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").expect("script");
    std::fs::set_permissions(bin.join("journalctl"), PermissionsExt::from_mode(0o755)).expect("mode");
    let run = |args: &[&str]| {
        let child = world.start_slotctl(args, |command| {
            command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        });
        world.finish(child)
    };
    let none = run(&["logs", "web"]);
    assert_eq!(none.code, 5, "without units it would be the whole host's journal: {none:?}");
    world.fake.set(|script| script.units = vec!["web@3.0.0+b5.service".into(), "web.service".into()]);
    let ran = run(&["logs", "web", "3.0.0+b5", "-f", "-n", "7"]);
    assert_eq!(ran.stdout, "--lines=7\n--unit=web@3.0.0+b5.service\n--unit=web.service\n--follow\n");
    contains(world.fake.calls().last().expect("call"), &["units web Some(3.0.0+b5)"]);
}

#[test]
fn the_manual_is_generated() {
    let world = World::new();
    let ran = world.slotctl(&["codes"]);
    for code in Code::ALL {
        contains(&ran.stdout, &[code.as_str(), code.meaning()]);
    }
    contains(&ran.stdout, &["130   Ctrl-C"]);
    let rows = documents(&world.slotctl(&["codes", "--json"]));
    assert_eq!(rows[0].as_array().map(Vec::len), Some(Code::ALL.len()));
    contains(&world.slotctl(&["completions", "bash"]).stdout, &["_slotctl()", "quarantine"]);
}

#[test]
fn a_new_app_is_shown_written_once_and_checked() {
    let world = World::new();
    let root = world.folder.path().join("root");
    let root = root.to_str().expect("path");
    let new = |more: &[&str]| {
        let args = ["new", "web", "--exec", "/srv/web/bin/web", "--port", "8080", "--health", "/health"];
        world.slotctl(&[&args[..], &["--root", root], more].concat())
    };
    let shown = new(&[]);
    assert_eq!(shown.code, 0, "{shown:?}");
    contains(&shown.stdout, &["etc/systemd/system/web@.service\n", "ListenStream=8080", "systemctl daemon-reload"]);
    contains(&shown.stderr, &["next: sudo slotctl new web --exec /srv/web/bin/web", " --write\n"]);
    assert!(!std::path::Path::new(root).exists(), "nothing is written unless it is said");
    assert_eq!(documents(&new(&["--json"]))[0]["files"].as_array().map(Vec::len), Some(7));

    let written = new(&["--write"]);
    assert_eq!(written.code, 0, "{written:?}");
    contains(&written.stdout, &["nothing is wrong", "next: cp web-1.0.0.tar.zst /var/lib/slotd/inbox/web/"]);
    contains(&new(&["--write"]).stdout, &["web@.service is as it should be"]);

    let template = format!("{root}/etc/systemd/system/web@.service");
    let lines = std::fs::read_to_string(&template).expect("template");
    let lines: String =
        lines.lines().filter(|line| !line.starts_with("User=")).map(|line| format!("{line}\n")).collect();
    std::fs::write(&template, lines).expect("written");
    let found = world.slotctl(&["check", "--root", root]);
    assert_eq!(found.code, 3, "{found:?}");
    contains(&found.stdout, &["web@.service:", "(config.unit)", "  fix: "]);
    let items = documents(&world.slotctl(&["check", "web", "--root", root, "--json"]));
    assert_eq!((&items[0][0]["app"], &items[0][0]["code"]), (&"web".into(), &"config.unit".into()));

    let refused = new(&["--write"]);
    assert_eq!(refused.code, 5, "{refused:?}");
    contains(&refused.stderr, &["web@.service is there and differs; nothing was written", "--write --force"]);
    assert_eq!(new(&["--write", "--force"]).code, 0);

    std::fs::write(format!("{root}/etc/slotd/apps/web.toml"), "deploy = \"perhaps\"\n").expect("written");
    let found = world.slotctl(&["check", "web", "--root", root]);
    assert_eq!(found.code, 3);
    contains(&found.stdout, &["web.toml:1:10: ", "deploy = \"perhaps\"\n         ^^^^^^^^^"]);
    let none = world.slotctl(&["check", "api", "--root", root]);
    assert_eq!(none.code, 4);
    contains(&none.stderr, &["api.toml isn't there (unknown.app)", "next: slotctl new api"]);
    assert_eq!(world.slotctl(&["new", "web", "--exec", "bin/web", "--root", root]).code, 5);
}

#[test]
fn an_artifact_is_made_and_tried_without_a_daemon() {
    let world = World::new();
    let folder = world.folder.path().join("web-1.0.0");
    std::fs::create_dir_all(folder.join("bin")).expect("folder");
    std::fs::write(folder.join("bin/web"), "#!/bin/sh\n").expect("file");
    std::fs::set_permissions(folder.join("bin/web"), PermissionsExt::from_mode(0o755)).expect("mode");
    std::fs::write(folder.join(".slotdignore"), "*.o\n").expect("rules");
    std::fs::write(folder.join("left.o"), "out").expect("file");
    let path = |name: &str| world.folder.path().join(name).to_str().expect("path").to_owned();
    let (dir, file) = (path("web-1.0.0"), path("web-1.0.0.tar.zst"));

    let made = world.slotctl(&["pack", &dir, "-o", &file]);
    assert_eq!(made.code, 0, "{made:?}");
    contains(&made.stdout, &["files in it: 1", "next: slotctl lint"]);
    let linted = world.slotctl(&["lint", &file]);
    assert_eq!(linted.code, 0, "{linted:?}");
    contains(&linted.stdout, &["web-1.0.0.tar.zst: good", "version     1.0.0", "beside it, and right"]);
    let again = world.slotctl(&["pack", &dir, "-o", &file]);
    assert_eq!(again.code, 5);
    contains(&again.stderr, &["is there already (request.invalid)\n  next: slotctl pack", "--force"]);
    let other = documents(&world.slotctl(&["pack", &dir, "-o", &path("other-1.0.0.tar.zst"), "--json"]));
    contains(&made.stdout, &[other[0]["digest"].as_str().expect("digest")]);
    assert_eq!(world.slotctl(&["pack", &dir, "-o", &path("web-1.0.0/inside.tar")]).code, 5);
    assert_eq!(world.slotctl(&["pack", &dir, "-o", &path("web.zip")]).code, 21);
    assert_eq!(world.slotctl(&["pack", &path("none")]).code, 21);

    let whole = std::fs::read(&file).expect("artifact");
    std::fs::write(path("cut-1.0.0.tar.zst"), &whole[..whole.len() / 2]).expect("written");
    let cut = world.slotctl(&["lint", &path("cut-1.0.0.tar.zst"), "--json"]);
    assert_eq!((cut.code, &documents(&cut)[0]["refused"]["code"]), (21, &"archive.damaged".into()), "{cut:?}");
    std::fs::write(&file, b"other bytes").expect("written");
    contains(&world.slotctl(&["lint", &file]).stderr, &["(trust.digest_mismatch)"]);
    assert!(!std::path::Path::new(&path("web.zip")).exists());
}
