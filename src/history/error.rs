//! Why the history can't be written or read, and what a person can do about it.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::{Code, Fault};

/// Why the history can't be written or read. None of it stops a deployment.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file can't be made or opened.
    #[error("the history {path} can't be opened: {source}", path = .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What is in the file is no database any more.
    #[error("the history {path} is damaged: {source}", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The file is a database of something else.
    #[error("{path} is not slotd's history but another program's database", path = .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer slotd has changed the file's form.
    #[error("the history {path} has form {found}; this slotd knows forms up to {known}", path = .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its form.
        found: i64,
        /// The newest form that is known.
        known: i64,
    },
    /// SQLite couldn't do it: no room, no permission, locked by another program.
    #[error("the history {path} can't {what}: {source}", path = .path.display())]
    Query {
        /// The file.
        path: PathBuf,
        /// "take a deployment", "be read" …
        what: &'static str,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A report can't be put into words.
    #[error("a report can't be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// No answer in time.
    #[error("the history {path} didn't answer within {after}", path = .path.display(), after = humantime::format_duration(*.after))]
    Slow {
        /// The file.
        path: PathBuf,
        /// How long was waited.
        after: Duration,
    },
    /// Its thread is gone.
    #[error("the history's thread has ended")]
    Gone,
}

impl HistoryError {
    /// As an item of `status`.
    pub fn fault(&self) -> Fault {
        Fault::new(Code::HistoryUnavailable, format!("{self}; deployments go on without it"))
    }

    /// What a person can do, as a command.
    pub fn next(&self) -> Option<String> {
        match self {
            HistoryError::Damaged { path, .. } | HistoryError::Newer { path, .. } | HistoryError::Foreign { path } => {
                Some(format!("mv {0} {0}.aside", path.display()))
            }
            HistoryError::Open { path, .. } => path.parent().map(|folder| format!("ls -ld {}", folder.display())),
            HistoryError::Query { path, .. } => path.parent().map(|folder| format!("df {}", folder.display())),
            HistoryError::Slow { path, .. } => Some(format!("fuser -v {}", path.display())),
            HistoryError::Json(_) | HistoryError::Gone => None,
        }
    }
}
