//! What the history keeps, and that nothing that befalls its file does more than say so.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rusqlite::Connection;
use tempfile::TempDir;

use super::schema::{APPLICATION_ID, Form, MIGRATIONS, migrate};
use super::store::Store;
use super::*;
use crate::model::deployment::{Ended, Kind, Outcome, State};
use crate::model::{Code, SlotName};

fn app(name: &str) -> AppName {
    name.parse().expect("name")
}

fn report(name: &str, number: u64) -> Report {
    Report {
        id: DeploymentId { app: app(name), number },
        kind: Kind::Deploy,
        from: None,
        to: SlotName::first(format!("1.{number}").parse().expect("version")),
        by: "ann".into(),
        message: Some("it's \"new\"; DROP TABLE deployments".into()),
        attempt: 1,
        queued: Timestamp::from_unix_millis(1_000 * number),
        scheduled: None,
        reroute: None,
        strategy: None,
        migration: None,
        dependencies: Vec::new(),
        state: State::Queued,
        waiting: None,
        steps: Vec::new(),
        release: Default::default(),
        said: Vec::new(),
        measured: Default::default(),
        ended: None,
    }
}

fn ended(mut report: Report, outcome: Outcome) -> Report {
    let at = Timestamp::from_unix_millis(report.queued.unix_millis() + 500);
    report.state = State::Done;
    report.ended = Some(Ended { outcome, fault: None, phase: None, blame: None, at, next: None, warnings: Vec::new() });
    report
}

fn event_of(name: Option<&str>, kind: &str) -> Event {
    let app = name.map(app);
    let deployment = app.clone().map(|app| DeploymentId { app, number: 7 });
    Event { at: Timestamp::from_unix_millis(5), app, deployment, kind: kind.into(), message: "so it was".into() }
}

fn fresh() -> (TempDir, History) {
    let folder = tempfile::tempdir().expect("folder");
    let history = History::open(folder.path().join("history.db"));
    (folder, history)
}

fn numbers(reports: &[Report]) -> Vec<u64> {
    reports.iter().map(|report| report.id.number).collect()
}

#[tokio::test]
async fn a_deployment_is_written_over_as_it_goes_on() {
    let (_folder, history) = fresh();
    history.record(&report("web", 1)).await.expect("written");
    let done = ended(report("web", 1), Outcome::RolledBack);
    history.record(&done).await.expect("written over");
    assert_eq!(history.deployments(&app("web"), 10).await.expect("read"), vec![done.clone()]);
    assert_eq!(history.deployment(&done.id).await.expect("read"), Some(done));
    assert_eq!(history.deployment(&report("web", 2).id).await.expect("read"), None);
}

#[tokio::test]
async fn the_newest_come_first_and_apps_are_apart() {
    let (_folder, history) = fresh();
    for number in [2, 1, 3] {
        history.record(&report("web", number)).await.expect("written");
    }
    history.record(&report("api", 9)).await.expect("written");
    assert_eq!(numbers(&history.deployments(&app("web"), 2).await.expect("read")), [3, 2]);
    assert_eq!(history.highest_number(&app("web")).await.expect("read"), 3);
    assert_eq!(history.highest_number(&app("none")).await.expect("read"), 0);
}

#[tokio::test]
async fn a_number_given_twice_takes_nothing_away() {
    let (_folder, history) = fresh();
    history.record(&report("web", 1)).await.expect("written");
    let mut again = report("web", 1);
    again.queued = Timestamp::from_unix_millis(9_000);
    history.record(&again).await.expect("written");
    assert_eq!(history.deployments(&app("web"), 10).await.expect("read").len(), 2);
    assert_eq!(history.deployment(&again.id).await.expect("read"), Some(again));
}

#[tokio::test]
async fn pruning_keeps_the_newest_of_each_app() {
    let (_folder, history) = fresh();
    for number in 1..=5 {
        history.record(&report("web", number)).await.expect("written");
        history.event(event_of(Some("web"), &format!("event.{number}"))).await.expect("written");
    }
    history.record(&report("api", 1)).await.expect("written");
    history.prune(2, 3).await.expect("pruned");
    assert_eq!(numbers(&history.deployments(&app("web"), 10).await.expect("read")), [5, 4]);
    assert_eq!(numbers(&history.deployments(&app("api"), 10).await.expect("read")), [1]);
    let kinds: Vec<String> = history.events(None, 10).await.expect("read").into_iter().map(|e| e.kind).collect();
    assert_eq!(kinds, ["event.5", "event.4", "event.3"]);
}

#[tokio::test]
async fn events_come_back_as_they_were() {
    let (_folder, history) = fresh();
    let (ours, web) = (event_of(None, "daemon.started"), event_of(Some("web"), "artifact.refused"));
    history.event(ours.clone()).await.expect("written");
    history.event(web.clone()).await.expect("written");
    assert_eq!(history.events(None, 10).await.expect("read"), [web.clone(), ours]);
    assert_eq!(history.events(Some(&app("web")), 10).await.expect("read"), [web]);
    assert_eq!(history.events(Some(&app("api")), 10).await.expect("read"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_at_once_lose_nothing() {
    let (_folder, history) = fresh();
    let callers: Vec<_> = (1..=100)
        .map(|number| {
            let history = history.clone();
            tokio::spawn(async move { history.record(&report("web", number)).await })
        })
        .collect();
    for caller in callers {
        caller.await.expect("no panic").expect("written");
    }
    assert_eq!(history.deployments(&app("web"), 1000).await.expect("read").len(), 100);
}

#[tokio::test]
async fn what_was_written_is_there_for_the_next_daemon_and_for_nobody_else() {
    let (folder, history) = fresh();
    history.record(&report("web", 1)).await.expect("written");
    drop(history);
    let path = folder.path().join("history.db");
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    let history = History::open(path);
    assert_eq!(history.highest_number(&app("web")).await.expect("read"), 1);
}

#[tokio::test]
async fn a_damaged_file_is_told_with_the_command_that_helps() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("history.db");
    fs::write(&path, "this is no database, and longer than a header of a hundred bytes has to be ".repeat(3))
        .expect("written");
    let history = History::open(&path);
    let error = history.record(&report("web", 1)).await.expect_err("damaged");
    assert!(matches!(error, HistoryError::Damaged { .. }), "{error:?}");
    assert_eq!(error.fault().code, Code::HistoryUnavailable);
    let aside = format!("{}.aside", path.display());
    assert_eq!(error.next(), Some(format!("mv {} {aside}", path.display())));
    // The person does so; nobody has to restart anything.
    fs::copy(&path, &aside).and_then(|_| fs::remove_file(&path)).expect("moved");
    history.record(&report("web", 1)).await.expect("a new file");
    assert!(fs::read_to_string(&aside).expect("kept").starts_with("this is no database"));
}

#[tokio::test]
async fn a_page_damaged_in_use_is_told_and_the_file_left_alone() {
    let (folder, history) = fresh();
    for number in 1..=50 {
        history.record(&report("web", number)).await.expect("written");
    }
    drop(history);
    let path = folder.path().join("history.db");
    let mut bytes = fs::read(&path).expect("read");
    bytes[4096..].fill(0xAA);
    fs::write(&path, &bytes).expect("written");
    let history = History::open(&path);
    let error = history.deployments(&app("web"), 100).await.expect_err("damaged");
    assert!(matches!(error, HistoryError::Damaged { .. }), "{error:?}");
    assert_eq!(fs::read(&path).expect("read"), bytes);
}

#[tokio::test]
async fn a_file_that_cannot_be_made_is_told_and_made_when_it_can() {
    let folder = tempfile::tempdir().expect("folder");
    let state = folder.path().join("state");
    let history = History::open(state.join("history.db"));
    let error = history.check().await.expect_err("no folder");
    assert!(error.to_string().contains("No such file"), "{error}");
    assert_eq!(error.next(), Some(format!("ls -ld {}", state.display())));
    fs::create_dir(&state).expect("folder");
    history.check().await.expect("made");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_told() {
    let folder = tempfile::tempdir().expect("folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).expect("mode");
    // Modes don't stop root; in /proc nobody can make a file.
    let place = if nix::unistd::geteuid().is_root() { "/proc".into() } else { folder.path().to_owned() };
    let error = History::open(place.join("history.db")).record(&report("web", 1)).await.expect_err("unwritable");
    assert!(matches!(error, HistoryError::Open { .. }), "{error:?}");
}

#[test]
fn a_full_disk_refuses_the_row_and_keeps_the_others() {
    let folder = tempfile::tempdir().expect("folder");
    let mut store = Store::new(folder.path().join("history.db"));
    store.record(&report("web", 1)).expect("written");
    let mut large = report("web", 2);
    large.message = Some("x".repeat(1 << 20));
    store
        .run("be limited", |connection| connection.query_row("PRAGMA max_page_count = 10", [], |_| Ok(())))
        .expect("set");
    let error = store.record(&large).expect_err("full");
    assert!(error.to_string().contains("can't take a deployment: database or disk is full"), "{error}");
    assert_eq!(store.highest_number(&app("web")).expect("read"), 1);
    // Opened anew, there is room again.
    store.record(&large).expect("written");
}

#[test]
fn a_file_locked_by_another_program_is_no_damage() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("history.db");
    let mut store = Store::new(path.clone());
    store.record(&report("web", 1)).expect("written");
    let other = Connection::open(&path).expect("opened");
    other.execute_batch("BEGIN EXCLUSIVE").expect("locked");
    let error = store.record(&report("web", 2)).expect_err("locked");
    assert!(matches!(error, HistoryError::Query { .. }) && error.to_string().contains("locked"), "{error}");
    other.execute_batch("ROLLBACK").expect("unlocked");
    store.record(&report("web", 2)).expect("written");
}

#[test]
fn a_foreign_or_newer_file_is_not_touched() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("history.db");
    let other = Connection::open(&path).expect("opened");
    other.execute_batch("CREATE TABLE songs (name TEXT)").expect("made");
    let error = Store::new(path.clone()).check().expect_err("foreign");
    assert!(matches!(error, HistoryError::Foreign { .. }), "{error:?}");
    other.pragma_update(None, "application_id", APPLICATION_ID).expect("set");
    other.pragma_update(None, "user_version", 99).expect("set");
    let error = Store::new(path).check().expect_err("newer");
    assert!(matches!(error, HistoryError::Newer { found: 99, .. }), "{error:?}");
}

#[test]
fn an_older_form_is_brought_forward_with_what_is_in_it() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("history.db");
    Store::new(path.clone()).record(&report("web", 1)).expect("written");
    let mut connection = Connection::open(&path).expect("opened");
    let newer = [MIGRATIONS, &["ALTER TABLE events ADD COLUMN note TEXT"]].concat();
    assert_eq!(migrate(&mut connection, &newer).expect("brought forward"), Form::Current);
    let count = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("read");
    assert_eq!(count("SELECT count(*) FROM deployments"), 1);
    assert_eq!(count("SELECT count(note) FROM events"), 0);
    assert_eq!(count("PRAGMA user_version"), newer.len() as i64);
}

#[test]
fn a_step_that_fails_leaves_the_form_as_it_was() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("history.db");
    Store::new(path.clone()).record(&report("web", 1)).expect("written");
    let mut connection = Connection::open(&path).expect("opened");
    let broken = [MIGRATIONS, &["CREATE TABLE extra (a)", "CREATE NONSENSE"]].concat();
    migrate(&mut connection, &broken).expect_err("nonsense");
    drop(connection);
    let mut store = Store::new(path);
    assert_eq!(store.highest_number(&app("web")).expect("read"), 1);
    let extra = "SELECT count(*) FROM sqlite_schema WHERE name = 'extra'";
    let left = store.run("be read", |connection| connection.query_row(extra, [], |row| row.get::<_, i64>(0)));
    assert_eq!(left.expect("read"), 0);
}

#[test]
fn a_report_that_cannot_be_read_hides_no_other() {
    let folder = tempfile::tempdir().expect("folder");
    let mut store = Store::new(folder.path().join("history.db"));
    store.record(&report("web", 1)).expect("written");
    store.record(&report("web", 2)).expect("written");
    let spoil = "UPDATE deployments SET report = '{\"of\": \"another version\"}' WHERE number = 2";
    store.run("be spoilt", |connection| connection.execute(spoil, [])).expect("spoilt");
    assert_eq!(numbers(&store.deployments(&app("web"), 10).expect("read")), [1]);
    assert_eq!(store.highest_number(&app("web")).expect("read"), 2);
}
