//! Who calls which crew: what each call of the AMP API begins with.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use crewfleet_protocol::{CrewName, KickoffId};

use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::identity::Identity;

/// A caller whose token is good for the crew that is called.
pub(crate) struct Caller {
    pub(crate) identity: Identity,
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
        let identity = Identity::from_request_parts(parts, gateway).await?;
        let unreadable = |_| ApiError::NotFound("The path is not UTF-8".into());
        let Path(mut path) = Path::<HashMap<String, String>>::from_request_parts(parts, gateway)
            .await
            .map_err(unreadable)?;
        let crew = match path.remove("crew") {
            Some(crew) => CrewName::parse(&crew).map_err(|e| ApiError::NotFound(e.to_string()))?,
            None => at_the_root(&identity, gateway)?,
        };
        let id = path.remove("kickoff_id");
        // The log has nothing of a caller's that is no id.
        if let Some(id) = id.as_deref().and_then(|id| KickoffId::parse(id).ok()) {
            identity.concerns(id.as_str());
        }
        identity.reach(&crew)?;
        Ok(Self {
            token: identity.name().to_owned(),
            identity,
            crew,
            id,
            file: path.remove("path"),
        })
    }
}

/// The crew of a call without one in its path: the only one that the token is good for, else the gateway's default.
fn at_the_root(identity: &Identity, gateway: &Gateway) -> Result<CrewName, ApiError> {
    let only = identity.crews().and_then(|crews| match crews {
        [crew] => CrewName::parse(crew).ok(),
        _ => None,
    });
    only.or_else(|| gateway.default_crew.clone()).ok_or_else(|| {
        let message = "Which crew? Call /crews/<crew>/…; or show a token for one crew alone, or set [gateway] default_crew";
        ApiError::NotFound(message.into())
    })
}
