//! Where log lines go: to the journal with their fields, or to a terminal.

use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::daemon::LogLevel;

/// Starts logging. Under systemd to the journal, where `SLOTD_APP` and its like are fields; else to standard error.
pub fn start(level: LogLevel) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // SLOTD_LOG overrules the settings, for one start: "debug", "slotd=trace,zbus=info".
    let filter = EnvFilter::builder().with_default_directive(level.into()).with_env_var("SLOTD_LOG").from_env_lossy();
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    match under_systemd.then(tracing_journald::layer) {
        // Fields keep their own names: a search by SLOTD_APP= must find them.
        Some(Ok(journal)) => tracing_subscriber::registry().with(filter).with(journal.with_field_prefix(None)).init(),
        _ => tracing_subscriber::registry()
            .with(filter)
            .with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr))
            .init(),
    }
}
