//! Bodies that are JSON objects.

use axum::extract::Request;
use serde::de::DeserializeOwned;

use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::identity::Identity;
use crate::http::json_object;

/// Reads a small body. `form` shows what one looks like.
///
/// # Errors
/// [`ApiError`]: it is none of these, or too long, or comes too slowly.
pub(super) async fn read<T: DeserializeOwned>(
    gateway: &Gateway,
    identity: &Identity,
    request: Request,
    form: &str,
) -> Result<T, ApiError> {
    let (body, _room) = gateway.bodies.read(request, identity.name()).await?;
    parse(&body, form)
}

/// The same of a body that was read.
pub(super) fn parse<'a, T: serde::Deserialize<'a>>(body: &'a [u8], form: &str) -> Result<T, ApiError> {
    json_object::parse(body, form).map_err(ApiError::validation)
}
