//! Every endpoint: its path, the right it needs, the body it takes, and who answers.

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};

use super::access::Right::{self, Operate, Read};
use super::limits::Limits;
use super::log::EventLog;
use super::peer::Peer;
use super::service::Service;
use super::wire::{invalid, whole};
use super::{artifacts, deployments, events, freezes, pins, prune, quarantine, settings, slots, status};

/// What the handlers share.
#[derive(Clone)]
pub struct Shared<S> {
    /// Who does it.
    pub service: S,
    /// The last events.
    pub log: EventLog,
    /// Deadlines of uploads.
    pub limits: Limits,
}

/// The body that a request brings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// None; one that comes all the same is refused.
    Nothing,
    /// A small JSON object.
    Json,
    /// An artifact, taken in as it comes.
    Artifact,
}

type Row<S> = (&'static str, Right, Takes, MethodRouter<Shared<S>>);

/// The endpoints, each once.
fn table<S: Service>() -> Vec<Row<S>> {
    use Takes::{Artifact, Json, Nothing};
    vec![
        ("/v1/status", Read, Nothing, get(status::daemon::<S>)),
        ("/v1/apps/{app}", Read, Nothing, get(status::app::<S>)),
        ("/v1/apps/{app}/slots", Read, Nothing, get(slots::list::<S>)),
        ("/v1/apps/{app}/slots/{slot}", Read, Nothing, get(slots::inspect::<S>)),
        ("/v1/apps/{app}/slots/{slot}/build", Read, Nothing, get(slots::build::<S>)),
        ("/v1/apps/{app}/plan/{slot}", Read, Nothing, get(slots::plan::<S>)),
        ("/v1/apps/{app}/plan", Read, Nothing, get(slots::plan_route::<S>)),
        ("/v1/apps/{app}/plan", Operate, Nothing, post(slots::plan_staged::<S>)),
        ("/v1/apps/{app}/units", Read, Nothing, get(slots::units::<S>)),
        ("/v1/apps/{app}/artifacts", Operate, Artifact, post(artifacts::upload::<S>)),
        ("/v1/apps/{app}/activate", Operate, Json, post(deployments::activate::<S>)),
        ("/v1/apps/{app}/rollback", Operate, Json, post(deployments::rollback::<S>)),
        ("/v1/apps/{app}/scale", Operate, Json, post(deployments::scale::<S>)),
        ("/v1/apps/{app}/cancel", Operate, Json, post(deployments::cancel::<S>)),
        ("/v1/apps/{app}/promote", Operate, Json, post(deployments::promote::<S>)),
        ("/v1/apps/{app}/confirm", Operate, Json, post(deployments::confirm::<S>)),
        ("/v1/apps/{app}/retry", Operate, Json, post(deployments::retry::<S>)),
        ("/v1/apps/{app}/prune", Operate, Nothing, post(prune::prune::<S>)),
        ("/v1/apps/{app}/settings", Read, Nothing, get(settings::list::<S>)),
        ("/v1/apps/{app}/settings", Operate, Json, post(settings::set::<S>)),
        ("/v1/apps/{app}/diff", Read, Nothing, get(settings::diff::<S>)),
        ("/v1/apps/{app}/staged", Read, Nothing, get(settings::staged::<S>)),
        ("/v1/apps/{app}/deploy-staged", Operate, Json, post(settings::deploy_staged::<S>)),
        ("/v1/apps/{app}/redeploy", Operate, Json, post(settings::redeploy::<S>)),
        ("/v1/apps/{app}/pin", Operate, Json, post(pins::pin::<S>)),
        ("/v1/apps/{app}/unpin", Operate, Json, post(pins::unpin::<S>)),
        ("/v1/apps/{app}/freeze", Operate, Json, post(freezes::freeze::<S>)),
        ("/v1/apps/{app}/unfreeze", Operate, Nothing, post(freezes::unfreeze::<S>)),
        ("/v1/freeze", Operate, Json, post(freezes::freeze_all::<S>)),
        ("/v1/unfreeze", Operate, Nothing, post(freezes::unfreeze_all::<S>)),
        ("/v1/apps/{app}/quarantine", Read, Nothing, get(quarantine::list::<S>)),
        ("/v1/apps/{app}/quarantine/{slot}", Operate, Nothing, delete(quarantine::clear::<S>)),
        ("/v1/apps/{app}/deployments", Read, Nothing, get(deployments::history::<S>)),
        ("/v1/apps/{app}/events", Read, Nothing, get(events::past::<S>)),
        ("/v1/deployments/{id}", Read, Nothing, get(deployments::show::<S>)),
        ("/v1/deployments/{id}/events", Read, Nothing, get(deployments::events::<S>)),
        ("/v1/events", Read, Nothing, get(events::events::<S>)),
    ]
}

/// The router of the table; nothing is answered that isn't in it.
pub fn router<S: Service>(shared: Shared<S>) -> Router {
    let limits = shared.limits;
    let mut router = Router::new();
    for (path, right, takes, handler) in table::<S>() {
        let admit = move |peer: Extension<Peer>, request, next| admit(right, takes, limits, peer, request, next);
        router = router.route(path, handler.route_layer(middleware::from_fn(admit)));
    }
    router
        .fallback(async || (StatusCode::NOT_FOUND, invalid("there is no such endpoint")))
        .method_not_allowed_fallback(async || {
            (StatusCode::METHOD_NOT_ALLOWED, invalid("this endpoint doesn't know that method"))
        })
        .with_state(shared)
}

/// Asks for the right before a byte of the body is read, then reads a small body whole.
async fn admit(
    right: Right,
    takes: Takes,
    limits: Limits,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if let Err(refusal) = peer.need(right) {
        tracing::info!(uid = peer.caller.uid, path = request.uri().path(), "refused: {refusal}");
        return refusal.into_response();
    }
    if takes == Takes::Artifact {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    match whole(body, limits.body).await {
        Err(refusal) => refusal.into_response(),
        Ok(body) if takes == Takes::Nothing && !body.is_empty() => {
            invalid("this request takes no body").into_response()
        }
        Ok(body) => next.run(Request::from_parts(head, Body::from(body))).await,
    }
}
