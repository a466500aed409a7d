//! `/v1/apps/APP/freeze` and `…/unfreeze`; `/v1/freeze` and `/v1/unfreeze` for all apps.

use axum::Json;
use axum::extract::{Extension, State};

use crate::model::AppName;

use super::api::{FreezeRequest, Frozen};
use super::peer::Peer;
use super::service::Service;
use super::table::Shared;
use super::wire::{Answer, Asked, Named, NoKeys, Sent, check_message, detached};

/// `POST /v1/apps/APP/freeze`.
pub async fn freeze<S: Service>(
    shared: State<Shared<S>>,
    peer: Extension<Peer>,
    Named(app): Named<AppName>,
    none: Asked<NoKeys>,
    sent: Sent<FreezeRequest>,
) -> Answer<Frozen> {
    set(Some(app), shared, peer, none, sent).await
}

/// `POST /v1/freeze`.
pub async fn freeze_all<S: Service>(
    shared: State<Shared<S>>,
    peer: Extension<Peer>,
    none: Asked<NoKeys>,
    sent: Sent<FreezeRequest>,
) -> Answer<Frozen> {
    set(None, shared, peer, none, sent).await
}

/// `POST /v1/apps/APP/unfreeze`.
pub async fn unfreeze<S: Service>(
    shared: State<Shared<S>>,
    peer: Extension<Peer>,
    Named(app): Named<AppName>,
    none: Asked<NoKeys>,
) -> Answer<Frozen> {
    lift(Some(app), shared, peer, none).await
}

/// `POST /v1/unfreeze`.
pub async fn unfreeze_all<S: Service>(
    shared: State<Shared<S>>,
    peer: Extension<Peer>,
    none: Asked<NoKeys>,
) -> Answer<Frozen> {
    lift(None, shared, peer, none).await
}

async fn set<S: Service>(
    app: Option<AppName>,
    State(shared): State<Shared<S>>,
    Extension(peer): Extension<Peer>,
    _: Asked<NoKeys>,
    Sent(request): Sent<FreezeRequest>,
) -> Answer<Frozen> {
    check_message(request.message.as_deref())?;
    detached(async move { shared.service.freeze(app.as_ref(), request, peer.caller).await }).await.map(Json)
}

async fn lift<S: Service>(
    app: Option<AppName>,
    State(shared): State<Shared<S>>,
    Extension(peer): Extension<Peer>,
    _: Asked<NoKeys>,
) -> Answer<Frozen> {
    detached(async move { shared.service.unfreeze(app.as_ref(), peer.caller).await }).await.map(Json)
}
