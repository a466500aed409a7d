//! The client: HTTP over the daemon's Unix socket, one connection a request.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::control::api::{ApiError, Event};
use crate::model::Code;

/// For the connection itself; the daemon accepts at once or is busy beyond help.
const CONNECT: Duration = Duration::from_secs(5);

/// For an answer that only looks.
const LOOK: Duration = Duration::from_secs(30);

/// For an answer that changes something: a prune removes whole trees.
const CHANGE: Duration = Duration::from_secs(15 * 60);

/// For an artifact to go over, be checked, unpacked and flushed.
const UPLOAD: Duration = Duration::from_secs(2 * 3600);

/// An answer, and a line of a stream; a report with all its evidence is far below.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// What a request brings along.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Asks the daemon.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// For the daemon that listens on `socket`.
    pub fn new(socket: PathBuf) -> Self {
        Client { socket }
    }

    /// `GET path`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.ask(Method::GET, path, empty(), None, LOOK).await
    }

    /// `DELETE path`.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.ask(Method::DELETE, path, empty(), None, CHANGE).await
    }

    /// `POST path` without a body.
    pub async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.ask(Method::POST, path, empty(), None, CHANGE).await
    }

    /// `POST path` with `body` as JSON.
    pub async fn post_json<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ApiError> {
        let json = serde_json::to_vec(body).map_err(|error| ApiError::new(Code::Internal, error.to_string()))?;
        let body = Full::from(json).map_err(|never| match never {}).boxed_unsync();
        self.ask(Method::POST, path, body, None, CHANGE).await
    }

    /// `POST path` with an artifact of `length` bytes, where that is known.
    pub async fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        artifact: Body,
        length: Option<u64>,
    ) -> Result<T, ApiError> {
        self.ask(Method::POST, path, artifact, length, UPLOAD).await
    }

    /// `GET path` as a stream of events.
    pub async fn events(&self, path: &str) -> Result<Events, ApiError> {
        let answer = self.send(Method::GET, path, empty(), None, LOOK).await?;
        Ok(Events { body: answer.into_body(), rest: BytesMut::new() })
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Body,
        length: Option<u64>,
        at_most: Duration,
    ) -> Result<T, ApiError> {
        let answer = self.send(method, path, body, length, at_most).await?;
        let body = tokio::time::timeout(LOOK, whole(answer.into_body())).await;
        let body = body.unwrap_or_else(|_| Err(self.late(LOOK)))?;
        serde_json::from_slice(&body).map_err(|error| strange(&format!("an answer that can't be read: {error}")))
    }

    /// Sends a request; an answer that isn't a success is an error.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Body,
        length: Option<u64>,
        at_most: Duration,
    ) -> Result<Response<Incoming>, ApiError> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, "slotd");
        if let Some(length) = length {
            request = request.header(CONTENT_LENGTH, length).header(CONTENT_TYPE, "application/octet-stream");
        }
        let request = request.body(body).map_err(|error| ApiError::new(Code::Internal, error.to_string()))?;
        let exchange = self.exchange(request);
        let answer = tokio::time::timeout(at_most, exchange).await.unwrap_or_else(|_| Err(self.late(at_most)))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let body = whole(answer.into_body()).await?;
        Err(serde_json::from_slice(&body).unwrap_or_else(|_| strange(&status.to_string())))
    }

    async fn exchange(&self, request: Request<Body>) -> Result<Response<Incoming>, ApiError> {
        let connected = tokio::time::timeout(CONNECT, UnixStream::connect(&self.socket)).await;
        let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = stream.map_err(|error| no_answer(&self.socket, &error.to_string()))?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.broken(&error))?;
        // It drives the request and its answer; what ends it shows there.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &hyper::Error) -> ApiError {
        no_answer(&self.socket, &with_causes(error))
    }

    fn late(&self, after: Duration) -> ApiError {
        no_answer(&self.socket, &format!("no answer within {}", humantime::format_duration(after)))
    }
}

/// Events as they come.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    rest: BytesMut,
}

impl Events {
    /// The next event; `None` at the stream's end. May be dropped and called again without losing one.
    pub async fn next(&mut self) -> Result<Option<Event>, ApiError> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(end);
                self.rest.advance(1);
                let event = serde_json::from_slice(&line);
                return event.map(Some).map_err(|error| strange(&format!("an event that can't be read: {error}")));
            }
            if self.rest.len() > MAX_ANSWER_BYTES {
                return Err(strange("an event without an end"));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => self.rest.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Err(ApiError::new(Code::Unreachable, with_causes(&error))),
            }
        }
    }
}

/// A path or query part with all but plain characters percent-encoded.
pub fn encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

async fn whole(body: Incoming) -> Result<Bytes, ApiError> {
    let collected = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    let cut = |error| ApiError::new(Code::Unreachable, format!("slotd's answer broke off: {error}"));
    collected.map(|all| all.to_bytes()).map_err(cut)
}

fn no_answer(socket: &Path, why: &str) -> ApiError {
    let message = format!("slotd doesn't answer on {}: {why}", socket.display());
    ApiError::new(Code::Unreachable, message).next("systemctl status slotd")
}

fn strange(what: &str) -> ApiError {
    ApiError::new(Code::Internal, format!("slotd gave {what}")).next("slotctl --version; slotd --version")
}

/// hyper's errors keep what matters in their source.
fn with_causes(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_query_could_misread_is_encoded() {
        assert_eq!(encoded("web-1.4.2@r2"), "web-1.4.2@r2");
        assert_eq!(encoded("1.4.2+b5~rc1 a&b=ü/"), "1.4.2%2Bb5%7Erc1%20a%26b%3D%C3%BC%2F");
    }
}
