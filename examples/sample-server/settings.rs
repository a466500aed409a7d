//! What the server is told: by its command line, by slotd's environment, and by the files of its release.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use clap::Parser;

use crate::behaviour::{Behaviour, BehaviourError};

/// How it was called.
#[derive(Debug, Parser)]
#[command(name = "sample-server", about = "Answers with the version that it is")]
pub struct Settings {
    /// Bind this port of 127.0.0.1; without it, $PORT of all addresses; without both the listener comes from systemd
    #[arg(long)]
    pub port: Option<u16>,
    /// From `$PORT`, which slotd sets where each instance has a port of its own.
    #[arg(skip = env::var("PORT").ok().and_then(|port| port.parse().ok()))]
    pub own_port: Option<u16>,
    /// The folder of the release: VERSION and, for tests, BEHAVIOUR
    #[arg(long, default_value = ".")]
    pub tree: PathBuf,
    /// From `$HEALTH_SOCKET`: answer on this Unix socket as well.
    #[arg(skip = env::var_os("HEALTH_SOCKET").map(PathBuf::from))]
    pub health_socket: Option<PathBuf>,
}

/// What answers.
#[derive(Debug)]
pub struct Release {
    /// Its version.
    pub version: String,
    /// slotd's name for where it lies; "-" outside of slotd.
    pub slot: String,
}

/// What can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("which version is this? {path} isn't there, and SLOTD_VERSION isn't set", path = .0.display())]
    NoVersion(PathBuf),
    #[error("can't read {path}: {cause}", path = .path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("{path}: {cause}", path = .path.display())]
    Behaviour { path: PathBuf, cause: BehaviourError },
}

impl Settings {
    /// From the command line and the environment; ends the process where they make no sense.
    pub fn read() -> Settings {
        Settings::parse()
    }
}

/// The file VERSION counts, being what was packed; else the environment.
pub fn release(tree: &Path) -> Result<Release, SettingsError> {
    let file = tree.join("VERSION");
    let version = match read(&file)? {
        Some(text) => text.trim().to_owned(),
        None => env::var("SLOTD_VERSION").map_err(|_| SettingsError::NoVersion(file))?,
    };
    Ok(Release { version, slot: env::var("SLOTD_SLOT").unwrap_or_else(|_| "-".to_owned()) })
}

/// The file BEHAVIOUR; a release without one behaves.
pub fn behaviour(tree: &Path) -> Result<Behaviour, SettingsError> {
    let path = tree.join("BEHAVIOUR");
    match read(&path)? {
        Some(text) => text.parse().map_err(|cause| SettingsError::Behaviour { path, cause }),
        None => Ok(Behaviour::default()),
    }
}

fn read(path: &Path) -> Result<Option<String>, SettingsError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(SettingsError::Unreadable { path: path.to_owned(), cause }),
    }
}
