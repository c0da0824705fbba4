//! Events of the gateways' own, as messages.

use chrono::{DateTime, Utc};
use crewfleet_amqp::{Message, Properties};
use crewfleet_protocol::{Body, Event, Names, message_type};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use crate::store::row::Kickoff;

/// What the stream of events is told of the present run of a kickoff.
pub(crate) fn event(
    names: &Names,
    kickoff: &Kickoff,
    event_type: &str,
    data: &impl Serialize,
    time: DateTime<Utc>,
) -> Message {
    let event = Event {
        kickoff_id: kickoff.id.clone(),
        crew: kickoff.crew.clone(),
        attempt: kickoff.standing.attempt,
        redrive: kickoff.standing.redrive,
        // Those of the worker count from 1.
        sequence: 0,
        time,
        event_type: event_type.to_owned(),
        // Maps with string keys can be written.
        data: to_raw_value(data).unwrap_or_default(),
        // It was JSON when it was written.
        meta: kickoff
            .meta
            .clone()
            .and_then(|meta| RawValue::from_string(meta).ok()),
        chain: kickoff.chain.as_ref().map(|chain| chain.place.clone()),
    };
    Message {
        exchange: names.events(),
        routing_key: Names::event_key(&event.kickoff_id, event_type),
        // Confirmed, so it needs a name of its own: the request has the id.
        properties: Properties::json(message_type::EVENT)
            .with_message_id(&Uuid::now_v7().to_string())
            .with_correlation_id(&kickoff.id),
        body: event.body(),
        // Where the stream of events is not bound, no gateway would read it.
        mandatory: true,
    }
}
