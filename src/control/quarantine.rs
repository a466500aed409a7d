//! `/v1/apps/APP/quarantine`.

use axum::Json;
use axum::extract::{Extension, State};

use crate::model::{AppName, SlotName};

use super::api::QuarantineItem;
use super::peer::Peer;
use super::service::Service;
use super::table::Shared;
use super::wire::{Answer, Asked, Named, NoKeys, detached};

/// `GET /v1/apps/APP/quarantine`.
pub async fn list<S: Service>(
    State(shared): State<Shared<S>>,
    Named(app): Named<AppName>,
    _: Asked<NoKeys>,
) -> Answer<Vec<QuarantineItem>> {
    shared.service.quarantined(&app).await.map(Json)
}

/// `DELETE /v1/apps/APP/quarantine/SLOT`, answered with `null`.
pub async fn clear<S: Service>(
    State(shared): State<Shared<S>>,
    Extension(peer): Extension<Peer>,
    Named((app, slot)): Named<(AppName, SlotName)>,
    _: Asked<NoKeys>,
) -> Answer<()> {
    let work = async move { shared.service.quarantine_clear(&app, &slot, peer.caller).await };
    detached(work).await.map(Json)
}
