//! Requests that are to be done once: the header `Idempotency-Key`.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use crewfleet_protocol::{CrewName, KickoffId};

use super::api_error::ApiError;
use crate::taking::Taken;

/// The request header with the key of a request that is to be done once.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The response header that says that it was done before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// The longest key, in characters.
const LONGEST_KEY: usize = 255;

/// The key of a request that is to be done once, where it has one.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let key = value
        .to_str()
        .ok()
        .filter(|key| (1..=LONGEST_KEY).contains(&key.len()));
    let problem = format!("Idempotency-Key must be 1 to {LONGEST_KEY} characters of ASCII");
    Ok(Some(key.ok_or_else(|| ApiError::validation(problem))?.to_owned()))
}

/// The id that a caller's key stands for. Tenants do not know of each other, so their keys are apart.
pub(crate) fn id_of(tenant: Option<&str>, crew: &CrewName, key: &str) -> KickoffId {
    match tenant {
        Some(tenant) => KickoffId::of_key(crew, &format!("{tenant}\0{key}")),
        None => KickoffId::of_key(crew, key),
    }
}

/// What the answer says of it.
pub(crate) fn replayed(taken: Taken) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if taken == Taken::Before {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    headers
}
