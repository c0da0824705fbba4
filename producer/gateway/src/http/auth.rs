//! Who calls, and which crew: what each call but `GET /` begins with.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::http::header;
use axum::http::request::Parts;
use crewfleet_protocol::{CrewName, KickoffId};

use crate::gateway::Gateway;
use crate::http::access_log;
use crate::http::api_error::ApiError;
use crate::tokens::Token;

/// A caller whose token is good for the crew that is called.
pub(crate) struct Caller {
    /// The token's name.
    pub(crate) token: String,
    pub(crate) crew: CrewName,
    /// The `{kickoff_id}` of the path, where it has one.
    id: Option<String>,
    /// The file that the path names, likewise.
    file: Option<String>,
}

impl Caller {
    /// The kickoff that the path names. What is no kickoff's id is one that nobody has.
    pub(crate) fn kickoff_id(&self) -> Result<KickoffId, ApiError> {
        let id = self.id.as_deref().unwrap_or_default();
        KickoffId::parse(id).map_err(|_| ApiError::NoExecution(id.to_owned()))
    }

    /// The file that the path names.
    pub(crate) fn path(&self) -> &str {
        self.file.as_deref().unwrap_or_default()
    }
}

impl FromRequestParts<Arc<Gateway>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, ApiError> {
        let shown = parts.headers.get(header::AUTHORIZATION);
        let shown = shown.and_then(|value| value.to_str().ok()).and_then(bearer);
        let token = match shown {
            Some(shown) => gateway.tokens.find(shown).await,
            None => None,
        };
        let token = token.ok_or(ApiError::Unauthorized)?;
        let unreadable = |_| ApiError::NotFound("The path is not UTF-8".into());
        let Path(mut path) = Path::<HashMap<String, String>>::from_request_parts(parts, gateway)
            .await
            .map_err(unreadable)?;
        let crew = match path.remove("crew") {
            Some(crew) => CrewName::parse(&crew).map_err(|e| ApiError::NotFound(e.to_string()))?,
            None => at_the_root(&token, gateway)?,
        };
        access_log::tell(parts, &token.name, crew.as_str());
        if !token.allows(&crew) {
            let crew = crew.to_string();
            return Err(ApiError::Forbidden { crew });
        }
        Ok(Self {
            token: token.name.clone(),
            crew,
            id: path.remove("kickoff_id"),
            file: path.remove("path"),
        })
    }
}

/// The crew of a call without one in its path: the only one that the token is good for, else the gateway's default.
fn at_the_root(token: &Token, gateway: &Gateway) -> Result<CrewName, ApiError> {
    let only = token.crews.as_deref().and_then(|crews| match crews {
        [crew] => CrewName::parse(crew).ok(),
        _ => None,
    });
    only.or_else(|| gateway.default_crew.clone()).ok_or_else(|| {
        let message = "Which crew? Call /crews/<crew>/…; or show a token for one crew alone, or set [gateway] default_crew";
        ApiError::NotFound(message.into())
    })
}

/// The token of a header `Bearer <token>`; the scheme's name knows no case (RFC 9110, 11.1). `axum-extra` reads it in the
/// same way, and would bring ten packages for these two lines, SHA-1 among them.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_from_a_bearer_header_only() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc "), Some("abc"));
        for other in ["abc", "Basic abc", "Bearer", ""] {
            assert_eq!(bearer(other), None, "{other}");
        }
    }
}
