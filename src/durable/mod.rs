//! The only place that renames, links and flushes.
//!
//! Every function here leaves the disk in one of two states, whole before or whole after, at any kill or
//! power loss, and has returned only when the state after would survive one. Nothing here knows what
//! the files mean, and nothing here is asynchronous: callers on the runtime use a blocking thread.
//!
//! | file | what it does |
//! |---|---|
//! | `error.rs` | what can go wrong, and its code |
//! | `file.rs` | whole files: written aside and renamed in, read with a cap; folders; flushes |
//! | `rename.rs` | renames, exchanges and symbolic links |
//! | `remove.rs` | trees go, frozen or half gone |
//! | `ballast.rs` | a record that can be written on a full disk |
//! | `secure.rs` | whether somebody else could change a folder |

mod ballast;
mod error;
mod file;
mod remove;
mod rename;
mod secure;

pub use ballast::Ballast;
pub use error::DurableError;
pub use file::{
    MAX_JSON_BYTES, aside_in, create_dir, freeze_dir, make_dir, names, parent, read_bytes, read_json, remove_file,
    sync_dir, sync_tree, write_atomic, write_atomic_mode, write_json, write_new,
};
pub use remove::{remove_tree, sweep, unfreeze_tree};
pub use rename::{exchange, remove_link, rename_noreplace, rename_over, symlink_atomic, symlink_new};
pub use secure::{secure_dir, secure_dir_below};
