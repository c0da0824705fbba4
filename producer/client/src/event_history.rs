//! Looking back at events: those that a gateway's stream `kickoff.history` keeps. Without a gateway there is no such
//! stream, and events are live only.

use std::sync::Arc;

use crewfleet_amqp::{Broker, BrokerError, Delivery, Link, reply_code};
use crewfleet_protocol::{Event, KickoffId, Names};

use crate::received_reply::id_of;
use crate::stream_reader::{StreamReader, since};

/// The events of a kickoff that are kept, in their order; `None` where nobody keeps any, or not for us.
pub(crate) async fn look_back(
    broker: &Broker,
    names: &Names,
    id: &KickoffId,
) -> Result<Option<Vec<Event>>, BrokerError> {
    let link = broker.connected().await;
    match read_to_end(&link, &names.history(), id).await {
        Ok(events) => Ok(Some(events)),
        Err(error) if error.is_missing() || error.code() == Some(reply_code::ACCESS_REFUSED) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn read_to_end(link: &Arc<Link>, stream: &str, id: &KickoffId) -> Result<Vec<Event>, BrokerError> {
    let mut events = Vec::new();
    let each = |delivery: &Delivery| {
        if id_of(delivery) == id.as_str() {
            // One that cannot be read is none.
            events.extend(serde_json::from_slice::<Event>(&delivery.body).ok());
        }
    };
    let reading = StreamReader::read_to_end(link, stream, since(id.created_at()), each).await?;
    reading.close().await;
    Ok(events)
}
