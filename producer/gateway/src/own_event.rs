//! Events of the gateways' own, as messages.

use chrono::{DateTime, Utc};
use crewfleet_amqp::{Message, Properties};
use crewfleet_protocol::{Body, ChainPlace, Event, Names, message_type};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

/// Of which run of which kickoff an event is.
pub(crate) struct About<'a> {
    pub(crate) kickoff_id: &'a str,
    pub(crate) crew: &'a str,
    pub(crate) attempt: u32,
    pub(crate) redrive: u32,
    /// The kickoff's `meta`.
    pub(crate) meta: Option<Box<RawValue>>,
    /// Its place in a chain.
    pub(crate) chain: Option<ChainPlace>,
}

/// What the stream of events is told.
pub(crate) fn event(
    names: &Names,
    about: About<'_>,
    event_type: &str,
    data: &impl Serialize,
    time: DateTime<Utc>,
) -> Message {
    let event = Event {
        kickoff_id: about.kickoff_id.to_owned(),
        crew: about.crew.to_owned(),
        attempt: about.attempt,
        redrive: about.redrive,
        // Those of the worker count from 1.
        sequence: 0,
        time,
        event_type: event_type.to_owned(),
        // Maps with string keys can be written.
        data: to_raw_value(data).unwrap_or_default(),
        meta: about.meta,
        chain: about.chain,
    };
    Message {
        exchange: names.events(),
        routing_key: Names::event_key(&event.kickoff_id, event_type),
        // Confirmed, so it needs a name of its own: the request has the id.
        properties: Properties::json(message_type::EVENT)
            .with_message_id(&Uuid::now_v7().to_string())
            .with_correlation_id(about.kickoff_id),
        body: event.body(),
        // Where the stream of events is not bound, no gateway would read it.
        mandatory: true,
    }
}
