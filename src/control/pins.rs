//! `/v1/apps/APP/pin` and `…/unpin`.

use axum::Json;
use axum::extract::{Extension, State};

use crate::model::AppName;

use super::api::{PinRequest, Pinned, UnpinRequest};
use super::peer::Peer;
use super::service::Service;
use super::table::Shared;
use super::wire::{Answer, Asked, Named, NoKeys, Sent, check_message, detached};

/// `POST /v1/apps/APP/pin`.
pub async fn pin<S: Service>(
    State(shared): State<Shared<S>>,
    Extension(peer): Extension<Peer>,
    Named(app): Named<AppName>,
    _: Asked<NoKeys>,
    Sent(request): Sent<PinRequest>,
) -> Answer<Pinned> {
    check_message(request.message.as_deref())?;
    detached(async move { shared.service.pin(&app, request, peer.caller).await }).await.map(Json)
}

/// `POST /v1/apps/APP/unpin`.
pub async fn unpin<S: Service>(
    State(shared): State<Shared<S>>,
    Extension(peer): Extension<Peer>,
    Named(app): Named<AppName>,
    _: Asked<NoKeys>,
    Sent(request): Sent<UnpinRequest>,
) -> Answer<Pinned> {
    check_message(request.message.as_deref())?;
    detached(async move { shared.service.unpin(&app, request, peer.caller).await }).await.map(Json)
}
