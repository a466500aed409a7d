//! What `slotctl` shows of apps, slots and evidence, and what it does without a daemon.

mod control_fake;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use control_fake::*;
use slotd::control::api::*;
use slotd::model::deployment::Waiting;
use slotd::model::evidence::{Evidence, JournalLine, ProbeSeen, UnitSeen};
use slotd::model::slot::{Phase, Pin, Quarantine};
use slotd::model::{AppState, Blame, Code, Fault, Outcome, Report, SlotState, State, Timestamp, UnitName};

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

    let deploying = AppStatus { state: AppState::Deploying, ..online() };
    world.fake.set(|script| script.apps.insert(app_name(), deploying));
    assert_eq!(world.slotctl(&["status"]).code, 0, "it is stopped on purpose");
    contains(&world.slotctl(&["status", "web"]).stdout, &["web: deploying, 2.0.0 was live"]);

    let orphaned = AppStatus { state: AppState::Orphaned, ..online() };
    world.fake.set(|script| script.apps.insert(app_name(), orphaned));
    let next = "restore /etc/slotd/apps/web.toml; slotctl check web";
    for words in [&["status"][..], &["status", "web"], &["why", "web"]] {
        let ran = world.slotctl(words);
        assert_eq!(ran.code, 0, "it serves as it did: {ran:?}");
        contains(&ran.stdout, &["orphaned", next]);
    }

    world.fake.set(|script| {
        script.apps.insert(app_name(), online());
        script.health.push(Fault::new(Code::HistoryUnavailable, "history.db is read-only"));
    });
    let ran = world.slotctl(&["status", "--json"]);
    assert_eq!(ran.code, 3);
    assert_eq!(document::<DaemonStatus>(&ran).health.len(), 1);
    contains(&world.slotctl(&["status"]).stdout, &["history.db is read-only (history.unavailable)"]);
}

/// What a release leaves behind that dies before it is ready.
fn evidence() -> Fault {
    let at = Timestamp::from_unix_millis(1_763_700_000_123);
    let line = |priority, text: &str| JournalLine { at, priority, source: "web".into(), text: text.into() };
    Fault::new(Code::ProbeFailed, "3.0.0 gave wrong answers up to the deadline").with(Evidence {
        probe: Some(ProbeSeen {
            probe: "http http://127.0.0.1:8080/health".into(),
            asked: None,
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

/// All that can come together, and more of each than has room.
fn much() -> (Report, AppStatus) {
    let mut fault = evidence();
    let (at, line) = (Timestamp::from_unix_millis(1_763_700_000_123), "x".repeat(2000));
    let line =
        |number| JournalLine { at, priority: 3, source: "gunicorn".into(), text: format!("line {number} {line}") };
    fault.evidence.journal = (1..=40).map(line).collect();
    fault.evidence.entry = Some("bin/web".into());
    let mut report = queued(17);
    for number in 0..20 {
        report = step(report, State::Starting, &format!("start web@3.0.{number}.service"));
    }
    report = ended(report, Outcome::RolledBack, Some(fault.clone()), Some(Blame::Release));
    report.attempt = 2;
    let told = report.ended.as_mut().expect("ended");
    told.warnings = (0..9).map(|number| format!("warning {number}")).collect();
    let many = |what: &str| WaitingItem { what: what.into(), reason: "still being written".into() };
    let waiting = ["web-4.tar", "web-5.tar", "web-6.tar", "web-7.tar", "web-8.tar"].map(many).to_vec();
    let refused = waiting.iter().map(|item| RefusedItem { file: item.what.clone(), fault: fault.clone() }).collect();
    (report, AppStatus { waiting, refused, ..online() })
}

#[test]
fn why_has_room_on_one_screen_whatever_it_has_to_tell() {
    let world = with_app();
    let (report, status) = much();
    world.fake.put(report.clone());
    let under_way = step(queued(18), State::Starting, "start web@3.0.0.service");
    let loops = AppState::Degraded { fault: Box::new(report.ended.clone().expect("ended").fault.expect("a fault")) };
    let last = AppStatus { last: Some(report.clone()), ..status };
    let next = AppStatus { deployment: Some(under_way), ..last.clone() };
    let degraded = AppStatus { state: loops, ..next.clone() };
    for (status, what, journal) in [(&last, "web-17", 12), (&last, "web", 4), (&next, "web", 0), (&degraded, "web", 12)]
    {
        world.fake.set(|script| script.apps.insert(app_name(), status.clone()));
        let ran = world.slotctl(&["why", what]);
        assert!(ran.stdout.lines().count() <= 40, "one screen: {}", ran.stdout);
        assert!(ran.stdout.lines().all(|line| line.len() < 400), "{}", ran.stdout);
        let shown = ran.stdout.matches("gunicorn: line ").count();
        assert!(shown >= journal && shown <= 12, "{shown} lines of the journal: {}", ran.stdout);
        contains(&ran.stdout, &["3.0.0 gave wrong answers up to the deadline (probe.failed)", "next        "]);
        if journal > 0 {
            let earlier = 40 - shown;
            let run = "0123456789abcdef0123456789abcdef";
            let more = format!("{earlier} earlier lines in --json; all: journalctl _SYSTEMD_INVOCATION_ID={run}");
            contains(&ran.stdout, &[&more, "gunicorn: line 40 "]);
        }
        if what == "web" {
            contains(&ran.stdout, &["waiting     and 2 more: slotctl status web", "refused     and 2 more: "]);
        }
    }
    assert_eq!(document::<Report>(&world.slotctl(&["why", "web-17", "--json"])), report, "all of it");
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
        pinned: (name == "1.0.0").then(|| Pin { by: "bob".into(), at: created, message: None }),
        waits: None,
        barred: (name == "1.0.0").then(|| slot("2.0.0")),
        artifact: Some("0f".repeat(32).parse().expect("digest")),
        created,
        bytes: 12_345_678,
        by: "ann".into(),
        message: Some("spring".into()),
        release: Default::default(),
    };
    let quarantine = Quarantine { deployment: "web-17".into(), phase: Phase::Proving, fault: evidence(), at: created };
    let ill = SlotState::Failed { phase: Phase::Proving, fault: Box::new(evidence()) };
    let slots = vec![info("3.0.0+b5", ill), info("2.0.0", SlotState::Active), info("1.0.0", SlotState::Ready)];
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
    contains(
        &ran.stdout,
        &["SLOT      STATE", "3.0.0+b5  failed", "1.0.0     ready, fallback, pinned", "12 MB", "spring"],
    );
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
    std::os::unix::fs::symlink("/bin/echo", bin.join("journalctl")).expect("link");
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
    assert_eq!(ran.stdout, "--lines=7 --unit=web@3.0.0+b5.service --unit=web.service --follow\n");
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
