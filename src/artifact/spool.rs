//! The private copy of a dropped file: taken once, hashed, and the only thing that is looked at from then on.
//!
//! Checking one file and using another is how RAUC was deceived (CVE-2020-25860).

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::model::Digest;

use super::error::{ArtifactError, Rule, shown};
use super::limits::{LimitError, Reserve, Room};

const BUFFER_BYTES: usize = 256 << 10;

/// A private copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spooled {
    /// Where it lies; mode 0600, a name of its own.
    pub path: PathBuf,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// How many they are.
    pub bytes: u64,
}

/// Copies `source` into a new file of `spool`, durably, and hashes it on the way.
///
/// # Errors
/// `ingest.not_regular`, `ingest.unreadable`, `ingest.changed`, `archive.limit` for more than `limit` bytes,
/// `disk.full`, `fs.io`. Nothing is left in `spool` then.
pub fn copy_in(source: &Path, spool: &Path, limit: u64) -> Result<Spooled, ArtifactError> {
    let name = shown(source.file_name().unwrap_or_default().as_encoded_bytes());
    copy_watched(source, spool, limit, &mut || {}).map_err(|error| error.about(&name))
}

/// The digest of a file, and its bytes.
///
/// # Errors
/// As [`copy_in`] for what can't be read.
pub fn digest_of(path: &Path) -> Result<(Digest, u64), ArtifactError> {
    let mut file = File::from(open(path)?);
    let mut count = Hashing::new(io::sink());
    io::copy(&mut file, &mut count).map_err(ArtifactError::io("read", path))?;
    Ok(count.finish())
}

/// [`copy_in`], with a place for a test to stand in between the copy and the second look.
fn copy_watched(source: &Path, spool: &Path, limit: u64, between: &mut dyn FnMut()) -> Result<Spooled, ArtifactError> {
    let file = open(source)?;
    let before = rustix::fs::fstat(&file).map_err(ArtifactError::os("look at", source))?;
    let bytes = before.st_size.unsigned_abs();
    if bytes > limit {
        return Err(LimitError::Packed { bytes, limit }.into());
    }
    let room = Room::first_look(spool, bytes, Reserve::default())?;
    let (path, copy) = new_file(spool)?;
    let swept = Sweep(Some(&path));
    let (digest, copied) = copy_bytes(
        File::from(file.try_clone().map_err(ArtifactError::io("open", source))?),
        copy,
        bytes,
        room,
        source,
        &path,
    )?;
    between();
    let after = rustix::fs::fstat(&file).map_err(ArtifactError::os("look at", source))?;
    let named = rustix::fs::statat(CWD, source, AtFlags::SYMLINK_NOFOLLOW).ok();
    unchanged(&before, &after, named.as_ref(), copied)?;
    swept.keep();
    Ok(Spooled { path, digest, bytes })
}

/// Opens what was dropped, once, and only if it is a plain file. Never waits for a FIFO's other end.
pub(super) fn open(path: &Path) -> Result<rustix::fd::OwnedFd, ArtifactError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::LOOP => Rule::NotRegular("symbolic link").into(),
        Errno::NXIO | Errno::NODEV => Rule::NotRegular("socket or device").into(),
        Errno::NOENT => Rule::Changed("it is gone").into(),
        Errno::ACCESS | Errno::PERM | Errno::IO => Rule::Unreadable(io::Error::from(errno).to_string()).into(),
        errno => ArtifactError::os("open", path)(errno),
    })?;
    let stat = rustix::fs::fstat(&file).map_err(ArtifactError::os("look at", path))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(file),
        FileType::Directory => Err(Rule::NotRegular("folder").into()),
        FileType::Fifo => Err(Rule::NotRegular("FIFO").into()),
        _ => Err(Rule::NotRegular("device").into()),
    }
}

/// Copies at most `expected` + 1 bytes, by reference where the file system can, and flushes them.
fn copy_bytes(
    mut source: File,
    mut copy: File,
    expected: u64,
    mut room: Room,
    from: &Path,
    to: &Path,
) -> Result<(Digest, u64), ArtifactError> {
    let mut buffer = vec![0; BUFFER_BYTES];
    // A clone shares the blocks; what is hashed is read from it, not from the dropped file.
    let is_clone = rustix::fs::ioctl_ficlone(&copy, &source).is_ok();
    let (mut count, reading) = match is_clone {
        true => (Hashing::new(Target::Sink), &mut copy.try_clone().map_err(ArtifactError::io("open", to))?),
        false => (Hashing::new(Target::File(&mut copy)), &mut source),
    };
    let reading = &mut reading.take(expected.saturating_add(1));
    loop {
        let read = match reading.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if is_clone => return Err(ArtifactError::io("read", to)(error)),
            Err(error) => {
                return Err(ArtifactError::from(Rule::Unreadable(error.to_string()))
                    .about(&shown(from.as_os_str().as_encoded_bytes())));
            }
        };
        if !is_clone {
            // Others write to the same disk meanwhile.
            room.before(parent(to), read as u64)?;
        }
        count.write_all(&buffer[..read]).map_err(ArtifactError::io("write", to))?;
    }
    let counted = count.finish();
    copy.sync_all().map_err(ArtifactError::io("flush", to))?;
    Ok(counted)
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// A new file of the spool that is written piece by piece: it fails with `disk.full` before the reserve is used up.
#[derive(Debug)]
pub struct Guarded {
    file: File,
    dir: PathBuf,
    room: Room,
}

impl Guarded {
    /// An empty one at `path`, where nothing is yet.
    ///
    /// # Errors
    /// `disk.full`, `fs.io`.
    pub fn create(path: &Path, reserve: Reserve) -> Result<Self, ArtifactError> {
        let dir = parent(path).to_owned();
        let room = Room::first_look(&dir, 0, reserve)?;
        let file = File::create_new(path).map_err(ArtifactError::io("create", path))?;
        Ok(Guarded { file, dir, room })
    }

    /// Flushes it to the disk.
    ///
    /// # Errors
    /// As the system says.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl Write for Guarded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.room.before(&self.dir, bytes.len() as u64);
        room.map_err(|error| io::Error::new(io::ErrorKind::StorageFull, error.to_string()))?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Whether the dropped file stood still from its opening to the end of the copy.
fn unchanged(before: &Stat, after: &Stat, named: Option<&Stat>, copied: u64) -> Result<(), Rule> {
    let size = |stat: &Stat| stat.st_size.unsigned_abs();
    let Some(named) = named else { return Err(Rule::Changed("it is gone")) };
    if (named.st_dev, named.st_ino) != (before.st_dev, before.st_ino) {
        return Err(Rule::Changed("another file took its place"));
    }
    if size(before) != size(after) || copied != size(before) {
        return Err(Rule::Changed("its size"));
    }
    if (before.st_mtime, before.st_mtime_nsec) != (after.st_mtime, after.st_mtime_nsec) {
        return Err(Rule::Changed("its modification time"));
    }
    if (before.st_ctime, before.st_ctime_nsec) != (after.st_ctime, after.st_ctime_nsec) {
        return Err(Rule::Changed("its change time"));
    }
    Ok(())
}

/// A new file with a name that nobody else has, in this process or another.
fn new_file(spool: &Path) -> Result<(PathBuf, File), ArtifactError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = spool.join(OsString::from(format!("{}-{number}", std::process::id())));
        match rustix::fs::open(&path, flags, Mode::from(0o600)) {
            Ok(file) => return Ok((path, file.into())),
            // Left by an earlier process of this number.
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(ArtifactError::os("make", path)(errno)),
        }
    }
}

/// Removes a half-made file unless it is kept.
struct Sweep<'a>(Option<&'a Path>);

impl Sweep<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Sweep<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            std::fs::remove_file(path).unwrap_or_default();
        }
    }
}

/// Where hashed bytes go.
enum Target<'a> {
    Sink,
    File(&'a mut File),
}

impl Write for Target<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Target::Sink => Ok(bytes.len()),
            Target::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hashes and counts what passes through.
pub(super) struct Hashing<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W> Hashing<W> {
    pub(super) fn new(inner: W) -> Self {
        Hashing { inner, hash: Sha256::new(), bytes: 0 }
    }

    pub(super) fn finish(self) -> (Digest, u64) {
        (Digest::from_bytes(self.hash.finalize().into()), self.bytes)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Code;
    use std::fs;

    fn world() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().expect("folder");
        let (drop, spool) = (dir.path().join("web-1.tar"), dir.path().join("spool"));
        fs::create_dir(&spool).expect("spool");
        fs::write(&drop, "abc").expect("drop");
        (dir, drop, spool)
    }

    fn refused(between: impl FnOnce(&Path), code: Code) {
        let (_dir, drop, spool) = world();
        let mut between = Some(between);
        let error =
            copy_watched(&drop, &spool, 100, &mut || between.take().expect("once")(&drop)).expect_err("refused");
        assert_eq!(error.code(), code);
        assert_eq!(fs::read_dir(&spool).expect("spool").count(), 0, "nothing is left");
    }

    #[test]
    fn a_copy_is_private_and_hashed() {
        let (_dir, drop, spool) = world();
        let spooled = copy_in(&drop, &spool, 3).expect("copied");
        assert_eq!(spooled.digest.short(), "ba7816bf8f01");
        assert_eq!((spooled.bytes, fs::read(&spooled.path).expect("read")), (3, b"abc".to_vec()));
        assert_eq!(digest_of(&drop).expect("digest"), (spooled.digest, 3));
        assert_ne!(copy_in(&drop, &spool, 3).expect("again").path, spooled.path);
    }

    #[test]
    fn what_is_written_piece_by_piece_leaves_the_reserve() {
        let (_dir, _, spool) = world();
        let none = Reserve { bytes: 0, inodes: 0 };
        let mut file = Guarded::create(&spool.join("one"), none).expect("room");
        // As if others had taken the rest meanwhile.
        file.room = Room::first_look(&spool, 0, none).expect("room").with(Reserve { bytes: u64::MAX, inodes: 0 });
        let piece = vec![0; 1 << 20];
        let refused = (0..64).find_map(|_| file.write_all(&piece).err()).expect("looked again within 64 MiB");
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert!(file.file.metadata().expect("a size").len() < 17 << 20);
        let full = Reserve { bytes: u64::MAX, inodes: 0 };
        assert_eq!(Guarded::create(&spool.join("two"), full).map(drop).expect_err("full").code(), Code::DiskFull);
        assert!(!spool.join("two").exists());
    }

    #[test]
    fn a_file_that_changes_under_the_copy_is_refused() {
        refused(|drop| fs::write(drop, "abcd").expect("grow"), Code::IngestChanged);
        refused(|drop| fs::write(drop, "xyz").expect("same size"), Code::IngestChanged);
        refused(|drop| fs::remove_file(drop).expect("remove"), Code::IngestChanged);
        refused(
            |drop| {
                fs::remove_file(drop).expect("remove");
                fs::write(drop, "abc").expect("another");
            },
            Code::IngestChanged,
        );
        refused(
            |drop| {
                let file = File::options().write(true).open(drop).expect("open");
                file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o640)).expect("chmod");
            },
            Code::IngestChanged,
        );
    }
}
