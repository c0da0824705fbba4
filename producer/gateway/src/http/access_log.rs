//! The log of calls: who called what, and how it went. Nothing that a caller says is in it but the path.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use tracing::field::display;
use tracing::{debug, info, warn};

/// Of a path that is logged, in characters.
const LONGEST_PATH: usize = 200;

/// A call that is being answered.
pub(crate) struct Call {
    method: Method,
    path: String,
    /// Who has the other end of the connection: a proxy, where there is one.
    peer: Option<SocketAddr>,
    caller: Known,
}

/// Who calls, once that is known.
type Known = Arc<OnceLock<Who>>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Who {
    /// The token's name.
    token: String,
    crew: String,
}

impl Call {
    /// The call that this request is. Those who learn who calls tell it by [`tell`].
    pub(crate) fn of(request: &mut Request) -> Self {
        let caller = Known::default();
        request.extensions_mut().insert(Arc::clone(&caller));
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        Self {
            method: request.method().clone(),
            path: request.uri().path().chars().take(LONGEST_PATH).collect(),
            peer: peer.map(|ConnectInfo(peer)| *peer),
            caller,
        }
    }

    /// Who asks again and again how far it is would fill the log.
    pub(crate) fn log(&self, status: StatusCode, took: Duration) {
        let (method, path, peer) = (&self.method, &self.path, self.peer.map(display));
        let who = self.caller.get();
        let (token, crew) = (who.map(|who| &*who.token), who.map(|who| &*who.crew));
        let (status_code, took_ms) = (status.as_u16(), took.as_millis() as u64);
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                warn!(%method, path, status_code, took_ms, peer, token, crew, "unauthorized call");
            }
            _ if status.is_success() && method == Method::GET => {
                debug!(%method, path, status_code, took_ms, peer, token, crew, "a call");
            }
            _ => info!(%method, path, status_code, took_ms, peer, token, crew, "a call"),
        }
    }
}

/// Says who calls: the token of this name is known, whether or not it is good for the crew.
pub(crate) fn tell(parts: &Parts, token: &str, crew: &str) {
    if let Some(caller) = parts.extensions.get::<Known>() {
        // It is said once.
        let _ = caller.set(Who {
            token: token.to_owned(),
            crew: crew.to_owned(),
        });
    }
}
