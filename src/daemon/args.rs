//! The daemon's command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::artifact::worker::THIS_PROGRAM;
use crate::config::daemon::DEFAULT_DAEMON_FILE;

/// A deploy agent for one Linux host. Driven by slotctl(1); normally started by slotd.service.
#[derive(Debug, Parser)]
#[command(name = "slotd", version)]
pub struct Args {
    /// The daemon's settings.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_DAEMON_FILE)]
    pub config: PathBuf,
    /// The program that unpacks artifacts in a process of its own; slotd itself unless said.
    #[arg(long, value_name = "FILE", default_value = THIS_PROGRAM, hide = true)]
    pub worker: PathBuf,
    #[command(subcommand)]
    verb: Option<Command>,
}

impl Args {
    /// What it does.
    pub fn command(&self) -> Command {
        self.verb.unwrap_or_default()
    }
}

/// What it does.
#[derive(Debug, Clone, Copy, Default, Subcommand)]
pub enum Command {
    /// Serve; the default.
    #[default]
    Run,
    /// Read all settings, say what is wrong with them, and exit.
    Check,
}
