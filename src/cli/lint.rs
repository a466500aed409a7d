//! `lint`: tries an artifact as slotd would take it, without a daemon and without keeping anything.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use crate::artifact::Limits;
use crate::artifact::lint::{LintReport, lint};
use crate::control::api::ApiError;
use crate::model::{Code, Exit, Timestamp};

use super::ending::{During, Ending, Failure};
use super::output::Output;
use super::text::{plain, size};

/// `slotctl lint`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The artifact
    file: PathBuf,
}

/// Shows what is in it, and what slotd would refuse it for; the limits are the defaults.
pub fn run(Args { file }: &Args, out: &Output) -> Result<Ending, Failure> {
    let step = format!("lint {}", file.display());
    let report = Scratch::new()
        .and_then(|scratch| lint(file, &scratch.0, &Limits::default()).map_err(|error| error.fault().into()))
        .during(&step)?;
    out.document(&report);
    out.line(format!("{}: {}", plain(&report.file), if report.refused.is_some() { "refused" } else { "good" }));
    out.fields(&facts(&report));
    let Some(fault) = report.refused else { return Ok(Exit::Ok.into()) };
    // The report is the document; a second one would only repeat its fault.
    let failure = Failure { step, error: fault.into() };
    out.note(failure.to_string());
    Ok(failure.ending())
}

fn facts(report: &LintReport) -> Vec<(&'static str, String)> {
    let mut facts = vec![("sha256", format!("{}, {}", report.digest, size(report.packed_bytes)))];
    let mut add = |label, value: Option<String>| facts.extend(value.map(|value| (label, plain(&value))));
    add("version", report.version.as_ref().map(ToString::to_string));
    add("checksum", report.checksum.then(|| "beside it, and right".to_owned()));
    if report.refused.is_none() {
        add("files", Some(format!("{}, {}", report.files, size(report.bytes))));
    }
    if let Some(release) = &report.release {
        add("release", release.version.as_ref().map(ToString::to_string));
        add("commit", release.commit.clone());
        add("branch", release.branch.clone());
        add("url", release.url.clone());
        add("notes", release.notes.clone());
    }
    report.warnings.iter().for_each(|warning| add("warning", Some(warning.clone())));
    facts
}

/// A folder of our own in the system's folder for such, gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, ApiError> {
        let name = format!("slotctl-lint-{}-{}", std::process::id(), Timestamp::now().unix_millis());
        let path = std::env::temp_dir().join(name);
        // Made, never taken over: a name that somebody else has guessed is an error.
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Scratch(path)),
            Err(error) => Err(ApiError::new(Code::FsIo, format!("can't make {}: {error}", path.display()))),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Emptied by the trial, unless that failed halfway; the folders in it may be closed to writing.
        if let Err(error) = crate::artifact::empty(&self.0)
            .map_err(|error| error.to_string())
            .and_then(|()| std::fs::remove_dir(&self.0).map_err(|error| error.to_string()))
        {
            eprintln!("slotctl: {} is left: {error}", self.0.display());
        }
    }
}
