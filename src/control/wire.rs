//! Between HTTP and the types of the API: what comes in is refused unless it is exactly what was asked for,
//! what goes out is JSON.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::model::{Code, Exit};

use super::api::ApiError;
use super::limits::{MAX_BODY_BYTES, MAX_MESSAGE_BYTES};

/// What every handler returns.
pub type Answer<T> = Result<Json<T>, ApiError>;

/// The names in the path, parsed.
pub struct Named<T>(pub T);

/// The query; a key that the type doesn't have is refused.
pub struct Asked<T>(pub T);

/// The body as JSON; none at all stands for `{}`.
pub struct Sent<T>(pub T);

/// A query without keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoKeys {}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (status(self.fault.code), Json(self)).into_response()
    }
}

/// The HTTP status of a code, by the class that its exit status gives.
pub fn status(code: Code) -> StatusCode {
    match (code, code.exit()) {
        (Code::RequestInvalid, _) => StatusCode::BAD_REQUEST,
        (_, Exit::NotFound) => StatusCode::NOT_FOUND,
        (_, Exit::Denied) => StatusCode::FORBIDDEN,
        (_, Exit::Busy | Exit::Refused) => StatusCode::CONFLICT,
        (_, Exit::Artifact) => StatusCode::UNPROCESSABLE_ENTITY,
        (_, Exit::DiskFull) => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A refusal of the request itself.
pub fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(Code::RequestInvalid, message)
}

/// Refuses a message that is too long to be kept.
pub fn check_message(message: Option<&str>) -> Result<(), ApiError> {
    match message {
        Some(text) if text.len() > MAX_MESSAGE_BYTES => {
            Err(invalid(format!("a message has at most {MAX_MESSAGE_BYTES} bytes, not {}", text.len())))
        }
        _ => Ok(()),
    }
}

/// The whole of a small body, within its size and time.
pub async fn whole(body: Body, deadline: Duration) -> Result<Bytes, ApiError> {
    let collected = Limited::new(body, MAX_BODY_BYTES).collect();
    match tokio::time::timeout(deadline, collected).await {
        Ok(Ok(all)) => Ok(all.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(invalid(format!("the body of this request has at most {MAX_BODY_BYTES} bytes")))
        }
        Ok(Err(error)) => Err(invalid(format!("the body ended early: {error}"))),
        Err(_) => Err(invalid(format!("the body didn't come within {}", humantime::format_duration(deadline)))),
    }
}

/// Does `work` in a task of its own, so that it goes on when the caller doesn't wait.
pub async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    let fault = |error| ApiError::new(Code::Internal, format!("the request's task ended: {error}"));
    tokio::spawn(work).await.unwrap_or_else(|error| Err(fault(error)))
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(names)) => Ok(Named(names)),
            Err(error) => Err(invalid(error.body_text())),
        }
    }
}

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(query)) => Ok(Asked(query)),
            Err(error) => Err(invalid(error.body_text())),
        }
    }
}

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Sent<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        // Bounded already: `table` has read it whole.
        let body = axum::body::to_bytes(request.into_body(), MAX_BODY_BYTES).await;
        let body = body.map_err(|error| invalid(error.to_string()))?;
        let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
        serde_json::from_slice(text).map(Sent).map_err(|error| invalid(format!("the body: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_of_codes_has_its_status() {
        for (code, expected) in [
            (Code::UnknownApp, 404),
            (Code::RequestBusy, 409),
            (Code::ReleaseQuarantined, 409),
            (Code::AuthDenied, 403),
            (Code::RequestInvalid, 400),
            (Code::ArchivePathEscape, 422),
            (Code::DiskFull, 507),
            (Code::Internal, 500),
            (Code::UnitControl, 500),
        ] {
            assert_eq!(status(code).as_u16(), expected, "{code}");
        }
    }
}
