//! Reads the release file of a tree: `.slotd/release.toml`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::model::release::{MAX_RELEASE_FILE_BYTES, RELEASE_FILE, Release};

use super::error::{ArtifactError, Rule};
use super::tree::{BENEATH, open_folder};

/// Longest commit, branch, builder, URL or health path, in bytes.
pub const MAX_FIELD_BYTES: usize = 1024;

/// What the tree's release file says; `None` where there is none.
///
/// # Errors
/// `release.invalid`, with the line; `fs.io`.
pub fn read(tree: &Path) -> Result<Option<Release>, ArtifactError> {
    let top = open_folder(tree)?;
    let path = tree.join(RELEASE_FILE);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat2(&top, RELEASE_FILE, flags, Mode::empty(), BENEATH) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => return Err(invalid(None, "it isn't a plain file")),
        Err(errno) => return Err(ArtifactError::os("open", path)(errno)),
    };
    let stat = rustix::fs::fstat(&file).map_err(ArtifactError::os("look at", &path))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(invalid(None, "it isn't a plain file"));
    }
    let mut text = Vec::new();
    File::from(file)
        .take(MAX_RELEASE_FILE_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(ArtifactError::io("read", &path))?;
    parse(&text).map(Some)
}

fn parse(text: &[u8]) -> Result<Release, ArtifactError> {
    if text.len() as u64 > MAX_RELEASE_FILE_BYTES {
        return Err(invalid(None, &format!("it is longer than {MAX_RELEASE_FILE_BYTES} bytes")));
    }
    let text = str::from_utf8(text).map_err(|error| {
        let before = &text[..error.valid_up_to()];
        invalid(Some(1 + before.iter().filter(|byte| **byte == b'\n').count()), "it isn't UTF-8")
    })?;
    let release: Release = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        invalid(line, error.message())
    })?;
    check(&release).map_err(|(key, why)| invalid(line_of(text, key), &format!("{key}: {why}")))?;
    Ok(release)
}

/// What the types can't say.
fn check(release: &Release) -> Result<(), (&'static str, String)> {
    let Release { version: _, commit, branch, builder, url, notes, migration: _, health_path } = release;
    for (key, value) in
        [("commit", commit), ("branch", branch), ("builder", builder), ("url", url), ("health_path", health_path)]
    {
        let Some(value) = value else { continue };
        if value.len() > MAX_FIELD_BYTES {
            return Err((key, format!("longer than {MAX_FIELD_BYTES} bytes")));
        }
        if value.chars().any(char::is_control) {
            return Err((key, "a control character".into()));
        }
    }
    if notes.iter().flat_map(|notes| notes.chars()).any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err(("notes", "a control character".into()));
    }
    if url.as_ref().is_some_and(|url| !url.starts_with("https://") && !url.starts_with("http://")) {
        return Err(("url", "it must begin with https:// or http://".into()));
    }
    // It goes into a request line as it is.
    let Some(path) = health_path else { return Ok(()) };
    if !path.starts_with('/') {
        return Err(("health_path", "it must begin with a slash".into()));
    }
    match path.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
        Some(c) => Err(("health_path", format!("{c:?} can't stand in the path of a request"))),
        None => Ok(()),
    }
}

/// The line in which `key` is given a value.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let is_it = |line: &str| line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='));
    text.lines().position(is_it).map(|at| at + 1)
}

fn invalid(line: Option<usize>, why: &str) -> ArtifactError {
    ArtifactError::from(Rule::Release { line, why: why.to_owned() }).about(RELEASE_FILE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Code;
    use crate::model::release::Migration;

    fn message(text: &str) -> String {
        let error = parse(text.as_bytes()).expect_err("invalid");
        assert_eq!(error.code(), Code::ReleaseInvalid);
        error.to_string()
    }

    #[test]
    fn all_of_it_is_optional_and_read() {
        assert_eq!(parse(b"").expect("empty"), Release::default());
        let release =
            parse(b"version = \"1.2\"\nmigration = \"breaking\"\nhealth_path = \"/up?x=1\"\n").expect("valid");
        assert_eq!(release.migration, Migration::Breaking);
        assert_eq!(release.health_path.as_deref(), Some("/up?x=1"));
    }

    #[test]
    fn a_fault_is_told_with_its_line() {
        for (text, words) in [
            ("version = \"1\"\ncolour = 1\n", "line 2: unknown field `colour`"),
            ("version = \"a b\"\n", "line 1: "),
            ("commit = \"\n", "line 1: "),
            ("\nhealth_path = \"up\"\n", "line 2: health_path: it must begin with a slash"),
            ("health_path = \"/a b\"\n", "line 1: health_path: ' ' can't"),
            ("health_path = \"/a\\r\\nHost: b\"\n", "line 1: health_path: a control character"),
            ("branch = \"a\\u001b[31m\"\n", "line 1: branch: a control character"),
            ("url = \"javascript:1\"\n", "line 1: url: "),
            ("[exec]\n", "line 1: unknown field"),
        ] {
            assert!(message(text).starts_with(&format!("{RELEASE_FILE}: {words}")), "{text:?}: {}", message(text));
        }
        assert!(message(&format!("notes = \"{}\"", "x".repeat(70_000))).contains("longer than"));
        let error = parse(b"\n\n\xff").expect_err("not UTF-8");
        assert!(error.to_string().contains("line 3"));
    }

    #[test]
    fn only_a_plain_file_of_the_tree_is_read() {
        let dir = tempfile::tempdir().expect("folder");
        assert!(read(dir.path()).expect("none").is_none());
        std::fs::create_dir(dir.path().join(".slotd")).expect("folder");
        std::fs::write(dir.path().join("real"), "commit = \"abc\"").expect("write");
        std::os::unix::fs::symlink("../real", dir.path().join(RELEASE_FILE)).expect("link");
        assert_eq!(read(dir.path()).expect_err("a link").code(), Code::ReleaseInvalid);
        std::fs::remove_file(dir.path().join(RELEASE_FILE)).expect("remove");
        std::fs::copy(dir.path().join("real"), dir.path().join(RELEASE_FILE)).expect("copy");
        assert_eq!(read(dir.path()).expect("read").and_then(|release| release.commit).as_deref(), Some("abc"));
    }
}
