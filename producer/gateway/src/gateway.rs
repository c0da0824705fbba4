//! What the calls need.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use crewfleet::KickoffClient;
use crewfleet_amqp::BrokerConfig;
use crewfleet_protocol::chain::MAX_STEPS;
use crewfleet_protocol::topology::Topology;
use crewfleet_protocol::{Command, CrewName, KickoffId};
use crewfleet_service::http::{self, Limits};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config::GatewayConfig;
use crate::crews::Crews;
use crate::followers::Followers;
use crate::http::api_error::ApiError;
use crate::http::request_limits::RequestLimits;
use crate::queue_depths::QueueDepths;
use crate::store::filter::Filter;
use crate::store::row::Kickoff;
use crate::store::{Indexes, Store, StoreError, StreamTopology, Window, Windows};
use crate::tokens::valid::ValidTokens;
use crate::unannounced::Unannounced;

/// How long calls that run when the gateway is told to end may take.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// More replies, or requests, on their way buy nothing.
const MOST_LARGE: u64 = 64;
/// Likewise of events, most of which are small; with fewer than the first, reading is slow.
const EVENTS: RangeInclusive<u64> = 16..=500;
/// As many replies, requests and events are on their way where they are small.
const AT_ONCE: u16 = 32;
const EVENTS_AT_ONCE: u16 = 128;
/// So long an event may be: what a crew says in one, 256 KiB, its `meta`, and what JSON adds.
const LARGEST_EVENT: u64 = 320 * 1024;
/// A kickoff may be new to this gateway for so long after another took it …
const NEW: TimeDelta = TimeDelta::seconds(10);
/// … and is heard of within this time.
const HEARSAY: Duration = Duration::from_secs(2);
/// How long a call waits for a gateway that has just started, or has just got its connection back.
const READING: Duration = Duration::from_secs(4);
/// By so much the clocks of those who name kickoffs and of those who say what became of them may differ.
const CLOCK_MARGIN: TimeDelta = TimeDelta::minutes(15);
/// Of the descriptors of this process, what is not for callers: the admin endpoint, the broker, files.
const OWN_DESCRIPTORS: usize = 128;

/// What the calls need.
pub(crate) struct Gateway {
    pub(crate) client: KickoffClient,
    pub(crate) store: Store,
    pub(crate) crews: Arc<Crews>,
    pub(crate) followers: Followers,
    pub(crate) depths: QueueDepths,
    /// Of these the other gateways do not know yet.
    pub(crate) unannounced: Unannounced,
    pub(crate) tokens: Arc<ValidTokens>,
    pub(crate) default_crew: Option<CrewName>,
    pub(crate) bodies: RequestLimits,
    pub(crate) limits: Limits,
    /// What kickoffs are searched by.
    pub(crate) indexes: Indexes,
    /// So large a request may be, in bytes.
    pub(crate) max_request_bytes: usize,
    /// For so long a batch may take: later its first items might be let go before its last have ended.
    pub(crate) patience_with_batches: TimeDelta,
    /// Told to end.
    ending: CancellationToken,
}

impl Gateway {
    /// Reads and listens until `end`; told to end by `stop`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn new(
        client: KickoffClient,
        broker: &BrokerConfig,
        config: &GatewayConfig,
        default_crew: Option<CrewName>,
        tokens: Arc<ValidTokens>,
        stop: &CancellationToken,
        end: &CancellationToken,
    ) -> Result<Self, StoreError> {
        // Three eighths are for what SQLite has at hand, as much for messages that wait to be written, a quarter for those
        // that are on their way.
        let memory = config.memory_limit.as_u64();
        let (of_store, names) = (memory / 8 * 3, client.names());
        let indexes = config.store.indexes();
        let store = Store::open(
            &config.store.file,
            of_store,
            indexes.clone(),
            config.store.retention(),
            names,
        )?;
        let results = broker.results();
        let topology = StreamTopology {
            history: Topology::history(names, config.history()),
            results: (results.max_age_s > 0).then(|| Topology::results(names, results)),
            requests: Topology::http_requests(names, config.requests()),
            batches: Topology::batches(names),
        };
        let of_any = |memory, largest| Window::new(memory, at_once(memory, largest), AT_ONCE);
        let windows = Windows {
            events: Window::new(memory / 16, events_at_once(memory / 16), EVENTS_AT_ONCE),
            replies: of_any(memory / 8, broker.max_reply_bytes),
            requests: of_any(memory / 16, broker.max_request_bytes),
        };
        store.follow(client.broker(), names, topology, windows, end);
        let limits = limits(config, http::descriptors());
        Ok(Self {
            crews: Crews::listen(client.clone(), end.clone()),
            followers: Followers::listen(&client),
            depths: QueueDepths::default(),
            unannounced: Unannounced::new(&config.store),
            client,
            store,
            tokens,
            default_crew,
            bodies: RequestLimits::new(broker.max_request_bytes, limits.connections),
            limits,
            max_request_bytes: broker.max_request_bytes,
            patience_with_batches: patience_with_batches(config.store.retention().kickoffs_ms),
            indexes,
            ending: stop.clone(),
        })
    }

    /// So many of the connections the callers of one token may have, where it has no limit of its own: the others are for
    /// other tokens.
    pub(crate) fn share_of_connections(&self) -> u32 {
        let share = (self.limits.connections / 4 * 3).max(1);
        u32::try_from(share).unwrap_or(u32::MAX)
    }

    /// Told to end: each answer is the last one of its connection.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_cancelled()
    }

    /// Completes when it is told to end.
    pub(crate) async fn ends(&self) {
        self.ending.cancelled().await;
    }

    /// Whether kickoffs are searched by this key of `meta`.
    pub(crate) fn searches_meta(&self, key: &str) -> bool {
        self.indexes.meta_keys.iter().any(|known| known == key)
    }

    /// Whether it knows all that there is to know, and takes kickoffs.
    pub(crate) fn ready(&self) -> Result<(), String> {
        if self.ending.is_cancelled() {
            return Err("it ends; call another".to_owned());
        }
        match self.client.broker().link() {
            None => Err(match self.client.broker().failure() {
                Some(failure) => format!("no connection to the broker: {failure}"),
                None => "no connection to the broker".to_owned(),
            }),
            Some(link) if link.is_blocked() => {
                Err("RabbitMQ blocks publishers (a memory or disk alarm), so no kickoff is taken".to_owned())
            }
            Some(_) => self.store.is_current().and_then(|()| self.crews.were_heard()),
        }
    }

    /// Whether the broker takes what is published, as far as is known.
    pub(crate) fn may_publish(&self) -> Result<(), ApiError> {
        match self.client.broker().link() {
            Some(link) if link.is_blocked() => Err(ApiError::blocked()),
            // A connection that was lost may be back in a moment.
            _ => Ok(()),
        }
    }

    /// What is known of a kickoff. One that another gateway has just taken, or that is known only once the streams are
    /// read, is waited for.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`] where the streams are not read yet, and nothing is known of it.
    pub(crate) async fn find(&self, id: &KickoffId) -> Result<Option<Kickoff>, ApiError> {
        // As nearly all are: only for others somebody waits.
        if let Some(known) = self.store.queries.kickoff(id.as_str()).await? {
            return Ok(Some(known));
        }
        // First this: what comes between the two would be waited for in vain.
        let news = self.store.subscribers.of_kickoff(id.as_str());
        if let Some(known) = self.store.queries.kickoff(id.as_str()).await? {
            return Ok(Some(known));
        }
        let patience = match self.store.is_current() {
            Err(_) => READING,
            Ok(()) if self.may_be_new(id).await? => HEARSAY,
            Ok(()) => Duration::ZERO,
        };
        let deadline = Instant::now() + patience;
        while timeout_at(deadline, news.changed()).await.is_ok() {
            if let Some(known) = self.store.queries.kickoff(id.as_str()).await? {
                return Ok(Some(known));
            }
        }
        self.knows_all()?;
        Ok(None)
    }

    /// Has whatever worker has it, or will have it, cancel it, and what follows in the chain that it begins.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] where it has ended, and so has its chain.
    pub(crate) async fn cancel(&self, kickoff: &Kickoff) -> Result<(), ApiError> {
        let has_ended = kickoff.standing.state.is_over();
        if has_ended && !self.chain_goes_on(kickoff).await? {
            return Err(ApiError::Conflict(format!(
                "The kickoff has ended already: it is {}",
                kickoff.standing.state.as_str()
            )));
        }
        self.may_publish()?;
        let is_current = self.store.is_current().is_ok();
        let cancel = Command::Cancel {
            kickoff_id: kickoff.id.clone(),
            // A command that names the redrive forgives clocks that differ. It must not name one of yesterday.
            redrive: (is_current && !has_ended).then_some(kickoff.standing.redrive),
            crew: Some(kickoff.crew.clone()),
        };
        Ok(self.client.command(cancel).await?)
    }

    /// Whether the chain that it began has not ended, as far as is known: one of its kickoffs has not, or is not here yet.
    async fn chain_goes_on(&self, first: &Kickoff) -> Result<bool, ApiError> {
        let chain = first.chain.as_ref().map(|chain| &chain.place.id);
        if chain != Some(&first.id) {
            return Ok(false);
        }
        let filter = Filter {
            chain: chain.cloned(),
            ..Filter::default()
        };
        // The first, and what may follow.
        let all = self.store.queries.list(filter, None, MAX_STEPS + 1).await?;
        let is_here = |id: &String| all.iter().any(|kickoff| kickoff.id == *id);
        Ok(all.iter().any(|kickoff| {
            let next = kickoff.chain.as_ref().and_then(|chain| chain.next.as_ref());
            !kickoff.standing.state.is_over() || next.is_some_and(|next| !is_here(&next.kickoff_id))
        }))
    }

    /// Whether one of which nothing is known may have been taken a moment ago, by another gateway. The id tells when
    /// that was; of one that its caller chose the request is here before the kickoff is. Another gateway may know of what
    /// follows a kickoff, and its reader ask us.
    async fn may_be_new(&self, id: &KickoffId) -> Result<bool, ApiError> {
        match id.created_at() {
            Some(at) => Ok(Utc::now() - at < NEW),
            None => Ok(id.may_follow() || self.store.queries.request(id.as_str()).await?.is_some()),
        }
    }

    /// Refuses to say that there is no such kickoff as long as the streams are not read.
    pub(crate) fn knows_all(&self) -> Result<(), ApiError> {
        let incomplete =
            |reason| ApiError::unavailable(format!("The gateway does not know all kickoffs yet: {reason}"));
        self.store.is_current().map_err(incomplete)
    }

    /// Whether one of which nothing is known may wait or run all the same: the events of its time may have left their stream
    /// before they were read. An id without a time may be as old as any.
    pub(crate) async fn may_have_missed(&self, id: &KickoffId) -> Result<bool, ApiError> {
        let since = self.store.queries.known_since().await?;
        let before = |since: DateTime<Utc>| id.created_at().is_none_or(|at| at < since + CLOCK_MARGIN);
        Ok(since.is_some_and(before))
    }

    /// What it does, for people.
    pub(crate) fn in_words(&self) -> String {
        match self.ready() {
            Ok(()) => {
                let kickoffs = self.store.size.kickoffs.load(Ordering::Relaxed);
                format!("ready; {kickoffs} kickoffs are known")
            }
            Err(reason) => format!("not ready: {reason}"),
        }
    }
}

/// No more connections than there are descriptors for: without one of its own `/healthz` would not be answered either.
fn limits(config: &GatewayConfig, descriptors: usize) -> Limits {
    let most = descriptors.saturating_sub(OWN_DESCRIPTORS).max(1);
    if most < config.max_connections {
        warn!(
            max_connections = config.max_connections,
            most,
            "[gateway] max_connections is more than this process may have files open (ulimit -n, LimitNOFILE)"
        );
    }
    Limits {
        connections: config.max_connections.min(most),
        idle: Duration::from_secs(config.idle_timeout_s),
        drain: DRAIN_LIMIT,
    }
}

/// Nine tenths of how long kickoffs are kept.
fn patience_with_batches(kickoffs_ms: i64) -> TimeDelta {
    TimeDelta::try_milliseconds(kickoffs_ms / 10 * 9).unwrap_or(TimeDelta::MAX)
}

/// How many messages of so many bytes may be on their way here, so that they fit into the memory. One it must be.
fn at_once(memory: u64, largest: usize) -> u16 {
    let largest = u64::try_from(largest).unwrap_or(u64::MAX).max(1);
    u16::try_from((memory / largest).clamp(1, MOST_LARGE)).unwrap_or(1)
}

/// The same of events.
fn events_at_once(memory: u64) -> u16 {
    u16::try_from((memory / LARGEST_EVENT).clamp(*EVENTS.start(), *EVENTS.end())).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_what_else_there_is() {
        let connections = |descriptors| limits(&GatewayConfig::default(), descriptors).connections;
        assert_eq!(connections(65_536), 1024);
        assert_eq!(connections(1024), 1024 - OWN_DESCRIPTORS);
        assert_eq!(connections(64), 1);
    }

    #[test]
    fn the_largest_replies_that_may_be_on_their_way_fit_into_the_memory() {
        assert_eq!(at_once(64 << 20, 16 << 20), 4);
        assert_eq!(at_once(1 << 20, 16 << 20), 1);
        assert_eq!(at_once(2 << 30, 1 << 20), 64);
        assert_eq!(events_at_once(32 << 20), 102);
        assert_eq!((events_at_once(1), events_at_once(1 << 40)), (16, 500));
    }
}
