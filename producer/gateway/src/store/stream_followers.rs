//! The two streams that tell what became of kickoffs, read into [`Executions`] from the start of what they keep, and
//! on.

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use crewfleet_amqp::delivery::StreamOffset;
use crewfleet_amqp::{Broker, BrokerError, Delivery, Link};
use crewfleet_protocol::topology::{Retention, Topology};
use crewfleet_protocol::{Event, Names, Reply};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::store::executions::Executions;
use crewfleet::StreamReader;
use crewfleet::received_reply::{id_of, read};

/// The pause before a stream that could not be read is read again.
const PAUSE: Duration = Duration::from_secs(1);

/// How far both are read.
pub(crate) struct StreamFollowers {
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

/// How long messages are kept, where this gateway has to make a stream.
pub(crate) struct Kept {
    pub(crate) history: Retention,
    pub(crate) results: Retention,
}

/// How many messages of each are on their way to us at most.
pub(crate) struct Prefetch {
    pub(crate) events: u16,
    pub(crate) replies: u16,
}

/// By so much the clocks of those who name kickoffs and of those who say what became of them may differ.
const CLOCK_MARGIN: TimeDelta = TimeDelta::minutes(15);

impl StreamFollowers {
    /// Reads both until `stop`. `history` is made where it is not
    /// there yet; `results` only where somebody has deleted it, since workers make it.
    pub(crate) fn follow(
        broker: Broker,
        names: &Names,
        kept: &Kept,
        prefetch: Prefetch,
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
        let reader = |stream, prefetch, topology, is_ours| Reader {
            prefetch,
            broker: broker.clone(),
            stream,
            topology,
            is_ours,
            executions: Arc::clone(&executions),
        };
        let history = Some(Topology::history(names, kept.history));
        let results = (kept.results.max_age_s > 0).then(|| Topology::results(names, kept.results));
        let of_events = reader(names.history(), prefetch.events, history, true);
        let of_replies = reader(names.results(), prefetch.replies, results, false);
        let (both, stopped) = (Arc::clone(&streams), stop.clone());
        tokio::spawn(async move {
            let events = of_events.follow(event, &both.history, &both.history_was_read);
            // Replies last: an event of what has ended long ago must not look like one of what runs.
            let replies = async {
                both.history_was_read.cancelled().await;
                of_replies
                    .follow(reply, &both.results, &CancellationToken::new())
                    .await;
            };
            stopped
                .run_until_cancelled(async { tokio::join!(events, replies) })
                .await;
        });
        streams
    }

    /// Whether both are read to their ends, so that what is not known is not there.
    pub(crate) fn are_read(&self) -> Result<(), String> {
        self.history.get().and_then(|()| self.results.get())
    }

    /// Whether the events of what began at `at` may have been let go before they were read. Where nobody knows when it
    /// began, they may.
    pub(crate) fn may_have_missed(&self, at: Option<DateTime<Utc>>) -> bool {
        let before = |since: &DateTime<Utc>| at.is_none_or(|at| at < *since + CLOCK_MARGIN);
        self.history.since.get().is_some_and(before)
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
    /// How it is made where it is missing …
    topology: Option<Topology>,
    /// … or at each beginning, since nobody else does.
    is_ours: bool,
    executions: Arc<Executions>,
}

/// The message that was read last: where it stands, and what makes it this one. StreamReader goes on behind it, by the
/// stream's own order: the times in messages are those of several machines.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Last {
    place: u64,
    body: u64,
}

impl Last {
    fn of(delivery: &Delivery) -> Self {
        let mut hasher = DefaultHasher::new();
        delivery.body.hash(&mut hasher);
        Self {
            place: delivery.stream_offset.unwrap_or_default(),
            body: hasher.finish(),
        }
    }
}

impl Reader {
    async fn follow(self, parse: Parse, progress: &Progress, was_read: &CancellationToken) {
        let mut last = None;
        loop {
            let link = self.broker.connected().await;
            let on_end = || {
                progress.set(Ok(()));
                was_read.cancel();
            };
            let Err(error) = self.read(&link, parse, &mut last, &progress.since, on_end).await;
            let reason = match error.is_missing() {
                true => self.make(&link, &error).await,
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
        parse: Parse,
        last: &mut Option<Last>,
        since: &OnceLock<DateTime<Utc>>,
        on_end: impl Fn(),
    ) -> Result<Infallible, BrokerError> {
        if let Some(topology) = self.topology.as_ref().filter(|_| self.is_ours) {
            link.declare(topology).await?;
        }
        loop {
            let from = last.map_or(StreamOffset::First, |last| StreamOffset::Place(last.place));
            let mut reading = StreamReader::start(link, &self.stream, from, self.prefetch).await?;
            if let Some(known) = *last {
                // It goes on where it was only if what was read last is still there, in its place.
                let first = reading.next().await?;
                if first.as_ref().map(Last::of) != Some(known) {
                    info!(
                        stream = self.stream,
                        "the stream does not go on where it was; reading it from its beginning"
                    );
                    *last = None;
                    reading.close().await;
                    continue;
                }
            }
            let mut begins_late = false;
            loop {
                let Some(delivery) = reading.next().await? else {
                    info!(stream = self.stream, "the stream is read");
                    on_end();
                    continue;
                };
                let now = Last::of(&delivery);
                begins_late |= last.is_none() && now.place > 0;
                *last = Some(now);
                let Some(told) = parse(&delivery) else {
                    continue;
                };
                if begins_late {
                    since.get_or_init(|| told.time());
                }
                match told {
                    Told::Event(event) => self.executions.see(event),
                    Told::Reply(reply) => self.executions.end(id_of(&delivery), &reply, delivery.body.len()),
                }
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
