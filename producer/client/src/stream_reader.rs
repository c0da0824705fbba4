//! Reading a stream from a moment on, up to the end that it has now and beyond it. Reading takes nothing away.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use crewfleet_amqp::delivery::StreamOffset;
use crewfleet_amqp::{BrokerError, ConsumeOptions, Consumer, Delivery, Link};
use tokio::time::{Instant, sleep_until};

/// A stream that has delivered nothing at all for so long has nothing from the given moment on.
const SILENCE: Duration = Duration::from_secs(2);

/// Messages on their way to whoever reads to the end.
const PREFETCH: u16 = 500;

/// The messages of one chunk come in one go: after such a pause in the last chunk, it is read.
const CHUNK_PAUSE: Duration = Duration::from_millis(200);

/// Where new messages come without such a pause, the last chunk is read when they were waited for so long.
const CHUNK_LIMIT: Duration = Duration::from_secs(2);

/// The moment in a kickoff's id is its producer's, the moments of the stream are the broker's.
const CLOCK_MARGIN: TimeDelta = TimeDelta::minutes(5);

/// Where what followed this moment stands in a stream; all that it keeps where no moment is known.
pub fn since(moment: Option<DateTime<Utc>>) -> StreamOffset {
    // A moment that is still to come is that of a clock ahead.
    let moment = moment.map(|moment| moment.min(Utc::now()) - CLOCK_MARGIN);
    let from = moment.and_then(|moment| u64::try_from(moment.timestamp()).ok());
    from.map_or(StreamOffset::First, StreamOffset::At)
}

/// A stream that is being read.
pub struct StreamReader {
    stream: String,
    link: Arc<Link>,
    reader: Consumer,
    /// A second consumer tells where the last chunk begins; the broker has no other way to say how far it goes.
    probe: Option<Consumer>,
    position: Position,
    prefetch: u16,
    unacked: u16,
}

impl StreamReader {
    /// Begins to read `stream` where `from` says, with at most `prefetch` messages on their way to us.
    ///
    /// # Errors
    /// [`BrokerError`]: no such stream (404), permission (403), no connection.
    pub async fn start(
        link: &Arc<Link>,
        stream: &str,
        from: StreamOffset,
        prefetch: u16,
    ) -> Result<Self, BrokerError> {
        let first = match from {
            StreamOffset::First => Some(0),
            StreamOffset::Place(place) => Some(place),
            _ => None,
        };
        Ok(Self {
            stream: stream.to_owned(),
            link: Arc::clone(link),
            reader: consume(link, stream, "crewfleet-reading", from, prefetch).await?,
            probe: Some(consume(link, stream, "crewfleet-end", StreamOffset::Last, 1).await?),
            position: Position::new(Instant::now(), first),
            prefetch,
            unacked: 0,
        })
    }

    /// Reads a stream from there to the end that it has now. What comes later can be read on.
    ///
    /// # Errors
    /// As [`Self::start`] and [`Self::next`].
    pub(crate) async fn read_to_end(
        link: &Arc<Link>,
        stream: &str,
        from: StreamOffset,
        mut each: impl FnMut(&Delivery),
    ) -> Result<Self, BrokerError> {
        let mut reading = Self::start(link, stream, from, PREFETCH).await?;
        while let Some(delivery) = reading.next().await? {
            each(&delivery);
        }
        Ok(reading)
    }

    /// The next message. `None` comes once, at the end that the stream had when reading began; what follows it came
    /// later. Not cancel-safe.
    ///
    /// # Errors
    /// [`BrokerError`]: reading is over.
    pub async fn next(&mut self) -> Result<Option<Delivery>, BrokerError> {
        loop {
            let give_up = self.probe.is_some().then(|| self.position.give_up()).flatten();
            // Where messages never stop, the timer below never gets its turn.
            if self.probe.is_some() && self.position.waited >= CHUNK_LIMIT {
                return self.ended().await;
            }
            let start = Instant::now();
            let looks = self.position.last_chunk.is_none();
            tokio::select! {
                biased;
                first = probed(&mut self.probe, &self.stream), if looks && self.probe.is_some() => {
                    self.position.last_chunk = first?.stream_offset;
                    self.position.advance(self.position.at, self.position.moved);
                }
                delivery = next(&mut self.reader, &self.stream) => {
                    let delivery = delivery?;
                    self.unacked += 1;
                    // On a stream each ack asks for one more.
                    if self.unacked >= self.prefetch / 4 {
                        delivery.ack_multiple().await;
                        self.unacked = 0;
                    }
                    self.position.wait(start.elapsed());
                    self.position.advance(delivery.stream_offset, Instant::now());
                    return Ok(Some(delivery));
                }
                // Last: what has come by now is not late, however long we were busy.
                () = sleep_until(give_up.unwrap_or_else(Instant::now)), if give_up.is_some() => {
                    if self.position.is_unheard() && self.holds_something().await? {
                        // The broker is slow to send it.
                        self.position.moved = Instant::now();
                        continue;
                    }
                    return self.ended().await;
                }
            }
        }
    }

    /// Whether nothing came at all, though the stream may hold something.
    pub fn is_silent(&self) -> bool {
        self.position.at.is_none()
    }

    /// Whether the stream holds anything, as far as the broker says.
    async fn holds_something(&self) -> Result<bool, BrokerError> {
        let state = self.link.queue_state(&self.stream).await?;
        Ok(state.is_some_and(|state| state.messages > 0))
    }

    async fn ended(&mut self) -> Result<Option<Delivery>, BrokerError> {
        if let Some(probe) = self.probe.take() {
            probe.cancel().await?;
        }
        Ok(None)
    }

    /// Ends it. What fails here ends with the connection anyway.
    pub async fn close(self) {
        for consumer in [Some(self.reader), self.probe].into_iter().flatten() {
            let _ = consumer.cancel().await;
        }
    }
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
    /// How long messages were waited for since then.
    waited: Duration,
    /// Where reading began, if that is a place in the stream: where the probe has found something there or behind it,
    /// so must the reader.
    first: Option<u64>,
}

impl Position {
    fn new(now: Instant, first: Option<u64>) -> Self {
        Self {
            last_chunk: None,
            at: None,
            moved: now,
            reached: None,
            waited: Duration::ZERO,
            first,
        }
    }

    fn advance(&mut self, at: Option<u64>, now: Instant) {
        (self.at, self.moved) = (at, now);
        if self.at >= self.last_chunk && self.last_chunk.is_some() {
            self.reached.get_or_insert(now);
        }
    }

    /// A message was waited for, so long. What took longer than the messages of a chunk do was not the broker's time.
    fn wait(&mut self, time: Duration) {
        if self.reached.is_some() {
            self.waited += time.min(CHUNK_PAUSE);
        }
    }

    /// Whether the whole stream is read, and nothing of it has come: it is empty, or the broker is slow.
    fn is_unheard(&self) -> bool {
        self.first == Some(0) && self.at.is_none() && self.last_chunk.is_none()
    }

    /// The moment from which on nothing more is expected that was there when reading began.
    fn give_up(&self) -> Option<Instant> {
        match (self.reached, self.at) {
            (Some(_), _) => Some(self.moved + CHUNK_PAUSE),
            (None, None) if self.first.is_some_and(|first| self.last_chunk >= Some(first)) => None,
            (None, None) => Some(self.moved + SILENCE),
            (None, Some(_)) => None,
        }
    }
}

async fn consume(
    link: &Link,
    stream: &str,
    tag: &str,
    from: StreamOffset,
    prefetch: u16,
) -> Result<Consumer, BrokerError> {
    let options = ConsumeOptions {
        tag: tag.into(),
        prefetch,
        stream_offset: Some(from),
    };
    link.consume(stream, &options).await
}

async fn probed(probe: &mut Option<Consumer>, stream: &str) -> Result<Delivery, BrokerError> {
    match probe {
        Some(probe) => next(probe, stream).await,
        None => std::future::pending().await,
    }
}

async fn next(consumer: &mut Consumer, stream: &str) -> Result<Delivery, BrokerError> {
    let over = || BrokerError::Disconnected {
        action: format!("read the stream {stream:?}"),
    };
    consumer.next().await.unwrap_or_else(|| Err(over()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_without_anything_new_is_read_after_a_silence() {
        let start = Instant::now();
        let mut position = Position::new(start, None);
        position.last_chunk = Some(7);
        position.advance(None, start);
        assert_eq!(position.give_up(), Some(start + SILENCE));
    }

    #[test]
    fn before_the_last_chunk_there_is_no_end_and_in_it_a_pause_is_the_end() {
        let start = Instant::now();
        let mut position = Position::new(start, None);
        position.advance(Some(3), start);
        assert_eq!(position.give_up(), None);
        // The probe answers when the reader has passed already.
        position.last_chunk = Some(3);
        position.advance(position.at, position.moved);
        assert_eq!(position.give_up(), Some(start + CHUNK_PAUSE));
        // However late the next one is looked at, it is waited for anew.
        let later = start + CHUNK_LIMIT;
        position.advance(Some(4), later);
        assert_eq!(position.give_up(), Some(later + CHUNK_PAUSE));
    }

    #[test]
    fn messages_that_never_stop_end_the_last_chunk_by_the_time_they_were_waited_for() {
        let start = Instant::now();
        let mut position = Position::new(start, Some(0));
        position.wait(CHUNK_LIMIT);
        assert_eq!(position.waited, Duration::ZERO, "before the last chunk");
        position.last_chunk = Some(3);
        position.advance(Some(3), start);
        // A process that got no time for a minute has waited for no minute.
        position.wait(Duration::from_secs(60));
        assert_eq!(position.waited, CHUNK_PAUSE);
        for _ in 0..9 {
            position.wait(Duration::from_millis(200));
        }
        assert_eq!(position.waited, CHUNK_LIMIT);
    }

    #[test]
    fn from_the_start_what_the_probe_has_found_is_waited_for() {
        let start = Instant::now();
        let mut position = Position::new(start, Some(0));
        assert_eq!(position.give_up(), Some(start + SILENCE));
        assert!(position.is_unheard());
        position.last_chunk = Some(0);
        assert_eq!(position.give_up(), None);
        assert!(!position.is_unheard());
    }

    #[test]
    fn from_a_place_what_the_probe_has_found_behind_it_is_waited_for() {
        let start = Instant::now();
        let mut position = Position::new(start, Some(7));
        // The place may be in the last chunk, or gone with its stream.
        position.last_chunk = Some(6);
        assert_eq!(position.give_up(), Some(start + SILENCE));
        position.last_chunk = Some(8);
        assert_eq!(position.give_up(), None);
    }
}
