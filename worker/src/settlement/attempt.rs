//! One attempt at a kickoff: what its messages say of it.

use chrono::{DateTime, Utc};
use crewfleet_amqp::Properties;
use crewfleet_amqp::traces::Span;
use crewfleet_protocol::{CrewName, KickoffError, KickoffId};
use serde_json::value::RawValue;

use crate::intake::run_key::RunKey;

/// What a reply says beside its outcome, and the request as it came.
#[derive(Clone, Copy)]
pub(crate) struct Attempt<'a> {
    /// `None` when a bad request names no valid id: then nobody can be told.
    pub(crate) kickoff_id: Option<&'a KickoffId>,
    /// The crew whose queue it came from.
    pub(crate) crew: &'a CrewName,
    /// An extra routing key for the reply.
    pub(crate) reply_to: Option<&'a str>,
    /// Echoed.
    pub(crate) meta: Option<&'a RawValue>,
    /// From 1.
    pub(crate) attempt: u32,
    /// From 0.
    pub(crate) redrive: u32,
    /// When it was published.
    pub(crate) requested_at: Option<DateTime<Utc>>,
    /// When it started; `None` when it never did.
    pub(crate) started_at: Option<DateTime<Utc>>,
    /// How many deliveries of this request, and of the copies before it, came back unsettled.
    pub(crate) returned: u32,
    /// How often its crew was started: for the copies before, and for this one, where it was.
    pub(crate) executions: u32,
    /// How many workers died with it after they had started it.
    pub(crate) workers_lost: u32,
    /// How often it had to run alone, and found others. It is told in its next copy.
    pub(crate) not_alone: u32,
    /// How often the worker itself failed while it had it, if it did now. It is told in its next copy.
    pub(crate) faults: u32,
    /// Another worker may run it, or hold a delivery of it.
    pub(crate) undecided: bool,
    /// The request as it came.
    pub(crate) properties: &'a Properties,
    /// The request as it came.
    pub(crate) body: &'a [u8],
    /// What makes it this kickoff; `None` for what is none.
    pub(crate) key: Option<&'a RunKey>,
    /// The span of processing it.
    pub(crate) trace: &'a Span,
}

impl Attempt<'_> {
    pub(crate) fn failed(&self, error: Option<&KickoffError>) {
        if let Some(error) = error {
            self.trace.fail(&error.kind);
        }
    }
}
