//! `deploy`: sends an artifact over the socket and waits until it is live.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::io::ReaderStream;

use crate::control::api::{ApiError, Uploaded};
use crate::model::{AppName, Code, Exit, Migration, StrategyName, Version};

use super::client::{Body, encoded};
use super::ending::{During, Ending, Failure};
use super::output::Output;
use super::text::{plain, quoted};
use super::{Context, wait};

/// Bytes read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// What packed streams begin with; what begins with none of them is taken for a plain tar.
const BEGINNINGS: [(&[u8], &str); 3] =
    [(&[0x28, 0xb5, 0x2f, 0xfd], ".tar.zst"), (&[0x1f, 0x8b], ".tar.gz"), (b"\xfd7zXZ\0", ".tar.xz")];

/// `slotctl deploy`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The artifact, or - for standard input
    file: PathBuf,
    /// The app
    #[arg(long)]
    app: AppName,
    /// The version, where neither the file's name nor the release file tells
    #[arg(long)]
    version: Option<Version>,
    /// Kept with the slot and the deployment
    #[arg(short, long)]
    message: Option<String>,
    /// By another strategy than the app's: stop-start, blue-green or rolling
    #[arg(long, value_name = "NAME")]
    strategy: Option<StrategyName>,
    /// What it does to the data, whatever the release says: none, compatible or breaking
    #[arg(long, value_name = "WORD")]
    migration: Option<Migration>,
    /// Bring up nothing of the apps that it depends on; they have to be up
    #[arg(long)]
    without_dependencies: bool,
    /// Don't wait for the end; the slot is there when this returns
    #[arg(long)]
    no_wait: bool,
}

/// Sends the artifact.
pub async fn run(args: Args, context: &Context<'_>) -> Result<Ending, Failure> {
    let out = context.out;
    let step = format!("deploy {} --app {}", args.file.display(), args.app);
    let source = Source::open(&args.file).await.during(&step)?;
    let mut path = format!("/v1/apps/{}/artifacts?file={}", args.app, encoded(&source.name));
    for (key, value) in [
        ("version", args.version.as_ref().map(Version::as_str)),
        ("message", args.message.as_deref()),
        ("strategy", args.strategy.map(StrategyName::as_str)),
        ("migration", args.migration.map(Migration::as_str)),
        ("without_dependencies", args.without_dependencies.then_some("true")),
    ] {
        if let Some(value) = value {
            path = format!("{path}&{key}={}", encoded(value));
        }
    }
    let progress = progress(out, source.length);
    let length = source.length;
    let uploaded = context.client.upload(&path, source.body(progress.clone()), length).await;
    progress.finish_and_clear();
    let uploaded: Uploaded = uploaded.map_err(|error| with_next(error, &args)).during(&step)?;
    out.document(&uploaded);
    let (app, slot) = (&args.app, &uploaded.slot);
    let known = if uploaded.known { ", as it was already" } else { "" };
    match (&uploaded.deployment, &uploaded.not_live) {
        (Some(id), _) => {
            out.line(format!("{app}: {slot} is ready{known}; {id} makes it live"));
            if args.no_wait { Ok(Exit::Ok.into()) } else { wait::follow(id, context).await }
        }
        (None, Some(reason)) => {
            out.line(format!("{app}: {slot} is ready{known}, and doesn't go live by itself: {}", plain(reason)));
            // One of before doesn't say.
            let next = uploaded.next.clone().unwrap_or_else(|| format!("slotctl activate {app} {slot}"));
            out.line(format!("  next: {}", plain(&next)));
            Ok(Exit::ReadyNotLive.into())
        }
        (None, None) => {
            out.line(format!("{app}: {slot} is live{known}"));
            Ok(Exit::Ok.into())
        }
    }
}

/// What to do about an artifact that wasn't taken, where the daemon, which doesn't know the file, left that open.
fn with_next(error: ApiError, args: &Args) -> ApiError {
    let (app, file) = (&args.app, quoted(&args.file.to_string_lossy()));
    let next = match (error.fault.code, error.fault.code.exit()) {
        _ if error.next.is_some() => return error,
        (Code::ReleaseConflict, _) => format!("slotctl list {app}; give the other bytes a version of their own"),
        (Code::IngestMisnamed | Code::ReleaseVersion, _) => {
            format!("slotctl deploy {file} --app {app} --version VERSION")
        }
        (_, Exit::DiskFull) => format!("df -h /var/lib/slotd; slotctl prune {app}; then this command again"),
        (_, Exit::Artifact) => format!("slotctl lint {file}"),
        _ => return error,
    };
    error.next(next)
}

/// Bytes to send.
struct Source {
    name: String,
    length: Option<u64>,
    bytes: Box<dyn AsyncRead + Send + Unpin>,
}

impl Source {
    async fn open(path: &Path) -> Result<Source, ApiError> {
        if path == Path::new("-") {
            return Source::standard_input().await.map_err(|error| unreadable(path, &error));
        }
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(ApiError::new(Code::IngestMisnamed, format!("{} has no readable file name", path.display())));
        };
        let file = tokio::fs::File::open(path).await.map_err(|error| unreadable(path, &error))?;
        let about = file.metadata().await.map_err(|error| unreadable(path, &error))?;
        if !about.is_file() {
            let message = format!("{} is not a plain file; an artifact is a packed archive", path.display());
            return Err(ApiError::new(Code::IngestNotRegular, message));
        }
        // No more than was announced, should the file grow meanwhile.
        let bytes = Box::new(file.take(about.len()));
        Ok(Source { name: name.to_owned(), length: Some(about.len()), bytes })
    }

    /// Standard input has no name; its first bytes tell the ending that it would have.
    async fn standard_input() -> io::Result<Source> {
        let mut input = tokio::fs::File::from_std(io::stdin().as_fd().try_clone_to_owned()?.into());
        let mut begin = Vec::new();
        while begin.len() < 6 && input.read_buf(&mut begin).await? > 0 {}
        let ending = BEGINNINGS.iter().find(|(bytes, _)| begin.starts_with(bytes)).map_or(".tar", |(_, ending)| ending);
        let bytes = Box::new(io::Cursor::new(begin).chain(input));
        Ok(Source { name: format!("stdin{ending}"), length: None, bytes })
    }

    fn body(self, progress: ProgressBar) -> Body {
        let pieces = ReaderStream::with_capacity(self.bytes, PIECE_BYTES);
        let frames = pieces.inspect_ok(move |piece: &Bytes| progress.inc(piece.len() as u64)).map_ok(Frame::data);
        BodyExt::boxed_unsync(StreamBody::new(frames.boxed()))
    }
}

fn unreadable(path: &Path, error: &io::Error) -> ApiError {
    ApiError::new(Code::IngestUnreadable, format!("can't read {}: {error}", path.display()))
}

fn progress(out: &Output, length: Option<u64>) -> ProgressBar {
    if !out.is_live() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match length {
        Some(length) => {
            (ProgressBar::new(length), "  sending {bar:30} {bytes}/{total_bytes} {bytes_per_sec}, then slotd checks it")
        }
        None => (ProgressBar::new_spinner(), "  sending {spinner} {bytes} {bytes_per_sec}, then slotd checks it"),
    };
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
