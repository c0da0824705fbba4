//! What becomes of a message that could not be handed on now: it comes back by a retry tier, or goes to the dead letters.
//! It is acked when the broker has the copy.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use crewfleet_amqp::retrying::Retrying;
use crewfleet_amqp::{Broker, Message, Properties, PublishError, Publisher};
use crewfleet_protocol::topology::{Tier, Topology};
use crewfleet_protocol::{Names, SinkName, fingerprint, header};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// How long one round of publishing tries before it is told, and begun again.
const ROUND: Duration = Duration::from_secs(60);
/// What is due in less than this is due: the smallest tier takes longer.
const SOON: Duration = Duration::from_secs(5);

/// Why something is in a sink's dead letters (header `x-kickoff-reason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeadReason {
    /// It is nothing that a sink takes.
    Unreadable,
    /// The other side will never take it.
    Refused,
    /// It was tried as often, or for as long, as it may be.
    GaveUp,
}

impl DeadReason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Refused => "refused",
            Self::GaveUp => "gave_up",
        }
    }
}

/// Publishes what one sink cannot hand on.
#[derive(Clone)]
pub(crate) struct Settling {
    pub(crate) broker: Broker,
    pub(crate) publisher: Publisher,
    pub(crate) names: Names,
    pub(crate) sink: SinkName,
    pub(crate) topology: Arc<Topology>,
    /// Cancelled when all is to end.
    pub(crate) ends: CancellationToken,
}

/// A message as it came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Came<'a> {
    pub(crate) properties: &'a Properties,
    pub(crate) body: &'a [u8],
}

/// How often a message was tried, and put off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tries {
    /// From 1.
    pub(crate) attempt: u32,
    pub(crate) deferred: u32,
}

impl Tries {
    pub(crate) fn of(properties: &Properties) -> Self {
        Self {
            attempt: properties.header_u32(header::ATTEMPT).unwrap_or(1).max(1),
            deferred: properties.header_u32(header::DEFERRED).unwrap_or(0),
        }
    }
}

/// What is left of a message's pause, where it came back from a tier before that was over.
pub(crate) fn not_due(properties: &Properties) -> Option<Duration> {
    let left_ms = properties.header_u32(header::DELAY_LEFT)?;
    Some(Duration::from_millis(left_ms.into())).filter(|left| *left >= SOON)
}

impl Settling {
    /// Has it come back after a pause.
    pub(crate) async fn later(&self, came: &Came<'_>, tries: Tries, pause: Duration) -> bool {
        let tier = Tier::for_delay(pause);
        let left_ms = pause.saturating_sub(tier.delay).as_millis();
        let properties = came
            .properties
            .for_republish()
            .with_header_u32(header::ATTEMPT, tries.attempt)
            .with_header_u32(header::DEFERRED, tries.deferred)
            .with_header_u32(header::DELAY_LEFT, left_ms.try_into().unwrap_or(u32::MAX));
        self.publish(came.body, self.names.retry(tier.name), properties)
            .await
    }

    /// Puts it to the dead letters.
    pub(crate) async fn dead_letter(
        &self,
        came: &Came<'_>,
        tries: Tries,
        reason: DeadReason,
        why: &str,
    ) -> bool {
        let properties = came
            .properties
            .for_republish()
            .without_header(header::DELAY_LEFT)
            .with_header_u32(header::ATTEMPT, tries.attempt)
            .with_header(header::REASON, reason.as_str())
            .with_header(header::ERROR, why)
            .with_header(header::FINGERPRINT, &fingerprint::of(why))
            .with_header(header::DEAD_AT, &Utc::now().to_rfc3339());
        self.publish(came.body, self.names.dead_letters(), properties)
            .await
    }

    /// Publishes until the broker has it; `false` when all is to end before.
    async fn publish(&self, body: &[u8], exchange: String, properties: Properties) -> bool {
        let mut retrying = Retrying::default();
        let copy = Arc::new(Message {
            exchange,
            routing_key: Names::sink_key(&self.sink),
            properties,
            body: body.to_vec(),
            mandatory: true,
        });
        while let Err(failure) = self.publisher.publish(Arc::clone(&copy), ROUND).await {
            if retrying.failed(&failure) {
                error!(sink = %self.sink, error = %failure, "what could not be handed on is not published; trying again");
            }
            if self
                .ends
                .run_until_cancelled(sleep(retrying.pause()))
                .await
                .is_none()
            {
                return false;
            }
            // An exchange or a queue may be gone.
            if let (PublishError::Unroutable { .. } | PublishError::Broker(_), Some(link)) =
                (&failure, self.broker.link())
                && let Err(error) = link.declare(&self.topology).await
            {
                error!(sink = %self.sink, %error, "the topology cannot be declared");
            }
        }
        if retrying.works() {
            info!(sink = %self.sink, "published after all");
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearly_due_is_due() {
        let of = |left_ms| not_due(&Properties::default().with_header_u32(header::DELAY_LEFT, left_ms));
        assert_eq!((of(0), of(4_999)), (None, None));
        assert_eq!(of(30_000), Some(Duration::from_secs(30)));
        assert_eq!(not_due(&Properties::default()), None);
    }
}
