//! `/v1/deployments`, and the verbs that begin or end one.

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::Response;
use tokio::sync::mpsc;

use crate::model::deployment::Say;
use crate::model::{AppName, DeploymentId, Report, Timestamp};

use super::api::{
    Accepted, ActivateRequest, ApiError, Event, EventKind, HistoryQuery, RetryRequest, RollbackRequest, SayRequest,
    ScaleRequest, WaitQuery,
};
use super::events::lines;
use super::limits::{ASK_AGAIN, DEFAULT_HISTORY, MAX_HISTORY, MAX_WAIT};
use super::log::EventLog;
use super::peer::Peer;
use super::service::Service;
use super::table::Shared;
use super::wire::{Answer, Asked, Named, NoKeys, Sent, check_message, detached, invalid};

/// `POST /v1/apps/APP/activate`.
pub async fn activate<S: Service>(
    State(shared): State<Shared<S>>,
    Extension(peer): Extension<Peer>,
    Named(app): Named<AppName>,
    _: Asked<NoKeys>,
    Sent(request): Sent<ActivateRequest>,
) -> Answer<Accepted> {
    check_message(request.message.as_deref())?;
    detached(async move { shared.service.activate(&app, request, peer.caller).await }).await.map(Json)
}

/// `POST /v1/apps/APP/rollback`.
pub async fn rollback<S: Service>(
    State(shared): State<Shared<S>>,
    Extension(peer): Extension<Peer>,
    Named(app): Named<AppName>,
    _: Asked<NoKeys>,
    Sent(request): Sent<RollbackRequest>,
) -> Answer<Accepted> {
    check_message(request.message.as_deref())?;
    detached(async move { shared.service.rollback(&app, request, peer.caller).await }).await.map(Json)
}

/// `POST /v1/apps/APP/scale`.
pub async fn scale<S: Service>(
    State(shared): State<Shared<S>>,
    Extension(peer): Extension<Peer>,
    Named(app): Named<AppName>,
    _: Asked<NoKeys>,
    Sent(request): Sent<ScaleRequest>,
) -> Answer<Accepted> {
    check_message(request.message.as_deref())?;
    detached(async move { shared.service.scale(&app, request, peer.caller).await }).await.map(Json)
}

/// `POST /v1/apps/APP/cancel`.
pub async fn cancel<S: Service>(
    shared: State<Shared<S>>,
    peer: Extension<Peer>,
    app: Named<AppName>,
    none: Asked<NoKeys>,
    request: Sent<SayRequest>,
) -> Answer<Accepted> {
    say(Say::Cancel, shared, peer, app, none, request).await
}

/// `POST /v1/apps/APP/promote`.
pub async fn promote<S: Service>(
    shared: State<Shared<S>>,
    peer: Extension<Peer>,
    app: Named<AppName>,
    none: Asked<NoKeys>,
    request: Sent<SayRequest>,
) -> Answer<Accepted> {
    say(Say::Promote, shared, peer, app, none, request).await
}

/// `POST /v1/apps/APP/confirm`.
pub async fn confirm<S: Service>(
    shared: State<Shared<S>>,
    peer: Extension<Peer>,
    app: Named<AppName>,
    none: Asked<NoKeys>,
    request: Sent<SayRequest>,
) -> Answer<Accepted> {
    say(Say::Confirm, shared, peer, app, none, request).await
}

async fn say<S: Service>(
    say: Say,
    State(shared): State<Shared<S>>,
    Extension(peer): Extension<Peer>,
    Named(app): Named<AppName>,
    _: Asked<NoKeys>,
    Sent(request): Sent<SayRequest>,
) -> Answer<Accepted> {
    check_message(request.message.as_deref())?;
    detached(async move { shared.service.say(&app, say, request, peer.caller).await }).await.map(Json)
}

/// `POST /v1/apps/APP/retry`.
pub async fn retry<S: Service>(
    State(shared): State<Shared<S>>,
    Extension(peer): Extension<Peer>,
    Named(app): Named<AppName>,
    _: Asked<NoKeys>,
    Sent(request): Sent<RetryRequest>,
) -> Answer<Accepted> {
    check_message(request.message.as_deref())?;
    detached(async move { shared.service.retry(&app, request, peer.caller).await }).await.map(Json)
}

/// `GET /v1/apps/APP/deployments?limit=N`.
pub async fn history<S: Service>(
    State(shared): State<Shared<S>>,
    Named(app): Named<AppName>,
    Asked(query): Asked<HistoryQuery>,
) -> Answer<Vec<Report>> {
    shared.service.history(&app, limit(query.limit)?).await.map(Json)
}

/// How many lines of the past an answer has.
pub fn limit(asked: Option<u32>) -> Result<u32, ApiError> {
    match asked.unwrap_or(DEFAULT_HISTORY) {
        limit if (1..=MAX_HISTORY).contains(&limit) => Ok(limit),
        limit => Err(invalid(format!("limit is from 1 to {MAX_HISTORY}, not {limit}"))),
    }
}

/// `GET /v1/deployments/ID?wait=DURATION`.
pub async fn show<S: Service>(
    State(shared): State<Shared<S>>,
    Named(id): Named<DeploymentId>,
    Asked(query): Asked<WaitQuery>,
) -> Answer<Report> {
    let Some(wait) = query.wait else {
        return shared.service.deployment(&id).await.map(Json);
    };
    let wait = humantime::parse_duration(&wait).map_err(|error| invalid(format!("wait: {error}")))?;
    let mut reports = follow(&shared, id.clone()).await?;
    let end = async { while reports.recv().await.is_some() {} };
    // Past the time the report is given as it stands then.
    let _ = tokio::time::timeout(wait.min(MAX_WAIT), end).await;
    shared.service.deployment(&id).await.map(Json)
}

/// `GET /v1/deployments/ID/events`.
pub async fn events<S: Service>(
    State(shared): State<Shared<S>>,
    Named(id): Named<DeploymentId>,
    _: Asked<NoKeys>,
) -> Result<Response, ApiError> {
    Ok(lines(follow(&shared, id).await?))
}

/// One deployment as events: its report as it stands, then each newer one, until it is over.
async fn follow<S: Service>(shared: &Shared<S>, id: DeploymentId) -> Result<mpsc::Receiver<Event>, ApiError> {
    // The number first: what happens between it and the report is looked at twice rather than never.
    let seen = shared.log.newest();
    let report = shared.service.deployment(&id).await?;
    let (to, events) = mpsc::channel(1);
    let view = View { seen, shown: None, to };
    tokio::spawn(view.keep_up(shared.service.clone(), shared.log.clone(), report));
    Ok(events)
}

/// What one follower has seen.
struct View {
    seen: u64,
    shown: Option<Report>,
    to: mpsc::Sender<Event>,
}

impl View {
    /// Shows `report` and what follows, until the end, or until the log or the follower is gone.
    async fn keep_up<S: Service>(mut self, service: S, mut log: EventLog, report: Report) {
        let id = report.id.clone();
        let mut under_way = self.show(report, self.seen, Timestamp::now()).await;
        while under_way {
            tokio::select! {
                more = log.beyond(self.seen) => if !more { return },
                () = tokio::time::sleep(ASK_AGAIN) => {}
                () = self.to.closed() => return,
            }
            let news = log.after(self.seen);
            // A gap in the numbers, or nothing for long: something may have been missed.
            let missed = news.first().is_none_or(|event| event.seq != self.seen + 1);
            for Event { seq, at, what, .. } in news {
                self.seen = seq;
                match what {
                    EventKind::Deployment { report } if report.id == id => {
                        under_way = under_way && self.show(*report, seq, at).await;
                    }
                    _ => {}
                }
            }
            if missed
                && under_way
                && let Ok(report) = service.deployment(&id).await
            {
                under_way = self.show(report, self.seen, Timestamp::now()).await;
            }
        }
    }

    /// Shows a report unless it is older than the one shown before. False: nothing is to come any more.
    async fn show(&mut self, report: Report, seq: u64, at: Timestamp) -> bool {
        let over = report.ended.is_some();
        let news = self.shown.as_ref().is_none_or(|shown| *shown != report && age(shown) <= age(&report));
        if news {
            self.shown = Some(report.clone());
            let what = EventKind::Deployment { report: Box::new(report.clone()) };
            if self.to.send(Event { seq, at, app: report.id.app, what }).await.is_err() {
                return false;
            }
        }
        !over
    }
}

/// What only grows while a deployment goes on.
fn age(report: &Report) -> (bool, usize, usize) {
    let finished = report.steps.iter().filter(|step| step.took_ms.is_some()).count();
    (report.ended.is_some(), report.steps.len(), finished)
}
