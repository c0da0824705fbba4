//! The log of calls: who called what, and how it went. Nothing that a caller says is in it but the path.
//!
//! A call that changes something, or would, is told under the target `audit`, whatever became of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderName, Method, StatusCode};
use tracing::field::display;
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::http::notes::{Noted, Notes};
use crate::tokens::meter::UnderWay;

/// Of a path that is logged, in characters.
const LONGEST_PATH: usize = 200;

/// The header by which a caller, or a proxy, names a request, and by which the answer does.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest name of a request that is taken over, in characters.
const LONGEST_ID: usize = 128;

/// A call that is being answered.
pub(crate) struct Call {
    request_id: String,
    method: Method,
    path: String,
    /// Who has the other end of the connection: a proxy, where there is one.
    peer: Option<SocketAddr>,
    notes: Arc<Notes>,
    is_logged: bool,
}

impl Call {
    /// The call that this request is. Those who learn of what it is note it; see [`Notes`].
    pub(crate) fn of(request: &mut Request) -> Self {
        let notes = Arc::<Notes>::default();
        request.extensions_mut().insert(Arc::clone(&notes));
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let shown = request.headers().get(&REQUEST_ID).and_then(|id| id.to_str().ok());
        let shown = shown
            .filter(|id| (1..=LONGEST_ID).contains(&id.len()) && id.chars().all(|c| c.is_ascii_graphic()));
        Self {
            request_id: shown.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned),
            method: request.method().clone(),
            path: request.uri().path().chars().take(LONGEST_PATH).collect(),
            peer: peer.map(|ConnectInfo(peer)| *peer),
            notes,
            is_logged: false,
        }
    }

    /// What it is called: as its caller says, else by us.
    pub(crate) fn request_id(&self) -> &str {
        &self.request_id
    }

    /// What counts among its token's calls until it is dropped.
    pub(crate) fn under_way(&self) -> Option<UnderWay> {
        self.notes.noted().under_way.take()
    }

    /// Who asks again and again how far it is would fill the log.
    pub(crate) fn log(mut self, status: StatusCode, took: Duration) {
        self.is_logged = true;
        let (method, path, peer) = (&self.method, &self.path, self.peer.map(display));
        let request_id = &*self.request_id;
        let noted = self.notes.noted();
        let Noted {
            token,
            tenant,
            crew,
            kickoff_id,
            ..
        } = &*noted;
        let (token, tenant) = (token.as_deref(), tenant.as_deref());
        let (crew, kickoff_id) = (crew.as_deref(), kickoff_id.as_deref());
        let (status_code, took_ms) = (status.as_u16(), took.as_millis() as u64);
        let is_refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status);
        match noted.action {
            Some(action) if is_refused => {
                warn!(target: "audit", action, %method, path, status_code, took_ms, request_id, peer, token, tenant, crew, kickoff_id, "unauthorized call");
            }
            Some(action) => {
                info!(target: "audit", action, %method, path, status_code, took_ms, request_id, peer, token, tenant, crew, kickoff_id, "a call");
            }
            None if is_refused => {
                warn!(%method, path, status_code, took_ms, request_id, peer, token, tenant, crew, "unauthorized call");
            }
            None if status.is_success() && method == Method::GET => {
                debug!(%method, path, status_code, took_ms, request_id, peer, token, tenant, crew, "a call");
            }
            None => {
                info!(%method, path, status_code, took_ms, request_id, peer, token, tenant, crew, "a call")
            }
        }
    }
}

impl Drop for Call {
    /// What was begun may have been done, although nobody waits for the answer any more.
    fn drop(&mut self) {
        let noted = self.notes.noted();
        let Some(action) = noted.action.filter(|_| !self.is_logged) else {
            return;
        };
        let (method, path, peer) = (&self.method, &self.path, self.peer.map(display));
        let Noted {
            token,
            tenant,
            crew,
            kickoff_id,
            ..
        } = &*noted;
        let (token, tenant) = (token.as_deref(), tenant.as_deref());
        let (crew, kickoff_id) = (crew.as_deref(), kickoff_id.as_deref());
        let request_id = &*self.request_id;
        info!(target: "audit", action, %method, path, request_id, peer, token, tenant, crew, kickoff_id, "the caller went away before the answer");
    }
}
