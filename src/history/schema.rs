//! The tables, and the way from each form of the file to the next.

use rusqlite::{Connection, TransactionBehavior};

/// "slot" as SQLite's application_id: a file with another one isn't the history.
pub(super) const APPLICATION_ID: i64 = 0x736c_6f74;

/// Form n of the file (its user_version) is what the first n of these make. They are never changed, only added to.
pub(super) const MIGRATIONS: &[&str] = &["
    -- A report as JSON, with the columns that are asked for. `queued` is in the key because numbers begin anew
    -- where a history was lost, and a new deployment must not take the place of an old one.
    CREATE TABLE deployments (
        app     TEXT    NOT NULL,
        number  INTEGER NOT NULL,
        queued  INTEGER NOT NULL,
        ended   INTEGER,
        outcome TEXT,
        report  TEXT    NOT NULL,
        PRIMARY KEY (app, number, queued)
    );
    CREATE INDEX deployments_by_time ON deployments (app, queued);
    CREATE TABLE events (
        id         INTEGER PRIMARY KEY,
        at         INTEGER NOT NULL,
        app        TEXT,
        deployment TEXT,
        kind       TEXT    NOT NULL,
        message    TEXT    NOT NULL
    );
    CREATE INDEX events_of_app ON events (app, id);
"];

/// What a file is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One of this room's, now in its newest form.
    Current,
    /// A newer slotd's.
    Newer(i64),
    /// Not the history at all.
    Foreign,
}

/// Brings the file to the newest form of `migrations`, all steps or none.
pub(super) fn migrate(connection: &mut Connection, migrations: &[&str]) -> rusqlite::Result<Form> {
    let number = |connection: &Connection, sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let form = number(connection, "PRAGMA user_version")?;
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    let owner = number(connection, "PRAGMA application_id")?;
    let fresh = owner == 0 && form == 0 && number(connection, "SELECT count(*) FROM sqlite_schema")? == 0;
    if owner != APPLICATION_ID && !fresh {
        return Ok(Form::Foreign);
    }
    if form > known {
        return Ok(Form::Newer(form));
    }
    if form < known {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for step in migrations.iter().skip(usize::try_from(form).unwrap_or(0)) {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", known)?;
        transaction.commit()?;
    }
    Ok(Form::Current)
}
