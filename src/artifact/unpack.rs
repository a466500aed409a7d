//! One pass over an archive: every entry is checked, written and hashed before the next one is looked at.
//!
//! Symbolic links are made when all else is there, and folders frozen when all links are. The top folder is left
//! as it is: it is frozen after its rename.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::model::Digest;

use super::archive::{Archive, Entry, Kind};
use super::error::{ArtifactError, Rule, shown};
use super::format::Format;
use super::index::{self, Index};
use super::limits::{Limits, Meter, Reserve, Room};
use super::links::{self, LinkError};
use super::manifest::{self, Manifest};
use super::path::EntryPath;
use super::stream::Unpacked;
use super::tree::Tree;

const BUFFER_BYTES: usize = 128 << 10;

/// What is to be unpacked, and where to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The packed file, private: it must not change any more.
    pub packed: PathBuf,
    /// What it is.
    pub format: Format,
    /// An empty folder of mode 0700 on the file system of the trees.
    pub dest: PathBuf,
    /// Bounds.
    pub limits: Limits,
    /// What must stay free on that file system.
    pub reserve: Reserve,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Packed bytes read.
    pub packed: u64,
    /// Packed bytes in all.
    pub packed_total: u64,
    /// Bytes of files so far.
    pub unpacked: u64,
    /// Entries so far.
    pub entries: u64,
}

/// Unpacks and gives what the tree has. `progress` is told after every entry.
///
/// # Errors
/// Every refusal of the rules, `disk.full`, `fs.race`, `fs.io`. Nothing is left in the folder then.
pub fn unpack(job: &Job, progress: &mut dyn FnMut(Progress)) -> Result<Manifest, ArtifactError> {
    let tree = Tree::open(&job.dest)?;
    let done = Pass::start(job, &tree).and_then(|pass| pass.run(progress));
    if done.is_err() {
        // The refusal matters more than a failed sweep, and staging is swept at every start.
        tree.empty().unwrap_or_default();
    }
    done
}

/// The pass under way.
struct Pass<'a> {
    archive: Archive,
    tree: &'a Tree,
    room: Room,
    index: Index,
    /// Path → target, made at the end.
    symlinks: HashMap<String, String>,
    entries: Vec<manifest::Entry>,
    /// Where each file stands in `entries`, for hard links.
    files: HashMap<EntryPath, usize>,
    has_top: bool,
    buffer: Vec<u8>,
}

impl<'a> Pass<'a> {
    fn start(job: &Job, tree: &'a Tree) -> Result<Self, ArtifactError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let packed = &job.packed;
        let file = rustix::fs::open(packed, flags, Mode::empty()).map_err(ArtifactError::os("open", packed))?;
        let size = rustix::fs::fstat(&file).map_err(ArtifactError::os("look at", packed))?.st_size.unsigned_abs();
        let meter = Meter::new(job.limits, size)?;
        // How much comes out isn't known yet, but hardly less than goes in.
        let room = Room::first_look(tree.path(), size, job.reserve)?;
        let stream = Unpacked::new(file.into(), packed.clone(), job.format, meter)?;
        Ok(Pass {
            archive: Archive::new(stream),
            tree,
            room,
            index: Index::default(),
            symlinks: HashMap::new(),
            entries: Vec::new(),
            files: HashMap::new(),
            has_top: false,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    fn run(mut self, progress: &mut dyn FnMut(Progress)) -> Result<Manifest, ArtifactError> {
        while let Some(entry) = self.archive.next()? {
            let name = shown(&entry.path);
            self.entry(entry).map_err(|error| error.about(&name))?;
            let stream = self.archive.stream();
            let packed = stream.packed();
            let meter = stream.meter();
            progress(Progress {
                packed,
                packed_total: meter.packed(),
                unpacked: meter.unpacked(),
                entries: meter.entries(),
            });
        }
        self.make_symlinks()?;
        if self.entries.is_empty() {
            return Err(Rule::Empty.into());
        }
        self.freeze()?;
        Ok(Manifest::new(self.entries))
    }

    fn entry(&mut self, entry: Entry) -> Result<(), ArtifactError> {
        if entry.mode & 0o7000 != 0 {
            return Err(Rule::Mode(entry.mode).into());
        }
        self.archive.stream().meter().entry()?;
        let target = match &entry.kind {
            Kind::Symlink { target } => target.len(),
            _ => 0,
        };
        self.archive.stream().meter().name(entry.path.len() + target)?;
        let is_folder = matches!(entry.kind, Kind::Folder);
        let Some(path) = EntryPath::parse(&entry.path, is_folder)? else {
            return match std::mem::replace(&mut self.has_top, true) {
                true => Err(index::DuplicateError::Twice.into()),
                false => Ok(()),
            };
        };
        let is_new = self.take_place(&path, &entry.kind)?;
        match entry.kind {
            Kind::Folder if is_new => self.folder(&path),
            Kind::Folder => Ok(()),
            Kind::File { size } => self.file(path, size, entry.mode & 0o111 != 0, entry.mtime),
            Kind::HardLink { target } => self.hard_link(path, &target),
            Kind::Symlink { target } => {
                let target = links::target(&target)?;
                self.symlinks.insert(path.as_str().to_owned(), target.to_owned());
                Ok(())
            }
        }
    }

    /// Enters the path and makes the folders above it that aren't there yet.
    fn take_place(&mut self, path: &EntryPath, kind: &Kind) -> Result<bool, ArtifactError> {
        let kind = match kind {
            Kind::Folder => index::Kind::Folder,
            Kind::File { .. } | Kind::HardLink { .. } => index::Kind::File,
            Kind::Symlink { .. } => index::Kind::Symlink,
        };
        let (implied, is_new) = self.index.add(path, kind)?;
        for folder in implied {
            self.archive.stream().meter().entry()?;
            self.archive.stream().meter().name(folder.as_str().len())?;
            self.folder(&folder)?;
        }
        Ok(is_new)
    }

    fn folder(&mut self, path: &EntryPath) -> Result<(), ArtifactError> {
        self.room.before(self.tree.path(), 0)?;
        self.tree.folder(path)?;
        self.enter(path, manifest::Kind::Dir);
        Ok(())
    }

    fn file(&mut self, path: EntryPath, size: u64, executable: bool, mtime: u64) -> Result<(), ArtifactError> {
        self.archive.stream().meter().file(size)?;
        self.room.before(self.tree.path(), size)?;
        let mut file = self.tree.file(&path)?;
        let mut hash = Sha256::new();
        loop {
            let read = self.archive.read(&mut self.buffer)?;
            if read == 0 {
                break;
            }
            let bytes = &self.buffer[..read];
            hash.update(bytes);
            file.write_all(bytes).map_err(ArtifactError::io("write", self.tree.path().join(path.as_str())))?;
        }
        let mtime = self.tree.finish(&file, &path, executable, mtime)?;
        let sha256 = Digest::from_bytes(hash.finalize().into());
        self.files.insert(path.clone(), self.entries.len());
        self.enter(&path, manifest::Kind::File { size, sha256, executable, mtime });
        Ok(())
    }

    fn hard_link(&mut self, path: EntryPath, target: &[u8]) -> Result<(), ArtifactError> {
        let no_file = || LinkError::NoFile(shown(target));
        let of = EntryPath::parse(target, false).map_err(|_| no_file())?.ok_or_else(no_file)?;
        let file = *self.files.get(&of).ok_or_else(no_file)?;
        let kind = self.entries[file].kind.clone();
        if let manifest::Kind::File { size, .. } = kind {
            // The bytes are there once, but each name counts as one to whoever copies the tree.
            self.archive.stream().meter().file(size)?;
        }
        self.tree.hard_link(&path, &of)?;
        self.files.insert(path.clone(), self.entries.len());
        self.enter(&path, kind);
        Ok(())
    }

    fn make_symlinks(&mut self) -> Result<(), ArtifactError> {
        let links: HashMap<&str, &str> = self.symlinks.iter().map(|(path, to)| (path.as_str(), to.as_str())).collect();
        for (path, target) in &links {
            self.archive.stream().meter().stream(0)?;
            links::check(path, target, &links)
                .map_err(|error| ArtifactError::from(error).about(&shown(path.as_bytes())))?;
        }
        for (path, target) in std::mem::take(&mut self.symlinks) {
            if let Some(path) = EntryPath::parse(path.as_bytes(), false)? {
                self.tree.symlink(&path, &target)?;
                self.enter(&path, manifest::Kind::Symlink { target });
            }
        }
        Ok(())
    }

    /// Innermost first: nothing can be reached for change below a frozen folder but by its owner.
    fn freeze(&mut self) -> Result<(), ArtifactError> {
        let mut folders: Vec<&str> = self
            .entries
            .iter()
            .filter(|entry| entry.kind == manifest::Kind::Dir)
            .map(|entry| entry.path.as_str())
            .collect();
        folders.sort_unstable_by_key(|path| std::cmp::Reverse(path.matches('/').count()));
        for folder in folders {
            if let Some(path) = EntryPath::parse(folder.as_bytes(), true)? {
                self.tree.freeze(&path)?;
            }
        }
        Ok(())
    }

    fn enter(&mut self, path: &EntryPath, kind: manifest::Kind) {
        self.entries.push(manifest::Entry { path: path.as_str().to_owned(), kind });
    }
}
