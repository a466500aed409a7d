//! Trees go: first their name, then their files.
//!
//! What is removed gets a leftover's name before its first file goes, so a half-removed tree is never taken for a
//! whole one; whatever a kill leaves behind is swept at the next start. Frozen folders are unfrozen on the way, no
//! link is followed, and a folder on another file system is not entered.

use std::ffi::{CStr, CString};
use std::fs::Permissions;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::error::DurableError;
use super::file::{beside, is_leftover, names};
use super::rename::rename_noreplace;

/// Deepest tree that is removed: each level holds a file descriptor, and no archive is let in that goes deeper
/// than 64.
const MAX_DEPTH: usize = 256;

/// Removes a file or a whole tree. One that isn't there is removed. Returns whether it was there.
pub fn remove_tree(path: &Path) -> Result<bool, DurableError> {
    let is_aside = path.file_name().is_some_and(is_leftover);
    let aside = if is_aside { path.to_owned() } else { beside(path, "gone") };
    if !is_aside {
        match rename_noreplace(path, &aside) {
            Ok(()) => {}
            Err(error) if error.is_absent() => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    let name = CString::new(aside.as_os_str().as_bytes()).map_err(DurableError::io("remove", path))?;
    remove_at(CWD, &name, None, 0).map_err(DurableError::io("remove", &aside))
}

/// Gives the owner of everything in a tree that nobody else has in hand the right to change it.
pub fn unfreeze_tree(path: &Path) -> Result<(), DurableError> {
    let failed = || DurableError::io("make writable", path);
    let meta = path.symlink_metadata().map_err(failed())?;
    if meta.is_symlink() {
        return Ok(());
    }
    let mode = Permissions::from_mode(meta.permissions().mode() & 0o777 | 0o200);
    std::fs::set_permissions(path, mode).map_err(failed())?;
    if meta.is_dir() {
        for name in names(path)? {
            unfreeze_tree(&path.join(name))?;
        }
    }
    Ok(())
}

/// Removes what a kill left half made or half removed in a folder; with `all`, everything in it.
pub fn sweep(folder: &Path, all: bool) -> Result<(), DurableError> {
    for name in names(folder)?.into_iter().filter(|name| all || is_leftover(name)) {
        remove_tree(&folder.join(name))?;
    }
    Ok(())
}

/// Removes `name` in `dir`; `device` is the file system to stay on. What is gone already is no error.
fn remove_at(dir: BorrowedFd<'_>, name: &CStr, device: Option<u64>, depth: usize) -> Result<bool, Errno> {
    let meta = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(false),
        meta => meta?,
    };
    if FileType::from_raw_mode(meta.st_mode) != FileType::Directory {
        return gone(rustix::fs::unlinkat(dir, name, AtFlags::empty()));
    }
    if depth > MAX_DEPTH {
        return Err(Errno::NAMETOOLONG);
    }
    let opened = open_unfrozen(dir, name)?;
    let here = rustix::fs::fstat(&opened)?.st_dev;
    if device.is_some_and(|device| device != here) {
        return Err(Errno::XDEV);
    }
    for entry in entries(&opened)? {
        remove_at(opened.as_fd(), &entry, Some(here), depth + 1)?;
    }
    gone(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR))
}

/// Opens a folder, never through a link, and makes it ours to change.
fn open_unfrozen(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        // A folder without even the right to read: it was seen to be a folder, in a folder that is only ours.
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(dir, name, Mode::RWXU, AtFlags::empty())?;
            rustix::fs::openat(dir, name, flags, Mode::empty())?
        }
        opened => opened?,
    };
    rustix::fs::fchmod(&opened, Mode::RWXU)?;
    Ok(opened)
}

/// All names, read before the first goes: what readdir gives while entries vanish is not defined.
fn entries(dir: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

fn gone(result: Result<(), Errno>) -> Result<bool, Errno> {
    match result {
        Err(Errno::NOENT) => Ok(false),
        result => result.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree(root: &Path) {
        std::fs::create_dir_all(root.join("bin/deep")).expect("folders");
        std::fs::write(root.join("bin/web"), "x").expect("file");
        std::fs::write(root.join("bin/deep/y"), "y").expect("file");
        for folder in ["bin/deep", "bin", ""] {
            let frozen = Permissions::from_mode(0o555);
            std::fs::set_permissions(root.join(folder), frozen).expect("frozen");
        }
    }

    #[test]
    fn a_frozen_tree_goes_whole() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("tree");
        tree(&path);
        assert!(remove_tree(&path).expect("removed"));
        assert!(!remove_tree(&path).expect("gone is gone"));
        assert_eq!(names(dir.path()).expect("names"), Vec::<std::ffi::OsString>::new());
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let dir = tempfile::tempdir().expect("dir");
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        std::fs::create_dir(&outside).expect("folder");
        std::fs::write(outside.join("precious"), "").expect("file");
        std::fs::create_dir(&tree).expect("folder");
        symlink("../outside", tree.join("to-folder")).expect("link");
        symlink("nowhere", tree.join("dangling")).expect("link");
        remove_tree(&tree).expect("removed");
        assert!(outside.join("precious").exists());
        let link = dir.path().join("link");
        symlink("outside", &link).expect("link");
        remove_tree(&link).expect("removed");
        assert!(outside.join("precious").exists());
    }

    #[test]
    fn what_a_kill_left_is_swept_and_the_rest_stays() {
        let dir = tempfile::tempdir().expect("dir");
        let (whole, half) = (dir.path().join("1.4.2"), dir.path().join("1.4.1"));
        tree(&whole);
        tree(&half);
        rename_noreplace(&half, &beside(&half, "gone")).expect("killed just after the rename");
        std::fs::write(dir.path().join(".intent.spare"), "").expect("not a leftover");
        sweep(dir.path(), false).expect("swept");
        let mut left = names(dir.path()).expect("names");
        left.sort();
        assert_eq!(left, [".intent.spare", "1.4.2"]);
        sweep(dir.path(), true).expect("swept");
        assert!(names(dir.path()).expect("names").is_empty());
        sweep(&dir.path().join("absent"), true).expect("nothing to sweep");
    }
}
