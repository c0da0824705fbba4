//! Bodies that are JSON objects.

use axum::extract::Request;
use serde::de::DeserializeOwned;

use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::identity::Identity;

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
    let refused =
        |why: &str| ApiError::validation(format!("The body is not a JSON object as in {form}: {why}"));
    // A list would be taken for the fields in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(refused("it does not begin with \"{\""));
    }
    serde_json::from_slice(body).map_err(|e| refused(&e.to_string()))
}
