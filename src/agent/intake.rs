//! From a dropped or sent artifact to a slot: spool, check, unpack, publish.
//!
//! Only the private copy is looked at, so what was checked is what is used. Whatever goes wrong leaves the state as it
//! was; `later` tells a fault of the host, after which the same file is tried again, from one of the artifact.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::artifact::spool::Spooled;
use crate::artifact::{ArtifactError, Format, Manifest, Reserve, release, unpack, worker};
use crate::config::{AppSettings, keys};
use crate::durable;
use crate::model::setting::Inputs;
use crate::model::slot::{Origin, Phase, RefusedRecord};
use crate::model::{Code, Digest, Fault, SlotName, SlotRecord, Timestamp, Version};
use crate::slots::{NewSlot, Published, SlotError, SlotStore, Stored, compare};
use crate::units::UnitControl;

use super::build::{Hands, Made, turn};
use super::naming::{Named, named, version_of};
use super::spooled::spool_in;

/// Where an artifact comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file in the drop-in directory.
    File(PathBuf),
    /// A directory that was renamed into it.
    Directory(PathBuf),
    /// A file in the spool that came over the control socket.
    Upload(PathBuf),
    /// What is kept of a slot, whose tree is to be built anew.
    Kept(SlotName),
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
    /// In which phase.
    pub phase: Phase,
    /// What its build said, if it came to one.
    pub log: Option<String>,
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        let host = [Code::DiskFull, Code::FsIo, Code::FsRace, Code::Internal, Code::IngestChanged];
        Refused { later: host.contains(&fault.code), fault, phase: Phase::Processing, log: None }
    }
}

/// Takes an artifact in, unless `cancel` says by whom it is cancelled before it is published. What was put into spool and
/// staging is gone afterwards, whatever came of it.
pub async fn take_in<U: UnitControl>(
    place: &Place,
    job: &Job,
    hands: &Hands<U>,
    cancel: &Cancel,
) -> Result<Published, Refused> {
    let mut packed = None;
    let named = named(place, job);
    let result = match &named {
        Ok(named) => publish(place, job, named, hands, cancel, &mut packed).await,
        Err(refused) => Err(refused.clone()),
    };
    let (path, digest) = packed.map_or((None, None), |spooled: Spooled| (Some(spooled.path), Some(spooled.digest)));
    let uploaded = match &job.source {
        Source::Upload(path) => Some(path.clone()),
        Source::File(_) | Source::Directory(_) | Source::Kept(_) => None,
    };
    // Bytes that are kept with a slot stay.
    let copied = path.filter(|_| !matches!(job.source, Source::Kept(_)));
    for leftover in copied.into_iter().chain(uploaded) {
        // Swept at the next start if it can't be removed now.
        let _ = durable::remove_file(&leftover);
    }
    result.inspect_err(|refused| {
        // What has no version has no slot that could tell of it: whoever brought it is told.
        if let Ok(Named::As(version)) = &named
            && !refused.later
            && !matches!(refused.fault.code, Code::ReleaseConflict | Code::Cancelled)
        {
            keep_refusal(place, job, version, digest, refused);
        }
    })
}

async fn publish<U: UnitControl>(
    place: &Place,
    job: &Job,
    named: &Named,
    hands: &Hands<U>,
    cancel: &Cancel,
    packed: &mut Option<Spooled>,
) -> Result<Published, Refused> {
    let turn = turn(&hands.turns.intakes, cancel).await;
    let spooled = blocking({
        let (place, job) = (place.clone(), job.clone());
        move || spool_in(&place, &job)
    })
    .await?;
    let (digest, path) = (spooled.digest, spooled.path.clone());
    *packed = Some(spooled.clone());
    check_digest(job, &digest)?;
    if let Some(by) = cancel.borrow().as_ref() {
        return Err(cancelled_by(by).into());
    }
    let is_kept = matches!(job.source, Source::Kept(_));
    if !is_kept && let Some(known) = known(&place.store, named, &digest)? {
        return Ok(Published::Known(known));
    }
    // What can't be built needn't be unpacked.
    if let (Named::As(version), Some(build)) = (named, keys::inputs(&place.settings).build) {
        hands.unit(place, &SlotName::first(version.clone()), build).await?;
    }
    let format = match &job.source {
        Source::Directory(_) => Format::Tar,
        // A folder that was dropped may have any name.
        Source::Kept(_) => Format::of_name(&job.file).unwrap_or(Format::Tar),
        Source::File(_) | Source::Upload(_) => {
            Format::of_name(&job.file).map_err(|rule| Fault::new(rule.code(), format!("{:?}: {rule}", job.file)))?
        }
    };
    let staging = staging_dir(&place.store)?;
    let unpacked = unpack_into(place, path, format, &staging, cancel).await;
    let result = match unpacked {
        Ok(manifest) => {
            let unpacked = Unpacked { spooled, manifest, staging: staging.clone(), turn };
            finish(place, job, named, hands, cancel, unpacked).await
        }
        Err(fault) => Err(fault.into()),
    };
    // Moved away when it was published; else swept now, or at the next start.
    let _ = durable::remove_tree(&staging);
    result
}

/// An artifact's files, before anything is built of them.
struct Unpacked {
    spooled: Spooled,
    manifest: Manifest,
    staging: PathBuf,
    /// Its turn among the intakes, which ends before a build: that may take long.
    turn: Option<OwnedSemaphorePermit>,
}

/// From files to a slot: its name, its build, its publication.
async fn finish<U: UnitControl>(
    place: &Place,
    job: &Job,
    named: &Named,
    hands: &Hands<U>,
    cancel: &Cancel,
    unpacked: Unpacked,
) -> Result<Published, Refused> {
    let Unpacked { spooled, manifest, staging, turn } = unpacked;
    let (slot, release) = blocking({
        let (place, job, named, staging, digest) =
            (place.clone(), job.clone(), named.clone(), staging.clone(), spooled.digest);
        move || {
            let release = release::read(&staging).map_err(|error| error.fault())?.unwrap_or_default();
            let version = version_of(&place, &job, named, &release, &digest)?;
            let slot = match &job.source {
                Source::Kept(of) => place.store.next_redeployment(of).map_err(|error| error.fault())?,
                _ => SlotName::first(version),
            };
            Ok((slot, release))
        }
    })
    .await?;
    let Inputs { env, units, build } = keys::inputs(&place.settings);
    let (built, made) = match build {
        None => (None, Made { staging: Some(staging), manifest, log: None }),
        Some(inputs) => {
            drop(turn);
            let unit = hands.unit(place, &slot, inputs).await?;
            let built = unit.built.clone();
            let made = hands.made(place, &slot, unit, (&spooled.digest, staging), cancel).await?;
            (Some(built), made)
        }
    };
    let (place, origin) = (place.clone(), origin(job, spooled.bytes));
    let packed = (!matches!(job.source, Source::Kept(_))).then_some(spooled.path);
    let Made { staging, manifest, log } = made;
    let published = blocking(move || {
        let tree_bytes = manifest.bytes;
        let manifest = serde_json::to_vec(&manifest)
            .map_err(|error| Fault::new(Code::Internal, format!("the content manifest can't be written: {error}")))?;
        let new = NewSlot {
            slot,
            artifact: spooled.digest,
            units,
            release,
            origin,
            env,
            staging: staging.clone(),
            manifest: &manifest,
            tree_bytes,
            build: built,
            log: log.as_deref(),
            packed,
        };
        let published = place.store.publish(&new, &compare).map_err(|error| error.fault());
        if let Some(staging) = staging {
            // Moved away, or there a second time.
            let _ = durable::remove_tree(&staging);
        }
        published
    });
    Ok(published.await?)
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

pub(super) fn staging_dir(store: &SlotStore) -> Result<PathBuf, Fault> {
    let staging = durable::aside_in(&store.layout().staging());
    durable::make_dir(&staging, 0o700).map_err(|error| error.fault())?;
    Ok(staging)
}

pub(super) async fn unpack_into(
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

fn origin(job: &Job, bytes: u64) -> Origin {
    Origin { file: job.file.clone(), bytes, by: job.by.clone(), message: job.message.clone() }
}

/// The refusal stands in the slot's record, so that `list` and `inspect` show it.
fn keep_refusal(place: &Place, job: &Job, version: &Version, artifact: Option<Digest>, refused: &Refused) {
    let anew = match &job.source {
        Source::Kept(of) => place.store.next_redeployment(of).ok(),
        _ => None,
    };
    let record = RefusedRecord {
        version: version.clone(),
        redeployment: anew.as_ref().map_or(1, |slot| slot.redeployment),
        artifact,
        origin: origin(job, 0),
        phase: refused.phase,
        fault: refused.fault.clone(),
        at: Timestamp::now(),
        inputs: anew.map(|_| keys::inputs(&place.settings)),
    };
    if let Err(error) = place.store.record_refusal(&record, refused.log.as_deref()) {
        // The fate file beside the artifact tells it too.
        tracing::warn!(SLOTD_APP = place.settings.name.as_str(), "the refusal of {version} isn't recorded: {error}");
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => Err(Fault::new(Code::Internal, format!("the intake was torn: {panic}"))),
    }
}
