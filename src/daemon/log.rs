//! Where log lines go: to the journal with their fields, or to a terminal.

use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use crate::config::daemon::LogLevel;

/// From which level on there are lines; it can be changed.
pub struct Level {
    now: LogLevel,
    handle: reload::Handle<EnvFilter, Registry>,
}

impl Level {
    /// The level that the settings want.
    #[cfg(test)]
    pub fn get(&self) -> LogLevel {
        self.now
    }

    /// The level of lines that go nowhere.
    #[cfg(test)]
    pub fn unheard() -> Level {
        let (_, handle) = reload::Layer::new(filter(LogLevel::Info));
        Level { now: LogLevel::Info, handle }
    }

    /// Another level from now on.
    pub fn set(&mut self, level: LogLevel) {
        if level == self.now {
            return;
        }
        self.now = level;
        // That nobody writes lines any more is no reason to say so in one.
        let _ = self.handle.reload(filter(level));
        tracing::info!("lines are logged from the level {} on", level.as_str());
    }
}

/// Starts logging. Under systemd to the journal, where `SLOTD_APP` and its like are fields; else to standard error.
pub fn start(level: LogLevel) -> Level {
    let (filter, handle) = reload::Layer::new(filter(level));
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    match under_systemd.then(tracing_journald::layer) {
        // Fields keep their own names: a search by SLOTD_APP= must find them.
        Some(Ok(journal)) => tracing_subscriber::registry().with(filter).with(journal.with_field_prefix(None)).init(),
        _ => tracing_subscriber::registry()
            .with(filter)
            .with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr))
            .init(),
    }
    Level { now: level, handle }
}

/// SLOTD_LOG overrules the settings as long as the daemon runs: "debug", "slotd=trace,zbus=info".
fn filter(level: LogLevel) -> EnvFilter {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    EnvFilter::builder().with_default_directive(level.into()).with_env_var("SLOTD_LOG").from_env_lossy()
}
