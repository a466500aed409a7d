//! Slots on disk: published whole, named by three links, kept or removed by one rule.
//!
//! | file | what it does |
//! |---|---|
//! | `store.rs` | opens an app's folders, reads the slots in them |
//! | `publish.rs` | an unpacked artifact becomes a tree and a slot, a refused one a record |
//! | `build.rs` | trees on their way through a build, and what it said |
//! | `instance.rs`, `env.rs` | what a template unit reads as `instances/%i` |
//! | `ports.rs` | which port of its own an instance gets |
//! | `compare.rs` | a tree against its content manifest |
//! | `links.rs` | `current`, `fallback`, `next` |
//! | `marks.rs` | quarantine, pins, evidence, the highest release |
//! | `freeze.rs` | the times in which nothing goes forward |
//! | `keep.rs` | which slots are kept, and why (pure) |
//! | `prune.rs` | the others go |
//! | `gone.rs` | what stays of them: their records |
//! | `error.rs` | what can go wrong, and its code |
//!
//! The file system is the truth: nothing is remembered between two calls. Nothing here knows what runs.

mod breaks;
mod build;
mod compare;
pub mod env;
mod error;
mod freeze;
mod gone;
mod instance;
pub mod keep;
mod links;
mod marks;
mod ports;
mod prune;
mod publish;
mod store;

#[cfg(test)]
mod tests;

pub use compare::compare;
pub use error::SlotError;
pub use freeze::{freeze_all, frozen_all, unfreeze_all};
pub use gone::{Claim, MOST_GONE};
pub use instance::{HEALTH_DIR, health_socket};
pub use keep::{Candidate, KeepInputs, KeepSet, keep_set};
pub use links::{LinkState, Links};
pub use marks::Marking;
pub use prune::{Pruned, Removal};
pub use publish::{NewSlot, PublishStep, Published, Verify, text_digest, tree_key, unit_digest};
pub use store::{Entry, SlotStore, Stored};
