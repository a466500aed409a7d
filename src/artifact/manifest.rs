//! The content manifest: all that a tree has, as it was unpacked. Kept beside the tree as JSON.

use serde::{Deserialize, Serialize};

use crate::model::Digest;

/// A tree's entries, sorted by path (as bytes), the top folder left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// How many regular files there are; a file with several names counts once for each.
    pub files: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// The entries.
    pub entries: Vec<Entry>,
}

/// An entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Relative to the top folder.
    pub path: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: Kind,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Kind {
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
        /// Of its content.
        sha256: Digest,
        /// Mode 0555 rather than 0444.
        executable: bool,
        /// Seconds since 1970.
        mtime: u64,
    },
    /// A folder; mode 0555.
    Dir,
    /// A symbolic link.
    Symlink {
        /// What it contains.
        target: String,
    },
}

impl Manifest {
    /// Sorts and counts `entries`.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let sizes = || {
            entries.iter().filter_map(|entry| match &entry.kind {
                Kind::File { size, .. } => Some(*size),
                _ => None,
            })
        };
        Manifest { files: sizes().count() as u64, bytes: sizes().fold(0, u64::saturating_add), entries }
    }

    /// The entry at `path`.
    pub fn get(&self, path: &str) -> Option<&Kind> {
        let at = self.entries.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok()?;
        Some(&self.entries[at].kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_counted_and_back_from_json() {
        let file = |path: &str, size| Entry {
            path: path.into(),
            kind: Kind::File { size, sha256: Digest::from_bytes([7; 32]), executable: true, mtime: 9 },
        };
        let link = Entry { path: "b".into(), kind: Kind::Symlink { target: "a".into() } };
        let manifest =
            Manifest::new(vec![file("c/d", 3), link, file("a", 2), Entry { path: "c".into(), kind: Kind::Dir }]);
        let paths: Vec<_> = manifest.entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!((paths, manifest.files, manifest.bytes), (vec!["a", "b", "c", "c/d"], 2, 5));
        assert_eq!(manifest.get("c"), Some(&Kind::Dir));
        assert_eq!(manifest.get("x"), None);
        let json = serde_json::to_string(&manifest).expect("JSON");
        assert_eq!(serde_json::from_str::<Manifest>(&json).expect("back"), manifest);
    }
}
