//! Makes an artifact of a folder: the same tree gives the same bytes, and what [`unpack`](super::unpack) would
//! refuse isn't packed.
//!
//! Owners, times and finer permissions are left out, since two builds of one tree differ in them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};

use crate::model::Digest;

use super::error::{ArtifactError, Rule, shown};
use super::format::Format;
use super::index::{self, Index};
use super::links;
use super::path::EntryPath;
use super::spool::Hashing;
use super::tree::{names, open_folder};

/// The file with the ignore rules, at the top of the folder. Its patterns are those of `.gitignore`.
pub const IGNORE_FILE: &str = ".slotdignore";
/// The time of every file unless another is given: 1980-01-01, the first that ZIP files, and so Python's and Java's
/// tools, can hold.
pub const DEFAULT_MTIME: u64 = 315_532_800;

/// Levels that are worth their time for files that are made once and moved often.
const ZSTD_LEVEL: i32 = 12;
const XZ_LEVEL: u32 = 6;

/// What is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaveOut {
    /// What `.slotdignore` says, that file itself, and `.git`.
    Ignored,
    /// Nothing: a folder that was dropped is taken as it is.
    Nothing,
}

/// How to pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Into what.
    pub format: Format,
    /// What is left out.
    pub leave_out: LeaveOut,
    /// The time of every entry.
    pub mtime: Mtime,
}

/// The times of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mtime {
    /// The same for all, in seconds since 1970: what `SOURCE_DATE_EPOCH` says, or [`DEFAULT_MTIME`].
    All(u64),
    /// Those that they have: what a build makes may go by them (Python's compiled modules do).
    Kept,
}

/// What was packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// SHA-256 of the packed bytes.
    pub digest: Digest,
    /// How many they are.
    pub bytes: u64,
    /// Regular files in them.
    pub files: u64,
}

/// Packs `dir` into `to`. Flushing and publishing what was written is the caller's.
///
/// # Errors
/// The refusals of unpacking, with the entry's path in `dir`; `ingest.changed` where a file changes while it is
/// read; `ingest.unreadable`; `disk.full`; `fs.io`.
pub fn pack(dir: &Path, to: impl Write, options: Options) -> Result<Packed, ArtifactError> {
    let top = open_folder(dir)?;
    let found = Survey::of(dir, &top, options.leave_out)?;
    let mut hashing = Hashing::new(to);
    let failed = || ArtifactError::io("write the archive of", dir);
    let mut out = Compressor::new(options.format, &mut hashing).map_err(failed())?;
    let mut tar = tar::Builder::new(&mut out);
    for entry in &found {
        entry.append(&mut tar, &top, dir, options.mtime)?;
    }
    tar.finish().map_err(failed())?;
    drop(tar);
    out.finish().map_err(failed())?;
    hashing.flush().map_err(failed())?;
    let (digest, bytes) = hashing.finish();
    let files = found.iter().filter(|entry| matches!(entry.kind, Kind::File { .. })).count() as u64;
    Ok(Packed { digest, bytes, files })
}

/// The time that `SOURCE_DATE_EPOCH` says; `None` if it isn't whole seconds since 1970.
///
/// <https://reproducible-builds.org/specs/source-date-epoch/>
pub fn source_date_epoch(value: &str) -> Option<u64> {
    value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok()).flatten()
}

/// An entry of the folder.
struct Found {
    path: EntryPath,
    mtime: u64,
    kind: Kind,
}

enum Kind {
    Folder,
    File { size: u64, executable: bool },
    Symlink { target: String },
}

impl Found {
    fn append<W: Write>(
        &self,
        tar: &mut tar::Builder<W>,
        top: &OwnedFd,
        dir: &Path,
        mtime: Mtime,
    ) -> Result<(), ArtifactError> {
        let mut header = tar::Header::new_gnu();
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(match mtime {
            Mtime::All(mtime) => mtime,
            Mtime::Kept => self.mtime,
        });
        header.set_size(0);
        let full = dir.join(self.path.as_str());
        let write = ArtifactError::io("pack", &full);
        match &self.kind {
            Kind::Folder => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                tar.append_data(&mut header, format!("{}/", self.path), io::empty()).map_err(write)
            }
            Kind::Symlink { target } => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                // Byte for byte where it fits into the header; `append_link` would tidy a short target up.
                match header.set_link_name_literal(target) {
                    Ok(()) => tar.append_data(&mut header, self.path.as_str(), io::empty()).map_err(write),
                    Err(_) => tar.append_link(&mut header, self.path.as_str(), target).map_err(write),
                }
            }
            Kind::File { size, executable } => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_mode(if *executable { 0o755 } else { 0o644 });
                header.set_size(*size);
                let file = open_beneath(top, self.path.as_str(), OFlags::RDONLY | OFlags::NONBLOCK, &full)?;
                let mut content = Exactly { file: File::from(file), left: *size };
                let appended = tar.append_data(&mut header, self.path.as_str(), &mut content);
                match appended {
                    Err(error) if error.get_ref().is_some_and(|inner| inner.is::<SizeChanged>()) => {
                        Err(ArtifactError::from(Rule::Changed("its size")).about(&shown(self.path.as_str().as_bytes())))
                    }
                    appended => appended.map_err(write),
                }
            }
        }
    }
}

/// The walk over the folder.
struct Survey<'a> {
    dir: &'a Path,
    ignored: Option<Gitignore>,
    index: Index,
    found: Vec<Found>,
}

impl<'a> Survey<'a> {
    /// All that is to be packed, sorted by path, checked as unpacking would.
    fn of(dir: &'a Path, top: &OwnedFd, leave_out: LeaveOut) -> Result<Vec<Found>, ArtifactError> {
        let ignored = match leave_out {
            LeaveOut::Ignored => Some(read_ignored(dir, top)?),
            LeaveOut::Nothing => None,
        };
        let mut survey = Survey { dir, ignored, index: Index::default(), found: Vec::new() };
        survey.folder(top, "")?;
        let Survey { mut found, .. } = survey;
        if found.is_empty() {
            return Err(Rule::Empty.into());
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        let links: HashMap<&str, &str> = found
            .iter()
            .filter_map(|entry| match &entry.kind {
                Kind::Symlink { target } => Some((entry.path.as_str(), target.as_str())),
                _ => None,
            })
            .collect();
        for (path, target) in &links {
            links::check(path, target, &links)
                .map_err(|error| ArtifactError::from(error).about(&shown(path.as_bytes())))?;
        }
        Ok(found)
    }

    fn folder(&mut self, folder: &OwnedFd, prefix: &str) -> Result<(), ArtifactError> {
        for name in names(folder, &self.dir.join(prefix))? {
            let raw = match prefix {
                "" => name.to_bytes().to_vec(),
                prefix => [prefix.as_bytes(), b"/", name.to_bytes()].concat(),
            };
            let entry = shown(&raw);
            self.entry(folder, &name, &raw).map_err(|error| error.about(&entry))?;
        }
        Ok(())
    }

    fn entry(&mut self, folder: &OwnedFd, name: &std::ffi::CStr, raw: &[u8]) -> Result<(), ArtifactError> {
        let full = self.dir.join(Path::new(std::ffi::OsStr::new(&*String::from_utf8_lossy(raw))));
        let stat =
            rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(ArtifactError::os("look at", &full))?;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let is_folder = file_type == FileType::Directory;
        if self.leaves_out(raw, is_folder) {
            return Ok(());
        }
        let path = EntryPath::parse(raw, is_folder)?.ok_or(Rule::Empty)?;
        let kind = match file_type {
            FileType::Directory => Kind::Folder,
            // A folder's setgid bit comes from the folder that it was made in, a file's from somebody's will.
            FileType::RegularFile if stat.st_mode & 0o7000 != 0 => {
                return Err(Rule::Mode(stat.st_mode & 0o7777).into());
            }
            FileType::RegularFile => {
                Kind::File { size: stat.st_size.unsigned_abs(), executable: stat.st_mode & 0o111 != 0 }
            }
            FileType::Symlink => {
                let target =
                    rustix::fs::readlinkat(folder, name, Vec::new()).map_err(ArtifactError::os("read", &full))?;
                Kind::Symlink { target: links::target(target.to_bytes())?.to_owned() }
            }
            FileType::Fifo => return Err(Rule::SpecialFile("FIFO").into()),
            FileType::Socket => return Err(Rule::SpecialFile("socket").into()),
            FileType::BlockDevice => return Err(Rule::SpecialFile("block device").into()),
            _ => return Err(Rule::SpecialFile("character device").into()),
        };
        let index_kind = match kind {
            Kind::Folder => index::Kind::Folder,
            Kind::File { .. } => index::Kind::File,
            Kind::Symlink { .. } => index::Kind::Symlink,
        };
        self.index.add(&path, index_kind)?;
        let inner = match kind {
            Kind::Folder => Some(open_beneath(folder, name, OFlags::RDONLY | OFlags::DIRECTORY, &full)?),
            _ => None,
        };
        let prefix = path.as_str().to_owned();
        // What was made before 1970 has no time in an archive.
        let mtime = u64::try_from(stat.st_mtime).unwrap_or_default();
        self.found.push(Found { path, mtime, kind });
        inner.map_or(Ok(()), |inner| self.folder(&inner, &prefix))
    }

    fn leaves_out(&self, raw: &[u8], is_folder: bool) -> bool {
        let Some(ignored) = &self.ignored else { return false };
        if raw == IGNORE_FILE.as_bytes() || raw == b".git" || raw.ends_with(b"/.git") {
            return true;
        }
        // A name that isn't UTF-8 is refused, not matched.
        str::from_utf8(raw).is_ok_and(|path| ignored.matched(path, is_folder).is_ignore())
    }
}

/// The rules of the folder's ignore file; a line that is no pattern is an error with its number.
fn read_ignored(dir: &Path, top: &OwnedFd) -> Result<Gitignore, ArtifactError> {
    /// Longer than any that a person wrote.
    const MAX_BYTES: u64 = 1 << 20;
    let full = dir.join(IGNORE_FILE);
    let mut builder = GitignoreBuilder::new("");
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut text = String::new();
    match rustix::fs::openat(top, IGNORE_FILE, flags, Mode::empty()) {
        Ok(file) => {
            let read = File::from(file).take(MAX_BYTES).read_to_string(&mut text);
            read.map_err(ArtifactError::io("read", &full))?;
        }
        Err(rustix::io::Errno::NOENT) => {}
        Err(errno) => return Err(ArtifactError::os("open", full)(errno)),
    }
    for (at, line) in text.lines().enumerate() {
        let io =
            |error: ignore::Error| io::Error::new(io::ErrorKind::InvalidInput, format!("line {}: {error}", at + 1));
        builder.add_line(None, line).map_err(|error| ArtifactError::io("read", &full)(io(error)))?;
    }
    builder.build().map_err(|error| ArtifactError::io("read", &full)(io::Error::other(error)))
}

/// Opens what lies in `folder` and can't be swapped for something outside of it. A mount point is fine here.
fn open_beneath(
    folder: &OwnedFd,
    name: impl rustix::path::Arg,
    flags: OFlags,
    full: &PathBuf,
) -> Result<OwnedFd, ArtifactError> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(folder, name, flags, Mode::empty(), how).map_err(|errno| match errno {
        rustix::io::Errno::ACCESS | rustix::io::Errno::PERM => {
            Rule::Unreadable(io::Error::from(errno).to_string()).into()
        }
        rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR => {
            Rule::Changed("it is not what it was").into()
        }
        errno => ArtifactError::os("open", full)(errno),
    })
}

/// A file's content, which must have the size that stands in the header.
struct Exactly {
    file: File,
    left: u64,
}

/// The file was shorter or longer than when it was looked at.
#[derive(Debug, thiserror::Error)]
#[error("the file changed its size")]
struct SizeChanged;

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) if read > 0 || left == 0 || buffer.is_empty() => {
                self.left = left;
                Ok(read)
            }
            _ => Err(io::Error::other(SizeChanged)),
        }
    }
}

/// A compressor over the output.
enum Compressor<W: Write> {
    Tar(W),
    Gz(flate2::write::GzEncoder<W>),
    Zst(zstd::stream::write::Encoder<'static, W>),
    Xz(liblzma::write::XzEncoder<W>),
}

impl<W: Write> Compressor<W> {
    fn new(format: Format, to: W) -> io::Result<Self> {
        Ok(match format {
            Format::Tar => Compressor::Tar(to),
            // Neither name nor time stands in the header.
            Format::TarGz => Compressor::Gz(flate2::GzBuilder::new().write(to, flate2::Compression::default())),
            Format::TarZst => {
                let mut encoder = zstd::stream::write::Encoder::new(to, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                Compressor::Zst(encoder)
            }
            Format::TarXz => Compressor::Xz(liblzma::write::XzEncoder::new(to, XZ_LEVEL)),
        })
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Compressor::Tar(_) => Ok(()),
            Compressor::Gz(encoder) => encoder.finish().map(drop),
            Compressor::Zst(encoder) => encoder.finish().map(drop),
            Compressor::Xz(encoder) => encoder.finish().map(drop),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Compressor::Tar(to) => to.write(bytes),
            Compressor::Gz(encoder) => encoder.write(bytes),
            Compressor::Zst(encoder) => encoder.write(bytes),
            Compressor::Xz(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
