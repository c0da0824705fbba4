//! What a check found.

use serde::Serialize;
use strum::Display;

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// Not as usual, and harmless.
    Note,
    /// Cannot be seen from here.
    Unknown,
    /// Something works worse than it could.
    Warning,
    /// Messages may be lost, or kickoffs be taken away or killed.
    Unsafe,
}

/// One check.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Finding {
    /// What was looked at, as in `queue kickoff.requests.marketing`.
    pub(crate) check: String,
    /// How it is.
    pub(crate) state: State,
    /// What was found.
    pub(crate) found: String,
    /// What was wanted, where that is something else.
    pub(crate) wanted: Option<String>,
    /// What to do about it.
    pub(crate) fix: Option<String>,
}

impl Finding {
    pub(super) fn new(state: State, check: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            state,
            found: found.into(),
            wanted: None,
            fix: None,
        }
    }

    pub(super) fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(State::Ok, check, found)
    }

    pub(super) fn wanted(mut self, wanted: impl Into<String>) -> Self {
        self.wanted = Some(wanted.into());
        self
    }

    pub(super) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// All checks of one run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// The broker, without its password.
    pub(crate) broker: String,
    /// Its product and version.
    pub(crate) version: String,
    /// The worst state of all.
    pub(crate) state: State,
    /// The checks, in the order they were made.
    pub(crate) findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(broker: String, version: String, findings: Vec<Finding>) -> Self {
        let worst = findings.iter().map(|finding| finding.state).max();
        Self {
            broker,
            version,
            state: worst.unwrap_or(State::Ok),
            findings,
        }
    }
}
