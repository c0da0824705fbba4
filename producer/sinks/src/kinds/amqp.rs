//! An exchange, here or on another broker.

use std::time::Duration;

use crewfleet_amqp::{Message, Properties, PublishError, Publisher};
use crewfleet_protocol::{Names, message_type};
use futures_util::future::BoxFuture;

use super::{Each, Handed};
use crate::config::Format;
use crate::format;
use crate::item::Item;
use crate::verdict::Verdict;

/// How long one message is tried before its sink counts as away.
const LIMIT: Duration = Duration::from_secs(30);
/// The longest routing key that AMQP has.
const LONGEST_KEY: usize = 255;
/// What may stand in a routing key.
const FIELDS: [&str; 4] = ["crew", "status", "kickoff_id", "type"];

/// A routing key with fields of what is published in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoutingKey(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(&'static str),
}

impl RoutingKey {
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(template: &str) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::new(), template);
        while let Some((text, behind)) = rest.split_once('{') {
            let (name, behind) = behind.split_once('}').ok_or("there is a { without a }")?;
            let field = FIELDS.iter().find(|field| **field == name).ok_or_else(|| {
                format!(
                    "there is no field {{{name}}}; there are {}",
                    FIELDS.map(|field| format!("{{{field}}}")).join(", ")
                )
            })?;
            parts.extend((!text.is_empty()).then(|| Part::Text(text.to_owned())));
            parts.push(Part::Field(field));
            rest = behind;
        }
        parts.extend((!rest.is_empty()).then(|| Part::Text(rest.to_owned())));
        Ok(Self(parts))
    }

    /// The key of an item. What has no status, an event, has its type there, and the other way round.
    fn of(&self, item: &Item) -> String {
        let what = match item {
            Item::Reply(reply) => reply.of.status.as_str(),
            Item::Event(event) => &event.of.event_type,
            Item::Order(order) => order.kind.as_str(),
        };
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Field("crew") => item.crew().to_owned(),
            Part::Field("kickoff_id") => item.kickoff_id().to_owned(),
            Part::Field(_) => what.to_owned(),
        };
        self.0.iter().map(part).collect()
    }
}

/// Publishes to an exchange, mandatory and confirmed.
pub(crate) struct AmqpTarget {
    pub(crate) publisher: Publisher,
    pub(crate) names: Names,
    pub(crate) format: Format,
    pub(crate) exchange: String,
    pub(crate) routing_key: RoutingKey,
}

impl AmqpTarget {
    async fn publish(&self, Handed { item, body }: &Handed) -> Verdict {
        let routing_key = self.routing_key.of(item);
        if routing_key.len() > LONGEST_KEY {
            return Verdict::never(format!(
                "its routing key has {} bytes, and {LONGEST_KEY} are the most",
                routing_key.len()
            ));
        }
        let message_type = match item {
            Item::Reply(_) => message_type::REPLY,
            Item::Event(_) => message_type::EVENT,
            Item::Order(_) => message_type::WEBHOOK,
        };
        let payload = format::payload(self.format, &self.names, item, body.clone());
        let message = Message {
            exchange: self.exchange.clone(),
            routing_key,
            properties: Properties::json(message_type)
                .with_content_type(payload.content_type)
                .with_correlation_id(item.kickoff_id())
                .with_message_id(item.id()),
            body: payload.body.to_vec(),
            mandatory: true,
        };
        match self.publisher.publish(message, LIMIT).await {
            Ok(()) => Verdict::Delivered,
            Err(error @ PublishError::InDoubt { .. }) => Verdict::Away {
                why: error.to_string(),
            },
            // A queue may be bound, or emptied, later.
            Err(error) => Verdict::again(error.to_string()),
        }
    }
}

impl Each for AmqpTarget {
    fn deliver<'a>(&'a self, handed: &'a Handed) -> BoxFuture<'a, Verdict> {
        Box::pin(self.publish(handed))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::item::tests::{event, received, reply};

    #[test]
    fn a_routing_key_has_fields_of_what_is_published() {
        let key = |template: &str, kind: &str, body| {
            let item = Item::read(&received(kind, &body)).unwrap();
            RoutingKey::parse(template).unwrap().of(&item)
        };
        let failed = reply(
            json!({"status": "failed", "error": {"kind": "k", "message": "m", "retryable": false, "detail": null}}),
        );
        assert_eq!(
            key("results.{crew}.{status}", message_type::REPLY, failed),
            "results.echo.failed"
        );
        assert_eq!(
            key("{kickoff_id}-{type}!", message_type::EVENT, event(json!({}))),
            "k-1-task_completed!"
        );
        assert_eq!(key("all", message_type::REPLY, reply(json!({}))), "all");
        assert!(RoutingKey::parse("a.{crw}").unwrap_err().contains("{crew}"));
        assert!(RoutingKey::parse("a.{crew").is_err());
    }
}
