//! What is learnt of a call while it is answered: the log tells it in the end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::request::Parts;

use crate::tokens::Token;
use crate::tokens::meter::UnderWay;

/// What is learnt of a call.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Noted>);

#[derive(Debug, Default)]
pub(crate) struct Noted {
    /// The token's name.
    pub(crate) token: Option<String>,
    pub(crate) tenant: Option<String>,
    pub(crate) crew: Option<String>,
    pub(crate) kickoff_id: Option<String>,
    /// What it changes, or would change.
    pub(crate) action: Option<&'static str>,
    /// It counts among its token's calls as long as this is there.
    pub(crate) under_way: Option<UnderWay>,
}

impl Notes {
    /// Those of a request.
    pub(crate) fn of(parts: &Parts) -> Arc<Self> {
        parts.extensions.get::<Arc<Self>>().cloned().unwrap_or_default()
    }

    /// Whose token it was, whether or not it is good for what was asked.
    pub(crate) fn token(&self, token: &Token) {
        let mut noted = self.noted();
        noted.token = Some(token.name.clone());
        noted.tenant.clone_from(&token.tenant);
    }

    /// Which crew it was about.
    pub(crate) fn crew(&self, crew: &str) {
        self.noted().crew = Some(crew.to_owned());
    }

    /// Which kickoff it was about.
    pub(crate) fn kickoff(&self, id: &str) {
        self.noted().kickoff_id = Some(id.to_owned());
    }

    /// What it changes, or would change.
    pub(crate) fn action(&self, action: &'static str) {
        self.noted().action = Some(action);
    }

    /// It is one of its token's calls from now on.
    pub(crate) fn is_under_way(&self, call: UnderWay) {
        self.noted().under_way = Some(call);
    }

    pub(crate) fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
