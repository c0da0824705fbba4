//! An attempt that has ended, and what belongs to it.

use crewfleet_protocol::Request;

use super::attempt::Attempt;
use crate::crews::crew::Crew;
use crate::execution::events::EventSink;
use crate::intake::run_key::RunKey;
use crate::state::WorkerState;

/// An attempt that has ended.
pub(crate) struct EndedAttempt<'a> {
    pub(crate) worker: &'a WorkerState,
    pub(crate) crew: &'a Crew,
    pub(crate) request: &'a Request,
    pub(crate) key: &'a RunKey,
    pub(crate) attempt: &'a Attempt<'a>,
    pub(crate) events: &'a EventSink,
}
