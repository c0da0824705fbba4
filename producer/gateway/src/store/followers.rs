//! The streams that tell what became of kickoffs, read into the store: each from where the store has read it to, and on.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet::StreamReader;
use crewfleet::received_reply::{id_of, read};
use crewfleet_amqp::delivery::StreamOffset;
use crewfleet_amqp::{Broker, BrokerError, Delivery, Link};
use crewfleet_protocol::topology::Topology;
use crewfleet_protocol::{BatchNews, Event, Reply, body_hash};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, interval, timeout};
use tracing::{debug, info, warn};

use super::news::{Mark, News, Request, Stream};
use super::row::millis;
use super::window::Window;
use super::writer::Writer;

/// The pause before a stream that could not be read is read again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long after the event that says that a kickoff has ended its reply may come: it was published before, so the stream of
/// replies, read without a break for so long, has it or has let it go.
const REPLY_LATE: Duration = Duration::from_secs(15);

/// How far a stream is read.
pub(crate) struct Progress {
    /// Since when it is read as it grows, or why it is not.
    state: Mutex<Result<Instant, String>>,
}

impl Progress {
    pub(super) fn new(stream: &str) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(Err(format!("stream {stream} is not read yet"))),
        })
    }

    /// Since when it is read to its end, and on.
    pub(crate) fn get(&self) -> Result<Instant, String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, progress: Result<Instant, String>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }
}

/// Gives up the replies that should have come by now, as long as this runs.
pub(super) async fn give_up_replies(results: &Progress, writer: &Writer) {
    let mut looks = interval(REPLY_LATE / 3);
    loop {
        looks.tick().await;
        let late = millis(Utc::now() - REPLY_LATE);
        if results.get().is_ok_and(|since| since.elapsed() > REPLY_LATE)
            && writer.write(News::ReadTo(Stream::Results, late)).await.is_err()
        {
            return;
        }
    }
}

/// Reads one stream.
pub(super) struct Follower {
    pub(super) stream: Stream,
    /// Its queue.
    pub(super) name: String,
    pub(super) broker: Broker,
    pub(super) writer: Writer,
    /// How many messages are on their way to us at most.
    pub(super) window: Window,
    /// How it is made where it is missing …
    pub(super) topology: Option<Topology>,
    /// … or at each beginning, since nobody else does.
    pub(super) is_ours: bool,
    pub(super) progress: Arc<Progress>,
}

impl Follower {
    /// Reads from behind `last` on, until it is dropped.
    pub(super) async fn follow(self, mut last: Option<Mark>) {
        let mut window = self.window;
        loop {
            let link = self.broker.connected().await;
            let Err(error) = self.read(&link, &mut last, &mut window).await;
            let reason = match error.is_missing() {
                true => self.make(&link, &error).await,
                false => error.to_string(),
            };
            // Told once: it is tried each second.
            if self.progress.get().err().as_ref() != Some(&reason) {
                warn!(stream = self.name, reason, "the stream is not read; trying again");
                self.progress.set(Err(reason));
            }
            let _ = timeout(PAUSE, link.ended()).await;
        }
    }

    /// Makes the stream, and says what is wrong meanwhile.
    async fn make(&self, link: &Link, missing: &BrokerError) -> String {
        let Some(topology) = &self.topology else {
            return format!(
                "{missing}; [broker] results_max_age_s must not be 0, here and where the workers have it from"
            );
        };
        match link.declare(topology).await {
            Ok(()) => format!("{missing}; it is made"),
            Err(error) if error.is_missing() => format!(
                "{error}; workers make exchanges when they start, or `crewfleet topology declare` does"
            ),
            Err(error) => {
                format!("{missing}; it could not be made: {error}; `crewfleet topology declare` makes it")
            }
        }
    }

    /// Reads until something fails.
    async fn read(
        &self,
        link: &Arc<Link>,
        last: &mut Option<Mark>,
        window: &mut Window,
    ) -> Result<Infallible, BrokerError> {
        if let Some(topology) = self.topology.as_ref().filter(|_| self.is_ours) {
            link.declare(topology).await?;
        }
        let mut goes_on = false;
        loop {
            let began = millis(Utc::now());
            let from = last.map_or(StreamOffset::First, |last| StreamOffset::Place(last.place));
            let mut reading = StreamReader::start(link, &self.name, from, window.prefetch()).await?;
            let mut first = None;
            if let Some(known) = *last {
                // It goes on where it was only if what was read last is still there, in its place, or was let go before
                // what is there now.
                let mut next = reading.next().await?;
                // Where only another number may be on their way it is there: the broker is slow to send it.
                while goes_on && next.is_none() {
                    next = reading.next().await?;
                }
                let mark = next.as_ref().map(Mark::of);
                if mark.is_none_or(|mark| mark != known && mark.place <= known.place) {
                    self.replaced().await;
                    *last = None;
                    goes_on = false;
                    reading.close().await;
                    continue;
                }
                first = next.filter(|_| mark != Some(known));
            }
            self.take_in(&mut reading, first, began, last, window).await?;
            goes_on = true;
            reading.close().await;
        }
    }

    /// Takes in what comes, from `first` on, until another number of messages may be on their way. What was there at
    /// `began` is read when the end is.
    async fn take_in(
        &self,
        reading: &mut StreamReader,
        mut first: Option<Delivery>,
        began: i64,
        last: &mut Option<Mark>,
        window: &mut Window,
    ) -> Result<(), BrokerError> {
        let mut is_first = true;
        loop {
            let next = match first.take() {
                Some(first) => Some(first),
                None => reading.next().await?,
            };
            let Some(delivery) = next else {
                self.tell(News::ReadTo(self.stream, began)).await;
                // It is read since then, also where another number of messages is on their way by now.
                if self.progress.get().is_err() {
                    info!(stream = self.name, "the stream is read");
                    self.progress.set(Ok(Instant::now()));
                }
                continue;
            };
            let mark = Mark::of(&delivery);
            let expected = last.map_or(0, |last| last.place + 1);
            *last = Some(mark);
            let bytes = delivery.body.len();
            let read = read_message(self.stream, mark, delivery);
            if is_first
                && mark.place > expected
                && let Some((_, time)) = &read
            {
                info!(
                    stream = self.name,
                    from = mark.place,
                    expected,
                    "messages left the stream before they were read"
                );
                self.tell(News::Missed(self.stream, millis(*time))).await;
            }
            is_first &= read.is_none();
            let news = read.map_or(News::Passed(self.stream, mark), |(news, _)| news);
            if self.writer.send(news, bytes).await.is_err() {
                return std::future::pending().await;
            }
            if window.saw(bytes) {
                return Ok(());
            }
        }
    }

    async fn replaced(&self) {
        info!(
            stream = self.name,
            "the stream does not go on where it was; reading it from its beginning"
        );
        self.tell(News::Replaced(self.stream)).await;
    }

    /// Tells the store, once all that was read before is written.
    async fn tell(&self, news: News) {
        if self.writer.write(news).await.is_err() {
            // The gateway ends.
            std::future::pending::<()>().await;
        }
    }
}

impl Mark {
    fn of(delivery: &Delivery) -> Self {
        let digest = Sha256::digest(&delivery.body);
        let mut hash = [0; 8];
        hash.copy_from_slice(&digest[..8]);
        Self {
            place: delivery.stream_offset.unwrap_or_default(),
            hash: u64::from_be_bytes(hash),
        }
    }
}

/// What a message says, and when it was written.
fn read_message(stream: Stream, mark: Mark, delivery: Delivery) -> Option<(News, DateTime<Utc>)> {
    match stream {
        Stream::History => event(mark, &delivery),
        Stream::Results => reply(mark, delivery),
        Stream::Requests => request(mark, delivery),
        Stream::Batches => batch(mark, &delivery),
    }
}

fn event(mark: Mark, delivery: &Delivery) -> Option<(News, DateTime<Utc>)> {
    let event: Result<Event, _> = serde_json::from_slice(&delivery.body);
    let mut event = event
        .inspect_err(|error| debug!(key = delivery.routing_key, %error, "an event that cannot be read"))
        .ok()?;
    let (meta, time) = (event.meta.take(), event.time);
    let event = Arc::new(event);
    Some((News::Event { mark, event, meta }, time))
}

fn reply(mark: Mark, delivery: Delivery) -> Option<(News, DateTime<Utc>)> {
    let id = id_of(&delivery).to_owned();
    let reply: Arc<Reply> = read(&delivery.body)
        .inspect_err(|error| warn!(kickoff_id = id, error, "a reply that cannot be read"))
        .ok()?;
    let time = reply.finished_at;
    let body = delivery.message.body;
    Some((
        News::Reply {
            mark,
            id,
            reply,
            body,
        },
        time,
    ))
}

fn request(mark: Mark, delivery: Delivery) -> Option<(News, DateTime<Utc>)> {
    let time = delivery.properties.timestamp().unwrap_or_else(Utc::now);
    let request = Request {
        id: delivery.properties.correlation_id()?.to_owned(),
        crew: delivery.routing_key.clone(),
        time: millis(time),
        body_hash: body_hash(&Sha256::digest(&delivery.body).into()),
        claim: delivery.properties.message_id()?.to_owned(),
        body: delivery.message.body,
    };
    Some((News::Request(mark, request), time))
}

fn batch(mark: Mark, delivery: &Delivery) -> Option<(News, DateTime<Utc>)> {
    let news: BatchNews = serde_json::from_slice(&delivery.body)
        .inspect_err(|error| warn!(%error, "news of a batch that cannot be read"))
        .ok()?;
    let time = news.time;
    Some((News::Batch(mark, news), time))
}
