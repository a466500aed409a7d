//! `/v1/events`, the events of an app that are past, and how a stream of events goes over the wire: one JSON object a line.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;

use crate::model::AppName;

use super::api::{ApiError, Event, EventsQuery, PastEvent, PastQuery};
use super::deployments::limit;
use super::log::EventLog;
use super::service::Service;
use super::table::Shared;
use super::wire::{Answer, Asked, Named};

/// Events on their way into one answer; more wait in the log.
const UNDER_WAY: usize = 8;

/// `GET /v1/events?after=N`.
pub async fn events<S: Service>(
    State(shared): State<Shared<S>>,
    Asked(query): Asked<EventsQuery>,
) -> Result<Response, ApiError> {
    let newest = shared.log.newest();
    // A number from beyond the newest was seen in an earlier life of the daemon: all that is kept is new.
    let seen = query.after.map_or(newest, |after| if after > newest { 0 } else { after });
    let (sender, events) = mpsc::channel(UNDER_WAY);
    tokio::spawn(pass_on(shared.log, seen, sender));
    Ok(lines(events))
}

/// `GET /v1/apps/APP/events?limit=N`.
pub async fn past<S: Service>(
    State(shared): State<Shared<S>>,
    Named(app): Named<AppName>,
    Asked(query): Asked<PastQuery>,
) -> Answer<Vec<PastEvent>> {
    shared.service.past_events(&app, limit(query.limit)?).await.map(Json)
}

/// What comes out of `events`, as an answer that goes on until they end.
pub fn lines(events: mpsc::Receiver<Event>) -> Response {
    let stream = stream::unfold(events, async |mut events| {
        let mut line = serde_json::to_vec(&events.recv().await?).map_err(std::io::Error::other);
        if let Ok(line) = &mut line {
            line.push(b'\n');
        }
        Some((line.map(Bytes::from), events))
    });
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(stream)).into_response()
}

/// Passes on what the log takes in after number `seen`, until the log or the receiver is gone.
async fn pass_on(mut log: EventLog, mut seen: u64, to: mpsc::Sender<Event>) {
    loop {
        tokio::select! {
            more = log.beyond(seen) => if !more { return },
            () = to.closed() => return,
        }
        for event in log.after(seen) {
            seen = event.seq;
            if to.send(event).await.is_err() {
                return;
            }
        }
    }
}
