//! HTTP probes: one request on one connection, and what its answer must be.
//!
//! No redirect is followed and no connection kept: each attempt asks whoever accepts new connections now.

use std::collections::BTreeMap;
use std::error::Error;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use crate::config::app::Address;
use crate::model::evidence::cut;

use super::attempt::{connect_tcp, connect_unix};
use super::{Miss, Target, text};

/// How much of a body is read: a health page is smaller, and a wrong address must not fill the memory.
const MAX_BODY_BYTES: usize = 64 << 10;

/// How much of a wrong body is shown.
const SHOWN_BYTES: usize = 200;

/// What a good answer is.
pub(super) struct Expected<'a> {
    /// Any of these; none given, 200 to 299.
    pub(super) status: &'a [u16],
    /// Headers with their values.
    pub(super) headers: &'a BTreeMap<String, String>,
    /// Text that the body contains.
    pub(super) body: Option<&'a str>,
}

/// Asks once; the caller bounds the time.
pub(super) async fn ask(address: &Address, path: &str, expected: &Expected<'_>, target: &Target) -> Result<(), Miss> {
    let path = text::fill(text::path_of(path, target), target);
    match address {
        Address::Tcp(address) => {
            let address = text::fill(address, target);
            exchange(connect_tcp(&address).await?, &address, &path, expected, target).await
        }
        Address::Unix(socket) => {
            let socket = text::fill(&socket.to_string_lossy(), target);
            exchange(connect_unix(&socket, target).await?, "localhost", &path, expected, target).await
        }
    }
}

async fn exchange<S>(stream: S, host: &str, path: &str, expected: &Expected<'_>, target: &Target) -> Result<(), Miss>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("slotd/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Miss::not_asked(format!("no request can be made of it: {error}")))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    // It moves while it is polled, and ends with this attempt whatever comes.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
    judge(response, expected, target).await
}

async fn judge(response: Response<Incoming>, expected: &Expected<'_>, target: &Target) -> Result<(), Miss> {
    let (head, body) = response.into_parts();
    let (body, whole) = read(body).await;
    let body = String::from_utf8_lossy(&body);
    let status_is_good = match expected.status {
        [] => head.status.is_success(),
        list => list.contains(&head.status.as_u16()),
    };
    if !status_is_good {
        let wanted = statuses(expected.status);
        return Err(Miss::wrong(format!("status {}, not {wanted}; {}", head.status, shown(&body))));
    }
    for (name, value) in expected.headers {
        let wanted = text::fill(value, target);
        let mut values = head.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        if !values.any(|value| value == wanted) {
            let got = head.headers.get(name).map_or_else(
                || "isn't there".to_owned(),
                |value| format!("is {:?}", cut(&String::from_utf8_lossy(value.as_bytes()), SHOWN_BYTES)),
            );
            return Err(Miss::wrong(format!("header {name} {got}, not {wanted:?}")));
        }
    }
    if let Some(wanted) = expected.body {
        let wanted = text::fill(wanted, target);
        if !body.contains(&wanted) {
            return Err(Miss::wrong(format!("no {wanted:?} in the answer; {}", shown(&body))));
        }
    }
    whole.map_err(|error| Miss::wrong(format!("status {}, and the body broke off: {}", head.status, chain(&error))))
}

/// The body up to [`MAX_BODY_BYTES`], and whether it came whole as far as that.
async fn read(mut body: Incoming) -> (Vec<u8>, Result<(), hyper::Error>) {
    let mut bytes = Vec::new();
    while bytes.len() < MAX_BODY_BYTES {
        match body.frame().await {
            None => break,
            Some(Err(error)) => return (bytes, Err(error)),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let room = MAX_BODY_BYTES - bytes.len();
                    bytes.extend_from_slice(&data[..data.len().min(room)]);
                }
            }
        }
    }
    (bytes, Ok(()))
}

/// "200 to 299", "200 or 204".
fn statuses(list: &[u16]) -> String {
    let mut list = list.to_vec();
    list.sort_unstable();
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for status in list {
        match runs.last_mut() {
            Some((_, last)) if status <= *last + 1 => *last = status,
            _ => runs.push((status, status)),
        }
    }
    let run = |(first, last): &(u16, u16)| match last - first {
        0 => first.to_string(),
        1 => format!("{first} or {last}"),
        _ => format!("{first} to {last}"),
    };
    match runs.as_slice() {
        [] => "200 to 299".to_owned(),
        runs => runs.iter().map(run).collect::<Vec<_>>().join(" or "),
    }
}

fn shown(body: &str) -> String {
    match body.trim() {
        "" => "no body".to_owned(),
        text => format!("body {:?}", cut(text, SHOWN_BYTES)),
    }
}

/// An exchange that came to no answer. Words that aren't HTTP are an answer, and a wrong one.
fn broken(error: &hyper::Error) -> Miss {
    if error.is_parse() {
        Miss::wrong(format!("the answer isn't HTTP: {}", chain(error)))
    } else if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        Miss::silent("connected, and the connection was closed without an answer")
    } else {
        Miss::silent(format!("connected, and then: {}", chain(error)))
    }
}

/// An error with its causes, each once.
fn chain(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected_statuses_in_few_words() {
        let all: Vec<u16> = (200..=299).collect();
        for (list, words) in [
            (&[][..], "200 to 299"),
            (&all, "200 to 299"),
            (&[204, 200], "200 or 204"),
            (&[200, 201, 401, 404, 402, 403], "200 or 201 or 401 to 404"),
            (&[599], "599"),
        ] {
            assert_eq!(statuses(list), words);
        }
    }
}
