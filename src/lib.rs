//! slotd: a deploy agent for one Linux host. See ARCHITECTURE.md for the way of an artifact.

pub mod gate;
pub mod model;

#[cfg(feature = "daemon")]
pub mod agent;
#[cfg(feature = "daemon")]
pub mod artifact;
#[cfg(feature = "daemon")]
pub mod cli;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod control;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod deployment;
#[cfg(feature = "daemon")]
pub mod durable;
#[cfg(feature = "daemon")]
pub mod history;
#[cfg(feature = "daemon")]
pub mod inbox;
#[cfg(feature = "daemon")]
pub mod points;
#[cfg(feature = "daemon")]
pub mod probes;
#[cfg(feature = "daemon")]
pub mod routes;
#[cfg(feature = "daemon")]
pub mod slots;
#[cfg(feature = "daemon")]
pub mod units;
