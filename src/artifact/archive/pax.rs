//! Extended (PAX) headers: records of `LENGTH KEY=VALUE\n`.

use super::header::HeaderError;

/// What an extended header says of one entry.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) target: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    /// Whole seconds since 1970.
    pub(super) mtime: Option<u64>,
}

/// Standard keys that say nothing about where an entry goes or what is in it (POSIX 1003.1, pax).
const REMARKS: [&str; 7] = ["atime", "comment", "ctime", "gid", "gname", "uid", "uname"];
/// Families of keys that carry extended attributes and ACLs.
const XATTRS: [&str; 5] = ["SCHILY.xattr.", "SCHILY.acl.", "LIBARCHIVE.xattr.", "RHT.security.", "SUN.acl"];
/// Families of keys of sparse files.
const SPARSE: [&str; 3] = ["GNU.sparse.", "SCHILY.realsize", "SUN.holesdata"];

impl Pax {
    /// Reads the extended header of one entry.
    pub(super) fn read(data: &[u8]) -> Result<Self, HeaderError> {
        let mut pax = Pax::default();
        for (key, value) in records(data)? {
            match key {
                "path" => pax.path = Some(value.to_vec()),
                "linkpath" => pax.target = Some(value.to_vec()),
                "size" => pax.size = Some(whole(value).ok_or(HeaderError::Pax("size is no number"))?),
                "mtime" => pax.mtime = Some(seconds(value).ok_or(HeaderError::Pax("mtime is no time from 1970 on"))?),
                "hdrcharset" if value == b"ISO-IR 10646 2000 UTF-8" => {}
                "hdrcharset" => return Err(HeaderError::Pax("hdrcharset isn't UTF-8")),
                _ => remark(key)?,
            }
        }
        Ok(pax)
    }

    /// Reads a global header, which may only carry remarks.
    pub(super) fn check_global(data: &[u8]) -> Result<(), HeaderError> {
        for (key, _) in records(data)? {
            if matches!(key, "path" | "linkpath" | "size" | "mtime" | "hdrcharset") {
                return Err(HeaderError::Global(key.to_owned()));
            }
            remark(key)?;
        }
        Ok(())
    }
}

/// Lets a key pass that may be ignored: a remark of the standard's, or of a vendor's that isn't known to matter.
fn remark(key: &str) -> Result<(), HeaderError> {
    if XATTRS.iter().any(|family| key.starts_with(family)) {
        return Err(HeaderError::Xattr(key.to_owned()));
    }
    if SPARSE.iter().any(|family| key.starts_with(family)) {
        return Err(HeaderError::Sparse);
    }
    if REMARKS.contains(&key) || key.contains('.') { Ok(()) } else { Err(HeaderError::PaxUnknown(key.to_owned())) }
}

fn records(mut data: &[u8]) -> Result<Vec<(&str, &[u8])>, HeaderError> {
    let mut records: Vec<(&str, &[u8])> = Vec::new();
    while !data.is_empty() {
        let (record, rest) = record(data)?;
        if records.iter().any(|(key, _)| *key == record.0) {
            return Err(HeaderError::PaxTwice(record.0.to_owned()));
        }
        records.push(record);
        data = rest;
    }
    Ok(records)
}

type Record<'a> = (&'a str, &'a [u8]);

/// The first record of `data`, and the rest.
fn record(data: &[u8]) -> Result<(Record<'_>, &[u8]), HeaderError> {
    let bad = HeaderError::Pax;
    let space = data.iter().take(10).position(|byte| *byte == b' ').ok_or(bad("a record without a length"))?;
    if data[0] == b'0' {
        return Err(bad("a length that begins with 0"));
    }
    let length = whole(&data[..space]).and_then(|length| usize::try_from(length).ok());
    let length = length.ok_or(bad("a length that is no number"))?;
    if length > data.len() || length < space + 2 {
        return Err(bad("a length that doesn't fit"));
    }
    let (record, rest) = data.split_at(length);
    let body = record[space + 1..].strip_suffix(b"\n").ok_or(bad("a record that doesn't end where it says"))?;
    let equals = body.iter().position(|byte| *byte == b'=').ok_or(bad("a record without a value"))?;
    let key = str::from_utf8(&body[..equals]).map_err(|_| bad("a key that isn't UTF-8"))?;
    // An empty value would take back what another header says.
    match (key, &body[equals + 1..]) {
        ("", _) => Err(bad("a record without a key")),
        (_, []) => Err(bad("an empty value")),
        (key, value) => Ok(((key, value), rest)),
    }
}

/// A decimal number without sign or spaces.
fn whole(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

/// The whole seconds of `SECONDS[.FRACTION]`.
fn seconds(text: &[u8]) -> Option<u64> {
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds = whole(parts.next()?)?;
    parts.next().is_none_or(|fraction| fraction.iter().all(u8::is_ascii_digit)).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read() {
        let pax = Pax::read(b"12 path=a/b\n22 linkpath=../x=y \nz\n10 size=3\n16 mtime=12.345\n");
        let expected =
            Pax { path: Some(b"a/b".to_vec()), target: Some(b"../x=y \nz".to_vec()), size: Some(3), mtime: Some(12) };
        assert_eq!(pax, Ok(expected));
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"path=a\n"[..],
            b"9 path=a",
            b"8 path=a\n",
            b"99 path=a\n",
            b"09 path=a\n",
            b"+9 path=a\n",
            b"5 a=\n",
            b"5 =ab\n",
            b"4 a\n",
            b"2 ",
            b"9 path=a\n\0",
            b"18446744073709551616 path=a\n",
            b"11 size=-3\n",
            b"12 mtime=-3\n",
            b"21 hdrcharset=BINARY\n",
        ] {
            assert!(matches!(Pax::read(bad), Err(HeaderError::Pax(_))), "{:?}", String::from_utf8_lossy(bad));
        }
        assert_eq!(Pax::read(b"9 path=a\n9 path=a\n"), Err(HeaderError::PaxTwice("path".into())));
        assert_eq!(Pax::read(b"12 colour=1\n"), Err(HeaderError::PaxUnknown("colour".into())));
    }

    #[test]
    fn attributes_and_holes_are_refused_and_remarks_are_not() {
        assert!(matches!(Pax::read(b"24 SCHILY.xattr.user.a=b\n"), Err(HeaderError::Pax(_))));
        assert!(matches!(Pax::read(b"25 SCHILY.xattr.user.a=b\n"), Err(HeaderError::Xattr(_))));
        assert_eq!(Pax::read(b"22 GNU.sparse.major=1\n"), Err(HeaderError::Sparse));
        assert_eq!(Pax::read(b"13 ACME.x=12\n"), Ok(Pax::default()));
        assert_eq!(Pax::check_global(b"14 comment=ab\n"), Ok(()));
        assert_eq!(Pax::check_global(b"9 path=a\n"), Err(HeaderError::Global("path".into())));
    }
}
