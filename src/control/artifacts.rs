//! `/v1/apps/APP/artifacts`: the bytes of an artifact, written to the app's spool as they come.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::pin::Pin;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use http_body_util::BodyExt;
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;

use crate::model::{AppName, Code};

use super::api::{ApiError, UploadQuery, Uploaded};
use super::limits::{LOOK_FOR_ROOM_BYTES, Limits};
use super::peer::Peer;
use super::service::Service;
use super::table::Shared;
use super::wire::{Answer, Asked, Named, check_message, detached, invalid};

/// The longest file name, as file systems have it.
const MAX_FILE_NAME_BYTES: usize = 255;

/// `POST /v1/apps/APP/artifacts?file=NAME`.
pub async fn upload<S: Service>(
    State(shared): State<Shared<S>>,
    Extension(peer): Extension<Peer>,
    Named(app): Named<AppName>,
    Asked(query): Asked<UploadQuery>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Uploaded> {
    check_file_name(&query.file)?;
    check_message(query.message.as_deref())?;
    let limit = shared.service.upload_limit(&app).await?;
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > limit) {
        return Err(too_large(limit));
    }
    shared.service.upload_room(&app, announced.unwrap_or_default()).await?;
    let mut arriving = Arriving::create(shared.service.upload_path(&app).await?).await?;
    let (service, of) = (shared.service.clone(), app.clone());
    let room: LookForRoom = Box::new(move || {
        let (service, of) = (service.clone(), of.clone());
        Box::pin(async move { service.upload_room(&of, 0).await })
    });
    arriving.take_in(body, limit, shared.limits, room).await?;
    detached(async move {
        let path = arriving.handed_over();
        shared.service.upload(&app, path, query, peer.caller).await
    })
    .await
    .map(Json)
}

/// Asks whether there is room for more.
type LookForRoom = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), ApiError>> + Send>> + Send + Sync>;

/// A file whose bytes are on their way; removed unless it is handed over.
struct Arriving {
    path: Option<PathBuf>,
    file: File,
}

impl Arriving {
    async fn create(path: PathBuf) -> Result<Self, ApiError> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).await;
        let file = file.map_err(|error| failed("create", &path, &error))?;
        Ok(Arriving { path: Some(path), file })
    }

    /// Writes the body down, within the limits of size, time and room.
    async fn take_in(&mut self, body: Body, limit: u64, limits: Limits, room: LookForRoom) -> Result<(), ApiError> {
        let late = || invalid("the artifact came too slowly: the upload was given up");
        let pieces = self.take_pieces(body, limit, limits, room);
        tokio::time::timeout(limits.upload, pieces).await.unwrap_or_else(|_| Err(late()))
    }

    async fn take_pieces(
        &mut self,
        mut body: Body,
        limit: u64,
        limits: Limits,
        room: LookForRoom,
    ) -> Result<(), ApiError> {
        let (mut left, mut since) = (limit, 0);
        loop {
            let Ok(piece) = tokio::time::timeout(limits.upload_pause, body.frame()).await else {
                let pause = humantime::format_duration(limits.upload_pause);
                return Err(invalid(format!("nothing of the artifact came for {pause}: the upload was given up")));
            };
            let Some(piece) = piece else { break };
            let piece = piece.map_err(|error| invalid(format!("the upload ended early: {error}")))?;
            let Ok(bytes) = piece.into_data() else { continue };
            left = left.checked_sub(bytes.len() as u64).ok_or_else(|| too_large(limit))?;
            since += bytes.len() as u64;
            if since >= LOOK_FOR_ROOM_BYTES {
                since = 0;
                // What was written must count: it goes to the disk by a thread of its own.
                self.file.flush().await.map_err(|error| self.failed(&error))?;
                room().await?;
            }
            self.file.write_all(&bytes).await.map_err(|error| self.failed(&error))?;
        }
        self.file.flush().await.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> ApiError {
        failed("write", self.path.as_deref().unwrap_or(Path::new("")), error)
    }

    /// The path, whose file is no longer removed by this.
    fn handed_over(mut self) -> PathBuf {
        self.path.take().unwrap_or_default()
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let Some(path) = &self.path else { return };
        if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!("an upload that didn't end is left at {}: {error}", path.display());
        }
    }
}

/// The name never becomes a path here; it is still refused unless it could be one component of one.
fn check_file_name(name: &str) -> Result<(), ApiError> {
    let good = !name.is_empty()
        && name.len() <= MAX_FILE_NAME_BYTES
        && !name.starts_with('.')
        && !name.contains('/')
        && !name.chars().any(char::is_control);
    if good { Ok(()) } else { Err(invalid(format!("{name:?} can't be an artifact's file name"))) }
}

fn too_large(limit: u64) -> ApiError {
    ApiError::new(Code::ArchiveLimit, format!("the artifact has more than the {limit} bytes that the app allows"))
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> ApiError {
    let code = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Code::DiskFull,
        _ => Code::FsIo,
    };
    ApiError::new(code, format!("can't {verb} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_is_one_plain_component() {
        for good in ["web-1.4.2.tar.zst", "web 1.tar", "ü.tar", &"a".repeat(255)] {
            assert!(check_file_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "/etc/passwd", "a\0b", "a\nb", "\u{1b}[2J", &"a".repeat(256)] {
            assert!(check_file_name(bad).is_err(), "{bad}");
        }
    }

    /// There is always room.
    fn always() -> LookForRoom {
        Box::new(|| Box::pin(async { Ok(()) }))
    }

    #[tokio::test]
    async fn the_room_is_asked_for_while_the_bytes_come() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("one");
        let full: LookForRoom = Box::new(|| Box::pin(async { Err(ApiError::new(Code::DiskFull, "little is left")) }));
        let limit = 4 * LOOK_FOR_ROOM_BYTES;
        let body = |bytes: u64| Body::from(vec![0; usize::try_from(bytes).expect("few")]);
        // One that is small ends before the first look.
        let mut arriving = Arriving::create(path.clone()).await.expect("created");
        arriving.take_in(body(1024), limit, Limits::default(), full).await.expect("taken in");
        drop(arriving);
        let full: LookForRoom = Box::new(|| Box::pin(async { Err(ApiError::new(Code::DiskFull, "little is left")) }));
        let pieces = (0..64).map(|_| Ok::<_, io::Error>(vec![0; 1 << 20]));
        let many = Body::from_stream(futures_util::stream::iter(pieces));
        let mut arriving = Arriving::create(path.clone()).await.expect("created");
        let refused = arriving.take_in(many, limit, Limits::default(), full).await.expect_err("no room");
        assert_eq!(refused.fault.code, Code::DiskFull);
        assert!(std::fs::metadata(&path).expect("a size").len() < LOOK_FOR_ROOM_BYTES);
        drop(arriving);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_not_handed_over_is_removed() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("one");
        let arriving = Arriving::create(path.clone()).await.expect("created");
        assert!(path.exists());
        drop(arriving);
        assert!(!path.exists());
        let mut arriving = Arriving::create(path.clone()).await.expect("created");
        let refused =
            arriving.take_in(Body::from("12345"), 4, Limits::default(), always()).await.expect_err("too large");
        assert_eq!(refused.fault.code, Code::ArchiveLimit);
        drop(arriving);
        let mut arriving = Arriving::create(path.clone()).await.expect("created");
        arriving.take_in(Body::from("12345"), 5, Limits::default(), always()).await.expect("taken in");
        assert_eq!(arriving.handed_over(), path);
        assert_eq!(std::fs::read(&path).expect("read"), b"12345");
        let taken = Arriving::create(path).await.map(drop).expect_err("the name is taken");
        assert_eq!(taken.fault.code, Code::FsIo);
    }
}
