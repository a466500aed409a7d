//! The control API: HTTP and JSON over the Unix socket, peer credentials read at accept.

pub mod api;
pub mod service;
