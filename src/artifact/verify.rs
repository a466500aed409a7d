//! Whether a tree is still what its manifest says. Nothing is followed, nothing is changed.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::model::{Code, Digest, Evidence, Fault};

use super::error::{ArtifactError, shown};
use super::manifest::{Kind, Manifest};
use super::tree::{BENEATH, EXECUTABLE_MODE, FILE_MODE, FOLDER_MODE, names, open_folder};

/// Attributes that change what a file does or who may reach it. Labels of security modules are the host's.
const ATTRIBUTES: [&[u8]; 3] = [b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default"];

/// A tree that isn't what was published.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// An entry differs.
    #[error("{entry}: {what}")]
    Tampered {
        /// Which, fit to be shown.
        entry: String,
        /// How.
        what: Difference,
    },
    /// The tree couldn't be read.
    #[error(transparent)]
    Failed(#[from] ArtifactError),
}

/// How an entry differs from the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Difference {
    /// Not in the manifest.
    #[error("it wasn't there when the tree was published")]
    Extra,
    /// Not in the tree.
    #[error("it is gone")]
    Missing,
    /// Of another type.
    #[error("it is no {0} any more")]
    Type(&'static str),
    /// Another mode.
    #[error("its mode is {is:04o}, it was {was:04o}")]
    Mode {
        /// Now.
        is: u32,
        /// Then.
        was: u32,
    },
    /// Another size.
    #[error("it has {is} bytes, it had {was}")]
    Size {
        /// Now.
        is: u64,
        /// Then.
        was: u64,
    },
    /// Other bytes.
    #[error("its content changed")]
    Content,
    /// Another time.
    #[error("its modification time changed")]
    Mtime,
    /// Another target.
    #[error("the link leads elsewhere")]
    Target,
    /// An attribute that changes rights.
    #[error("it was given the attribute {0}")]
    Attribute(String),
}

impl VerifyError {
    /// For records and people.
    pub fn fault(&self) -> Fault {
        match self {
            VerifyError::Failed(error) => error.fault(),
            VerifyError::Tampered { entry, .. } => Fault::new(Code::SlotTampered, self.to_string())
                .with(Evidence { entry: Some(entry.clone()), ..Evidence::default() }),
        }
    }
}

impl Manifest {
    /// Compares the whole tree with the manifest. The mode of the top folder is not looked at: it changes as the
    /// tree is published and frozen.
    ///
    /// # Errors
    /// The first difference, or why the tree can't be read.
    pub fn verify(&self, tree: &Path) -> Result<(), VerifyError> {
        let top = open_folder(tree)?;
        let mut seen = HashSet::with_capacity(self.entries.len());
        let mut folders = vec![(String::new(), top)];
        while let Some((prefix, folder)) = folders.pop() {
            for name in names(&folder, &tree.join(&prefix))? {
                let path = match name.to_str() {
                    Ok(name) if prefix.is_empty() => name.to_owned(),
                    Ok(name) => format!("{prefix}/{name}"),
                    Err(_) => return Err(tampered(&name.to_string_lossy(), Difference::Extra)),
                };
                let kind = self.get(&path).ok_or_else(|| tampered(&path, Difference::Extra))?;
                if let Some(inner) = check(&folder, &name, kind, &path, tree)? {
                    folders.push((path.clone(), inner));
                }
                seen.insert(path);
            }
        }
        match self.entries.iter().find(|entry| !seen.contains(&entry.path)) {
            Some(entry) => Err(tampered(&entry.path, Difference::Missing)),
            None => Ok(()),
        }
    }
}

/// Compares one entry; gives the folder to go on with, where it is one.
fn check(
    folder: &OwnedFd,
    name: &CString,
    kind: &Kind,
    path: &str,
    tree: &Path,
) -> Result<Option<OwnedFd>, VerifyError> {
    let full = tree.join(path);
    let differs = |what| Err(tampered(path, what));
    let stat =
        rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(ArtifactError::os("look at", &full))?;
    let (expected, mode, word) = match kind {
        Kind::File { executable: true, .. } => (FileType::RegularFile, Some(EXECUTABLE_MODE), "file"),
        Kind::File { .. } => (FileType::RegularFile, Some(FILE_MODE), "file"),
        Kind::Dir => (FileType::Directory, Some(FOLDER_MODE), "folder"),
        Kind::Symlink { .. } => (FileType::Symlink, None, "link"),
    };
    if FileType::from_raw_mode(stat.st_mode) != expected {
        return differs(Difference::Type(word));
    }
    let is = stat.st_mode & 0o7777;
    if let Some(was) = mode.filter(|was| *was != is) {
        return differs(Difference::Mode { is, was });
    }
    let open = |flags| {
        rustix::fs::openat2(folder, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), BENEATH)
            .map_err(ArtifactError::os("open", &full))
    };
    match kind {
        Kind::Dir => {
            let inner = open(OFlags::RDONLY | OFlags::DIRECTORY)?;
            check_attributes(&inner, path, &full)?;
            Ok(Some(inner))
        }
        Kind::Symlink { target } => {
            let found = rustix::fs::readlinkat(folder, name, Vec::new()).map_err(ArtifactError::os("read", &full))?;
            if found.to_bytes() == target.as_bytes() { Ok(None) } else { differs(Difference::Target) }
        }
        Kind::File { size: was, sha256, mtime, .. } => {
            let is = stat.st_size.unsigned_abs();
            if is != *was {
                return differs(Difference::Size { is, was: *was });
            }
            if u64::try_from(stat.st_mtime).ok() != Some(*mtime) {
                return differs(Difference::Mtime);
            }
            let file = open(OFlags::RDONLY | OFlags::NONBLOCK)?;
            check_attributes(&file, path, &full)?;
            if hash(File::from(file), &full)? == *sha256 { Ok(None) } else { differs(Difference::Content) }
        }
    }
}

fn check_attributes(file: impl AsFd, path: &str, full: &Path) -> Result<(), VerifyError> {
    let mut list = vec![0; 64 << 10];
    let length = match rustix::fs::flistxattr(file, list.as_mut_slice()) {
        Ok(length) => length,
        // A file system without attributes has none.
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        Err(errno) => return Err(ArtifactError::os("list the attributes of", full)(errno).into()),
    };
    match list[..length].split(|byte| *byte == 0).find(|name| ATTRIBUTES.contains(name)) {
        Some(name) => Err(tampered(path, Difference::Attribute(String::from_utf8_lossy(name).into_owned()))),
        None => Ok(()),
    }
}

fn hash(mut file: File, full: &Path) -> Result<Digest, ArtifactError> {
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 128 << 10]);
    loop {
        match file.read(&mut buffer).map_err(ArtifactError::io("read", full))? {
            0 => return Ok(Digest::from_bytes(hash.finalize().into())),
            read => hash.update(&buffer[..read]),
        }
    }
}

fn tampered(entry: &str, what: Difference) -> VerifyError {
    VerifyError::Tampered { entry: shown(entry.as_bytes()), what }
}
