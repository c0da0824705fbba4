//! Who calls: a token that is good, and what it is good for. Every call but `GET /` and `/healthcheck` begins with it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use chrono::Utc;
use crewfleet_protocol::CrewName;

use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::notes::Notes;
use crate::store::row::Kickoff;
use crate::tokens::meter::Exceeded;
use crate::tokens::valid::{Known, ValidTokens};
use crate::tokens::{Scope, Token};

/// Who calls. The call counts against the limits of the token.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    known: Arc<Known>,
    notes: Arc<Notes>,
}

impl Identity {
    /// The token's name.
    pub(crate) fn name(&self) -> &str {
        &self.token().name
    }

    /// For whom all that it starts is, and whose kickoffs alone it may see; `None`: for anybody.
    pub(crate) fn tenant(&self) -> Option<&str> {
        self.token().tenant.as_deref()
    }

    /// The crews that it is good for; `None` for all.
    pub(crate) fn crews(&self) -> Option<&[String]> {
        self.token().crews.as_deref()
    }

    /// Whether it is good for `crew`.
    pub(crate) fn allows(&self, crew: &CrewName) -> bool {
        self.token().allows(crew)
    }

    /// Notes which crew the call is about, and refuses it where the token is not good for it.
    pub(crate) fn reach(&self, crew: &CrewName) -> Result<(), ApiError> {
        self.notes.crew(crew.as_str());
        match self.allows(crew) {
            true => Ok(()),
            false => Err(ApiError::Forbidden {
                crew: crew.to_string(),
            }),
        }
    }

    /// The same for a sink, which is for all crews.
    pub(crate) fn reach_sink(&self, sink: &str) -> Result<(), ApiError> {
        self.notes.crew(sink);
        match self.crews() {
            None => Ok(()),
            Some(_) => Err(ApiError::NotAllowed(format!(
                "{sink} is a sink, which is for all crews, and this token is not good for all"
            ))),
        }
    }

    /// Whether it may see this kickoff.
    pub(crate) fn sees(&self, kickoff: &Kickoff) -> bool {
        let crews = self.crews();
        crews.is_none_or(|crews| crews.contains(&kickoff.crew))
            && self
                .tenant()
                .is_none_or(|tenant| kickoff.tenant().as_deref() == Some(tenant))
    }

    /// Refuses a call that changes nothing, where the token lacks the scope that it needs.
    pub(crate) fn require(&self, scope: Scope) -> Result<(), ApiError> {
        let token = self.token();
        match token.has(scope) {
            true => Ok(()),
            false => Err(ApiError::Lacks {
                scope,
                scopes: token.scopes().to_vec(),
            }),
        }
    }

    /// The same of one that changes something: it is in the audit log under this name, also when it is refused.
    pub(crate) fn act(&self, action: &'static str, scope: Scope) -> Result<(), ApiError> {
        self.notes.action(action);
        self.require(scope)
    }

    /// Notes which kickoff the call is about.
    pub(crate) fn concerns(&self, kickoff_id: &str) {
        self.notes.kickoff(kickoff_id);
    }

    fn token(&self) -> &Token {
        &self.known.token
    }

    async fn of(parts: &mut Parts, tokens: &ValidTokens, share: u32) -> Result<Self, ApiError> {
        // A call counts once, whatever asks who it is.
        if let Some(known) = parts.extensions.get::<Self>() {
            return Ok(known.clone());
        }
        let shown = parts.headers.get(header::AUTHORIZATION);
        let shown = shown.and_then(|value| value.to_str().ok()).and_then(bearer);
        let known = match shown {
            Some(shown) => tokens.find(shown).await,
            None => None,
        };
        let known = known.ok_or(ApiError::Unauthorized)?;
        let notes = Notes::of(parts);
        notes.token(&known.token);
        if let Some(at) = known
            .token
            .expires_at
            .filter(|_| known.token.has_expired(Utc::now()))
        {
            return Err(ApiError::Expired { at });
        }
        let call = known.meter.begin(&known.token, share);
        notes.is_under_way(call.map_err(|exceeded| refused(exceeded, &known.token))?);
        let identity = Self { known, notes };
        parts.extensions.insert(identity.clone());
        Ok(identity)
    }
}

impl FromRequestParts<Arc<Gateway>> for Identity {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, ApiError> {
        Self::of(parts, &gateway.tokens, gateway.share_of_connections()).await
    }
}

fn refused(exceeded: Exceeded, token: &Token) -> ApiError {
    let (limit, wait) = match exceeded {
        Exceeded::Rate(wait) => {
            let rate = token.rate_per_s.unwrap_or_default();
            let limit = format!(
                "{rate} calls a second, {} of them at once after a pause",
                token.burst()
            );
            (limit, wait)
        }
        Exceeded::Concurrency(most) => {
            let calls = if most == 1 { "call" } else { "calls" };
            let limit = format!("{most} {calls} under way at once");
            (limit, Duration::from_secs(1))
        }
    };
    // In whole seconds, and not too early.
    let retry_after_s = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    ApiError::RateLimited {
        message: format!("This token is good for {limit}. Nothing was done; try again after a pause"),
        retry_after_s: u32::try_from(retry_after_s).unwrap_or(u32::MAX),
    }
}

/// The token of a header `Bearer <token>`; the scheme's name knows no case (RFC 9110, 11.1). `axum-extra` reads it in the
/// same way, and would bring ten packages for these two lines, SHA-1 among them.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::http::Request;
    use chrono::TimeDelta;
    use secrecy::ExposeSecret;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::tokens::{TokensFile, UsesFile};

    /// A call with this token, to a gateway that knows it alone.
    struct Site {
        tokens: Arc<ValidTokens>,
        secret: String,
        _dir: tempfile::TempDir,
    }

    impl Site {
        fn with(token: Token) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("tokens.json");
            let file = TokensFile::new(&path);
            let secret = file.create(token).unwrap().expose_secret().to_owned();
            let stopped = CancellationToken::new();
            stopped.cancel();
            let tokens = ValidTokens::watch(file, UsesFile::new(None, &path), stopped).unwrap();
            Self {
                tokens,
                secret,
                _dir: dir,
            }
        }

        fn request(&self) -> Parts {
            let header = format!("Bearer {}", self.secret);
            let request = Request::builder().header("Authorization", header);
            let mut parts = request.body(()).unwrap().into_parts().0;
            parts.extensions.insert(Arc::<Notes>::default());
            parts
        }

        async fn call(&self) -> Result<Identity, ApiError> {
            Identity::of(&mut self.request(), &self.tokens, 9).await
        }
    }

    #[test]
    fn a_token_is_read_from_a_bearer_header_only() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc "), Some("abc"));
        for other in ["abc", "Basic abc", "Bearer", ""] {
            assert_eq!(bearer(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn a_call_is_refused_that_needs_what_the_token_lacks_and_is_noted_all_the_same() {
        let site = Site::with(Token {
            scopes: Some(vec![Scope::Read]),
            crews: Some(vec!["echo".into()]),
            tenant: Some("acme".into()),
            ..Token::named("reader")
        });
        let caller = site.call().await.unwrap();
        assert_eq!((caller.name(), caller.tenant()), ("reader", Some("acme")));
        assert_eq!(caller.require(Scope::Read), Ok(()));
        let refused = caller.act("stop", Scope::Operate).unwrap_err();
        assert!(
            matches!(
                refused,
                ApiError::Lacks {
                    scope: Scope::Operate,
                    ..
                }
            ),
            "{refused:?}"
        );
        let crew = |name| CrewName::parse(name).unwrap();
        assert_eq!(caller.reach(&crew("echo")), Ok(()));
        let other = ApiError::Forbidden { crew: "other".into() };
        assert_eq!(caller.reach(&crew("other")), Err(other));
        let noted = caller.notes.noted();
        assert_eq!(
            (noted.action, noted.crew.as_deref(), noted.tenant.as_deref()),
            (Some("stop"), Some("other"), Some("acme"))
        );
    }

    #[tokio::test]
    async fn who_shows_an_expired_token_is_told_so_and_nobody_else() {
        let ended = Utc::now() - TimeDelta::seconds(1);
        let mut site = Site::with(Token {
            expires_at: Some(ended),
            ..Token::named("old")
        });
        assert_eq!(site.call().await.unwrap_err(), ApiError::Expired { at: ended });
        site.secret.push('0');
        assert_eq!(site.call().await.unwrap_err(), ApiError::Unauthorized);
    }

    #[tokio::test]
    async fn a_call_counts_once_and_as_long_as_it_is_under_way() {
        let site = Site::with(Token {
            max_concurrent: Some(1),
            ..Token::named("one")
        });
        let mut parts = site.request();
        let first = Identity::of(&mut parts, &site.tokens, 9).await.unwrap();
        assert!(Identity::of(&mut parts, &site.tokens, 9).await.is_ok());
        let refused = site.call().await.unwrap_err();
        assert!(
            matches!(&refused, ApiError::RateLimited { message, retry_after_s: 1 } if message.contains("1 call under way")),
            "{refused:?}"
        );
        drop(first.notes.noted().under_way.take());
        assert!(site.call().await.is_ok());
    }

    #[tokio::test]
    async fn a_call_that_comes_too_early_is_told_when_to_come() {
        let site = Site::with(Token {
            rate_per_s: Some(0.1),
            ..Token::named("slow")
        });
        assert!(site.call().await.is_ok());
        let refused = site.call().await.unwrap_err();
        assert!(
            matches!(&refused, ApiError::RateLimited { message, retry_after_s: 1..=10 } if message.contains("0.1 calls")),
            "{refused:?}"
        );
    }
}
