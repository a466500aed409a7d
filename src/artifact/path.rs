//! Paths of entries, component by component.

use std::fmt;

use thiserror::Error;

/// Longest component, in bytes: what file systems take.
pub const MAX_COMPONENT_BYTES: usize = 255;
/// Longest path, in bytes: PATH_MAX.
pub const MAX_PATH_BYTES: usize = 4096;
/// Most components: deep enough for node_modules, shallow enough for every walker.
pub const MAX_DEPTH: usize = 64;

/// A relative path of plain components, none of them `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EntryPath(String);

/// Why a path can't stand in a tree.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PathError {
    /// Nothing there.
    #[error("the path is empty")]
    Empty,
    /// From the root.
    #[error("the path is absolute")]
    Absolute,
    /// `..`.
    #[error("the path has a `..` in it")]
    ParentDir,
    /// A `.` that isn't the first component.
    #[error("the path has a `.` within it")]
    CurDir,
    /// `//`.
    #[error("the path has an empty component")]
    EmptyComponent,
    /// A NUL byte.
    #[error("the path has a NUL byte in it")]
    Nul,
    /// Not UTF-8.
    #[error("the path isn't UTF-8")]
    NotUtf8,
    /// A backslash, which some tools take for a separator.
    #[error("the path has a backslash in it")]
    Backslash,
    /// A component of more than [`MAX_COMPONENT_BYTES`].
    #[error("a component of the path is longer than {MAX_COMPONENT_BYTES} bytes")]
    LongComponent,
    /// More than [`MAX_PATH_BYTES`].
    #[error("the path is longer than {MAX_PATH_BYTES} bytes")]
    Long,
    /// More than [`MAX_DEPTH`].
    #[error("the path is more than {MAX_DEPTH} folders deep")]
    Deep,
    /// A file or link where only the top folder can be.
    #[error("the top folder can't be a file or a link")]
    TopIsNoFolder,
}

impl EntryPath {
    /// Reads the path of an entry; `None` is the top folder itself (`.` or `./`). One leading `./` is what many
    /// tools write, one trailing `/` marks a folder; both are let go.
    pub(super) fn parse(raw: &[u8], is_folder: bool) -> Result<Option<Self>, PathError> {
        if raw.is_empty() {
            return Err(PathError::Empty);
        }
        if raw.len() > MAX_PATH_BYTES {
            return Err(PathError::Long);
        }
        if raw.contains(&0) {
            return Err(PathError::Nul);
        }
        let text = str::from_utf8(raw).map_err(|_| PathError::NotUtf8)?;
        if text.starts_with('/') {
            return Err(PathError::Absolute);
        }
        if text == "." || text == "./" {
            return if is_folder { Ok(None) } else { Err(PathError::TopIsNoFolder) };
        }
        let text = text.strip_prefix("./").unwrap_or(text);
        let text = if is_folder { text.strip_suffix('/').unwrap_or(text) } else { text };
        for (depth, component) in text.split('/').enumerate() {
            check_component(component)?;
            if depth >= MAX_DEPTH {
                return Err(PathError::Deep);
            }
        }
        Ok(Some(EntryPath(text.to_owned())))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The folders above it, the top one left out, outermost first.
    pub(super) fn ancestors(&self) -> impl Iterator<Item = EntryPath> {
        self.0.match_indices('/').map(|(end, _)| EntryPath(self.0[..end].to_owned()))
    }

    /// The folder that it lies in (`.` for the top one) and its name there.
    pub(super) fn split(&self) -> (&str, &str) {
        self.0.rsplit_once('/').unwrap_or((".", &self.0))
    }
}

/// The rules for one component.
pub(super) fn check_component(component: &str) -> Result<(), PathError> {
    match component {
        "" => Err(PathError::EmptyComponent),
        "." => Err(PathError::CurDir),
        ".." => Err(PathError::ParentDir),
        _ if component.contains('\\') => Err(PathError::Backslash),
        _ if component.contains('\0') => Err(PathError::Nul),
        _ if component.len() > MAX_COMPONENT_BYTES => Err(PathError::LongComponent),
        _ => Ok(()),
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<String>, PathError> {
        EntryPath::parse(text.as_bytes(), false).map(|path| path.map(|path| path.0))
    }

    #[test]
    fn plain_paths_pass() {
        assert_eq!(parse("bin/web"), Ok(Some("bin/web".into())));
        assert_eq!(parse("./bin/web"), Ok(Some("bin/web".into())));
        assert_eq!(parse("..."), Ok(Some("...".into())));
        assert_eq!(EntryPath::parse(b"./", true), Ok(None));
        assert_eq!(EntryPath::parse(b"bin/", true), Ok(Some(EntryPath("bin".into()))));
    }

    #[test]
    fn each_rule_refuses() {
        for (text, error) in [
            ("", PathError::Empty),
            ("/etc/passwd", PathError::Absolute),
            ("..", PathError::ParentDir),
            ("a/../b", PathError::ParentDir),
            ("a/..", PathError::ParentDir),
            ("./../b", PathError::ParentDir),
            ("a/./b", PathError::CurDir),
            ("././a", PathError::CurDir),
            ("a//b", PathError::EmptyComponent),
            ("a/", PathError::EmptyComponent),
            ("a\0b", PathError::Nul),
            ("a\\b", PathError::Backslash),
            (".", PathError::TopIsNoFolder),
        ] {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
        assert_eq!(EntryPath::parse(b"a\xff", false), Err(PathError::NotUtf8));
    }

    #[test]
    fn limits_hold_at_their_edge() {
        assert!(parse(&"a".repeat(255)).is_ok());
        assert_eq!(parse(&"a".repeat(256)), Err(PathError::LongComponent));
        assert!(parse(&vec!["a"; 64].join("/")).is_ok());
        assert_eq!(parse(&vec!["a"; 65].join("/")), Err(PathError::Deep));
        let long = format!("{}/{}", vec!["a".repeat(254); 16].join("/"), "a".repeat(16));
        assert_eq!(long.len(), 4096);
        assert!(parse(&long).is_ok());
        assert_eq!(parse(&format!("{long}a")), Err(PathError::Long));
    }
}
