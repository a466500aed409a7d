//! `pack`: makes an artifact of a folder, and its checksum. The same folder gives the same bytes.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::artifact::pack::{DEFAULT_MTIME, LeaveOut, Mtime, Options, Packed, pack, source_date_epoch};
use crate::artifact::{Format, checksum};
use crate::control::api::ApiError;
use crate::model::{Code, Digest, Exit};

use super::ending::{During, Ending, Failure, as_typed};
use super::output::Output;
use super::text::size;

/// `slotctl pack`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder; what its .slotdignore names, and .git, is left out
    dir: PathBuf,
    /// The artifact, instead of DIR.tar.zst here; its ending chooses the format
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also over a file that is there
    #[arg(long)]
    force: bool,
}

/// What was made, in JSON.
#[derive(Debug, Serialize)]
struct Made {
    file: PathBuf,
    digest: Digest,
    /// Bytes of the artifact.
    bytes: u64,
    /// Regular files in it.
    files: u64,
    /// The checksum's file, beside it.
    checksum: PathBuf,
}

/// Packs.
pub fn run(args: &Args, out: &Output) -> Result<Ending, Failure> {
    let made = make(args).during(format!("pack {}", args.dir.display()))?;
    out.document(&made);
    out.line(format!("{}: {}, files in it: {}", made.file.display(), size(made.bytes), made.files));
    out.line(format!("sha256 {}\n  next: slotctl lint {}", made.digest, made.file.display()));
    Ok(Exit::Ok.into())
}

fn make(args: &Args) -> Result<Made, ApiError> {
    let dir = std::fs::canonicalize(&args.dir).map_err(|error| failed(Code::IngestUnreadable, &args.dir, &error))?;
    let (file, name) = output(args, &dir)?;
    let format = Format::of_name(&name).map_err(|rule| ApiError::new(rule.code(), format!("{name}: {rule}")))?;
    let mut options = OpenOptions::new();
    // A file that others may have begun to read is only written over if that was said.
    let to = match args.force {
        true => options.write(true).create(true).truncate(true).open(&file),
        false => options.write(true).create_new(true).open(&file),
    };
    let to = to.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            let message = format!("{} is there already", file.display());
            ApiError::new(Code::RequestInvalid, message).next(format!("{} --force", as_typed()))
        }
        _ => failed(Code::FsIo, &file, &error),
    })?;
    let options = Options { format, leave_out: LeaveOut::Ignored, mtime: Mtime::All(mtime()?) };
    let packed = written(&dir, to, options, &file);
    if packed.is_err() {
        // What isn't whole must not be taken for an artifact; that it failed is told either way.
        let _ = std::fs::remove_file(&file);
    }
    let Packed { digest, bytes, files } = packed?;
    let beside = file.with_file_name(format!("{name}{}", checksum::ENDING));
    std::fs::write(&beside, format!("{digest}  {name}\n")).map_err(|error| failed(Code::FsIo, &beside, &error))?;
    Ok(Made { file, digest, bytes, files, checksum: beside })
}

fn written(dir: &Path, to: File, options: Options, file: &Path) -> Result<Packed, ApiError> {
    let mut to = BufWriter::new(to);
    let packed = pack(dir, &mut to, options).map_err(|error| ApiError::from(error.fault()))?;
    let flushed = to.flush().and_then(|()| to.get_ref().sync_all());
    flushed.map_err(|error| failed(Code::FsIo, file, &error))?;
    Ok(packed)
}

/// The artifact's path and name.
fn output(args: &Args, dir: &Path) -> Result<(PathBuf, String), ApiError> {
    let invalid = |message: String| ApiError::new(Code::RequestInvalid, message);
    let file = match (&args.output, dir.file_name()) {
        (Some(file), _) => file.clone(),
        (None, Some(name)) => PathBuf::from(format!("{}{}", name.to_string_lossy(), Format::TarZst.ending())),
        (None, None) => return Err(invalid("say with -o how the artifact is called".to_owned())),
    };
    let Some(name) = file.file_name().and_then(|name| name.to_str()) else {
        return Err(invalid(format!("{} has no readable file name", file.display())));
    };
    let parent = match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let parent = std::fs::canonicalize(parent).map_err(|error| failed(Code::FsIo, parent, &error))?;
    if parent.starts_with(dir) {
        let message = format!("{} lies in the folder that is to be packed: say with -o where else", file.display());
        return Err(invalid(message));
    }
    let name = name.to_owned();
    Ok((file, name))
}

/// The time of every entry, as builds agree upon it.
fn mtime() -> Result<u64, ApiError> {
    let Some(value) = std::env::var_os("SOURCE_DATE_EPOCH") else { return Ok(DEFAULT_MTIME) };
    let value = value.to_string_lossy();
    source_date_epoch(&value).ok_or_else(|| {
        ApiError::new(Code::RequestInvalid, format!("SOURCE_DATE_EPOCH={value:?} is not whole seconds since 1970"))
    })
}

fn failed(code: Code, path: &Path, error: &io::Error) -> ApiError {
    let code = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Code::DiskFull,
        _ => code,
    };
    ApiError::new(code, format!("{}: {error}", path.display()))
}
