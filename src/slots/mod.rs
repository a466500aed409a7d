//! Slots on disk: publish, verify, links, keep-set, prune.

pub mod env;
pub mod keep;
