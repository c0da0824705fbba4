//! One attempt at a kickoff: what its messages say of it.

use std::mem::take;
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_amqp::traces::Span;
use crewfleet_amqp::{Properties, Received};
use crewfleet_protocol::{CrewName, KickoffError, KickoffId, Rejection, Reply, Request, Status, header};
use serde_json::value::RawValue;

use crate::config::OnRedelivery;
use crate::crews::crew::Crew;
use crate::execution::outcome::Outcome;
use crate::intake::run_key::RunKey;
use crate::webhooks::orders::WebhookOrders;

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
    /// When the request was published.
    pub(crate) requested_at: Option<DateTime<Utc>>,
    /// When it started; `None` when it never did.
    pub(crate) started_at: Option<DateTime<Utc>>,
    /// How many deliveries of this request, and of the copies before it, came back unsettled.
    pub(crate) returned: u32,
    /// How often its crew was started: for the copies before, and for this one, where it was.
    pub(crate) executions: u32,
    /// How many workers died with it after they had started it.
    pub(crate) crash_count: u32,
    /// How often it had to run exclusively, and found others. Its next copy says so.
    pub(crate) not_exclusive: u32,
    /// How often the worker itself failed while it had it, if it did now. Its next copy says so.
    pub(crate) faults: u32,
    /// Another worker may run it, or hold a delivery of it.
    pub(crate) undecided: bool,
    pub(crate) properties: &'a Properties,
    pub(crate) body: &'a [u8],
    /// What makes it this kickoff; `None` for what is none.
    pub(crate) key: Option<&'a RunKey>,
    /// What is called besides; `None` where nobody asked for it.
    pub(crate) webhooks: Option<&'a WebhookOrders>,
    /// The span of processing it.
    pub(crate) trace: &'a Span,
}

impl<'a> Attempt<'a> {
    /// The attempt that a request asks for.
    pub(crate) fn of(
        request: &'a Request,
        crew: &'a Crew,
        message: &'a Received,
        key: &'a RunKey,
        trace: &'a Span,
    ) -> Self {
        Self {
            kickoff_id: Some(&request.kickoff_id),
            reply_to: request.reply_to.as_deref(),
            meta: request.meta.as_deref(),
            attempt: request.attempt,
            redrive: request.redrive,
            requested_at: request.requested_at,
            key: Some(key),
            ..Self::of_message(crew, message, trace)
        }
    }

    /// What is known of a message that is no request. It counts neither returns nor executions: nothing follows it.
    pub(crate) fn of_rejected(
        rejection: &'a Rejection,
        crew: &'a Crew,
        message: &'a Received,
        trace: &'a Span,
    ) -> Self {
        Self {
            kickoff_id: rejection.kickoff_id.as_ref(),
            reply_to: rejection.reply_to.as_deref(),
            meta: rejection.meta.as_deref(),
            attempt: rejection.attempt,
            redrive: rejection.redrive,
            requested_at: rejection.requested_at,
            returned: 0,
            executions: 0,
            undecided: false,
            ..Self::of_message(crew, message, trace)
        }
    }

    /// What is known of an attempt without its body.
    pub(crate) fn of_message(crew: &'a Crew, message: &'a Received, trace: &'a Span) -> Self {
        let properties = &message.properties;
        let number = |name| properties.header_u32(name);
        Self {
            kickoff_id: None,
            crew: &crew.name,
            reply_to: None,
            meta: None,
            attempt: number(header::ATTEMPT).unwrap_or(1),
            redrive: number(header::REDRIVE).unwrap_or(0),
            requested_at: None,
            started_at: None,
            returned: message
                .delivery_count
                .saturating_add(number(header::RETURNED).unwrap_or(0)),
            executions: number(header::EXECUTIONS).unwrap_or(0),
            crash_count: 0,
            not_exclusive: 0,
            faults: 0,
            // A copy of what came back may be a second one: whoever gets it asks, too. A crew that runs at most once
            // would be failed by the mark alone.
            undecided: message.redelivered && crew.options.on_redelivery == OnRedelivery::Run,
            properties,
            body: &message.body,
            key: None,
            webhooks: None,
            trace,
        }
    }

    /// Its crew starts now.
    pub(crate) fn start(&mut self, now: DateTime<Utc>, crash_count: u32, returned: u32) {
        self.started_at = Some(now);
        self.executions = self.executions.saturating_add(1);
        self.crash_count = crash_count;
        self.returned = returned;
    }

    /// How long it waited in its queue. Not of a copy (another attempt, a requeue, a redrive): it may have run since
    /// the request was published, or was left for later.
    pub(crate) fn queue_wait(&self) -> Option<Duration> {
        let is_copy = self.properties.has_header(header::ATTEMPT) || self.redrive > 0;
        let requested_at = self.requested_at.filter(|_| !is_copy)?;
        (self.started_at? - requested_at).to_std().ok()
    }

    /// The reply to its outcome, which gives its result away for it; `worker` is the id of the worker that ran it.
    pub(crate) fn reply(&self, worker: &str, kickoff_id: &KickoffId, outcome: &mut Outcome) -> Reply {
        Reply {
            kickoff_id: kickoff_id.to_string(),
            crew: self.crew.to_string(),
            // Only an outcome with a status has a reply.
            status: outcome.status().unwrap_or(Status::Failed),
            result: match outcome {
                Outcome::Succeeded(result) => Some(take(result)),
                _ => None,
            },
            error: outcome.error().cloned(),
            attempt: self.attempt,
            redrive: self.redrive,
            executions: Some(self.executions.saturating_add(self.crash_count)),
            body_hash: self.key.map(RunKey::body_hash),
            worker: worker.to_owned(),
            requested_at: self.requested_at,
            started_at: self.started_at,
            finished_at: Utc::now(),
            meta: self.meta.map(ToOwned::to_owned),
        }
    }

    /// Marks its span as failed.
    pub(crate) fn fail_span(&self, error: Option<&KickoffError>) {
        if let Some(error) = error {
            self.trace.fail(&error.kind);
        }
    }
}
