//! Calls that take no query: a name that means nothing is refused, as in those that take one.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::problem::Refusal;
use crate::gateway::Gateway;
use crate::http::api_error::ApiError;

/// There is no query.
pub(crate) struct NoQuery;

impl FromRequestParts<Arc<Gateway>> for NoQuery {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Gateway>) -> Result<Self, Refusal> {
        match parts.uri.query() {
            None | Some("") => Ok(Self),
            Some(query) => {
                let path = parts.uri.path();
                let problem = format!("{path} takes no query, and there is \"{query}\"; leave it out");
                Err(ApiError::validation(problem).into())
            }
        }
    }
}
