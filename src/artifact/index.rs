//! Which paths an archive has had, folded: one entry a path, and no path through a file or a link.

use std::collections::HashMap;

use thiserror::Error;
use unicode_normalization::UnicodeNormalization;

use super::error::Rule;
use super::links::LinkError;
use super::path::EntryPath;

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A folder that only the path of another entry named.
    ImpliedFolder,
    /// A folder with an entry of its own.
    Folder,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
}

/// Why two entries can't stand in one tree.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DuplicateError {
    /// Twice the same path.
    #[error("the archive has it twice")]
    Twice,
    /// Another spelling of a path that is there.
    #[error("it differs from {0} in case or composition alone")]
    Folded(String),
    /// A file with entries below it.
    #[error("{0} is a file and a folder")]
    FileAndFolder(String),
}

/// All paths so far.
#[derive(Debug, Default)]
pub(super) struct Index {
    paths: HashMap<String, (EntryPath, Kind)>,
}

impl Index {
    /// Takes `path` in; gives the folders above it that no entry has named yet, outermost first, and whether
    /// the path itself is new (it isn't where a folder's entry comes after what lies in it).
    pub(super) fn add(&mut self, path: &EntryPath, kind: Kind) -> Result<(Vec<EntryPath>, bool), Rule> {
        let mut implied = Vec::new();
        for folder in path.ancestors() {
            match self.known(&folder)? {
                None => {
                    self.paths.insert(fold(folder.as_str()), (folder.clone(), Kind::ImpliedFolder));
                    implied.push(folder);
                }
                Some(Kind::ImpliedFolder | Kind::Folder) => {}
                Some(Kind::File) => return Err(DuplicateError::FileAndFolder(folder.to_string()).into()),
                Some(Kind::Symlink) => return Err(LinkError::Through(folder.to_string()).into()),
            }
        }
        let is_new = match (self.known(path)?, kind) {
            (None, _) => true,
            (Some(Kind::ImpliedFolder), Kind::Folder) => false,
            (Some(Kind::ImpliedFolder), Kind::File) => {
                return Err(DuplicateError::FileAndFolder(path.to_string()).into());
            }
            (Some(Kind::ImpliedFolder), Kind::Symlink) => return Err(LinkError::Through(path.to_string()).into()),
            _ => return Err(DuplicateError::Twice.into()),
        };
        self.paths.insert(fold(path.as_str()), (path.clone(), kind));
        Ok((implied, is_new))
    }

    fn known(&self, path: &EntryPath) -> Result<Option<Kind>, DuplicateError> {
        match self.paths.get(&fold(path.as_str())) {
            Some((known, _)) if known != path => Err(DuplicateError::Folded(known.to_string())),
            found => Ok(found.map(|(_, kind)| *kind)),
        }
    }
}

/// What all spellings of a path have in common that differ in case or composition alone. Upper case first, since
/// some letters (ß, ſ) meet others only there.
fn fold(path: &str) -> String {
    if path.is_ascii() {
        return path.to_ascii_lowercase();
    }
    let upper: String = path.nfkc().flat_map(char::to_uppercase).collect();
    upper.chars().flat_map(char::to_lowercase).nfkc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::parse(text.as_bytes(), false).expect("valid").expect("not the top")
    }

    fn refusal(entries: &[(&str, Kind)]) -> Option<Rule> {
        let mut index = Index::default();
        entries.iter().find_map(|(text, kind)| index.add(&path(text), *kind).err())
    }

    #[test]
    fn spellings_of_one_path_meet() {
        for (a, b) in [
            ("A", "a"),
            ("é", "e\u{301}"),
            ("É", "e\u{301}"),
            ("ß", "SS"),
            ("ﬁ", "FI"),
            ("ſ", "s"),
            ("\u{c5}", "\u{212b}"),
        ] {
            let rule = refusal(&[(a, Kind::File), (b, Kind::File)]);
            assert!(matches!(rule, Some(Rule::Duplicate(DuplicateError::Folded(_)))), "{a} {b} {rule:?}");
        }
        assert!(refusal(&[("a", Kind::File), ("b", Kind::File)]).is_none());
        assert!(refusal(&[("Lib/a", Kind::File), ("lib/b", Kind::File)]).is_some());
    }

    #[test]
    fn folders_may_follow_what_lies_in_them_but_once() {
        let both = [("a/b", Kind::File), ("a", Kind::Folder)];
        assert!(refusal(&both).is_none());
        assert!(refusal(&[both[0], both[1], both[1]]).is_some());
        let mut index = Index::default();
        let (implied, is_new) = index.add(&path("a/b/c"), Kind::File).expect("first");
        assert_eq!((implied, is_new), (vec![path("a"), path("a/b")], true));
        assert_eq!(index.add(&path("a/b"), Kind::Folder).expect("named now"), (vec![], false));
    }

    #[test]
    fn nothing_lies_below_a_file_or_a_link() {
        let file = refusal(&[("a", Kind::File), ("a/b", Kind::File)]);
        assert!(matches!(file, Some(Rule::Duplicate(DuplicateError::FileAndFolder(_)))));
        for entries in [[("a", Kind::Symlink), ("a/b", Kind::File)], [("a/b", Kind::File), ("a", Kind::Symlink)]] {
            assert!(matches!(refusal(&entries), Some(Rule::Link(LinkError::Through(_)))));
        }
    }
}
