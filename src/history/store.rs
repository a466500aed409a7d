//! The connection and its queries. Everything here blocks; the thread of the history calls it.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Row, params};

use crate::model::{AppName, DeploymentId, Report, Timestamp};

use super::Event;
use super::error::HistoryError;
use super::schema::{Form, MIGRATIONS, migrate};

/// How long another program may hold the lock; well below the deadline of a call.
const LOCKED_AT_MOST: Duration = Duration::from_secs(2);

const UPSERT: &str = "
    INSERT INTO deployments (app, number, queued, ended, outcome, report) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (app, number, queued) DO UPDATE
    SET ended = excluded.ended, outcome = excluded.outcome, report = excluded.report";
const NEWEST: &str = "SELECT report FROM deployments WHERE app = ?1 ORDER BY queued DESC, number DESC LIMIT ?2";
const BY_ID: &str = "SELECT report FROM deployments WHERE app = ?1 AND number = ?2 ORDER BY queued DESC LIMIT 1";
const HIGHEST: &str = "SELECT coalesce(max(number), 0) FROM deployments WHERE app = ?1";
const INSERT_EVENT: &str = "INSERT INTO events (at, app, deployment, kind, message) VALUES (?1, ?2, ?3, ?4, ?5)";
const EVENTS: &str = "
    SELECT at, app, deployment, kind, message FROM events
    WHERE ?1 IS NULL OR app = ?1 ORDER BY id DESC LIMIT ?2";
const PRUNE_DEPLOYMENTS: &str = "
    DELETE FROM deployments WHERE (app, number, queued) IN (
        SELECT app, number, queued FROM (
            SELECT app, number, queued,
                   row_number() OVER (PARTITION BY app ORDER BY queued DESC, number DESC) AS place
            FROM deployments)
        WHERE place > ?1)";
const PRUNE_EVENTS: &str = "DELETE FROM events WHERE id NOT IN (SELECT id FROM events ORDER BY id DESC LIMIT ?1)";

/// The file, and its connection while all goes well.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    connection: Option<Connection>,
}

impl Store {
    pub(super) fn new(path: PathBuf) -> Store {
        Store { path, connection: None }
    }

    pub(super) fn check(&mut self) -> Result<(), HistoryError> {
        self.run("be read", |connection| connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())))
    }

    pub(super) fn record(&mut self, report: &Report) -> Result<(), HistoryError> {
        let json = serde_json::to_string(report)?;
        let ended = report.ended.as_ref();
        let values = params![
            report.id.app.as_str(),
            signed(report.id.number),
            signed(report.queued.unix_millis()),
            ended.map(|ended| signed(ended.at.unix_millis())),
            ended.map(|ended| ended.outcome.as_str()),
            json,
        ];
        self.run("take a deployment", |connection| connection.execute(UPSERT, values).map(drop))
    }

    pub(super) fn deployments(&mut self, app: &AppName, limit: u32) -> Result<Vec<Report>, HistoryError> {
        let texts = self.run("be read", |connection| {
            let mut query = connection.prepare_cached(NEWEST)?;
            query.query_map(params![app.as_str(), limit], text)?.collect::<rusqlite::Result<Vec<String>>>()
        })?;
        Ok(texts.iter().filter_map(|text| readable(text)).collect())
    }

    pub(super) fn deployment(&mut self, id: &DeploymentId) -> Result<Option<Report>, HistoryError> {
        let texts = self.run("be read", |connection| {
            let mut query = connection.prepare_cached(BY_ID)?;
            let rows = query.query_map(params![id.app.as_str(), signed(id.number)], text)?;
            rows.collect::<rusqlite::Result<Vec<String>>>()
        })?;
        Ok(texts.first().and_then(|text| readable(text)))
    }

    pub(super) fn highest_number(&mut self, app: &AppName) -> Result<u64, HistoryError> {
        let number = self.run("be read", |connection| {
            connection.query_row(HIGHEST, params![app.as_str()], |row| row.get::<_, i64>(0))
        })?;
        Ok(number.unsigned_abs())
    }

    pub(super) fn event(&mut self, event: &Event) -> Result<(), HistoryError> {
        let values = params![
            signed(event.at.unix_millis()),
            event.app.as_ref().map(AppName::as_str),
            event.deployment.as_ref().map(ToString::to_string),
            event.kind,
            event.message,
        ];
        self.run("take an event", |connection| connection.execute(INSERT_EVENT, values).map(drop))
    }

    pub(super) fn events(&mut self, app: Option<&AppName>, limit: u32) -> Result<Vec<Event>, HistoryError> {
        self.run("be read", |connection| {
            let mut query = connection.prepare_cached(EVENTS)?;
            query.query_map(params![app.map(AppName::as_str), limit], event)?.collect()
        })
    }

    pub(super) fn prune(&mut self, deployments: u32, events: u32) -> Result<(), HistoryError> {
        self.run("be pruned", |connection| {
            let transaction = connection.transaction()?;
            transaction.execute(PRUNE_DEPLOYMENTS, params![deployments])?;
            transaction.execute(PRUNE_EVENTS, params![events])?;
            transaction.commit()
        })
    }

    /// Runs `job` on an open connection. After any failure the file is opened anew by the next call: it may be
    /// another one by then.
    pub(super) fn run<T>(
        &mut self,
        what: &'static str,
        job: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, HistoryError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open()?,
        };
        let value = job(&mut connection).map_err(|source| self.error(what, source))?;
        self.connection = Some(connection);
        Ok(value)
    }

    fn open(&self) -> Result<Connection, HistoryError> {
        let failed = |source| HistoryError::Open { path: self.path.clone(), source };
        // SQLite would make it readable for everybody; evidence may hold what an app wrote to its log.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error.into())),
            _ => {}
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&self.path, flags).map_err(|error| failed(error.into()))?;
        match prepare(&mut connection).map_err(|source| self.error("be opened", source))? {
            Form::Current => Ok(connection),
            Form::Foreign => Err(HistoryError::Foreign { path: self.path.clone() }),
            Form::Newer(found) => {
                let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
                Err(HistoryError::Newer { path: self.path.clone(), found, known })
            }
        }
    }

    fn error(&self, what: &'static str, source: rusqlite::Error) -> HistoryError {
        let path = self.path.clone();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => HistoryError::Damaged { path, source },
            _ => HistoryError::Query { path, what, source },
        }
    }
}

/// A rollback journal that is truncated, not a write-ahead log: a deployment writes a few rows, so there is nothing to
/// gain; the history stays one plain file that can be copied whenever slotd rests; and a commit is durable when it
/// returns, since with `synchronous = FULL` SQLite syncs the truncated journal as well (it doesn't sync a removed one).
fn prepare(connection: &mut Connection) -> rusqlite::Result<Form> {
    connection.busy_timeout(LOCKED_AT_MOST)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let form = migrate(connection, MIGRATIONS)?;
    if form == Form::Current {
        connection.query_row("PRAGMA journal_mode = TRUNCATE", [], |_| Ok(()))?;
    }
    Ok(form)
}

fn text(row: &Row<'_>) -> rusqlite::Result<String> {
    row.get(0)
}

/// A report that this version can't read is passed over: it must not hide the others.
fn readable(json: &str) -> Option<Report> {
    match serde_json::from_str(json) {
        Ok(report) => Some(report),
        Err(error) => {
            tracing::warn!(%error, "a report of the history can't be read");
            None
        }
    }
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        at: Timestamp::from_unix_millis(row.get::<_, i64>(0)?.unsigned_abs()),
        app: row.get::<_, Option<String>>(1)?.and_then(|app| app.parse().ok()),
        deployment: row.get::<_, Option<String>>(2)?.and_then(|id| id.parse().ok()),
        kind: row.get(3)?,
        message: row.get(4)?,
    })
}

/// SQLite's integers have a sign; what doesn't fit is damaged anyway.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
