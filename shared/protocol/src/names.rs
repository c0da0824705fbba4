//! The names of every exchange and queue. This file is the only place that has them.

use super::id::{CrewName, SinkName};

/// The names of everything, under one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    namespace: String,
}

macro_rules! names {
    ($($(#[$doc:meta])* $method:ident => $suffix:literal;)*) => {
        $($(#[$doc])* pub fn $method(&self) -> String { format!("{}.{}", self.namespace, $suffix) })*
    };
}

impl Names {
    /// Names under `namespace` (checked by the configuration: `[a-z0-9._-]{1,32}`).
    pub fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
        }
    }

    names! {
        /// Direct exchange: requests, by crew.
        requests => "requests";
        /// Topic exchange: replies, by kickoff id (and a requester's own key).
        replies => "replies";
        /// Stream of all replies.
        results => "results";
        /// Topic exchange: events, by `<kickoff_id>.<type>`.
        events => "events";
        /// Stream of all events, declared only where somebody wants it.
        history => "history";
        /// Stream of the requests that gateways take, and the fanout exchange before it: declared by gateways alone.
        http_requests => "http-requests";
        /// Stream of what becomes of batches, and the fanout exchange before it: declared by gateways alone.
        batches => "batches";
        /// Direct exchange that retry tiers return to.
        due => "due";
        /// Direct exchange: dead letters, by crew.
        dead_letters => "dead-letters";
        /// Queue of dead letters that no crew's queue takes, and the fanout exchange before it.
        unroutable => "dead-letters.unroutable";
        /// Stream of commands, and the fanout exchange before it.
        control => "control";
        /// Topic exchange: heartbeats, by worker.
        fleet => "fleet";
        /// Direct exchange: questions, by worker; to all without a key.
        queries => "queries";
        /// Direct exchange: what workers say to each other, and nobody else may.
        talk => "talk";
        /// Topic exchange: their answers, by the asker's own key.
        answers => "answers";
        /// Direct exchange: the webhooks that kickoffs ask for, by the one key of their sink.
        webhooks => "webhooks";
    }

    /// What they all begin with.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The request queue of a crew.
    pub fn request_queue(&self, crew: &CrewName) -> String {
        format!("{}.requests.{crew}", self.namespace)
    }

    /// The dead-letter queue of a crew.
    pub fn dead_letter_queue(&self, crew: &CrewName) -> String {
        format!("{}.dead-letters.{crew}", self.namespace)
    }

    /// The queue of a sink.
    pub fn sink_queue(&self, sink: &SinkName) -> String {
        format!("{}.{}", self.namespace, Self::sink_key(sink))
    }

    /// The queue of what a sink could not deliver.
    pub fn sink_dead_letter_queue(&self, sink: &SinkName) -> String {
        format!("{}.dead-letters.{}", self.namespace, Self::sink_key(sink))
    }

    /// The key under which a sink's messages come back from a retry tier, and go to its dead letters. A crew's name has no
    /// dot, so it is no crew's.
    pub fn sink_key(sink: &SinkName) -> String {
        format!("sinks.{sink}")
    }

    /// Exchange and queue of a retry tier.
    pub fn retry(&self, tier: &str) -> String {
        format!("{}.retry.{tier}", self.namespace)
    }

    /// A client's own queue, for replies or events.
    pub fn client_queue(&self, client: &str) -> String {
        format!("{}.clients.{client}", self.namespace)
    }

    /// The routing key under which an event is published.
    pub fn event_key(kickoff_id: &str, event_type: &str) -> String {
        format!("{kickoff_id}.{event_type}")
    }
}
