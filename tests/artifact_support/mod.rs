//! Archives made byte by byte, hostile ones among them, and a world to unpack them in.

#![allow(dead_code, reason = "each test file uses its part of it")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use slotd::artifact::unpack::{Job, Progress, unpack};
use slotd::artifact::{ArtifactError, Format, Limits, Manifest, Reserve};
use slotd::model::Code;

pub const BLOCK: usize = 512;

/// A header block under construction.
#[derive(Clone)]
pub struct Header([u8; BLOCK]);

impl Header {
    /// A POSIX header of type `flag` with mode 0644.
    pub fn new(flag: u8, path: &str) -> Self {
        let mut header = Header([0; BLOCK]);
        header.put(257, b"ustar\x0000");
        header.put(156, &[flag]);
        header.put(0, path.as_bytes());
        header.put(136, b"00000000144\0");
        header.size(0).mode(0o644)
    }

    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn bytes(mut self, at: usize, bytes: &[u8]) -> Self {
        self.put(at, bytes);
        self
    }

    pub fn size(self, size: u64) -> Self {
        self.bytes(124, format!("{size:011o}\0").as_bytes())
    }

    pub fn mode(self, mode: u32) -> Self {
        self.bytes(100, format!("{mode:07o}\0").as_bytes())
    }

    pub fn target(self, target: &str) -> Self {
        self.bytes(157, target.as_bytes())
    }

    pub fn gnu(self) -> Self {
        self.bytes(257, b"ustar  \0")
    }

    /// The block with its checksum.
    pub fn sealed(mut self) -> [u8; BLOCK] {
        self.put(148, b"        ");
        let sum: u32 = self.0.iter().map(|byte| u32::from(*byte)).sum();
        self.put(148, format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}

/// An archive under construction.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    pub fn new() -> Self {
        Tar::default()
    }

    pub fn header(mut self, header: Header) -> Self {
        self.0.extend(header.sealed());
        self
    }

    /// Any bytes, filled up to a block.
    pub fn content(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }

    /// A header and its content.
    pub fn with(self, header: Header, content: &[u8]) -> Self {
        self.header(header.size(content.len() as u64)).content(content)
    }

    pub fn file(self, path: &str, content: &str) -> Self {
        self.with(Header::new(b'0', path), content.as_bytes())
    }

    pub fn folder(self, path: &str) -> Self {
        self.header(Header::new(b'5', path).mode(0o755))
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.header(Header::new(b'2', path).target(target))
    }

    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.header(Header::new(b'1', path).target(target))
    }

    /// An extended header (`x`) or a global one (`g`).
    pub fn pax(self, flag: u8, records: &[(&str, &str)]) -> Self {
        let records: String = records.iter().map(|(key, value)| record(key, value)).collect();
        self.with(Header::new(flag, "PaxHeaders/x"), records.as_bytes())
    }

    /// GNU's long path (`L`) or link target (`K`).
    pub fn long(self, flag: u8, name: &str) -> Self {
        self.with(Header::new(flag, "././@LongLink").gnu(), format!("{name}\0").as_bytes())
    }

    /// The end blocks.
    pub fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 2 * BLOCK]);
        self.0
    }
}

/// A PAX record with the length that it has.
pub fn record(key: &str, value: &str) -> String {
    let body = format!(" {key}={value}\n");
    let mut length = body.len() + 1;
    while length != body.len() + length.to_string().len() {
        length = body.len() + length.to_string().len();
    }
    format!("{length}{body}")
}

/// `bytes` in the compression of `format`.
pub fn compress(format: Format, bytes: &[u8]) -> Vec<u8> {
    match format {
        Format::Tar => bytes.to_vec(),
        Format::TarGz => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(bytes).expect("gzip");
            encoder.finish().expect("gzip")
        }
        Format::TarZst => {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("zstd");
            encoder.include_checksum(true).expect("zstd");
            encoder.write_all(bytes).expect("zstd");
            encoder.finish().expect("zstd")
        }
        Format::TarXz => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
            encoder.write_all(bytes).expect("xz");
            encoder.finish().expect("xz")
        }
    }
}

/// A folder with a packed file, a place to unpack to, and a secret beside both.
pub struct World {
    pub dir: tempfile::TempDir,
    pub job: Job,
}

impl World {
    pub fn new(format: Format, packed: &[u8]) -> Self {
        let dir = tempfile::tempdir().expect("folder");
        let (file, dest) = (dir.path().join("packed"), dir.path().join("dest"));
        fs::write(&file, packed).expect("packed");
        fs::create_dir(&dest).expect("dest");
        fs::set_permissions(&dest, PermissionsExt::from_mode(0o700)).expect("chmod");
        fs::write(dir.path().join("secret"), "secret").expect("secret");
        // Small machines have little room to test in.
        let reserve = Reserve { bytes: 1 << 20, inodes: 10 };
        World { dir, job: Job { packed: file, format, dest, limits: Limits::default(), reserve } }
    }

    pub fn dest(&self) -> &Path {
        &self.job.dest
    }

    pub fn unpack(&self) -> Result<Manifest, ArtifactError> {
        self.unpack_watched(&mut |_| {})
    }

    pub fn unpack_watched(&self, progress: &mut dyn FnMut(Progress)) -> Result<Manifest, ArtifactError> {
        let done = unpack(&self.job, progress);
        assert_eq!(fs::read(self.dir.path().join("secret")).expect("secret"), b"secret", "nothing outside is touched");
        if done.is_err() {
            self.assert_nothing_left();
        }
        done
    }

    pub fn assert_nothing_left(&self) {
        let left: Vec<PathBuf> = fs::read_dir(self.dest()).expect("dest").map(|e| e.expect("entry").path()).collect();
        assert_eq!(left, Vec::<PathBuf>::new(), "nothing is left behind");
        let mut beside: Vec<_> =
            fs::read_dir(self.dir.path()).expect("dir").map(|e| e.expect("entry").file_name()).collect();
        beside.sort();
        assert_eq!(beside, ["dest", "packed", "secret"], "nothing lies beside the folder");
    }
}

impl Drop for World {
    /// Frozen folders stand in the way of an ordinary user's removal.
    fn drop(&mut self) {
        slotd::artifact::empty(&self.job.dest).unwrap_or_default();
    }
}

/// Unpacks a tar archive and gives its tree.
pub fn accepted(tar: &[u8]) -> (World, Manifest) {
    let world = World::new(Format::Tar, tar);
    let manifest = world.unpack().unwrap_or_else(|error| panic!("refused: {}", error.fault()));
    manifest.verify(world.dest()).expect("verifies");
    (world, manifest)
}

/// Unpacks an archive that must be refused with `code`, about `entry`, with a message that holds `words`.
pub fn refused_as(format: Format, packed: &[u8], code: Code, entry: Option<&str>, words: &str) {
    let fault = World::new(format, packed).unpack().expect_err("it must be refused").fault();
    assert_eq!(fault.code, code, "{fault}");
    assert_eq!(fault.evidence.entry.as_deref(), entry, "{fault}");
    assert!(fault.message.contains(words), "{fault} has no {words:?}");
}

/// The same for a plain tar.
pub fn refused(tar: &[u8], code: Code, entry: Option<&str>, words: &str) {
    refused_as(Format::Tar, tar, code, entry, words);
}
