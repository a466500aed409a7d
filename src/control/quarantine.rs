//! `/v1/apps/APP/quarantine`.

use axum::Json;
use axum::extract::{Extension, State};

use crate::model::{AppName, SlotName};

use super::api::{MessageQuery, QuarantineItem};
use super::peer::Peer;
use super::service::Service;
use super::table::Shared;
use super::wire::{Answer, Asked, Named, NoKeys, check_message, detached};

/// `GET /v1/apps/APP/quarantine`.
pub async fn list<S: Service>(
    State(shared): State<Shared<S>>,
    Named(app): Named<AppName>,
    _: Asked<NoKeys>,
) -> Answer<Vec<QuarantineItem>> {
    shared.service.quarantined(&app).await.map(Json)
}

/// `DELETE /v1/apps/APP/quarantine/SLOT?message=TEXT`, answered with `null`.
pub async fn clear<S: Service>(
    State(shared): State<Shared<S>>,
    Extension(peer): Extension<Peer>,
    Named((app, slot)): Named<(AppName, SlotName)>,
    Asked(query): Asked<MessageQuery>,
) -> Answer<()> {
    check_message(query.message.as_deref())?;
    let work = async move { shared.service.quarantine_clear(&app, &slot, query.message, peer.caller).await };
    detached(work).await.map(Json)
}
