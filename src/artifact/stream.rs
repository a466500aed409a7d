//! The bytes of an archive, decompressed and counted.
//!
//! A compressed file may be a row of members (`pzstd`, `cat a.gz b.gz`); what follows the last one and isn't a
//! member is refused, since tools disagree on it.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::PathBuf;

use liblzma::bufread::XzDecoder;
use liblzma::stream::Stream;

use super::error::{ArtifactError, Rule};
use super::format::Format;
use super::limits::{LimitError, Meter};

/// The largest zstd window, as its logarithm: 128 MiB, what `--long` uses.
pub const ZSTD_WINDOW_LOG: u32 = 27;
/// Memory that xz may use: a dictionary of 64 MiB, which `-9` asks for, and what the decoder itself needs.
pub const XZ_MEMORY: u64 = (64 + 2) << 20;

const BUFFER_BYTES: usize = 128 << 10;

/// The decompressed bytes.
pub(super) struct Unpacked {
    /// `None` only while one member is followed by the next.
    decoder: Option<Decoder>,
    format: Format,
    meter: Meter,
    path: PathBuf,
}

enum Decoder {
    Tar(Source),
    Gz(flate2::bufread::GzDecoder<Source>),
    Zst(zstd::stream::read::Decoder<'static, Source>),
    Xz(XzDecoder<Source>),
}

impl Unpacked {
    /// Begins to read `file`, whose path is for errors only.
    pub(super) fn new(file: File, path: PathBuf, format: Format, meter: Meter) -> Result<Self, ArtifactError> {
        let mut source = Source::new(file);
        let first = source.peek(Format::MAGIC_BYTES).map_err(ArtifactError::io("read", &path))?;
        if first.is_empty() {
            return Err(Rule::Truncated.into());
        }
        if !format.begins(first) {
            let what = match format {
                Format::Tar => "a tar archive",
                Format::TarGz => "gzip",
                Format::TarZst => "zstd",
                Format::TarXz => "xz",
            };
            return Err(Rule::WrongMagic(what).into());
        }
        let decoder = Some(Decoder::new(format, source).map_err(ArtifactError::io("begin to decompress", &path))?);
        Ok(Unpacked { decoder, format, meter, path })
    }

    /// Some bytes, at most `buffer`'s length; 0 is the end of the file.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ArtifactError> {
        loop {
            let Some(decoder) = &mut self.decoder else { return Ok(0) };
            let read = decoder.read(buffer).map_err(|error| refusal(error, &self.path))?;
            self.meter.stream(read as u64)?;
            if read > 0 {
                return Ok(read);
            }
            self.next_member()?;
        }
    }

    /// Fills `buffer`, or as much of it as there is.
    pub(super) fn read_full(&mut self, buffer: &mut [u8]) -> Result<usize, ArtifactError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(filled)
    }

    pub(super) fn meter(&mut self) -> &mut Meter {
        &mut self.meter
    }

    /// Packed bytes taken so far.
    pub(super) fn packed(&self) -> u64 {
        self.decoder.as_ref().map_or(self.meter.packed(), |decoder| decoder.source().taken)
    }

    /// One member has ended: goes on with the next, or ends.
    fn next_member(&mut self) -> Result<(), ArtifactError> {
        let Some(mut source) = self.decoder.take().map(Decoder::into_source) else { return Ok(()) };
        let first = source.peek(Format::MAGIC_BYTES).map_err(ArtifactError::io("read", &self.path))?;
        if first.is_empty() {
            return Ok(());
        }
        if self.format == Format::Tar || !self.format.begins(first) {
            return Err(Rule::AfterStream.into());
        }
        let decoder = Decoder::new(self.format, source).map_err(ArtifactError::io("decompress", &self.path))?;
        self.decoder = Some(decoder);
        Ok(())
    }
}

impl Decoder {
    fn new(format: Format, source: Source) -> io::Result<Self> {
        Ok(match format {
            Format::Tar => Decoder::Tar(source),
            Format::TarGz => Decoder::Gz(flate2::bufread::GzDecoder::new(source)),
            Format::TarZst => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?.single_frame();
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Decoder::Zst(decoder)
            }
            Format::TarXz => Decoder::Xz(XzDecoder::new_stream(source, Stream::new_stream_decoder(XZ_MEMORY, 0)?)),
        })
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Tar(source) => source.read(buffer),
            Decoder::Gz(decoder) => decoder.read(buffer),
            Decoder::Zst(decoder) => decoder.read(buffer),
            Decoder::Xz(decoder) => decoder.read(buffer),
        }
    }

    fn source(&self) -> &Source {
        match self {
            Decoder::Tar(source) => source,
            Decoder::Gz(decoder) => decoder.get_ref(),
            Decoder::Zst(decoder) => decoder.get_ref(),
            Decoder::Xz(decoder) => decoder.get_ref(),
        }
    }

    fn into_source(self) -> Source {
        match self {
            Decoder::Tar(source) => source,
            Decoder::Gz(decoder) => decoder.into_inner(),
            Decoder::Zst(decoder) => decoder.finish(),
            Decoder::Xz(decoder) => decoder.into_inner(),
        }
    }
}

/// What an error of a decompressor says about the archive, unless it is the disk's.
fn refusal(error: io::Error, path: &std::path::Path) -> ArtifactError {
    if error.raw_os_error().is_some() {
        return ArtifactError::io("read", path)(error);
    }
    let inner = error.get_ref();
    if inner.and_then(|inner| inner.downcast_ref()) == Some(&liblzma::stream::Error::MemLimit) {
        return LimitError::Memory(XZ_MEMORY).into();
    }
    let text = error.to_string();
    // libzstd gives its error by name only.
    if text.contains("requires too much memory") {
        return LimitError::Window(ZSTD_WINDOW_LOG).into();
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Rule::Truncated.into(),
        _ => Rule::Damaged(text).into(),
    }
}

/// The packed file: a buffer that can be looked into, and a count of what was taken.
struct Source {
    file: File,
    buffer: Vec<u8>,
    start: usize,
    taken: u64,
}

impl Source {
    fn new(file: File) -> Self {
        Source { file, buffer: Vec::with_capacity(BUFFER_BYTES), start: 0, taken: 0 }
    }

    /// The next bytes without taking them: at least `count` unless the file ends before.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.buffer.len() - self.start < count {
            self.buffer.drain(..self.start);
            self.start = 0;
            let had = self.buffer.len();
            let more = (&mut self.file).take((BUFFER_BYTES - had) as u64).read_to_end(&mut self.buffer)?;
            if more == 0 {
                break;
            }
        }
        Ok(&self.buffer[self.start..])
    }
}

impl BufRead for Source {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.peek(1)
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
        self.taken += count as u64;
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}
