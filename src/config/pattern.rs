//! The pattern of artifact names: `web-@v.tar.zst`, where `@v` stands for the version.

use serde::Serialize;

/// Endings of packed artifacts, longest first where one ends in another.
pub const ENDINGS: [&str; 5] = [".tar.zst", ".tar.gz", ".tar.xz", ".tgz", ".tar"];

/// Endings of names that the inbox never looks at: what upload tools call a file that isn't there yet.
pub const IGNORED_ENDINGS: [&str; 5] = [".part", ".tmp", ".partial", ".filepart", "~"];

/// Endings of what lies beside an artifact and belongs to it.
pub const COMPANION_ENDINGS: [&str; 4] = [".sha256", ".minisig", ".sig", ".slotd.json"];

/// Which names are an app's, and where the version stands in them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Pattern {
    text: String,
}

impl Pattern {
    /// Takes the pattern of a settings file; `None` unless `@v` stands in it exactly once, without a `/`.
    pub fn new(text: &str) -> Option<Self> {
        (text.matches("@v").count() == 1 && !text.contains('/')).then(|| Pattern { text: text.to_owned() })
    }

    /// The version part of `file`, if the name is of this pattern. A pattern without a known ending takes any
    /// of them, and none (a directory).
    pub fn version_in<'a>(&self, file: &'a str) -> Option<&'a str> {
        let (head, tail) = self.text.split_once("@v")?;
        let rest = file.strip_prefix(head)?;
        let version = match ENDINGS.iter().any(|ending| tail.ends_with(ending)) {
            true => rest.strip_suffix(tail)?,
            false => {
                let stem = ENDINGS.iter().find_map(|ending| rest.strip_suffix(ending)).unwrap_or(rest);
                stem.strip_suffix(tail)?
            }
        };
        (!version.is_empty()).then_some(version)
    }

    /// Whether `file` is a name of this pattern that leaves the version out: `web.tar.zst` for `web-@v`. A pattern that
    /// begins with the version has none.
    pub fn is_without_version(&self, file: &str) -> bool {
        let Some((head, tail)) = self.text.split_once("@v") else { return false };
        let stem = head.trim_end_matches(['-', '_', '.']);
        let Some(rest) = file.strip_prefix(stem).filter(|_| !stem.is_empty()) else { return false };
        match ENDINGS.iter().any(|ending| tail.ends_with(ending)) {
            true => rest == tail,
            false => rest.strip_prefix(tail).is_some_and(|rest| rest.is_empty() || ENDINGS.contains(&rest)),
        }
    }

    /// Whether `file` is a name that no artifact has: hidden, unfinished, or beside an artifact.
    pub fn ignores(file: &str) -> bool {
        let mut endings = IGNORED_ENDINGS.iter().chain(&COMPANION_ENDINGS);
        file.starts_with('.') || endings.any(|ending| file.ends_with(ending))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_stands_where_the_pattern_says() {
        let open = Pattern::new("web-@v").expect("pattern");
        assert_eq!(open.version_in("web-1.4.2.tar.zst"), Some("1.4.2"));
        assert_eq!(open.version_in("web-1.4.2"), Some("1.4.2"));
        assert_eq!(open.version_in("web-.tar"), None);
        assert_eq!(open.version_in("api-1.tar"), None);
        let closed = Pattern::new("web-@v-linux.tar.xz").expect("pattern");
        assert_eq!(closed.version_in("web-2-linux.tar.xz"), Some("2"));
        assert_eq!(closed.version_in("web-2-linux.tar.zst"), None);
        for (pattern, file, without) in [
            (&open, "web.tar.zst", true),
            (&open, "web", true),
            (&open, "web-1.tar", false),
            (&open, "webs.tar", false),
            (&open, "web-.tar", false),
            (&closed, "web-linux.tar.xz", true),
            (&closed, "web.tar.xz", false),
            (&Pattern::new("@v.tar").expect("pattern"), ".tar", false),
        ] {
            assert_eq!(pattern.is_without_version(file), without, "{file}");
        }
        assert!(Pattern::new("web").is_none() && Pattern::new("@v@v").is_none() && Pattern::new("a/@v").is_none());
    }
}
