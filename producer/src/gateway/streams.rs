//! The two streams that tell what became of kickoffs, read into [`Executions`] from the start of what they keep, and
//! on.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_shared::amqp::delivery::StreamOffset;
use crewfleet_shared::amqp::topology::{Retention, Topology};
use crewfleet_shared::amqp::{Broker, BrokerError, Delivery, Link, Names};
use crewfleet_shared::kickoff::{Event, Reply};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::executions::Executions;
use crate::reading::Reading;
use crate::replies::{id_of, read};

/// How many events are on their way to us at most.
const EVENTS: u16 = 500;
/// The pause before a stream that could not be read is read again.
const PAUSE: Duration = Duration::from_secs(1);
/// After a reconnection reading begins so much before what was read last.
const OVERLAP_S: i64 = 300;

/// How far both are read.
pub(super) struct Streams {
    /// Set when it is read to its end for the first time.
    history_was_read: CancellationToken,
    history: Progress,
    results: Progress,
}

/// How far a stream is read.
struct Progress {
    /// Why it is not read to its end at present.
    state: Mutex<Result<(), String>>,
    /// The time of the oldest message that was kept when it was read, where older ones are gone.
    since: OnceLock<DateTime<Utc>>,
}

impl Streams {
    /// Reads both until `stop`, with at most so many `replies` on their way to us. `history` is made where it is not
    /// there yet.
    pub(super) fn follow(
        broker: Broker,
        names: &Names,
        history: Retention,
        replies: u16,
        executions: Arc<Executions>,
        stop: &CancellationToken,
    ) -> Arc<Self> {
        let progress = |stream: &str| Progress {
            state: Mutex::new(Err(format!("stream {stream} is not read yet"))),
            since: OnceLock::new(),
        };
        let streams = Arc::new(Self {
            history_was_read: CancellationToken::new(),
            history: progress(&names.history()),
            results: progress(&names.results()),
        });
        let topology = Topology::history(names, history);
        let reader = |stream, prefetch| Reader {
            prefetch,
            broker: broker.clone(),
            stream,
            executions: Arc::clone(&executions),
        };
        let of_events = reader(names.history(), EVENTS);
        let of_replies = reader(names.results(), replies);
        let (both, stopped) = (Arc::clone(&streams), stop.clone());
        tokio::spawn(async move {
            let events = of_events.follow(Some(&topology), event, &both.history, &both.history_was_read);
            // Replies last: an event of what has ended long ago must not look like one of what runs.
            let replies = async {
                both.history_was_read.cancelled().await;
                of_replies
                    .follow(None, reply, &both.results, &CancellationToken::new())
                    .await;
            };
            stopped
                .run_until_cancelled(async { tokio::join!(events, replies) })
                .await;
        });
        streams
    }

    /// Whether both are read to their ends, so that what is not known is not there.
    pub(super) fn are_read(&self) -> Result<(), String> {
        self.history.get().and_then(|()| self.results.get())
    }

    /// Whether the events of what began at `at` may have been let go before they were read.
    pub(super) fn may_have_missed(&self, at: DateTime<Utc>) -> bool {
        self.history.since.get().is_some_and(|since| at < *since)
    }
}

impl Progress {
    fn get(&self) -> Result<(), String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, progress: Result<(), String>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }
}

/// What a message of a stream tells.
enum Told {
    Event(Event),
    Reply(Arc<Reply>),
}

struct Reader {
    prefetch: u16,
    broker: Broker,
    stream: String,
    executions: Arc<Executions>,
}

/// What was read last.
#[derive(Clone, Copy)]
struct Last {
    place: u64,
    /// The latest time in what was read, as it says. It is that of several machines, of which one may be ahead …
    time: DateTime<Utc>,
    /// … and the latest that was not in the future when it was read.
    at: DateTime<Utc>,
}

impl Reader {
    async fn follow(
        self,
        topology: Option<&Topology>,
        parse: Parse,
        progress: &Progress,
        was_read: &CancellationToken,
    ) {
        let mut last = None;
        loop {
            let link = self.broker.connected().await;
            let on_end = || {
                progress.set(Ok(()));
                was_read.cancel();
            };
            let Err(error) = self
                .read(&link, topology, parse, &mut last, &progress.since, on_end)
                .await;
            let reason = match error.is_missing() {
                true => format!(
                    "{error}; workers make exchanges and streams when they start ([broker] results_max_age_s must not be 0)"
                ),
                false => error.to_string(),
            };
            // Told once: it is tried each second.
            if progress.get().err().as_ref() != Some(&reason) {
                warn!(
                    stream = self.stream,
                    reason, "the stream is not read; trying again"
                );
                progress.set(Err(reason));
            }
            let _ = timeout(PAUSE, link.ended()).await;
        }
    }

    /// Reads until something fails.
    async fn read(
        &self,
        link: &Link,
        topology: Option<&Topology>,
        parse: Parse,
        last: &mut Option<Last>,
        since: &OnceLock<DateTime<Utc>>,
        on_end: impl Fn(),
    ) -> Result<Infallible, BrokerError> {
        if let Some(topology) = topology {
            link.declare(topology).await?;
        }
        let known = *last;
        let from = known.and_then(|known| u64::try_from(known.at.timestamp() - OVERLAP_S).ok());
        let from = from.map_or(StreamOffset::First, StreamOffset::At);
        let mut reading = Reading::start(link, &self.stream, from, self.prefetch).await?;
        loop {
            let Some(delivery) = reading.next().await? else {
                info!(stream = self.stream, "the stream is read");
                on_end();
                continue;
            };
            let Some(told) = parse(&delivery) else {
                continue;
            };
            let time = told.time();
            let place = delivery.stream_offset.unwrap_or_default();
            if last.is_none() && place > 0 {
                since.get_or_init(|| time);
            }
            // A stream that was deleted and made again counts its places from 0.
            if known.is_some_and(|known| place <= known.place && time <= known.time) {
                continue;
            }
            let at = time.min(Utc::now());
            *last = Some(Last {
                place,
                time: last.map_or(time, |last| last.time.max(time)),
                at: last.map_or(at, |last| last.at.max(at)),
            });
            match told {
                Told::Event(event) => self.executions.see(event),
                Told::Reply(reply) => self.executions.end(id_of(&delivery), &reply, delivery.body.len()),
            }
        }
    }
}

impl Told {
    fn time(&self) -> DateTime<Utc> {
        match self {
            Self::Event(event) => event.time,
            Self::Reply(reply) => reply.finished_at,
        }
    }
}

type Parse = fn(&Delivery) -> Option<Told>;

fn event(delivery: &Delivery) -> Option<Told> {
    let event = serde_json::from_slice(&delivery.body);
    event
        .inspect_err(|error| debug!(key = delivery.routing_key, %error, "an event that cannot be read"))
        .map(Told::Event)
        .ok()
}

fn reply(delivery: &Delivery) -> Option<Told> {
    let reply = read(&delivery.body);
    reply
        .inspect_err(|error| warn!(kickoff_id = id_of(delivery), error, "a reply that cannot be read"))
        .map(Told::Reply)
        .ok()
}
