//! Names that move: renames, exchanges and symbolic links, each durable when it returns.

use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags};

use super::error::DurableError;
use super::file::{beside, parent, sync_dir};

/// Renames; what stands at `to` already is an error ([`DurableError::is_exists`]) and stays.
pub fn rename_noreplace(from: &Path, to: &Path) -> Result<(), DurableError> {
    rename(from, to, RenameFlags::NOREPLACE)
}

/// Renames over what stands at `to`.
pub fn rename_over(from: &Path, to: &Path) -> Result<(), DurableError> {
    rename(from, to, RenameFlags::empty())
}

/// Exchanges two names; both must be there. Needs neither a new block nor a new inode.
pub fn exchange(a: &Path, b: &Path) -> Result<(), DurableError> {
    rename(a, b, RenameFlags::EXCHANGE)
}

/// Puts a symbolic link with the text `target` at `path`, over the link or file that was there.
pub fn symlink_atomic(target: &Path, path: &Path) -> Result<(), DurableError> {
    let aside = beside(path, "new");
    symlink_new(target, &aside)?;
    let renamed = rename_over(&aside, path);
    if renamed.is_err() {
        // The error in hand is the one to tell; a leftover is swept at the next start.
        let _ = std::fs::remove_file(&aside);
    }
    renamed
}

/// Makes a symbolic link without flushing its folder: for folders that are made aside.
pub fn symlink_new(target: &Path, path: &Path) -> Result<(), DurableError> {
    std::os::unix::fs::symlink(target, path).map_err(DurableError::io("make the link", path))
}

/// Removes a symbolic link, and only a link. One that isn't there is removed. Returns whether it was there.
pub fn remove_link(path: &Path) -> Result<bool, DurableError> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => super::file::remove_file(path),
        Ok(_) => Err(DurableError::io("remove the link", path)(io::Error::other("it is no symbolic link"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(DurableError::io("look at", path)(error)),
    }
}

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> Result<(), DurableError> {
    rename_unflushed(from, to, flags)?;
    let (source, target) = (parent(from), parent(to));
    // The target first: should power fail between the two, the name is there twice rather than nowhere.
    sync_dir(target)?;
    if source == target { Ok(()) } else { sync_dir(source) }
}

#[expect(clippy::disallowed_methods, reason = "this is the one door")]
fn rename_unflushed(from: &Path, to: &Path, flags: RenameFlags) -> Result<(), DurableError> {
    let action = if flags.contains(RenameFlags::EXCHANGE) { "exchange" } else { "rename to" };
    rustix::fs::renameat_with(CWD, from, CWD, to, flags).map_err(DurableError::io(action, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).expect("readable")
    }

    #[test]
    fn a_name_that_is_taken_stays_taken() {
        let dir = tempfile::tempdir().expect("dir");
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&a, "a").expect("write");
        std::fs::write(&b, "b").expect("write");
        let error = rename_noreplace(&a, &b).expect_err("taken");
        assert!(error.is_exists(), "{error:?}");
        assert_eq!((read(&a).as_str(), read(&b).as_str()), ("a", "b"));
        exchange(&a, &b).expect("exchanged");
        assert_eq!((read(&a).as_str(), read(&b).as_str()), ("b", "a"));
        rename_over(&a, &b).expect("over");
        assert_eq!(read(&b), "b");
        assert!(exchange(&a, &b).expect_err("one is gone").is_absent());
    }

    #[test]
    fn a_link_is_replaced_and_removed_as_a_link() {
        let dir = tempfile::tempdir().expect("dir");
        let link = dir.path().join("current");
        std::fs::create_dir(dir.path().join("one")).expect("a folder");
        symlink_atomic(Path::new("one"), &link).expect("made");
        symlink_atomic(Path::new("two"), &link).expect("replaced, not put into `one`");
        assert_eq!(std::fs::read_link(&link).expect("a link"), Path::new("two"));
        assert!(remove_link(&link).expect("removed"));
        assert!(!remove_link(&link).expect("gone is gone"));
        assert!(remove_link(&dir.path().join("one")).is_err(), "a folder is no link");
    }
}
