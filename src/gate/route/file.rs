//! Files that a proxy reads: whole before, whole after.
//!
//! Not by `durable`, which the gate is built without. They lie in folders of root's own, so that nobody can put a link
//! there; and what a crash loses the next run writes again.

use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags};

/// Longest file that is read: [`crate::model::route::MAX_BACKENDS`] lines.
const MAX_BYTES: u64 = 1 << 20;

/// Puts `text` at `path` for everybody to read, in place of what was there, and flushes it.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("can't write {}: {error}", path.display()));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Only one run of a helper is under way at a time.
    let aside = path.with_file_name(format!(".{name}.new"));
    let written = || -> io::Result<()> {
        let mut file = File::create(&aside)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.sync_all()?;
        rename_over(&aside, path)?;
        File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    written().map_err(named)
}

/// What stands at `path`; `None` where nothing does.
pub fn read(path: &Path) -> io::Result<Option<String>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("can't read {}: {error}", path.display()));
    match File::open(path) {
        Ok(file) => {
            let mut text = String::new();
            file.take(MAX_BYTES).read_to_string(&mut text).map_err(named)?;
            Ok(Some(text))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(error)),
    }
}

#[expect(clippy::disallowed_methods, reason = "the gate is built without `durable`")]
fn rename_over(from: &Path, to: &Path) -> rustix::io::Result<()> {
    rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_its_path_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("web");
        assert_eq!(read(&path).expect("absent"), None);
        for text in ["a\n", "longer than before\n", ""] {
            replace(&path, text).expect("written");
            assert_eq!(read(&path).expect("read").as_deref(), Some(text));
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing is left beside it");
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o644);
        let error = replace(&folder.path().join("none/web"), "").expect_err("no folder");
        assert!(error.to_string().contains("none/web: No such file"), "{error}");
    }
}
