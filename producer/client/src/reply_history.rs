//! Looking back: replies that came before anybody waited for them, read from the results stream.
//!
//! The stream keeps every reply for a while (`[broker] results_max_age_s`), and reading takes nothing away. It
//! is read once for any number of waiters, from a given moment to the end it has now; what comes later comes
//! to the reply queue, which is bound before anybody looks back. Of several replies of a kickoff (a redrive, a
//! second copy) the first of the highest redrive in the stream is handed on, at the end.
//!
//! The moment is that of a kickoff's id, and so of its producer's clock; the stream knows the broker's. Where no reply is
//! found, the producer's clock may have been wrong, and a slow broker may have sent nothing yet. So whoever waits on has
//! what comes late handed on, and, once, all that the stream keeps looked through.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_amqp::delivery::StreamOffset;
use crewfleet_amqp::{Broker, BrokerError, Delivery, Link};
use crewfleet_protocol::Names;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::warn;

use crate::received_reply::{ReceivedReply, id_of, is_better, read};
use crate::stream_reader::{StreamReader, since};

/// Who waits for replies.
pub(crate) trait Awaiting {
    /// Whether anybody waits for this kickoff's.
    fn is_awaited(&self, id: &str) -> bool;
    /// Hands a reply to whoever waits for it.
    fn put(&self, id: &str, reply: ReceivedReply);
}

/// For how long a reading that was slow to begin is followed.
const LATE: Duration = Duration::from_secs(10);

/// How long a stream that is there may be served by nobody: after its node, it starts within seconds. One that does not is
/// repaired by hand, if at all.
const DOWN: Duration = Duration::from_secs(60);

/// How long after a failure the stream is read again, where the connection lives on.
const AGAIN: Duration = Duration::from_secs(1);

/// Hands the replies since `from` (else all that are kept) to those who wait for them. Returns when the end of
/// the stream is reached; on a broker without that stream at once. Lost connections are waited out.
///
/// Returns the reading that found nothing at all, and may only be slow: what comes of it is for [`late`].
pub(crate) async fn look_back(
    broker: &Broker,
    names: &Names,
    from: Option<DateTime<Utc>>,
    replies: &impl Awaiting,
) -> Option<StreamReader> {
    let from = since(from);
    let mut down_until = None;
    loop {
        let link = broker.connected().await;
        match read_to_end(&link, &names.results(), from, replies).await {
            Ok(silent) => return silent,
            Err(error) if error.is_missing() => {
                warn!(
                    stream = names.results(),
                    "there is no such stream, so a reply that was given before is not found ([broker] streams, results_max_age_s)"
                );
                return None;
            }
            // It comes up after its node does, and is said not to exist until then.
            Err(error)
                if error.is_down()
                    && Instant::now() < *down_until.get_or_insert_with(|| Instant::now() + DOWN) => {}
            Err(error) if error.is_refusal() => {
                warn!(stream = names.results(), %error, "cannot look for earlier replies");
                return None;
            }
            // The connection: wait for another, whose streams start anew.
            Err(_) => down_until = None,
        }
        drop(timeout(AGAIN, link.ended()).await);
    }
}

async fn read_to_end(
    link: &Arc<Link>,
    stream: &str,
    from: StreamOffset,
    replies: &impl Awaiting,
) -> Result<Option<StreamReader>, BrokerError> {
    let mut found: HashMap<String, ReceivedReply> = HashMap::new();
    let each = |delivery: &Delivery| keep(delivery, replies, &mut found);
    let reading = StreamReader::read_to_end(link, stream, from, each).await?;
    for (id, answer) in found {
        replies.put(&id, answer);
    }
    if reading.is_silent() {
        return Ok(Some(reading));
    }
    reading.close().await;
    Ok(None)
}

/// Hands on what a reading still brings that had brought nothing: from its first message on it shows how far it is, and
/// soon after it is where new replies are.
pub(crate) async fn late(mut reading: StreamReader, replies: &impl Awaiting) {
    let mut until = None;
    loop {
        let next = async {
            match until {
                Some(until) => timeout_at(until, reading.next()).await.ok(),
                None => Some(reading.next().await),
            }
        };
        let Some(Ok(Some(delivery))) = next.await else {
            break;
        };
        until.get_or_insert_with(|| Instant::now() + LATE);
        let id = id_of(&delivery);
        if replies.is_awaited(id) {
            replies.put(id, read(&delivery.body));
        }
    }
    reading.close().await;
}

fn keep(delivery: &Delivery, replies: &impl Awaiting, found: &mut HashMap<String, ReceivedReply>) {
    let id = id_of(delivery);
    if !replies.is_awaited(id) {
        return;
    }
    let answer = read(&delivery.body);
    if found.get(id).is_none_or(|best| is_better(&answer, best)) {
        found.insert(id.to_owned(), answer);
    }
}
