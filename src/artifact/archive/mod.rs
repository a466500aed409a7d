//! Reads a tar archive entry by entry, and refuses whatever two readers could see differently.
//!
//! Only the layout of a header comes from the `tar` crate. Its iterator is not used: it, like most, settles
//! silently what is refused here.

mod header;
mod pax;

pub use header::HeaderError;

use header::{BLOCK, Header};
use pax::Pax;

use super::error::{ArtifactError, Rule, shown};
use super::limits::LimitError;
use super::stream::Unpacked;

/// Largest extended header or long name: a path, a target and remarks.
pub const MAX_EXTENDED_BYTES: u64 = 64 << 10;
/// Zeros that may follow the end: tools fill up their last record, of up to 1 MiB.
pub const MAX_PADDING_BYTES: u64 = 1 << 20;
/// The largest size that a header can say in octal; beyond it writers leave 0 there and give it in a PAX record.
const MAX_OCTAL_SIZE: u64 = 0o77_777_777_777;

/// An entry as its headers say, paths still unchecked.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    /// Permission bits with setuid, setgid, sticky.
    pub(super) mode: u32,
    /// Seconds since 1970.
    pub(super) mtime: u64,
}

#[derive(Debug)]
pub(super) enum Kind {
    File { size: u64 },
    Folder,
    Symlink { target: Vec<u8> },
    HardLink { target: Vec<u8> },
}

/// The entries of an archive, in their order.
pub(super) struct Archive {
    stream: Unpacked,
    /// Content of the entry under way that wasn't read yet.
    content: u64,
    /// What fills its last block.
    fill: usize,
}

/// What headers before the entry's own say of it.
#[derive(Default)]
struct Before {
    pax: Option<Pax>,
    long_path: Option<Vec<u8>>,
    long_target: Option<Vec<u8>>,
}

impl Archive {
    pub(super) fn new(stream: Unpacked) -> Self {
        Archive { stream, content: 0, fill: 0 }
    }

    /// The next entry. `None` is the end: the end blocks were there and nothing follows them.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, ArtifactError> {
        self.skip_rest()?;
        let mut before = Before::default();
        loop {
            let block = self.block()?.ok_or(HeaderError::NoEnd)?;
            if block == [0; BLOCK] {
                if before.any() {
                    return Err(HeaderError::Dangling.into());
                }
                return self.end().map(|()| None);
            }
            let header = Header::new(&block)?;
            let about = |error: ArtifactError| error.about(&header.shown());
            match header.flag() {
                b'x' => {
                    let pax = self.extended(header.size()?)?;
                    let pax = Pax::read(&pax).map_err(|error| about(error.into()))?;
                    once(&mut before.pax, pax, "an extended header").map_err(about)?;
                }
                b'g' if before.any() => return Err(HeaderError::GlobalWithin.into()),
                b'g' => Pax::check_global(&self.extended(header.size()?)?)?,
                b'L' => once(&mut before.long_path, self.long_name(header.size()?)?, "a long path").map_err(about)?,
                b'K' => {
                    once(&mut before.long_target, self.long_name(header.size()?)?, "a long link target")
                        .map_err(about)?;
                }
                _ => return self.entry(&header, before).map(Some).map_err(about),
            }
        }
    }

    /// Some bytes of the file that [`Self::next`] gave last; 0 is its end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ArtifactError> {
        let most = buffer.len().min(usize::try_from(self.content).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let read = self.stream.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(Rule::Truncated.into());
        }
        self.content -= read as u64;
        Ok(read)
    }

    pub(super) fn stream(&mut self) -> &mut Unpacked {
        &mut self.stream
    }

    /// The entry that `header` begins, once its name is known.
    fn entry(&mut self, header: &Header<'_>, before: Before) -> Result<Entry, ArtifactError> {
        let Before { pax, long_path, long_target } = before;
        let pax = pax.unwrap_or_default();
        let path = one_of(header.path()?, long_path, pax.path, "a long path")?;
        let target = one_of(header.target()?, long_target, pax.target, "a long link target")?;
        let name = shown(&path);
        let read = || {
            let size = size(header.size()?, pax.size)?;
            let kind = kind(header.flag(), &path, target, size)?;
            let mtime = match pax.mtime {
                Some(mtime) => mtime,
                None => header.mtime()?,
            };
            Ok((kind, header.mode()?, mtime, size))
        };
        let (kind, mode, mtime, size) = read().map_err(|error: ArtifactError| error.about(&name))?;
        self.content = size;
        self.fill = fill(size);
        Ok(Entry { path, kind, mode, mtime })
    }

    /// The content of an extended header.
    fn extended(&mut self, size: u64) -> Result<Vec<u8>, ArtifactError> {
        if size > MAX_EXTENDED_BYTES {
            return Err(LimitError::Extended(size).into());
        }
        let mut data = vec![0; size as usize];
        self.exactly(&mut data)?;
        self.exactly(&mut [0; BLOCK][..fill(size)])?;
        Ok(data)
    }

    /// The content of GNU's long name: a name and the NUL that ends it.
    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, ArtifactError> {
        let mut name = self.extended(size)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        // An inner NUL is left for the rules of paths.
        Ok(name)
    }

    /// Goes past what wasn't read of the entry under way.
    fn skip_rest(&mut self) -> Result<(), ArtifactError> {
        let mut buffer = [0; BLOCK];
        while self.read(&mut buffer)? > 0 {}
        let fill = std::mem::take(&mut self.fill);
        self.exactly(&mut buffer[..fill])
    }

    /// The next block; `None` where the stream ends before it.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, ArtifactError> {
        let mut block = [0; BLOCK];
        match self.stream.read_full(&mut block)? {
            0 => Ok(None),
            BLOCK => Ok(Some(block)),
            _ => Err(Rule::Truncated.into()),
        }
    }

    fn exactly(&mut self, buffer: &mut [u8]) -> Result<(), ArtifactError> {
        match self.stream.read_full(buffer)? == buffer.len() {
            true => Ok(()),
            false => Err(Rule::Truncated.into()),
        }
    }

    /// One block of zeros was read: a second has to follow, and then nothing but a record's padding.
    fn end(&mut self) -> Result<(), ArtifactError> {
        match self.block()? {
            None => return Err(HeaderError::NoEnd.into()),
            Some(block) if block != [0; BLOCK] => return Err(HeaderError::AfterEnd.into()),
            Some(_) => {}
        }
        let (mut buffer, mut padding) = ([0; 4096], 0);
        loop {
            let read = self.stream.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            if buffer[..read].iter().any(|byte| *byte != 0) {
                return Err(HeaderError::AfterEnd.into());
            }
            padding += read as u64;
            if padding > MAX_PADDING_BYTES {
                return Err(LimitError::Padding(MAX_PADDING_BYTES).into());
            }
        }
    }
}

/// What an entry of type `flag` is, with the target and size that only some have.
fn kind(flag: u8, path: &[u8], target: Vec<u8>, size: u64) -> Result<Kind, ArtifactError> {
    let kind = match flag {
        0 | b'0' if path.ends_with(b"/") => return Err(HeaderError::FileWithSlash.into()),
        0 | b'0' => Kind::File { size },
        b'1' => Kind::HardLink { target: target.clone() },
        b'2' => Kind::Symlink { target: target.clone() },
        b'5' => Kind::Folder,
        b'3' => return Err(Rule::SpecialFile("character device").into()),
        b'4' => return Err(Rule::SpecialFile("block device").into()),
        b'6' => return Err(Rule::SpecialFile("FIFO").into()),
        b'S' => return Err(HeaderError::Sparse.into()),
        other => return Err(HeaderError::Type(other.into()).into()),
    };
    match kind {
        Kind::File { .. } | Kind::Folder if !target.is_empty() => Err(HeaderError::TargetOfNoLink.into()),
        Kind::Folder | Kind::Symlink { .. } | Kind::HardLink { .. } if size > 0 => {
            Err(HeaderError::ContentOfNoFile(size).into())
        }
        kind => Ok(kind),
    }
}

impl Before {
    fn any(&self) -> bool {
        self.pax.is_some() || self.long_path.is_some() || self.long_target.is_some()
    }
}

fn once<T>(place: &mut Option<T>, value: T, what: &'static str) -> Result<(), ArtifactError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(HeaderError::Twice(what).into()),
    }
}

/// A name that the header, GNU's long name or PAX gives; the last two not both.
fn one_of(
    own: Vec<u8>,
    long: Option<Vec<u8>>,
    pax: Option<Vec<u8>>,
    what: &'static str,
) -> Result<Vec<u8>, HeaderError> {
    match (long, pax) {
        (Some(_), Some(_)) => Err(HeaderError::Twice(what)),
        (Some(name), None) | (None, Some(name)) => Ok(name),
        (None, None) => Ok(own),
    }
}

/// The one size. A header that says 0 beside a PAX size is how one reader is made to see content where another
/// sees headers, so it passes only where octal can't say the size.
fn size(header: u64, pax: Option<u64>) -> Result<u64, HeaderError> {
    match pax {
        None => Ok(header),
        Some(pax) if pax == header => Ok(pax),
        Some(pax) if header == 0 && pax > MAX_OCTAL_SIZE => Ok(pax),
        Some(pax) => Err(HeaderError::PaxSize { pax, header }),
    }
}

/// What is missing to a full block.
fn fill(size: u64) -> usize {
    ((BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64) as usize
}
