//! The JSON Schemas of the contract, generated from the types.

use schemars::{Schema, schema_for};

use super::webhooks::WebhookOrder;
use super::{Answer, BatchNews, Control, Event, Heartbeat, InputFile, KickoffRequest, Query, Reply};

/// Every message of the contract, and what may stand in one: its name (also the name of the committed file, with
/// `.json`) and its schema.
pub fn all() -> Vec<(&'static str, Schema)> {
    vec![
        (super::message_type::REQUEST, schema_for!(KickoffRequest)),
        ("kickoff.input_file.v1", schema_for!(InputFile)),
        (super::message_type::REPLY, schema_for!(Reply)),
        (super::message_type::EVENT, schema_for!(Event)),
        (super::message_type::CONTROL, schema_for!(Control)),
        (super::message_type::FLEET, schema_for!(Heartbeat)),
        (super::message_type::BATCH, schema_for!(BatchNews)),
        (super::message_type::QUERY, schema_for!(Query)),
        (super::message_type::ANSWER, schema_for!(Answer)),
        (super::message_type::WEBHOOK, schema_for!(WebhookOrder)),
    ]
}
