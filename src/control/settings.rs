//! `/v1/apps/APP/settings`, `…/diff`, `…/staged`, and the verbs that deploy what is staged, or once more what is live.

use axum::Json;
use axum::extract::{Extension, State};

use crate::model::AppName;

use super::access::Right;
use super::api::{
    Accepted, DeployedStaged, DiffQuery, Difference, RedeployRequest, SetAnswer, SetRequest, Setting, SettingsQuery,
    Staged,
};
use super::peer::Peer;
use super::service::Service;
use super::table::Shared;
use super::wire::{Answer, Asked, Named, NoKeys, Sent, check_message, detached};

/// `GET /v1/apps/APP/settings?reveal=BOOL`.
pub async fn list<S: Service>(
    State(shared): State<Shared<S>>,
    Extension(peer): Extension<Peer>,
    Named(app): Named<AppName>,
    Asked(query): Asked<SettingsQuery>,
) -> Answer<Vec<Setting>> {
    if query.reveal {
        peer.need(Right::Operate)?;
    }
    shared.service.settings(&app, query.reveal).await.map(Json)
}

/// `POST /v1/apps/APP/settings`.
pub async fn set<S: Service>(
    State(shared): State<Shared<S>>,
    Extension(peer): Extension<Peer>,
    Named(app): Named<AppName>,
    _: Asked<NoKeys>,
    Sent(request): Sent<SetRequest>,
) -> Answer<SetAnswer> {
    check_message(request.message.as_deref())?;
    detached(async move { shared.service.set(&app, request, peer.caller).await }).await.map(Json)
}

/// `GET /v1/apps/APP/diff?from=SLOT&to=SLOT&text=BOOL&reveal=BOOL`.
pub async fn diff<S: Service>(
    State(shared): State<Shared<S>>,
    Extension(peer): Extension<Peer>,
    Named(app): Named<AppName>,
    Asked(query): Asked<DiffQuery>,
) -> Answer<Difference> {
    if query.reveal {
        peer.need(Right::Operate)?;
    }
    shared.service.diff(&app, query).await.map(Json)
}

/// `GET /v1/apps/APP/staged`.
pub async fn staged<S: Service>(
    State(shared): State<Shared<S>>,
    Named(app): Named<AppName>,
    _: Asked<NoKeys>,
) -> Answer<Vec<Staged>> {
    shared.service.staged(&app).await.map(Json)
}

/// `POST /v1/apps/APP/deploy-staged`.
pub async fn deploy_staged<S: Service>(
    State(shared): State<Shared<S>>,
    Extension(peer): Extension<Peer>,
    Named(app): Named<AppName>,
    _: Asked<NoKeys>,
    Sent(request): Sent<RedeployRequest>,
) -> Answer<DeployedStaged> {
    check_message(request.message.as_deref())?;
    detached(async move { shared.service.deploy_staged(&app, request, peer.caller).await }).await.map(Json)
}

/// `POST /v1/apps/APP/redeploy`.
pub async fn redeploy<S: Service>(
    State(shared): State<Shared<S>>,
    Extension(peer): Extension<Peer>,
    Named(app): Named<AppName>,
    _: Asked<NoKeys>,
    Sent(request): Sent<RedeployRequest>,
) -> Answer<Accepted> {
    check_message(request.message.as_deref())?;
    detached(async move { shared.service.redeploy(&app, request, peer.caller).await }).await.map(Json)
}
