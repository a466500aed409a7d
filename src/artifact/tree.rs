//! A tree on the disk while it is made: the only place here that creates, and that removes.
//!
//! Every name is resolved by openat2 from the top folder, beneath it, through no link and onto no other file
//! system, and every creation is exclusive: whatever is in the way was put there by somebody else.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::error::{ArtifactError, shown};
use super::path::{EntryPath, PathError};

/// Mode of a file.
pub(super) const FILE_MODE: u32 = 0o444;
/// Mode of a file with an x bit.
pub(super) const EXECUTABLE_MODE: u32 = 0o555;
/// Mode of a frozen folder.
pub(super) const FOLDER_MODE: u32 = 0o555;

/// How every name is resolved.
pub(super) const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Deeper than any tree that is made here.
const MAX_REMOVE_DEPTH: usize = 2 * super::path::MAX_DEPTH;

/// The top folder of a tree being made.
#[derive(Debug)]
pub(super) struct Tree {
    top: OwnedFd,
    path: PathBuf,
}

impl Tree {
    /// Opens the folder that a tree is to be made in: private and empty.
    pub(super) fn open(path: &Path) -> Result<Self, ArtifactError> {
        let top = open_folder(path)?;
        let tree = Tree { top, path: path.to_owned() };
        let stat = rustix::fs::fstat(&tree.top).map_err(ArtifactError::os("look at", path))?;
        if stat.st_mode & 0o077 != 0 {
            return Err(tree.race("others may enter the folder"));
        }
        if !names(&tree.top, path)?.is_empty() {
            return Err(tree.race("the folder isn't empty"));
        }
        Ok(tree)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a folder.
    pub(super) fn folder(&self, path: &EntryPath) -> Result<(), ArtifactError> {
        let (parent, name) = self.parent(path)?;
        rustix::fs::mkdirat(parent, name, Mode::from(0o700)).map_err(|errno| self.error("make", path, errno))
    }

    /// Makes a file, to be written and then [`finished`](Self::finish).
    pub(super) fn file(&self, path: &EntryPath) -> Result<File, ArtifactError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.top, path.as_str(), flags, Mode::from(0o600), BENEATH)
            .map(File::from)
            .map_err(|errno| self.error("make", path, errno))
    }

    /// Gives a written file its mode and time (seconds since 1970), and tells the time that it then has: a file
    /// system that can't hold a date takes the nearest that it can.
    pub(super) fn finish(
        &self,
        file: &File,
        path: &EntryPath,
        is_executable: bool,
        mtime: u64,
    ) -> Result<u64, ArtifactError> {
        let mode = if is_executable { EXECUTABLE_MODE } else { FILE_MODE };
        rustix::fs::fchmod(file, Mode::from(mode)).map_err(|errno| self.error("freeze", path, errno))?;
        let time = Timespec { tv_sec: i64::try_from(mtime).unwrap_or(i64::MAX), tv_nsec: 0 };
        rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time })
            .and_then(|()| rustix::fs::fstat(file))
            .map(|stat| u64::try_from(stat.st_mtime).unwrap_or(0))
            .map_err(|errno| self.error("set the time of", path, errno))
    }

    /// Makes `path` a further name of the file `of`.
    pub(super) fn hard_link(&self, path: &EntryPath, of: &EntryPath) -> Result<(), ArtifactError> {
        let (from, old) = self.parent(of)?;
        let (to, new) = self.parent(path)?;
        rustix::fs::linkat(from, old, to, new, AtFlags::empty()).map_err(|errno| self.error("link", path, errno))
    }

    /// Makes a symbolic link.
    pub(super) fn symlink(&self, path: &EntryPath, target: &str) -> Result<(), ArtifactError> {
        let (parent, name) = self.parent(path)?;
        rustix::fs::symlinkat(target, parent, name).map_err(|errno| self.error("link", path, errno))
    }

    /// Freezes a folder.
    pub(super) fn freeze(&self, path: &EntryPath) -> Result<(), ArtifactError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.top, path.as_str(), flags, Mode::empty(), BENEATH)
            .and_then(|folder| rustix::fs::fchmod(folder, Mode::from(FOLDER_MODE)))
            .map_err(|errno| self.error("freeze", path, errno))
    }

    /// Removes all that was made.
    pub(super) fn empty(&self) -> Result<(), ArtifactError> {
        empty_fd(&self.top, &self.path, 0)
    }

    /// The folder that `path` lies in, opened, and its name there.
    fn parent<'a>(&self, path: &'a EntryPath) -> Result<(OwnedFd, &'a str), ArtifactError> {
        let (folder, name) = path.split();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.top, folder, flags, Mode::empty(), BENEATH)
            .map(|parent| (parent, name))
            .map_err(|errno| self.error("open the folder of", path, errno))
    }

    /// What an error of a creation says: the index knows that the name is free and the folders are there, so
    /// anything else in the way was put there by another process.
    fn error(&self, step: &'static str, path: &EntryPath, errno: Errno) -> ArtifactError {
        match errno {
            Errno::EXIST => self.race(&format!("{path} came up by itself")),
            Errno::LOOP | Errno::XDEV | Errno::NOTDIR | Errno::NOENT | Errno::AGAIN => {
                self.race(&format!("a folder of {path} isn't what was made"))
            }
            // The file system's own bound lies below the usual 255.
            Errno::NAMETOOLONG => ArtifactError::from(PathError::LongComponent).about(&shown(path.as_str().as_bytes())),
            errno => ArtifactError::os(step, self.path.join(path.as_str()))(errno),
        }
    }

    fn race(&self, what: &str) -> ArtifactError {
        ArtifactError::Race { path: self.path.clone(), what: what.to_owned() }
    }
}

/// Removes all that lies in `dir`, frozen folders too, and leaves `dir` itself. Follows no link.
///
/// # Errors
/// `fs.io`; what could be removed until then is gone.
pub fn empty(dir: &Path) -> Result<(), ArtifactError> {
    let top = open_folder(dir)?;
    let mode = rustix::fs::fstat(&top).map_err(ArtifactError::os("look at", dir))?.st_mode;
    if mode & 0o300 != 0o300 {
        rustix::fs::fchmod(&top, Mode::from(0o700)).map_err(ArtifactError::os("unfreeze", dir))?;
    }
    empty_fd(&top, dir, 0)
}

fn empty_fd(folder: &OwnedFd, path: &Path, depth: usize) -> Result<(), ArtifactError> {
    for name in names(folder, path)? {
        let path = path.join(std::ffi::OsStr::new(&name.to_string_lossy().into_owned()));
        let stat = rustix::fs::statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(ArtifactError::os("look at", &path))?;
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_folder {
            if depth > MAX_REMOVE_DEPTH {
                return Err(ArtifactError::Race { path, what: "folders deeper than any that was made".into() });
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let inner = rustix::fs::openat2(folder, &name, flags, Mode::empty(), BENEATH)
                .map_err(ArtifactError::os("open", &path))?;
            rustix::fs::fchmod(&inner, Mode::from(0o700)).map_err(ArtifactError::os("unfreeze", &path))?;
            empty_fd(&inner, &path, depth + 1)?;
        }
        let flags = if is_folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        rustix::fs::unlinkat(folder, &name, flags).map_err(ArtifactError::os("remove", &path))?;
    }
    Ok(())
}

/// Opens a folder for reading, the last component not followed.
pub(super) fn open_folder(path: &Path) -> Result<OwnedFd, ArtifactError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(ArtifactError::os("open", path))
}

/// The names in a folder, `.` and `..` left out, in no order.
pub(super) fn names(folder: impl AsFd, path: &Path) -> Result<Vec<std::ffi::CString>, ArtifactError> {
    let read = || -> Result<Vec<_>, Errno> {
        let entries = Dir::read_from(folder)?.map(|entry| entry.map(|entry| entry.file_name().to_owned()));
        entries.filter(|name| !name.as_ref().is_ok_and(|name| matches!(name.to_bytes(), b"." | b".."))).collect()
    };
    read().map_err(ArtifactError::os("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Code;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn private() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("folder");
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o700)).expect("chmod");
        dir
    }

    fn path(text: &str) -> EntryPath {
        EntryPath::parse(text.as_bytes(), false).expect("valid").expect("not the top")
    }

    #[test]
    fn a_folder_must_be_private_and_empty() {
        let dir = private();
        assert!(Tree::open(dir.path()).is_ok());
        std::fs::write(dir.path().join("x"), "").expect("write");
        assert_eq!(Tree::open(dir.path()).expect_err("not empty").code(), Code::FsRace);
        std::fs::remove_file(dir.path().join("x")).expect("remove");
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
        assert_eq!(Tree::open(dir.path()).expect_err("open to others").code(), Code::FsRace);
    }

    #[test]
    fn what_another_process_put_there_is_not_used() {
        let (dir, outside) = (private(), private());
        let tree = Tree::open(dir.path()).expect("tree");
        symlink(outside.path(), dir.path().join("link")).expect("link");
        std::fs::write(dir.path().join("file"), "theirs").expect("write");
        for name in ["link/x", "link", "file", "file/x", "gone/x"] {
            assert_eq!(tree.file(&path(name)).expect_err(name).code(), Code::FsRace, "{name}");
            assert_eq!(tree.folder(&path(name)).expect_err(name).code(), Code::FsRace, "{name}");
            assert_eq!(tree.symlink(&path(name), "x").expect_err(name).code(), Code::FsRace, "{name}");
        }
        assert_eq!(tree.freeze(&path("link")).expect_err("link").code(), Code::FsRace);
        assert_eq!(std::fs::read_dir(outside.path()).expect("outside").count(), 0);
    }

    #[test]
    fn frozen_folders_are_removed_and_links_not_followed() {
        let (dir, outside) = (private(), private());
        std::fs::write(outside.path().join("kept"), "").expect("write");
        let tree = Tree::open(dir.path()).expect("tree");
        for folder in ["a", "a/b"] {
            tree.folder(&path(folder)).expect("folder");
        }
        let file = tree.file(&path("a/b/c")).expect("file");
        tree.finish(&file, &path("a/b/c"), true, 7).expect("finish");
        tree.symlink(&path("a/out"), outside.path().to_str().expect("UTF-8")).expect("link");
        for folder in ["a/b", "a"] {
            tree.freeze(&path(folder)).expect("freeze");
        }
        let stat = std::fs::metadata(dir.path().join("a/b/c")).expect("stat");
        assert_eq!((stat.mode() & 0o7777, stat.mtime()), (0o555, 7));
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o555)).expect("chmod");
        empty(dir.path()).expect("emptied");
        assert_eq!(std::fs::read_dir(dir.path()).expect("dir").count(), 0);
        assert!(outside.path().join("kept").exists());
    }
}
