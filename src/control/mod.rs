//! The control API: HTTP and JSON over the Unix socket, peer credentials read at accept.
//!
//! One file a resource; `table.rs` lists every endpoint with the right it needs. What the verbs do is the
//! business of whoever fulfils [`service::Service`].

pub mod access;
pub mod api;
pub mod limits;
pub mod service;

mod artifacts;
mod connection;
mod deployments;
mod events;
mod freezes;
mod log;
mod patient;
mod peer;
mod pins;
mod prune;
mod quarantine;
mod seats;
mod server;
mod settings;
mod slots;
mod status;
mod table;
mod wire;

pub use access::Access;
pub use limits::Limits;
pub use server::{serve, serve_with};
