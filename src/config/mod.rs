//! What TOML says, as validated settings; errors show the line with a caret.
//!
//! A file becomes settings in three stages: its text is parsed into a document whose values know their places
//! (`document`), each value is read and checked where it stands (`app_file`, `daemon_file`, `probe`, `route`,
//! `hooks`, `sections`), what they ask of each other is held against what there is (`contract`; `depends` of other files),
//! and what comes out are settings in which everything is there and makes sense (`app` with its part `traffic`, of which
//! `reach` is what belongs together, and `daemon`). What a key of a later version would mean is refused, never approximated.

pub mod app;
mod app_file;
mod build;
pub mod chosen;
pub mod contract;
pub mod daemon;
mod daemon_file;
mod depends;
mod document;
pub mod error;
mod hooks;
pub mod host;
pub mod keys;
mod lines;
mod load;
pub mod origins;
mod outside;
pub mod pattern;
mod probe;
pub mod reach;
mod route;
mod sections;
mod text;
mod traffic;

pub use app::AppSettings;
pub use app_file::parse_app;
pub use daemon::{DaemonSettings, Defaults, HistoryKeeps, Profile};
pub use daemon_file::parse_daemon;
pub use error::ConfigError;
pub use load::{Apps, BrokenApp, load_app, load_apps, load_daemon};
pub use pattern::Pattern;
