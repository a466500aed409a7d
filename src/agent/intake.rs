//! From a dropped or sent artifact to a slot: spool, check, unpack, publish.
//!
//! Only the private copy is looked at, so what was checked is what is used. Whatever goes wrong leaves the state as it
//! was; `later` tells a fault of the host, after which the same file is tried again, from one of the artifact.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use crate::artifact::spool::{self, Spooled};
use crate::artifact::{ArtifactError, Format, Manifest, Reserve, checksum, pack, release, unpack, worker};
use crate::config::{AppSettings, keys};
use crate::durable;
use crate::model::release::Release;
use crate::model::setting::Inputs;
use crate::model::slot::{Origin, Phase, RefusedRecord};
use crate::model::{Code, Digest, Fault, SlotName, SlotRecord, Timestamp, Version};
use crate::slots::{NewSlot, Published, SlotError, SlotStore, Stored, compare};

use super::naming::{Named, named, version_of};

/// Where an artifact comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file in the drop-in directory.
    File(PathBuf),
    /// A directory that was renamed into it.
    Directory(PathBuf),
    /// A file in the spool that came over the control socket.
    Upload(PathBuf),
}

/// An artifact that is to become a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The bytes.
    pub source: Source,
    /// Its name, for its ending and, unless `version` is given, its version.
    pub file: String,
    /// The version, where the name doesn't tell.
    pub version: Option<Version>,
    /// The digest that the sender promises.
    pub sha256: Option<Digest>,
    /// Who brought it.
    pub by: String,
    /// Their message.
    pub message: Option<String>,
}

/// Where it goes.
#[derive(Clone)]
pub struct Place {
    /// The app's settings.
    pub settings: Arc<AppSettings>,
    /// Its slots.
    pub store: Arc<SlotStore>,
    /// The binary that the unpack worker is.
    pub worker: PathBuf,
}

/// An artifact that didn't become a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub fault: Fault,
    /// The host's fault, not the artifact's: it is worth another try as it is.
    pub later: bool,
}

/// Takes an artifact in, unless `cancel` says by whom it is cancelled before it is published. What was put into spool and
/// staging is gone afterwards, whatever came of it.
pub async fn take_in(place: &Place, job: &Job, cancel: &Cancel) -> Result<Published, Refused> {
    let mut packed = None;
    let named = named(place, job);
    let result = match &named {
        Ok(named) => publish(place, job, named, cancel, &mut packed).await,
        Err(refused) => Err(refused.fault.clone()),
    };
    let (path, digest) = packed.map_or((None, None), |spooled: Spooled| (Some(spooled.path), Some(spooled.digest)));
    let uploaded = match &job.source {
        Source::Upload(path) => Some(path.clone()),
        Source::File(_) | Source::Directory(_) => None,
    };
    for leftover in path.into_iter().chain(uploaded) {
        // Swept at the next start if it can't be removed now.
        let _ = durable::remove_file(&leftover);
    }
    result.map_err(|fault| {
        let refused = refused(fault);
        // What has no version has no slot that could tell of it: whoever brought it is told.
        if let Ok(Named::As(version)) = &named
            && !refused.later
            && !matches!(refused.fault.code, Code::ReleaseConflict | Code::Cancelled)
        {
            keep_refusal(place, job, version, digest, &refused.fault);
        }
        refused
    })
}

async fn publish(
    place: &Place,
    job: &Job,
    named: &Named,
    cancel: &Cancel,
    packed: &mut Option<Spooled>,
) -> Result<Published, Fault> {
    let spooled = blocking({
        let (place, job) = (place.clone(), job.clone());
        move || spool_in(&place, &job)
    })
    .await?;
    let (digest, bytes, path) = (spooled.digest, spooled.bytes, spooled.path.clone());
    *packed = Some(spooled);
    check_digest(job, &digest)?;
    if let Some(by) = cancel.borrow().as_ref() {
        return Err(cancelled_by(by));
    }
    if let Some(known) = known(&place.store, named, &digest)? {
        return Ok(Published::Known(known));
    }
    let format = match &job.source {
        Source::Directory(_) => Format::Tar,
        Source::File(_) | Source::Upload(_) => {
            Format::of_name(&job.file).map_err(|rule| Fault::new(rule.code(), format!("{:?}: {rule}", job.file)))?
        }
    };
    let staging = staging_dir(&place.store)?;
    let unpacked = unpack_into(place, path.clone(), format, &staging, cancel).await;
    let result = match unpacked {
        Ok(manifest) => {
            let (place, job, named, staging) = (place.clone(), job.clone(), named.clone(), staging.clone());
            blocking(move || {
                let release = release::read(&staging).map_err(|error| error.fault())?.unwrap_or_default();
                let version = version_of(&place, &job, named, &release, &digest)?;
                let new = new_slot(&place, &job, SlotName::first(version), (digest, bytes), release, &staging, path);
                let tree_bytes = manifest.bytes;
                let manifest = serde_json::to_vec(&manifest).map_err(|error| {
                    Fault::new(Code::Internal, format!("the content manifest can't be written: {error}"))
                })?;
                let new = NewSlot { manifest: &manifest, tree_bytes, ..new };
                place.store.publish(&new, &compare).map_err(|error| error.fault())
            })
            .await
        }
        Err(fault) => Err(fault),
    };
    // Moved away when it was published; else swept now, or at the next start.
    let _ = durable::remove_tree(&staging);
    result
}

/// A private copy of the bytes, hashed while it is made.
fn spool_in(place: &Place, job: &Job) -> Result<Spooled, Fault> {
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
        Source::Directory(path) => pack_directory(path, &spool),
        Source::Upload(path) => {
            let (digest, bytes) = spool::digest_of(path).map_err(fault)?;
            Ok(Spooled { path: path.clone(), digest, bytes })
        }
    }
}

/// A dropped directory is packed first, so that it has a digest and bytes that are kept.
fn pack_directory(dir: &Path, spool: &Path) -> Result<Spooled, Fault> {
    let path = durable::aside_in(spool);
    let io = |error: std::io::Error| Fault::new(Code::FsIo, format!("failed to write {}: {error}", path.display()));
    let mut file = spool::Guarded::create(&path, Reserve::default()).map_err(|error| error.fault())?;
    let options = pack::Options { format: Format::Tar, leave_out: pack::LeaveOut::Nothing, mtime: pack::DEFAULT_MTIME };
    let packed = pack::pack(dir, &mut file, options).map_err(|error| error.fault());
    let synced = packed.and_then(|packed| file.sync().map(|()| packed).map_err(io));
    if synced.is_err() {
        let _ = durable::remove_file(&path);
    }
    let packed = synced?;
    Ok(Spooled { path, digest: packed.digest, bytes: packed.bytes })
}

fn check_digest(job: &Job, actual: &Digest) -> Result<(), Fault> {
    match job.sha256 {
        Some(promised) if promised != *actual => Err(Fault::new(
            Code::TrustDigestMismatch,
            format!("{} has the digest {actual}, not the promised {promised}", job.file),
        )),
        _ => Ok(()),
    }
}

/// The slot if it is there with the same bytes; a conflict if its version means others. Without a version these bytes are
/// whatever release they were before.
fn known(store: &SlotStore, named: &Named, digest: &Digest) -> Result<Option<SlotRecord>, Fault> {
    let fault = |error: SlotError| error.fault();
    let record = match named {
        Named::As(version) => {
            store.check_claim(version, digest).map_err(fault)?;
            store.record(&SlotName::first(version.clone())).ok()
        }
        Named::Nothing => {
            let slots = store.slots().map_err(fault)?.into_iter();
            let records = slots.filter_map(|entry| match entry.stored {
                Stored::Slot(record) if record.artifact == *digest => Some(*record),
                _ => None,
            });
            records.min_by_key(|record| record.slot.redeployment)
        }
    };
    // A tree that was lost comes back with the next unpacking.
    Ok(record.filter(|record| store.layout().tree(&record.tree).is_dir()))
}

fn staging_dir(store: &SlotStore) -> Result<PathBuf, Fault> {
    let staging = durable::aside_in(&store.layout().staging());
    durable::make_dir(&staging, 0o700).map_err(|error| error.fault())?;
    Ok(staging)
}

async fn unpack_into(
    place: &Place,
    packed: PathBuf,
    format: Format,
    dest: &Path,
    cancel: &Cancel,
) -> Result<Manifest, Fault> {
    let limits = &place.settings.limits;
    let job = unpack::Job {
        packed,
        format,
        dest: dest.to_path_buf(),
        limits: crate::artifact::Limits {
            packed_bytes: limits.packed_bytes,
            unpacked_bytes: limits.unpacked_bytes,
            file_bytes: limits.file_bytes,
            entries: limits.entries,
            ratio: limits.ratio,
            time: limits.time,
        },
        reserve: Reserve::default(),
    };
    let unpacked = worker::run_in_child(&place.worker, &job, |_| {}, cancelled(cancel)).await;
    match cancel.borrow().as_ref() {
        Some(by) if unpacked.is_ok() || matches!(unpacked, Err(ArtifactError::Cancelled)) => Err(cancelled_by(by)),
        _ => unpacked.map_err(|error| error.fault()),
    }
}

/// Who cancels an intake, once somebody does.
pub type Cancel = watch::Receiver<Option<String>>;

/// Ends when the intake is cancelled.
pub async fn cancelled(cancel: &Cancel) {
    if cancel.clone().wait_for(Option::is_some).await.is_err() {
        // Nobody is left who could say so.
        std::future::pending().await
    }
}

/// The end of a cancelled intake.
pub fn cancelled_by(by: &str) -> Fault {
    Fault::new(Code::Cancelled, format!("cancelled by {by} while it was taken in"))
}

fn new_slot<'a>(
    place: &Place,
    job: &Job,
    slot: SlotName,
    (artifact, bytes): (Digest, u64),
    release: Release,
    staging: &Path,
    packed: PathBuf,
) -> NewSlot<'a> {
    let Inputs { env, units } = keys::inputs(&place.settings);
    NewSlot {
        slot,
        artifact,
        units,
        release,
        origin: origin(job, bytes),
        env,
        staging: staging.to_path_buf(),
        manifest: &[],
        tree_bytes: 0,
        packed,
    }
}

fn origin(job: &Job, bytes: u64) -> Origin {
    Origin { file: job.file.clone(), bytes, by: job.by.clone(), message: job.message.clone() }
}

/// The refusal stands in the slot's record, so that `list` and `inspect` show it.
fn keep_refusal(place: &Place, job: &Job, version: &Version, artifact: Option<Digest>, fault: &Fault) {
    let record = RefusedRecord {
        version: version.clone(),
        artifact,
        origin: origin(job, 0),
        phase: Phase::Processing,
        fault: fault.clone(),
        at: Timestamp::now(),
    };
    if let Err(error) = place.store.record_refusal(&record) {
        // The fate file beside the artifact tells it too.
        tracing::warn!(SLOTD_APP = place.settings.name.as_str(), "the refusal of {version} isn't recorded: {error}");
    }
}

pub(super) fn refused(fault: Fault) -> Refused {
    let later = matches!(fault.code, Code::DiskFull | Code::FsIo | Code::FsRace | Code::Internal | Code::IngestChanged);
    Refused { fault, later }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => Err(Fault::new(Code::Internal, format!("the intake was torn: {panic}"))),
    }
}
