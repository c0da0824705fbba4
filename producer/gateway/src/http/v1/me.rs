//! `GET /v1/me`: who calls, and what may be asked here.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::no_query::NoQuery;
use super::problem::{Refusal, Refusals};
use crate::gateway::Gateway;
use crate::http::identity::Identity;
use crate::tokens::Scope;

/// The token of the call, and what this gateway searches by.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Me {
    /// The token's name.
    #[schema(example = "shop")]
    token: String,
    /// What it is good for.
    #[schema(value_type = Vec<String>, example = json!(["kickoff", "read"]))]
    scopes: Vec<Scope>,
    /// The crews that it is good for; `null` for all.
    crews: Option<Vec<String>>,
    /// Whose kickoffs alone it sees; `null` for all.
    tenant: Option<String>,
    /// Keys of `meta` that kickoffs are searched by.
    meta_keys: Vec<String>,
    /// Whether the words of inputs and results are searched (`q`).
    full_text: bool,
    /// The gateway's version.
    version: &'static str,
    /// The gateway's clock.
    time: DateTime<Utc>,
}

/// Get what your token is good for.
#[utoipa::path(
    get, path = "/v1/me", tag = "statistics", operation_id = "getMe",
    responses((status = 200, body = Me, description = "The token."), Refusals),
)]
pub(crate) async fn get(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    _: NoQuery,
) -> Result<Json<Me>, Refusal> {
    Ok(Json(Me {
        token: identity.name().to_owned(),
        scopes: Scope::ALL
            .into_iter()
            .filter(|scope| identity.require(*scope).is_ok())
            .collect(),
        crews: identity.crews().map(<[_]>::to_vec),
        tenant: identity.tenant().map(str::to_owned),
        meta_keys: gateway.indexes.meta_keys.clone(),
        full_text: gateway.indexes.full_text,
        version: env!("CARGO_PKG_VERSION"),
        time: Utc::now(),
    }))
}
