//! `/v1/status` and `/v1/apps/APP`.

use axum::Json;
use axum::extract::State;

use crate::model::AppName;

use super::api::{AppStatus, DaemonStatus};
use super::service::Service;
use super::table::Shared;
use super::wire::{Answer, Asked, Named, NoKeys};

/// `GET /v1/status`.
pub async fn daemon<S: Service>(State(shared): State<Shared<S>>, _: Asked<NoKeys>) -> Answer<DaemonStatus> {
    Ok(Json(shared.service.status().await))
}

/// `GET /v1/apps/APP`.
pub async fn app<S: Service>(
    State(shared): State<Shared<S>>,
    Named(app): Named<AppName>,
    _: Asked<NoKeys>,
) -> Answer<AppStatus> {
    shared.service.app(&app).await.map(Json)
}
