//! What is answered: `/`, `/slow/MS` and `/health`, each naming the version.

use std::process;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, Response, StatusCode};

use crate::behaviour::Health;
use crate::settings::Release;

/// What it knows to say.
#[derive(Debug)]
pub struct Answers {
    release: Release,
    health: Health,
}

impl Answers {
    /// How long the answer to a request takes: `/slow/MS` is work that lasts, a minute at most.
    pub fn takes<B>(&self, request: &Request<B>) -> Duration {
        let asked = request.uri().path().strip_prefix("/slow/").and_then(|millis| millis.parse().ok());
        Duration::from_millis(asked.unwrap_or(0u64).min(60_000))
    }

    /// The answers of a release.
    pub fn new(release: Release, health: Health) -> Self {
        Answers { release, health }
    }

    /// The answer to a request; the header `X-Version` is in each.
    pub fn to<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let Release { version, slot } = &self.release;
        let path = request.uri().path();
        let (status, text) = match (request.method(), if path.starts_with("/slow/") { "/" } else { path }) {
            (&Method::GET | &Method::HEAD, "/") => {
                (StatusCode::OK, format!("version {version} slot {slot} pid {}\n", process::id()))
            }
            (&Method::GET | &Method::HEAD, "/health") => self.health(),
            (_, "/" | "/health") => (StatusCode::METHOD_NOT_ALLOWED, "GET it\n".to_owned()),
            _ => (StatusCode::NOT_FOUND, "there is / and /health\n".to_owned()),
        };
        let mut answer = Response::new(Full::from(text));
        *answer.status_mut() = status;
        answer.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Ok(version) = version.parse() {
            answer.headers_mut().insert("x-version", version);
        }
        answer
    }

    fn health(&self) -> (StatusCode, String) {
        let version = &self.release.version;
        match &self.health {
            Health::Always500 => (StatusCode::INTERNAL_SERVER_ERROR, format!("broken version {version}\n")),
            Health::GoodWith(path) if !path.exists() => {
                (StatusCode::SERVICE_UNAVAILABLE, format!("{} is missing, version {version}\n", path.display()))
            }
            Health::Good | Health::GoodWith(_) => (StatusCode::OK, format!("ok version {version}\n")),
        }
    }
}
