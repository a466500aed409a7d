//! `lend` and `take-back`: the tree of a build belongs to the build's user while it runs, and to slotd before and after.
//!
//! slotd is an ordinary user and can't give files away, and what it couldn't take back it could neither read nor remove. Here
//! root does it, for one folder: `builds/SLOT/tree` of an app. The state folder is slotd's, so nothing there is trusted: each
//! step is opened without following links, and a link in the tree changes its own owner, never that of what it names. Who
//! gets the tree is the unit's `User=`, which the administrator wrote; never root.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::unistd::User;
use rustix::fs::{AtFlags, Dir, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::model::{AppName, InstanceName, Layout, UnitName};

use super::say;
use super::systemctl::{Systemctl, SystemctlError};

/// Deepest folder that is gone into: no tree is let in that goes deeper than 64, but a build may make what it likes.
const MAX_DEPTH: usize = 256;

/// What is opened: a folder, and never through a link.
const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// `APP:UNIT`: an app, and the unit of a build of one of its releases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Borrower {
    /// The app.
    pub app: AppName,
    /// "web-build@1.4.2.service".
    pub unit: UnitName,
    /// Which release: the folder of its build.
    pub slot: InstanceName,
}

/// Why a tree has the owner that it had.
#[derive(Debug, thiserror::Error)]
pub enum LendError {
    /// systemd doesn't say who runs the build.
    #[error("{unit}: {cause}")]
    Unit {
        /// The build's.
        unit: UnitName,
        /// Why.
        cause: SystemctlError,
    },
    /// Root, or nobody whom this host knows.
    #[error("{unit} has User={user}: a tree is lent to an ordinary user of this host only")]
    User {
        /// The build's.
        unit: UnitName,
        /// What the unit says.
        user: String,
    },
    /// A file or folder.
    #[error("can't give {} another owner: {cause}", .path.display())]
    Io {
        /// Which tree.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

impl Borrower {
    /// What the instance of the unit says: `APP:TEMPLATE@SLOT`.
    pub fn parse(word: &str) -> Option<Borrower> {
        let (app, unit) = word.split_once(':')?;
        let (_, slot) = unit.split_once('@')?;
        let slot: InstanceName = slot.parse().ok()?;
        let plain = slot.number == 1 && unit.ends_with(&format!("@{}", slot.slot.encoded()));
        let unit = UnitName::new(format!("{unit}.service"));
        plain.then_some(Borrower { app: app.parse().ok()?, unit, slot })
    }

    fn tree(&self, layout: &Layout) -> PathBuf {
        layout.build(&self.slot.slot).join("tree")
    }
}

/// Gives the tree to the user of the build's unit.
pub fn lend(layout: &Layout, to: &Borrower, systemctl: &Systemctl) -> Result<(), LendError> {
    let failed = |cause| LendError::Unit { unit: to.unit.clone(), cause };
    let name = systemctl.user_of(&to.unit).map_err(failed)?;
    let known = User::from_name(&name).ok().flatten().filter(|user| !user.uid.is_root());
    let user = known.ok_or_else(|| LendError::User { unit: to.unit.clone(), user: name.clone() })?;
    let owner = (Uid::from_raw(user.uid.as_raw()), Gid::from_raw(user.gid.as_raw()));
    let given = give(layout, to, Order::FolderFirst, |_| Ok(owner)).map_err(|errno| failure(layout, to, errno))?;
    if given == 0 {
        return Err(failure(layout, to, Errno::NOENT));
    }
    say(&to.app, &format!("{} may change the files of {}: {given} are its own", name, to.slot.slot));
    Ok(())
}

/// Gives the tree back to whom the app's folder belongs. One that isn't there needn't be.
pub fn take_back(layout: &Layout, from: &Borrower) -> Result<(), LendError> {
    let owner = |app: BorrowedFd<'_>| {
        let stat = rustix::fs::fstat(app)?;
        Ok((Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)))
    };
    give(layout, from, Order::FolderLast, owner).map(drop).map_err(|errno| failure(layout, from, errno))
}

/// When a folder changes its owner: so that whatever is cut off, a tree whose top folder is slotd's is slotd's in whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Before what is in it.
    FolderFirst,
    /// After that.
    FolderLast,
}

fn failure(layout: &Layout, borrower: &Borrower, errno: Errno) -> LendError {
    LendError::Io { path: borrower.tree(layout), cause: errno.into() }
}

/// Gives everything in the tree the owner that follows from the app's folder. Returns how many files there are; none
/// where there is no tree.
fn give(
    layout: &Layout,
    borrower: &Borrower,
    order: Order,
    owner: impl Fn(BorrowedFd<'_>) -> Result<(Uid, Gid), Errno>,
) -> Result<u64, Errno> {
    let app = rustix::fs::open(layout.root(), FOLDER, Mode::empty())?;
    let owner = owner(app.as_fd())?;
    let mut folder = app;
    for step in ["builds", &borrower.slot.slot.encoded(), "tree"] {
        folder = match rustix::fs::openat(&folder, step, FOLDER, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(0),
            opened => opened?,
        };
    }
    let mut given = 0;
    give_all(&folder, (order, owner), 0, &mut given)?;
    Ok(given)
}

/// A folder and all that is in it.
fn give_all(folder: &OwnedFd, how: (Order, (Uid, Gid)), depth: usize, given: &mut u64) -> Result<(), Errno> {
    if depth > MAX_DEPTH {
        return Err(Errno::NAMETOOLONG);
    }
    let (order, (user, group)) = how;
    let give_folder = || rustix::fs::fchown(folder, Some(user), Some(group));
    if order == Order::FolderFirst {
        give_folder()?;
    }
    for name in entries(folder)? {
        match rustix::fs::openat(folder, &name, FOLDER, Mode::empty()) {
            Ok(inner) => give_all(&inner, how, depth + 1, given)?,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                rustix::fs::chownat(folder, &name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
                *given += 1;
            }
            // Whoever made it may have taken it away meanwhile.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    *given += 1;
    if order == Order::FolderLast { give_folder() } else { Ok(()) }
}

fn entries(folder: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_borrows() {
        let borrower = Borrower::parse("web:web-build@1.4.2@bgit5@r2").expect("a borrower");
        assert_eq!(borrower.unit.as_str(), "web-build@1.4.2@bgit5@r2.service");
        assert_eq!(borrower.slot.slot.encoded(), "1.4.2@bgit5@r2");
        let layout = Layout::new("/s", "/r", borrower.app.clone());
        assert_eq!(borrower.tree(&layout), PathBuf::from("/s/apps/web/builds/1.4.2@bgit5@r2/tree"));
        for bad in ["web", "web:web-build", "web:web-build@", "web:web-build@../../x", "web:web-build@1@2", "Web:b@1"] {
            assert_eq!(Borrower::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_the_tree_is_given_and_no_link_is_followed() {
        let base = tempfile::tempdir().expect("a folder");
        let borrower = Borrower::parse("web:web-build@1").expect("a borrower");
        let layout = Layout::new(base.path(), base.path(), borrower.app.clone());
        let me = (rustix::process::getuid(), rustix::process::getgid());
        // Nothing there is nothing to give back.
        std::fs::create_dir_all(layout.root()).expect("made");
        assert_eq!(give(&layout, &borrower, Order::FolderLast, |_| Ok(me)), Ok(0));
        let tree = borrower.tree(&layout);
        std::fs::create_dir_all(tree.join("bin")).expect("made");
        std::fs::write(tree.join("bin/web"), "").expect("written");
        std::os::unix::fs::symlink(base.path(), tree.join("out")).expect("linked");
        assert_eq!(
            give(&layout, &borrower, Order::FolderLast, |_| Ok(me)),
            Ok(4),
            "the tree, a folder, a file, the link itself"
        );
        std::fs::remove_dir_all(&tree).expect("removed");
        std::os::unix::fs::symlink(base.path(), &tree).expect("linked");
        assert_eq!(give(&layout, &borrower, Order::FolderLast, |_| Ok(me)), Err(Errno::NOTDIR), "a link in its place");
    }
}
