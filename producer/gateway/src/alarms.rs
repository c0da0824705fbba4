//! Whether RabbitMQ takes anything. Under an alarm it tells a connection so only when that publishes, so that a gateway
//! without callers would not know, and the first caller would wait.

use std::time::Duration;

use crewfleet_amqp::{Message, Properties};
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

use crate::store::Store;
use crewfleet::KickoffClient;

/// How often it is tried.
const INTERVAL: Duration = Duration::from_secs(1);

/// Publishes, every second, what no queue takes. Runs until it is dropped.
pub(crate) async fn look_out(client: &KickoffClient, store: &Store) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let takes = client.broker().link().is_some_and(|link| !link.is_blocked());
        // Before that, there may be nothing to publish to.
        if !takes || store.is_current().is_err() {
            continue;
        }
        let message = Message {
            exchange: client.names().requests(),
            // No crew has this name.
            routing_key: String::new(),
            properties: Properties::default(),
            body: Vec::new(),
            mandatory: false,
        };
        let (publisher, _) = client.publisher();
        if let Err(error) = publisher.publish_unconfirmed(&[message]).await {
            debug!(%error, "whether RabbitMQ takes anything is not known");
        }
    }
}
