//! `/v1/apps/APP/slots`, and the units that run them.

use axum::Json;
use axum::extract::{Extension, State};

use crate::model::{AppName, SlotName};

use super::access::Right;
use super::api::{BuildLog, PlanQuery, Planned, SlotDetail, SlotInfo, UnitsQuery};
use super::peer::Peer;
use super::service::Service;
use super::table::Shared;
use super::wire::{Answer, Asked, Named, NoKeys, detached};

/// `GET /v1/apps/APP/slots`.
pub async fn list<S: Service>(
    State(shared): State<Shared<S>>,
    Named(app): Named<AppName>,
    _: Asked<NoKeys>,
) -> Answer<Vec<SlotInfo>> {
    shared.service.slots(&app).await.map(Json)
}

/// `GET /v1/apps/APP/slots/SLOT`. Environments are shown to those who may operate.
pub async fn inspect<S: Service>(
    State(shared): State<Shared<S>>,
    Extension(peer): Extension<Peer>,
    Named((app, slot)): Named<(AppName, SlotName)>,
    _: Asked<NoKeys>,
) -> Answer<SlotDetail> {
    let mut detail = shared.service.slot(&app, &slot).await?;
    if let Some(record) = detail.record.as_mut().filter(|_| peer.need(Right::Operate).is_err()) {
        record.hide();
    }
    Ok(Json(detail))
}

/// `GET /v1/apps/APP/slots/SLOT/build`.
pub async fn build<S: Service>(
    State(shared): State<Shared<S>>,
    Named((app, slot)): Named<(AppName, SlotName)>,
    _: Asked<NoKeys>,
) -> Answer<BuildLog> {
    shared.service.build_log(&app, &slot).await.map(Json)
}

/// `GET /v1/apps/APP/plan/SLOT?strategy=NAME`.
pub async fn plan<S: Service>(
    State(shared): State<Shared<S>>,
    Named((app, slot)): Named<(AppName, SlotName)>,
    Asked(query): Asked<PlanQuery>,
) -> Answer<Planned> {
    shared.service.plan(&app, &slot, query).await.map(Json)
}

/// `GET /v1/apps/APP/plan?strategy=NAME`.
pub async fn plan_route<S: Service>(
    State(shared): State<Shared<S>>,
    Named(app): Named<AppName>,
    Asked(query): Asked<PlanQuery>,
) -> Answer<Planned> {
    shared.service.plan_route(&app, query).await.map(Json)
}

/// `POST /v1/apps/APP/plan?strategy=NAME`.
pub async fn plan_staged<S: Service>(
    State(shared): State<Shared<S>>,
    Extension(peer): Extension<Peer>,
    Named(app): Named<AppName>,
    Asked(query): Asked<PlanQuery>,
) -> Answer<Planned> {
    detached(async move { shared.service.plan_staged(&app, query, peer.caller).await }).await.map(Json)
}

/// `GET /v1/apps/APP/units?slot=SLOT`.
pub async fn units<S: Service>(
    State(shared): State<Shared<S>>,
    Named(app): Named<AppName>,
    Asked(query): Asked<UnitsQuery>,
) -> Answer<Vec<String>> {
    shared.service.units(&app, query.slot.as_ref()).await.map(Json)
}
