//! Tries an artifact without a daemon: the same code as in earnest, into a folder that is thrown away.

use std::path::Path;

use serde::Serialize;

use crate::model::release::Release;
use crate::model::{Code, Digest, Fault, Version};

use super::error::ArtifactError;
use super::format::Format;
use super::limits::{Limits, Reserve};
use super::manifest::{Kind, Manifest};
use super::unpack::{Job, unpack};
use super::{checksum, release, spool};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LintReport {
    /// The file's name.
    pub file: String,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// How many they are.
    pub packed_bytes: u64,
    /// The version in its name, as far as it can be told without the app's pattern.
    pub version: Option<Version>,
    /// Whether a digest lies beside it (and is right).
    pub checksum: bool,
    /// What a slotd would refuse it for, the first reason only.
    pub refused: Option<Fault>,
    /// Regular files; 0 where it is refused.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What the release file says.
    pub release: Option<Release>,
    /// What is allowed and seldom meant.
    pub warnings: Vec<String>,
}

/// Looks at `file`, and unpacks it below `scratch`: an empty folder of mode 0700, empty again at the end.
///
/// # Errors
/// What isn't the artifact's fault: it can't be read, no room, I/O. Refusals stand in the report.
pub fn lint(file: &Path, scratch: &Path, limits: &Limits) -> Result<LintReport, ArtifactError> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (digest, packed_bytes) = spool::digest_of(file)?;
    let mut report = LintReport {
        version: version_in(&name),
        file: name,
        digest,
        packed_bytes,
        checksum: false,
        refused: None,
        files: 0,
        bytes: 0,
        release: None,
        warnings: Vec::new(),
    };
    match examine(file, scratch, limits, &mut report) {
        Err(error) if error.is_refusal() => report.refused = Some(error.fault()),
        other => other?,
    }
    super::empty(scratch)?;
    Ok(report)
}

fn examine(file: &Path, scratch: &Path, limits: &Limits, report: &mut LintReport) -> Result<(), ArtifactError> {
    let beside = file.parent().unwrap_or(Path::new("."));
    report.checksum = checksum::verify(beside, &report.file, &report.digest)?.is_some();
    let format = Format::of_name(&report.file).map_err(|rule| ArtifactError::from(rule).about(&report.file))?;
    let job =
        Job { packed: file.to_owned(), format, dest: scratch.to_owned(), limits: *limits, reserve: Reserve::default() };
    let manifest = unpack(&job, &mut |_| {})?;
    (report.files, report.bytes) = (manifest.files, manifest.bytes);
    report.warnings = warnings(&manifest);
    report.release = release::read(scratch)?;
    let said = report.release.as_ref().and_then(|release| release.version.as_ref());
    if let (Some(said), Some(named)) = (said, &report.version)
        && said != named
    {
        let message = format!("the release file says version {said}, the name says {named}");
        return Err(ArtifactError::Reported(Box::new(Fault::new(Code::ReleaseInvalid, message))));
    }
    Ok(())
}

/// The version in `web-1.4.2.tar.zst`: from the first digit behind a `-`.
fn version_in(name: &str) -> Option<Version> {
    let stem = Format::split_name(name).map_or(name, |(stem, _)| stem);
    let starts = stem.match_indices('-').map(|(at, _)| &stem[at + 1..]);
    starts.filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())).find_map(|rest| rest.parse().ok())
}

fn warnings(manifest: &Manifest) -> Vec<String> {
    let mut warnings = Vec::new();
    let entries = &manifest.entries;
    if !entries.iter().any(|entry| matches!(entry.kind, Kind::File { executable: true, .. })) {
        warnings.push("no file is executable".to_owned());
    }
    let mut tops: Vec<&str> = entries.iter().filter_map(|entry| entry.path.split('/').next()).collect();
    tops.dedup();
    if let ([top], Some(Kind::Dir)) = (tops.as_slice(), tops.first().and_then(|top| manifest.get(top))) {
        warnings.push(format!("all lies in the folder {top}, which is kept: the unit's paths must name it"));
    }
    for entry in entries {
        if let Kind::Symlink { target } = &entry.kind
            && !leads_somewhere(manifest, &entry.path, target)
        {
            warnings.push(format!("the link {} leads to {target}, which isn't there", entry.path));
        }
    }
    warnings
}

/// Whether a link's target is there, read without the links on its way: those may hide it, so they count as there.
fn leads_somewhere(manifest: &Manifest, path: &str, target: &str) -> bool {
    let mut at: Vec<&str> = path.split('/').collect();
    at.pop();
    for component in target.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                at.pop();
            }
            name => at.push(name),
        }
        if at.is_empty() {
            continue;
        }
        match manifest.get(&at.join("/")) {
            None => return false,
            Some(Kind::Symlink { .. }) => return true,
            Some(_) => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_name() {
        for (name, version) in [
            ("web-1.4.2.tar.zst", Some("1.4.2")),
            ("my-web-2.0~rc1.tgz", Some("2.0~rc1")),
            ("web-1.4.2-r2.tar", Some("1.4.2-r2")),
            ("web.tar", None),
            ("web-main.tar", None),
        ] {
            assert_eq!(version_in(name).map(|version| version.to_string()).as_deref(), version, "{name}");
        }
    }
}
