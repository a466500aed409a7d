//! Bytes of slotd's own, of what is taken in: a copy, or a folder that is packed.

use std::path::Path;

use crate::artifact::spool::{self, Spooled};
use crate::artifact::{ArtifactError, Format, Reserve, checksum, pack};
use crate::durable;
use crate::model::{Code, Fault};

use super::intake::{Job, Place, Source};

/// A private copy of the bytes, hashed while it is made.
pub(super) fn spool_in(place: &Place, job: &Job) -> Result<Spooled, Fault> {
    let spool = place.store.layout().spool();
    let limit = place.settings.limits.packed_bytes;
    let fault = |error: ArtifactError| error.fault();
    match &job.source {
        Source::File(path) => {
            let spooled = spool::copy_in(path, &spool, limit).map_err(fault)?;
            let folder = path.parent().unwrap_or(Path::new("."));
            let promised = checksum::verify(folder, &job.file, &spooled.digest).map_err(fault);
            if promised.is_err() {
                let _ = durable::remove_file(&spooled.path);
            }
            promised.map(|_| spooled)
        }
        Source::Directory(path) => pack_folder(path, &spool, pack::Mtime::All(pack::DEFAULT_MTIME)),
        Source::Kept(of) => {
            let record = place.store.record(of).map_err(|error| error.fault())?;
            let path = place.store.layout().artifact(&record.artifact);
            Ok(Spooled { path, digest: record.artifact, bytes: record.origin.bytes })
        }
        Source::Upload(path) => {
            let (digest, bytes) = spool::digest_of(path).map_err(fault)?;
            Ok(Spooled { path: path.clone(), digest, bytes })
        }
    }
}

/// A folder is packed: a dropped one, so that it has a digest and bytes that are kept; a tree that was built, so that it is
/// checked like any archive.
pub(super) fn pack_folder(dir: &Path, spool: &Path, mtime: pack::Mtime) -> Result<Spooled, Fault> {
    let path = durable::aside_in(spool);
    let io = |error: std::io::Error| Fault::new(Code::FsIo, format!("failed to write {}: {error}", path.display()));
    let mut file = spool::Guarded::create(&path, Reserve::default()).map_err(|error| error.fault())?;
    let options = pack::Options { format: Format::Tar, leave_out: pack::LeaveOut::Nothing, mtime };
    let packed = pack::pack(dir, &mut file, options).map_err(|error| error.fault());
    let synced = packed.and_then(|packed| file.sync().map(|()| packed).map_err(io));
    if synced.is_err() {
        let _ = durable::remove_file(&path);
    }
    let packed = synced?;
    Ok(Spooled { path, digest: packed.digest, bytes: packed.bytes })
}
