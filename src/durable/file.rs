//! Whole files and folders: written aside, flushed, renamed in; read with a cap.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::OFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::DurableError;

/// Largest JSON record that is read, in bytes: far above any that slotd writes, far below what would hurt.
pub const MAX_JSON_BYTES: u64 = 1 << 20;

/// How the names of unfinished and of half-removed things begin. What has such a name is never read, and swept
/// at start.
const LEFTOVER: &str = ".slotd-";

/// The mode of a record: slotd's own business, and environments hold secrets.
const PRIVATE: u32 = 0o600;

/// Puts a file with `bytes` (mode 0600) at `path`, whatever was there; a reader sees the old bytes or the new ones.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), DurableError> {
    write_atomic_mode(path, bytes, PRIVATE)
}

/// [`write_atomic`] with a mode of its own, exactly as given: the umask isn't asked.
pub fn write_atomic_mode(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    let aside = beside(path, "new");
    let made = write_file(&aside, bytes, mode).and_then(|()| super::rename::rename_over(&aside, path));
    if made.is_err() {
        // The error in hand is the one to tell; a leftover is swept at the next start.
        let _ = std::fs::remove_file(&aside);
    }
    made
}

/// Writes a new file (mode 0600) and flushes it, but not its folder: for folders that are made aside and
/// flushed as a whole.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), DurableError> {
    write_file(path, bytes, PRIVATE)
}

/// [`write_atomic`] of a record as JSON for people: indented, a newline at the end.
pub fn write_json<T: Serialize + ?Sized>(path: &Path, record: &T) -> Result<(), DurableError> {
    write_atomic(path, &to_json(path, record)?)
}

/// Reads a record of at most [`MAX_JSON_BYTES`]. `None` where there is no file; a last symbolic link isn't
/// followed.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DurableError> {
    let Some(bytes) = read_bytes(path, MAX_JSON_BYTES)? else { return Ok(None) };
    let record = serde_json::from_slice(&bytes);
    record.map(Some).map_err(|source| DurableError::Damaged { path: path.to_owned(), source })
}

/// Reads a plain file of at most `limit` bytes. `None` where there is none; a last symbolic link isn't followed.
pub fn read_bytes(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, DurableError> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let file = match File::options().read(true).custom_flags(flags.cast_signed()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DurableError::io("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(DurableError::io("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(DurableError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(Some(bytes))
}

/// Makes a folder with exactly this mode, and flushes its parent. One that is there stays as it is.
/// Returns whether it was made.
pub fn create_dir(path: &Path, mode: u32) -> Result<bool, DurableError> {
    if !make_dir(path, mode)? {
        return Ok(false);
    }
    sync_dir(parent(path))?;
    Ok(true)
}

/// [`create_dir`] without the flush of the parent: for folders that are made aside.
pub fn make_dir(path: &Path, mode: u32) -> Result<bool, DurableError> {
    match std::fs::DirBuilder::new().mode(mode & 0o777).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let kind = std::fs::metadata(path).map_err(DurableError::io("look at", path))?;
            let error = kind.is_dir().then_some(()).ok_or(io::ErrorKind::NotADirectory);
            return error.map(|()| false).map_err(DurableError::io("make the folder", path));
        }
        Err(error) => return Err(DurableError::io("make the folder", path)(error)),
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(DurableError::io("set the mode of", path))?;
    Ok(true)
}

/// Makes a folder read-only (0555) for everybody, durably. Done already is done.
pub fn freeze_dir(path: &Path) -> Result<(), DurableError> {
    let dir = open_dir(path)?;
    dir.set_permissions(Permissions::from_mode(0o555)).map_err(DurableError::io("freeze", path))?;
    dir.sync_all().map_err(DurableError::io("flush", path))
}

/// Removes a file and flushes its folder. One that isn't there is removed. Returns whether it was there.
pub fn remove_file(path: &Path) -> Result<bool, DurableError> {
    match std::fs::remove_file(path) {
        Ok(()) => sync_dir(parent(path)).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(DurableError::io("remove", path)(error)),
    }
}

/// Flushes a folder: what was renamed in it stays renamed.
pub fn sync_dir(path: &Path) -> Result<(), DurableError> {
    open_dir(path)?.sync_all().map_err(DurableError::io("flush", path))
}

/// Flushes the whole file system that `path` lies on (`syncfs`): all files of a fresh tree at once.
///
/// A failure is final: what couldn't be written may be gone from memory too, so a second try that succeeds
/// proves nothing (the kernel tells an error once). Throw the tree away.
pub fn sync_tree(path: &Path) -> Result<(), DurableError> {
    rustix::fs::syncfs(open_dir(path)?).map_err(DurableError::io("flush the file system of", path))
}

/// The folder that a path's name stands in; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// A free name in a folder, for something that gets its own name once it is whole; swept at start until then.
pub fn aside_in(folder: &Path) -> PathBuf {
    leftover(folder, "new")
}

/// [`aside_in`] the folder of `path`; `what` tells a person what it is.
pub(super) fn beside(path: &Path, what: &str) -> PathBuf {
    leftover(parent(path), what)
}

fn leftover(folder: &Path, what: &str) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    folder.join(format!("{LEFTOVER}{what}-{}-{count}", std::process::id()))
}

/// Whether a name is one that [`aside_in`] gives.
pub(super) fn is_leftover(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(LEFTOVER.as_bytes())
}

/// The names in a folder, in no order; none where there is no folder.
pub fn names(path: &Path) -> Result<Vec<OsString>, DurableError> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DurableError::io("list", path)(error)),
    };
    let name = |entry: io::Result<std::fs::DirEntry>| entry.map(|entry| entry.file_name());
    entries.map(name).collect::<Result<_, _>>().map_err(DurableError::io("list", path))
}

pub(super) fn to_json<T: Serialize + ?Sized>(path: &Path, record: &T) -> Result<Vec<u8>, DurableError> {
    let json = serde_json::to_vec_pretty(record);
    let mut bytes = json.map_err(|error| DurableError::io("put into words", path)(io::Error::from(error)))?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn open_dir(path: &Path) -> Result<File, DurableError> {
    let flags = OFlags::DIRECTORY.bits().cast_signed();
    File::options().read(true).custom_flags(flags).open(path).map_err(DurableError::io("open", path))
}

fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    // O_EXCL: in a folder where others write too, a name that is there already is never ours.
    let file = File::options().write(true).create_new(true).mode(PRIVATE).open(path);
    let mut file = file.map_err(DurableError::io("create", path))?;
    file.write_all(bytes).map_err(DurableError::io("write", path))?;
    file.set_permissions(Permissions::from_mode(mode)).map_err(DurableError::io("set the mode of", path))?;
    file.sync_all().map_err(DurableError::io("flush", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).expect("there").permissions().mode() & 0o7777
    }

    #[test]
    fn a_record_comes_back_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("mark.json");
        assert_eq!(read_json::<Vec<u32>>(&path).expect("absent is no error"), None);
        write_json(&path, &[1, 2]).expect("written");
        write_json(&path, &[3]).expect("written over");
        assert_eq!(read_json::<Vec<u32>>(&path).expect("read"), Some(vec![3]));
        assert_eq!(mode(&path), 0o600);
        assert_eq!(names(dir.path()).expect("names"), ["mark.json"]);
    }

    #[test]
    fn a_damaged_record_is_told_from_an_absent_and_an_unreadable_one() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("slot.json");
        std::fs::write(&path, "[1, 2").expect("write");
        let error = read_json::<Vec<u32>>(&path).expect_err("damaged");
        assert!(error.is_damage(), "{error:?}");
        assert!(error.fault().message.contains("EOF"), "{}", error.fault());
        let error = read_json::<Vec<u32>>(dir.path()).expect_err("a folder");
        assert!(!error.is_damage() && !error.is_absent(), "{error:?}");
    }

    #[test]
    fn the_cap_is_exact() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("x");
        std::fs::write(&path, [b'x'; 8]).expect("write");
        assert_eq!(read_bytes(&path, 8).expect("just fits").map(|bytes| bytes.len()), Some(8));
        assert!(read_bytes(&path, 7).expect_err("too large").is_damage());
    }

    #[test]
    fn a_link_in_the_place_of_a_record_is_not_followed() {
        let dir = tempfile::tempdir().expect("dir");
        let (link, target) = (dir.path().join("link"), dir.path().join("target"));
        write_json(&target, &[1]).expect("written");
        symlink("target", &link).expect("link");
        assert!(read_json::<Vec<u32>>(&link).is_err());
        write_json(&link, &[2]).expect("written over the link, not through it");
        assert_eq!(read_json::<Vec<u32>>(&target).expect("read"), Some(vec![1]));
        assert_eq!(read_json::<Vec<u32>>(&link).expect("read"), Some(vec![2]));
    }

    #[test]
    fn a_failed_write_leaves_the_old_record_and_no_leftover() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("x");
        std::fs::create_dir(&path).expect("a folder in the way");
        assert!(write_atomic(&path, b"y").is_err());
        assert_eq!(names(dir.path()).expect("names"), ["x"]);
    }

    #[test]
    fn a_folder_is_made_with_its_mode_and_one_that_is_there_is_left_alone() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("inbox");
        assert!(create_dir(&path, 0o2770).expect("made"));
        assert_eq!(mode(&path), 0o2770);
        std::fs::set_permissions(&path, Permissions::from_mode(0o750)).expect("chmod");
        assert!(!create_dir(&path, 0o2770).expect("there"));
        assert_eq!(mode(&path), 0o750);
        freeze_dir(&path).and_then(|()| freeze_dir(&path)).expect("frozen twice");
        assert_eq!(mode(&path), 0o555);
        std::fs::write(dir.path().join("file"), "").expect("write");
        assert!(create_dir(&dir.path().join("file"), 0o700).is_err());
    }
}
