//! `/v1/apps/APP/prune`.

use axum::Json;
use axum::extract::{Extension, State};

use crate::model::AppName;

use super::api::{PruneQuery, Pruned};
use super::peer::Peer;
use super::service::Service;
use super::table::Shared;
use super::wire::{Answer, Asked, Named, check_message, detached};

/// `POST /v1/apps/APP/prune?dry_run=BOOL&message=TEXT`.
pub async fn prune<S: Service>(
    State(shared): State<Shared<S>>,
    Extension(peer): Extension<Peer>,
    Named(app): Named<AppName>,
    Asked(query): Asked<PruneQuery>,
) -> Answer<Pruned> {
    check_message(query.message.as_deref())?;
    let work = async move { shared.service.prune(&app, query, peer.caller).await };
    detached(work).await.map(Json)
}
