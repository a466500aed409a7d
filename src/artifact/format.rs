//! The formats of artifacts: told by the name's ending, and held to it by the first bytes.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::Rule;

/// A format of packed artifacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `.tar`.
    Tar,
    /// `.tar.gz`, `.tgz`.
    TarGz,
    /// `.tar.zst`.
    TarZst,
    /// `.tar.xz`.
    TarXz,
}

/// Endings; none is the end of another that stands before it.
const ENDINGS: [(&str, Format); 5] = [
    (".tar.zst", Format::TarZst),
    (".tar.gz", Format::TarGz),
    (".tar.xz", Format::TarXz),
    (".tgz", Format::TarGz),
    (".tar", Format::Tar),
];

impl Format {
    /// All of them.
    pub const ALL: [Format; 4] = [Format::Tar, Format::TarGz, Format::TarZst, Format::TarXz];

    /// What a file's name says.
    ///
    /// # Errors
    /// `archive.format` for another ending.
    pub fn of_name(name: &str) -> Result<Format, Rule> {
        Self::split_name(name).map(|(_, format)| format).ok_or(Rule::UnknownEnding)
    }

    /// A file's name without its ending, and the format; `None` for another ending or nothing before it.
    pub fn split_name(name: &str) -> Option<(&str, Format)> {
        let (stem, format) =
            ENDINGS.iter().find_map(|(ending, format)| name.strip_suffix(ending).map(|stem| (stem, *format)))?;
        (!stem.is_empty()).then_some((stem, format))
    }

    /// The ending that slotd writes.
    pub fn ending(self) -> &'static str {
        match self {
            Format::Tar => ".tar",
            Format::TarGz => ".tar.gz",
            Format::TarZst => ".tar.zst",
            Format::TarXz => ".tar.xz",
        }
    }

    /// Whether a stream, or a further member of one, can begin with `first`: at least [`Self::MAGIC_BYTES`] of
    /// it, or all there is.
    pub(super) fn begins(self, first: &[u8]) -> bool {
        match self {
            Format::Tar => first.get(257..262) == Some(b"ustar"),
            Format::TarGz => first.starts_with(&[0x1f, 0x8b, 8]),
            // pzstd begins with a skippable frame (RFC 8878, 3.1.2).
            Format::TarZst => {
                first.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || matches!(first, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
            }
            Format::TarXz => first.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]),
        }
    }

    /// How many first bytes [`Self::begins`] wants to see.
    pub(super) const MAGIC_BYTES: usize = 262;
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.ending()[1..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_tells() {
        assert_eq!(Format::split_name("web-1.4.2.tar.zst"), Some(("web-1.4.2", Format::TarZst)));
        assert_eq!(Format::split_name("web-1.tgz"), Some(("web-1", Format::TarGz)));
        assert_eq!(Format::split_name("web-1.tar"), Some(("web-1", Format::Tar)));
        for bad in ["web-1.zip", "web-1", ".tar", "web.tar.bz2", "web.TAR"] {
            assert!(Format::of_name(bad).is_err(), "{bad}");
        }
        for format in Format::ALL {
            assert_eq!(Format::of_name(&format!("x{}", format.ending())).ok(), Some(format));
        }
    }
}
