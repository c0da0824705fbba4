//! The sinks, and what waits for them.

use std::collections::BTreeMap;

use crewfleet_amqp::{BrokerError, Link};
use crewfleet_protocol::{Names, SinkName};
use serde::Serialize;

use crate::config::SinksConfig;

/// A sink, and what waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its kind; `null` for the webhooks that kickoffs ask for.
    pub kind: Option<&'static str>,
    /// Messages in its queue; `null`: there is no such queue, since nobody has run it yet.
    pub queued: Option<u32>,
    /// Processes that run it.
    pub consumers: Option<u32>,
    /// Messages in its dead letters.
    pub dead_letters: Option<u32>,
}

/// All sinks of the configuration, and that of the webhooks that kickoffs ask for.
///
/// # Errors
/// [`BrokerError`].
pub async fn list(link: &Link, names: &Names, config: &SinksConfig) -> Result<Vec<Listed>, BrokerError> {
    let mut kinds: BTreeMap<String, Option<&'static str>> = config
        .sinks
        .iter()
        .map(|(name, sink)| (name.clone(), sink.kind.map(super::config::SinkKind::as_str)))
        .collect();
    kinds.insert(SinkName::WEBHOOKS.to_owned(), None);
    let mut listed = Vec::new();
    for (name, kind) in kinds {
        // A name that is none has no queue.
        let Ok(sink) = SinkName::parse(&name) else {
            continue;
        };
        let queue = link.queue_state(&names.sink_queue(&sink)).await?;
        let dead_letters = link.queue_state(&names.sink_dead_letter_queue(&sink)).await?;
        listed.push(Listed {
            name,
            kind,
            queued: queue.as_ref().map(|queue| queue.messages),
            consumers: queue.as_ref().map(|queue| queue.consumers),
            dead_letters: dead_letters.map(|queue| queue.messages),
        });
    }
    Ok(listed)
}
