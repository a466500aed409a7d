//! One header block, read so that no two readers can see different things in it.

use thiserror::Error;

use crate::model::Code;

/// Bytes of a block.
pub(super) const BLOCK: usize = 512;

/// What is wrong with a header.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// The checksum doesn't fit.
    #[error("the checksum of a header is wrong")]
    Checksum,
    /// Not of the POSIX or GNU kind.
    #[error("a header is neither of the POSIX nor of the GNU kind")]
    Kind,
    /// A number that isn't one.
    #[error("the header's {0} isn't a number from 0")]
    Number(&'static str),
    /// Bytes after the NUL that ends a name.
    #[error("bytes follow the end of the header's {0}")]
    AfterNul(&'static str),
    /// A type that isn't known to every reader.
    #[error("the entry is of the unknown type {0:?}")]
    Type(char),
    /// A file whose path ends in a slash, which some readers take for a folder.
    #[error("the path of a file ends in a slash")]
    FileWithSlash,
    /// A link's target on what is no link.
    #[error("what is no link has a link's target")]
    TargetOfNoLink,
    /// Content of what is no file.
    #[error("what is no file has {0} bytes of content")]
    ContentOfNoFile(u64),
    /// A PAX record that can't be read.
    #[error("an extended header is malformed: {0}")]
    Pax(&'static str),
    /// A PAX key twice.
    #[error("an extended header has {0:?} twice")]
    PaxTwice(String),
    /// A PAX key that is neither of the standard nor a vendor's.
    #[error("an extended header has the unknown key {0:?}")]
    PaxUnknown(String),
    /// A PAX size that isn't the header's.
    #[error("an extended header says {pax} bytes and the header {header}")]
    PaxSize {
        /// The extended header's.
        pax: u64,
        /// The header's.
        header: u64,
    },
    /// A global header with more than remarks.
    #[error("a global header has {0:?}, which would hold for all entries")]
    Global(String),
    /// A global header between an extended header and its entry.
    #[error("a global header stands between an extended header and its entry")]
    GlobalWithin,
    /// Two extended headers of one kind for one entry, or two long names.
    #[error("the entry is given {0} twice")]
    Twice(&'static str),
    /// An extended header and then no entry.
    #[error("an extended header is followed by no entry")]
    Dangling,
    /// The archive ends without two blocks of zeros.
    #[error("the archive doesn't end in two blocks of zeros")]
    NoEnd,
    /// Something follows the end.
    #[error("bytes follow the end of the archive")]
    AfterEnd,
    /// Extended attributes or ACLs.
    #[error("it has extended attributes or ACLs ({0}); pack it with --no-xattrs --no-acls --no-selinux")]
    Xattr(String),
    /// A sparse file.
    #[error("it is a sparse file; pack it without --sparse")]
    Sparse,
}

impl HeaderError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            HeaderError::Checksum => Code::ArchiveDamaged,
            HeaderError::Xattr(_) => Code::ArchiveXattr,
            HeaderError::Sparse => Code::ArchiveSparse,
            _ => Code::ArchiveAmbiguous,
        }
    }
}

/// A header block.
pub(super) struct Header<'a>(&'a tar::Header);

impl<'a> Header<'a> {
    /// Takes a block that isn't all zeros.
    pub(super) fn new(block: &'a [u8; BLOCK]) -> Result<Self, HeaderError> {
        let header = tar::Header::from_byte_slice(block);
        let old = header.as_old();
        // POSIX 1003.1, ustar: the sum of all bytes, those of the sum itself counted as spaces.
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        let own: u64 = old.cksum.iter().map(|byte| u64::from(*byte)).sum();
        if number(&old.cksum, "checksum").ok() != Some(sum - own + 8 * u64::from(b' ')) {
            return Err(HeaderError::Checksum);
        }
        if header.as_ustar().is_none() && header.as_gnu().is_none() {
            return Err(HeaderError::Kind);
        }
        Ok(Header(header))
    }

    /// The type flag.
    pub(super) fn flag(&self) -> u8 {
        self.0.as_old().linkflag[0]
    }

    pub(super) fn size(&self) -> Result<u64, HeaderError> {
        number(&self.0.as_old().size, "size")
    }

    /// Permissions with setuid, setgid and sticky; the file type, which some tools write above them, is left out.
    pub(super) fn mode(&self) -> Result<u32, HeaderError> {
        let mode = number(&self.0.as_old().mode, "mode")?;
        if mode > 0o177_777 { Err(HeaderError::Number("mode")) } else { Ok(mode as u32 & 0o7777) }
    }

    /// Seconds since 1970.
    pub(super) fn mtime(&self) -> Result<u64, HeaderError> {
        number(&self.0.as_old().mtime, "mtime")
    }

    /// The path, a POSIX prefix included.
    pub(super) fn path(&self) -> Result<Vec<u8>, HeaderError> {
        let name = text(&self.0.as_old().name, "path")?;
        let prefix = match self.0.as_ustar() {
            Some(ustar) => text(&ustar.prefix, "path prefix")?,
            None => b"",
        };
        Ok(if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() })
    }

    /// A link's target; empty where there is none.
    pub(super) fn target(&self) -> Result<Vec<u8>, HeaderError> {
        text(&self.0.as_old().linkname, "link target").map(<[u8]>::to_vec)
    }

    /// The path for error messages.
    pub(super) fn shown(&self) -> String {
        super::super::error::shown(&self.0.path_bytes())
    }
}

/// A number: octal digits with spaces before and spaces or NULs after, or GNU's base 256.
fn number(field: &[u8], what: &'static str) -> Result<u64, HeaderError> {
    let bad = || HeaderError::Number(what);
    if field[0] & 0x80 != 0 {
        let (high, low) = field[1..].split_at(field.len().saturating_sub(9));
        if field[0] != 0x80 || high.iter().any(|byte| *byte != 0) {
            return Err(bad());
        }
        return Ok(low.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)));
    }
    let field = field.trim_ascii_start();
    let digits = field.iter().position(|byte| !matches!(byte, b'0'..=b'7')).unwrap_or(field.len());
    let (digits, rest) = field.split_at(digits);
    if digits.is_empty() || rest.iter().any(|byte| !matches!(byte, 0 | b' ')) {
        return Err(bad());
    }
    Ok(digits.iter().fold(0, |number, digit| number << 3 | u64::from(digit - b'0')))
}

/// A name: what stands before the first NUL, with nothing but NULs behind it.
fn text<'a>(field: &'a [u8], what: &'static str) -> Result<&'a [u8], HeaderError> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let (text, rest) = field.split_at(end);
    if rest.iter().any(|byte| *byte != 0) { Err(HeaderError::AfterNul(what)) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_one_way() {
        assert_eq!(number(b"0000644\0", "mode"), Ok(0o644));
        assert_eq!(number(b"  644 \0\0", "mode"), Ok(0o644));
        assert_eq!(number(b"77777777", "mode"), Ok(0o77_777_777));
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2], "size"), Ok(258));
        assert_eq!(number(&[0x80, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255], "size"), Ok(u64::MAX));
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 1, 2], "mode"), Ok(258));
        for bad in [
            &b"\0\0\0\0\0\0\0\0"[..],
            b"        ",
            b"12 34\0\0\0",
            b"0000648\0",
            b"-000644\0",
            &[0xff; 12],
            &[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(number(bad, "size"), Err(HeaderError::Number("size")), "{bad:?}");
        }
    }
}
