//! Looking back: replies that came before anybody waited for them, read from the results stream.
//!
//! The stream keeps every reply for a while (`[broker] results_max_age_s`), and reading takes nothing away. It
//! is read once for any number of waiters, from a given moment to the end it has now; what comes later comes
//! to the reply queue, which is bound before anybody looks back. Of several replies of a kickoff (a redrive, a
//! second copy) the first of the highest redrive in the stream is handed on, at the end.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use crewfleet_shared::amqp::delivery::StreamOffset;
use crewfleet_shared::amqp::{Broker, BrokerError, Delivery, Link, Names};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::reading::Reading;
use crate::replies::{Answer, Replies, id_of, is_better, read};

/// The moment in a kickoff's id is its producer's, the moments of the stream are the broker's.
const CLOCK_MARGIN: TimeDelta = TimeDelta::minutes(5);

/// Messages on their way to us.
const PREFETCH: u16 = 500;

/// Hands the replies since `from` (else all that are kept) to those who wait for them. Returns when the end of
/// the stream is reached; on a broker without that stream at once. Lost connections are waited out.
pub(crate) async fn look_back(
    broker: &Broker,
    names: &Names,
    from: Option<DateTime<Utc>>,
    replies: &Replies,
) {
    let from = since(from);
    loop {
        let link = broker.connected().await;
        match read_to_end(&link, &names.results(), from, replies).await {
            Ok(()) => return,
            Err(error) if error.is_missing() => {
                debug!(
                    stream = names.results(),
                    "no results stream; only new replies are seen"
                );
                return;
            }
            Err(error) if error.code().is_some() => {
                warn!(stream = names.results(), %error, "cannot look for earlier replies");
                return;
            }
            // The connection: wait for another.
            Err(_) => drop(timeout(Duration::from_secs(1), link.ended()).await),
        }
    }
}

/// Where what followed this moment stands in a stream; all that it keeps where no moment is known.
pub(crate) fn since(moment: Option<DateTime<Utc>>) -> StreamOffset {
    let from = moment.and_then(|moment| u64::try_from((moment - CLOCK_MARGIN).timestamp()).ok());
    from.map_or(StreamOffset::First, StreamOffset::At)
}

async fn read_to_end(
    link: &Link,
    stream: &str,
    from: StreamOffset,
    replies: &Replies,
) -> Result<(), BrokerError> {
    let mut reading = Reading::start(link, stream, from, PREFETCH).await?;
    let mut found: HashMap<String, Answer> = HashMap::new();
    while let Some(delivery) = reading.next().await? {
        keep(&delivery, replies, &mut found);
    }
    reading.close().await;
    for (id, answer) in found {
        replies.put(&id, answer);
    }
    Ok(())
}

fn keep(delivery: &Delivery, replies: &Replies, found: &mut HashMap<String, Answer>) {
    let id = id_of(delivery);
    if !replies.is_awaited(id) {
        return;
    }
    let answer = read(&delivery.body);
    if found.get(id).is_none_or(|best| is_better(&answer, best)) {
        found.insert(id.to_owned(), answer);
    }
}
