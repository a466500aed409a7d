//! What the client is told by its command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use hyper::Uri;

/// How it was called.
#[derive(Debug, Parser)]
#[command(
    name = "handover-client",
    about = "Asks without a pause, and tells what moves from one version to the next cost"
)]
pub struct Settings {
    /// Whom to ask: ADDRESS:PORT
    pub server: SocketAddr,
    /// What to ask for
    #[arg(long, default_value = "/")]
    pub path: Uri,
    /// Workers that open a connection for each request
    #[arg(long, default_value_t = 8)]
    pub new: usize,
    /// Workers that keep their connection
    #[arg(long, default_value_t = 8)]
    pub keep_alive: usize,
    /// Pause of a worker between an answer and its next request ("20ms")
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    pub pace: Duration,
    /// How long an answer may take, from before the connection is opened
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// End after this time; else at SIGTERM, SIGINT or the line `end`
    #[arg(long, value_parser = humantime::parse_duration)]
    pub time: Option<Duration>,
    /// slotd's link to the live slot of the app: each change of it is a `mark`
    #[arg(long)]
    pub current: Option<PathBuf>,
    /// Where the report goes; else to standard output
    #[arg(long)]
    pub report: Option<PathBuf>,
}

impl Settings {
    /// From the command line; ends the process where it makes no sense.
    pub fn read() -> Settings {
        Settings::parse()
    }
}
