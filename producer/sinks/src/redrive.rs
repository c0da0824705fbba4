//! Trying once more what a sink has given up.

use std::time::Duration;

use crewfleet_amqp::{Broker, Message};
use crewfleet_protocol::{Names, SinkName, header};

use crate::replay::ReplayError;

/// How long one message may take.
const LIMIT: Duration = Duration::from_secs(60);
/// What it had as a dead letter.
const OF_DEAD_LETTERS: [&str; 7] = [
    header::REASON,
    header::ERROR,
    header::FINGERPRINT,
    header::DEAD_AT,
    header::ATTEMPT,
    header::DEFERRED,
    header::DELAY_LEFT,
];

/// Moves the dead letters that there are now back to the sink's queue, under the same ids, and says how many. One that is
/// interrupted loses none.
///
/// # Errors
/// [`ReplayError`]. What was moved by then stays so.
pub async fn redrive(broker: &Broker, names: &Names, sink: &SinkName) -> Result<u64, ReplayError> {
    let link = broker.connected().await;
    let queue = names.sink_dead_letter_queue(sink);
    let waiting = link.queue_state(&queue).await?.map_or(0, |queue| queue.messages);
    if waiting == 0 {
        return Ok(0);
    }
    let (puller, publisher, mut moved) = (link.pull(&queue).await?, broker.publisher(), 0);
    // Those that die again meanwhile are not among them.
    for _ in 0..waiting {
        let Some(delivery) = puller.take().await? else {
            break;
        };
        let properties = OF_DEAD_LETTERS
            .into_iter()
            .fold(delivery.properties.for_republish(), |properties, name| {
                properties.without_header(name)
            });
        let message = Message {
            exchange: names.due(),
            routing_key: Names::sink_key(sink),
            // Its days begin anew.
            properties: properties.with_timestamp_now(),
            body: delivery.body.clone(),
            mandatory: true,
        };
        publisher.publish(message, LIMIT).await?;
        delivery.ack().await;
        moved += 1;
    }
    puller.retire(&link).await;
    Ok(moved)
}
