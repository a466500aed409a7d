//! What lies in the inbox now: one look at the folder, no link followed, nothing opened but fate files.
//!
//! Blocks; the inbox runs it on a thread for that.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, eaccess};
use serde::{Deserialize, Serialize};

use crate::config::Pattern;
use crate::model::{Code, Fault, Version, VersionOrder};

use super::fate::{self, Fate};

/// Most entries of a dropped directory that are looked at; a larger one is refused when it is packed.
const MAX_ENTRIES: u64 = 1_000_000;

/// What tells a change of a file: with a directory, of all that is below it as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The file system.
    pub dev: u64,
    /// The file.
    pub inode: u64,
    /// Bytes; of a directory, of everything in it together, an entry counting for one more.
    pub size: u64,
    /// Last change of contents, nanoseconds since 1970; of a directory the newest below it.
    pub mtime_ns: i64,
    /// Last change of contents or attributes, likewise.
    pub ctime_ns: i64,
}

/// What kind of thing was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A packed artifact.
    File,
    /// A directory, to be packed first.
    Directory,
    /// Something that can't be an artifact: "a symbolic link", "a FIFO" …
    Other(&'static str),
}

/// Something in the inbox.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Where it lies.
    pub path: PathBuf,
    /// Its name; what isn't UTF-8 in it is replaced, and then it is misnamed.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Tells a change.
    pub stamp: Stamp,
    /// The stamp of the `.sha256` beside it: a repaired one is a reason to try again.
    pub checksum: Option<Stamp>,
    /// Who owns it.
    pub uid: u32,
    /// The version that its name claims, if it claims one, or why it can't be taken whatever is in it.
    pub verdict: Result<Option<Version>, Box<Fault>>,
}

/// One look.
#[derive(Debug, Default)]
pub struct Scan {
    /// The folder itself: file system and inode.
    pub folder: (u64, u64),
    /// By name.
    pub seen: Vec<Seen>,
    /// The stamp of the fate file of each thing that has one.
    pub fates: BTreeMap<String, Stamp>,
    /// Those of them that `known` didn't have; `None` where one can't be read.
    pub loaded: BTreeMap<String, Option<Fate>>,
    /// Fate files whose artifact is gone, with their time in nanoseconds since 1970.
    pub orphans: Vec<(PathBuf, i64)>,
}

impl Stamp {
    /// Of a plain file.
    pub fn of(metadata: &Metadata) -> Stamp {
        let nanos = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Stamp {
            dev: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime_ns: nanos(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanos(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether nothing changed, over a reboot too: device numbers of some file systems are given anew at each mount.
    pub fn is_same_as(&self, other: &Stamp) -> bool {
        Stamp { dev: other.dev, ..*self } == *other
    }
}

/// Looks at `dir`. `known` are the fate files that need no reading, by their stamps.
///
/// # Errors
/// The folder can't be listed. What vanishes or can't be examined during the look is not in it.
pub fn scan(
    dir: &Path,
    pattern: &Pattern,
    versions: VersionOrder,
    known: &BTreeMap<String, Stamp>,
) -> io::Result<Scan> {
    let folder = fs::metadata(dir)?;
    let mut scan = Scan { folder: (folder.dev(), folder.ino()), ..Scan::default() };
    let mut companions: BTreeMap<String, (PathBuf, Metadata)> = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let Ok(metadata) = entry.metadata() else { continue };
        if !Pattern::ignores(&name) {
            let exact = entry.file_name().to_str().is_some();
            scan.seen.extend(seen(entry.path(), name, exact, &metadata, pattern, versions));
        } else if metadata.is_file() {
            companions.insert(name, (entry.path(), metadata));
        }
    }
    scan.seen.sort_by(|a, b| a.name.cmp(&b.name));
    for thing in &mut scan.seen {
        let checksum = companions.get(&format!("{}{}", thing.name, CHECKSUM));
        thing.checksum = checksum.map(|(_, metadata)| Stamp::of(metadata));
        let Some((path, metadata)) = companions.remove(&fate::name_of(&thing.name)) else { continue };
        let stamp = Stamp::of(&metadata);
        scan.fates.insert(thing.name.clone(), stamp);
        if known.get(&thing.name) != Some(&stamp) {
            scan.loaded.insert(thing.name.clone(), fate::read(&path));
        }
    }
    let left = companions.into_values().filter(|(path, _)| fate::is_fate(path));
    scan.orphans = left.map(|(path, metadata)| (path, Stamp::of(&metadata).mtime_ns)).collect();
    Ok(scan)
}

/// The ending of the digest beside an artifact.
pub(super) const CHECKSUM: &str = ".sha256";

/// The thing as it stands now, for whoever wants to know whether it is still the same.
pub(super) fn stamp_now(path: &Path) -> io::Result<Stamp> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_dir() { tree_stamp(path, &metadata) } else { Ok(Stamp::of(&metadata)) }
}

fn seen(
    path: PathBuf,
    name: String,
    exact: bool,
    metadata: &Metadata,
    pattern: &Pattern,
    versions: VersionOrder,
) -> Option<Seen> {
    let kind = kind(metadata);
    let (stamp, readable) = match kind {
        Kind::File => (Stamp::of(metadata), eaccess(&path, AccessFlags::R_OK).map_err(io::Error::from)),
        Kind::Other(_) => (Stamp::of(metadata), Ok(())),
        Kind::Directory => match tree_stamp(&path, metadata) {
            Ok(stamp) => (stamp, Ok(())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => (Stamp::of(metadata), Err(error)),
        },
    };
    if readable.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return None;
    }
    let verdict = verdict(&name, exact, kind, readable, pattern, versions);
    Some(Seen { path, name, kind, stamp, checksum: None, uid: metadata.uid(), verdict })
}

fn kind(metadata: &Metadata) -> Kind {
    let kind = metadata.file_type();
    match () {
        () if kind.is_file() => Kind::File,
        () if kind.is_dir() => Kind::Directory,
        () if kind.is_symlink() => Kind::Other("a symbolic link"),
        () if kind.is_fifo() => Kind::Other("a FIFO"),
        () if kind.is_socket() => Kind::Other("a socket"),
        () => Kind::Other("a device"),
    }
}

fn verdict(
    name: &str,
    exact: bool,
    kind: Kind,
    readable: io::Result<()>,
    pattern: &Pattern,
    versions: VersionOrder,
) -> Result<Option<Version>, Box<Fault>> {
    let refusal = |code, message| Box::new(Fault::new(code, message));
    if let Kind::Other(what) = kind {
        return Err(refusal(Code::IngestNotRegular, format!("{name} is {what}, not a plain file or a directory")));
    }
    let misnamed = || {
        let message = format!("{name} doesn't match the pattern {} of the app's inbox", pattern.as_str());
        refusal(Code::IngestMisnamed, message)
    };
    let version = match pattern.version_in(name).filter(|_| exact) {
        Some(text) => {
            let no_version = |error| refusal(Code::ReleaseVersion, format!("{text:?} in {name}: {error}"));
            let version: Version = text.parse().map_err(no_version)?;
            versions.admits(&version).map_err(no_version)?;
            Some(version)
        }
        None if exact && pattern.is_without_version(name) => None,
        None => return Err(misnamed()),
    };
    readable.map_err(|error| {
        let message = format!("slotd can't read {name}: {error}; chmod -R g+rX it, for the group of the inbox");
        refusal(Code::IngestUnreadable, message)
    })?;
    Ok(version)
}

/// One stamp over everything below `top`.
fn tree_stamp(top: &Path, metadata: &Metadata) -> io::Result<Stamp> {
    let mut stamp = Stamp { size: 0, ..Stamp::of(metadata) };
    let mut entries = 0;
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let one = Stamp::of(&metadata);
            entries += 1;
            stamp.size = stamp.size.saturating_add(one.size).saturating_add(1);
            stamp.mtime_ns = stamp.mtime_ns.max(one.mtime_ns);
            stamp.ctime_ns = stamp.ctime_ns.max(one.ctime_ns);
            if entries >= MAX_ENTRIES {
                return Ok(stamp);
            }
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(stamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict_of(name: &str, kind: Kind, readable: io::Result<()>) -> Result<String, Code> {
        let pattern = Pattern::new("web-@v").expect("pattern");
        let verdict = verdict(name, true, kind, readable, &pattern, VersionOrder::Semver);
        verdict.map(|version| version.map_or("none".into(), |it| it.to_string())).map_err(|fault| fault.code)
    }

    #[test]
    fn a_name_says_what_it_can_be() {
        assert_eq!(verdict_of("web-1.2.3.tar.zst", Kind::File, Ok(())), Ok("1.2.3".into()));
        assert_eq!(verdict_of("web-1.2.3", Kind::Directory, Ok(())), Ok("1.2.3".into()));
        assert_eq!(verdict_of("web.tar.zst", Kind::File, Ok(())), Ok("none".into()));
        assert_eq!(verdict_of("api-1.2.3.tar", Kind::File, Ok(())), Err(Code::IngestMisnamed));
        assert_eq!(verdict_of("web-1 2.tar", Kind::File, Ok(())), Err(Code::ReleaseVersion));
        assert_eq!(verdict_of("web-1.2.tar", Kind::File, Ok(())), Err(Code::ReleaseVersion));
        assert_eq!(verdict_of("web-1.2.3.tar", Kind::Other("a FIFO"), Ok(())), Err(Code::IngestNotRegular));
        let denied = Err(io::ErrorKind::PermissionDenied.into());
        assert_eq!(verdict_of("web-1.2.3.tar", Kind::File, denied), Err(Code::IngestUnreadable));
    }

    #[test]
    fn a_change_deep_in_a_directory_changes_its_stamp() {
        let folder = tempfile::tempdir().expect("folder");
        let deep = folder.path().join("a/b/c");
        fs::create_dir_all(&deep).expect("folders");
        fs::write(deep.join("file"), "one").expect("written");
        let before = stamp_now(folder.path()).expect("stamp");
        assert_eq!(stamp_now(folder.path()).expect("stamp"), before);
        fs::write(deep.join("file"), "three").expect("written");
        assert_ne!(stamp_now(folder.path()).expect("stamp"), before);
    }
}
