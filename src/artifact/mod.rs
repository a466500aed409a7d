//! What comes in: copied, hashed, checked and unpacked, and the same rules for those who pack.
//!
//! Refuse, never repair or skip: one entry against the rules refuses the whole artifact, and nothing of it stays.
//! The way of an artifact: [`spool`] (a private copy and its digest) → [`checksum`] (the digest beside it) →
//! [`worker`] (a child process) → [`unpack`] → [`manifest`] and [`release`]. Signatures are not looked at here.

mod archive;
mod error;
mod index;
mod links;
mod path;
mod stream;
mod tree;

pub mod checksum;
pub mod format;
pub mod limits;
pub mod lint;
pub mod manifest;
pub mod pack;
pub mod release;
pub mod spool;
pub mod unpack;
pub mod verify;
pub mod worker;

pub use archive::HeaderError;
pub use error::{ArtifactError, Rule};
pub use format::Format;
pub use index::DuplicateError;
pub use limits::{LimitError, Limits, Reserve};
pub use links::LinkError;
pub use manifest::Manifest;
pub use path::PathError;
pub use tree::empty;
