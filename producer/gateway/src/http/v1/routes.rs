//! The calls.

use std::sync::Arc;

use axum::http::{Method, Uri};
use axum::{Router, middleware};
use tower_http::compression::CompressionLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::Refusal;
use super::{
    actions, batch_list, batches, bulk, conditional, create, crews, dead_letter_actions, dead_letters,
    events, kickoffs, me, openapi, problem, request, result, statistics, workers,
};
use crate::gateway::Gateway;
use crate::http::api_error::ApiError;

/// All calls below `/v1`, and their document at `/openapi.json`.
pub(crate) fn router(gateway: &Arc<Gateway>) -> Router {
    let (router, document) = all().split_for_parts();
    let document = openapi::finished(document);
    router
        .method_not_allowed_fallback(other_method)
        .with_state(Arc::clone(gateway))
        .route("/openapi.json", openapi::served(document))
        .layer(middleware::from_fn(problem::problems))
        .layer(middleware::from_fn(conditional::tag))
        .layer(CompressionLayer::new())
}

pub(super) fn all() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::with_openapi(openapi::about())
        .routes(routes!(create::create, kickoffs::list))
        .routes(routes!(kickoffs::get))
        .routes(routes!(result::result))
        .routes(routes!(events::of_kickoff))
        .routes(routes!(events::of_filter))
        .routes(routes!(actions::cancel))
        .routes(routes!(actions::retry))
        .routes(routes!(bulk::bulk))
        .routes(routes!(batches::create, batch_list::list))
        .routes(routes!(batches::get))
        .routes(routes!(crews::list))
        .routes(routes!(crews::get))
        .routes(routes!(crews::pause))
        .routes(routes!(crews::resume))
        .routes(routes!(workers::list))
        .routes(routes!(workers::drain))
        .routes(routes!(request::get))
        .routes(routes!(me::get))
        .routes(routes!(statistics::stats))
        .routes(routes!(statistics::spend))
        .routes(routes!(statistics::counts))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::get))
        .routes(routes!(dead_letter_actions::redrive))
        .routes(routes!(dead_letter_actions::purge))
}

/// Whatever else below `/v1`.
pub(crate) fn unknown(uri: &Uri) -> Refusal {
    ApiError::NotFound(format!(
        "There is nothing at {}; /openapi.json has all calls",
        uri.path()
    ))
    .into()
}

async fn other_method(method: Method) -> Refusal {
    ApiError::Method(method.to_string()).into()
}
