//! One connection: one request, one answer, and an end within bounds.

use std::future::Future;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::access::{Access, Creds};
use super::api::ApiError;
use super::limits::{Limits, MAX_HEAD_BYTES, MAX_HEADERS};
use super::patient::Patient;
use super::peer::Peer;
use super::wire::status;

/// Serves `stream`; once `closing` is over, only what is under way.
pub async fn converse(
    stream: UnixStream,
    creds: Creds,
    access: Access,
    router: Router,
    limits: Limits,
    closing: impl Future<Output = ()>,
) {
    let peer = Peer::of(creds, access).await;
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.call(request)
    });
    let mut stream = Patient::new(stream, limits.write);
    {
        // One request a connection: a client's next one is counted and judged anew.
        let connection = http1::Builder::new()
            .keep_alive(false)
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(&mut stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = closing => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(uid = creds.uid, "a connection ended early: {error}");
        }
    }
    linger(stream, limits).await;
}

/// Tells a client that there is no room for it.
pub async fn refuse(stream: UnixStream, refusal: ApiError, limits: Limits) {
    let mut stream = Patient::new(stream, limits.linger);
    let body = serde_json::to_string(&refusal).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        status(refusal.fault.code),
        body.len(),
    );
    if stream.write_all(answer.as_bytes()).await.is_ok() && stream.shutdown().await.is_ok() {
        linger(stream, limits).await;
    }
}

/// Reads and throws away what still comes, for a while: closed at once, the socket would break the sender's
/// write before it has read the answer.
async fn linger(mut stream: impl AsyncRead + Unpin, limits: Limits) {
    let mut rest = vec![0; 64 * 1024];
    let drained = async { while stream.read(&mut rest).await.is_ok_and(|bytes| bytes > 0) {} };
    let _ = tokio::time::timeout(limits.linger, drained).await;
}
