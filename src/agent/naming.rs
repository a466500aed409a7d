//! Which version an artifact becomes: what somebody said, its name's, its release file's, that of the same bytes before, or a
//! generated one.

use crate::artifact::Format;
use crate::model::release::Release;
use crate::model::{Code, Digest, Fault, SlotRecord, Timestamp, Version};
use crate::slots::{SlotError, Stored};

use super::intake::{Job, Place, Refused, Source};

/// What an artifact says of its version before it is unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// This one: the caller's word, or its name's.
    As(Version),
    /// Nothing: its release file may, and else one is generated.
    Nothing,
}

/// The version that the artifact claims before it is unpacked: the caller's word, or its name's.
///
/// A name that leaves the version out is the app's artifact all the same; so is, of what a caller sends, any name that
/// looks like no other release's (`build.tar.zst`, but not `api-1.2.3.tar.zst`).
pub fn named(place: &Place, job: &Job) -> Result<Named, Refused> {
    let pattern = &place.settings.inbox.pattern;
    let text = match &job.version {
        Some(version) => return admitted(place, version.clone()).map(Named::As).map_err(Refused::from),
        None => pattern.version_in(&job.file),
    };
    let Some(text) = text else {
        let is_sent = matches!(job.source, Source::Upload(_));
        let sent = is_sent && Format::of_name(&job.file).is_ok() && !names_a_release(&job.file);
        if sent || pattern.is_without_version(&job.file) {
            return Ok(Named::Nothing);
        }
        let message = format!("{:?} is not of the form {}", job.file, pattern.as_str());
        return Err(Fault::new(Code::IngestMisnamed, message).into());
    };
    let version = text.parse().map_err(|error| Fault::new(Code::ReleaseVersion, format!("{text:?}: {error}")))?;
    admitted(place, version).map(Named::As).map_err(Refused::from)
}

/// Whether a dash and a number stand in it, as behind the name of whatever it is a release of.
fn names_a_release(file: &str) -> bool {
    file.split('-').skip(1).any(|part| part.starts_with(|first: char| first.is_ascii_digit()))
}

fn admitted(place: &Place, version: Version) -> Result<Version, Fault> {
    match place.settings.versions.admits(&version) {
        Ok(()) => Ok(version),
        Err(error) => Err(Fault::new(Code::ReleaseVersion, format!("{version}: {error}"))),
    }
}

/// The version of what was unpacked: its name's, with which its release file must agree; else the release file's; else that
/// which these bytes had before; else a generated one.
pub(super) fn version_of(
    place: &Place,
    job: &Job,
    named: Named,
    release: &Release,
    digest: &Digest,
) -> Result<Version, Fault> {
    match (named, &release.version) {
        (Named::As(version), Some(inner)) if *inner != version => Err(Fault::new(
            Code::ReleaseInvalid,
            format!("the release file says version {inner}, the artifact {version}"),
        )),
        (Named::As(version), _) => Ok(version),
        (Named::Nothing, Some(inner)) => admitted(place, inner.clone()),
        (Named::Nothing, None) if place.settings.require_version => Err(Fault::new(
            Code::ReleaseVersion,
            format!(
                "{:?} says no version, nor does its release file, and the app has require_version = true",
                job.file
            ),
        )),
        (Named::Nothing, None) => generated(place, digest).map_err(|error| error.fault()),
    }
}

fn generated(place: &Place, digest: &Digest) -> Result<Version, SlotError> {
    let (slots, gone) = (place.store.slots()?, place.store.all_gone()?);
    let same = |record: &SlotRecord| record.artifact == *digest;
    let there = slots.iter().find(|entry| matches!(&entry.stored, Stored::Slot(record) if same(record)));
    let before = there.map(|entry| &entry.name).or_else(|| gone.iter().find(|it| same(it)).map(|record| &record.slot));
    if let Some(slot) = before {
        return Ok(slot.version.clone());
    }
    let mark = place.store.mark()?.map(|mark| mark.highest);
    let known = slots.iter().map(|entry| &entry.name.version).chain(gone.iter().map(|record| &record.slot.version));
    Ok(Version::generated(digest, Timestamp::now(), known.chain(&mark)))
}
