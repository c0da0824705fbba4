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
use crewfleet_shared::amqp::{
    Broker, BrokerError, ConsumeOptions, Consumer, Delivery, Link, Names, reply_code,
};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use crate::replies::{Answer, Replies, id_of, is_better, read};

/// The moment in a kickoff's id is its producer's, the moments of the stream are the broker's.
const CLOCK_MARGIN: TimeDelta = TimeDelta::minutes(5);

/// Messages on their way to us; on a stream each ack asks for one more.
const PREFETCH: u16 = 500;

/// A stream that has delivered nothing at all for so long has nothing from the given moment on.
const SILENCE: Duration = Duration::from_secs(2);

/// The messages of one chunk come in one go: after such a pause in the last chunk, it is read.
const CHUNK_PAUSE: Duration = Duration::from_millis(200);

/// Where new replies come without a pause, the last chunk is read after so long at the latest.
const CHUNK_LIMIT: Duration = Duration::from_secs(2);

/// Hands the replies since `from` (else all that are kept) to those who wait for them. Returns when the end of
/// the stream is reached; on a broker without that stream at once. Lost connections are waited out.
pub(crate) async fn look_back(
    broker: &Broker,
    names: &Names,
    from: Option<DateTime<Utc>>,
    replies: &Replies,
) {
    let from = from.and_then(|from| u64::try_from((from - CLOCK_MARGIN).timestamp()).ok());
    let from = from.map_or(StreamOffset::First, StreamOffset::At);
    loop {
        let link = broker.connected().await;
        match read_to_end(&link, &names.results(), from, replies).await {
            Ok(()) => return,
            Err(error) if error.code() == Some(reply_code::NOT_FOUND) => {
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

async fn read_to_end(
    link: &Link,
    stream: &str,
    from: StreamOffset,
    replies: &Replies,
) -> Result<(), BrokerError> {
    let mut reader = consume(link, stream, from, PREFETCH).await?;
    // A second consumer tells where the last chunk begins; the broker has no other way to say how far it goes.
    let mut probe = consume(link, stream, StreamOffset::Last, 1).await?;
    let mut position = Position::new(Instant::now());
    let mut found: HashMap<String, Answer> = HashMap::new();
    let mut unacked = 0;
    loop {
        let give_up = position.give_up();
        tokio::select! {
            biased;
            first = next(&mut probe), if position.last_chunk.is_none() => {
                position.last_chunk = first?.stream_offset;
                position.advance(position.at, position.moved);
            }
            () = sleep_until(give_up.unwrap_or_else(Instant::now)), if give_up.is_some() => break,
            delivery = next(&mut reader) => {
                let delivery = delivery?;
                keep(&delivery, replies, &mut found);
                unacked += 1;
                if unacked == PREFETCH / 4 {
                    delivery.ack_through().await;
                    unacked = 0;
                }
                position.advance(delivery.stream_offset, Instant::now());
            }
        }
    }
    for consumer in [&reader, &probe] {
        // What fails here ends with the connection anyway.
        let _ = consumer.cancel().await;
    }
    for (id, answer) in found {
        replies.put(&id, answer);
    }
    Ok(())
}

/// How far the stream is read, and when it is read to its end.
struct Position {
    /// Where the last chunk began when reading began.
    last_chunk: Option<u64>,
    /// The last message that was read, and when.
    at: Option<u64>,
    moved: Instant,
    /// When the last chunk was reached.
    reached: Option<Instant>,
}

impl Position {
    fn new(now: Instant) -> Self {
        Self {
            last_chunk: None,
            at: None,
            moved: now,
            reached: None,
        }
    }

    fn advance(&mut self, at: Option<u64>, now: Instant) {
        (self.at, self.moved) = (at, now);
        if self.at >= self.last_chunk && self.last_chunk.is_some() {
            self.reached.get_or_insert(now);
        }
    }

    /// The moment from which on nothing more is expected that was there when reading began.
    fn give_up(&self) -> Option<Instant> {
        match (self.reached, self.at) {
            (Some(reached), _) => Some((self.moved + CHUNK_PAUSE).min(reached + CHUNK_LIMIT)),
            (None, None) => Some(self.moved + SILENCE),
            (None, Some(_)) => None,
        }
    }
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

async fn consume(
    link: &Link,
    stream: &str,
    from: StreamOffset,
    prefetch: u16,
) -> Result<Consumer, BrokerError> {
    let options = ConsumeOptions {
        tag: "crewfleet-looking-back".into(),
        prefetch,
        stream_offset: Some(from),
    };
    link.consume(stream, &options).await
}

async fn next(consumer: &mut Consumer) -> Result<Delivery, BrokerError> {
    let over = || BrokerError::Disconnected {
        action: "read the results stream".into(),
    };
    consumer.next().await.unwrap_or_else(|| Err(over()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_without_anything_new_is_read_after_a_silence() {
        let start = Instant::now();
        let mut position = Position::new(start);
        position.last_chunk = Some(7);
        position.advance(None, start);
        assert_eq!(position.give_up(), Some(start + SILENCE));
    }

    #[test]
    fn before_the_last_chunk_there_is_no_end_and_in_it_a_pause_is_the_end() {
        let start = Instant::now();
        let mut position = Position::new(start);
        position.advance(Some(3), start);
        assert_eq!(position.give_up(), None);
        // The probe answers when the reader has passed already.
        position.last_chunk = Some(3);
        position.advance(position.at, position.moved);
        assert_eq!(position.give_up(), Some(start + CHUNK_PAUSE));
        let later = start + CHUNK_LIMIT;
        position.advance(Some(4), later);
        assert_eq!(position.give_up(), Some(start + CHUNK_LIMIT));
    }
}
