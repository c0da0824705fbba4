//! What the calls need.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use chrono::TimeDelta;
use crewfleet::KickoffClient;
use crewfleet_amqp::BrokerConfig;
use crewfleet_protocol::CrewName;
use crewfleet_service::http::{self, Limits};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config::GatewayConfig;
use crate::crews::Crews;
use crate::http::api_error::ApiError;
use crate::http::request_limits::RequestLimits;
use crate::store::executions::Executions;
use crate::store::lookups::{self, Lookups};
use crate::store::stream_followers::{Kept, Prefetch, StreamFollowers};
use crate::tokens::valid::ValidTokens;

/// How long calls that run when the gateway is told to end may take.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// More replies on their way buy nothing.
const MOST_REPLIES: u64 = 20;
/// Likewise of events, most of which are small; with fewer than the first, reading is slow.
const EVENTS: RangeInclusive<u64> = 16..=500;
/// So long an event may be: what a crew says in one, 256 KiB, its `meta`, and what JSON adds.
const LARGEST_EVENT: u64 = 320 * 1024;
/// Of the descriptors of this process, what is not for callers: the admin endpoint, the broker, files.
const OWN_DESCRIPTORS: usize = 128;

/// What the calls need.
pub(crate) struct Gateway {
    pub(crate) client: KickoffClient,
    pub(crate) executions: Arc<Executions>,
    pub(crate) streams: Arc<StreamFollowers>,
    pub(crate) crews: Arc<Crews>,
    pub(crate) tokens: Arc<ValidTokens>,
    pub(crate) default_crew: Option<CrewName>,
    pub(crate) lookups: Arc<Lookups>,
    /// For how long the results stream keeps a reply.
    pub(crate) results_kept: TimeDelta,
    pub(crate) bodies: RequestLimits,
    pub(crate) limits: Limits,
    /// Told to end.
    ending: CancellationToken,
}

impl Gateway {
    /// Reads and listens until `end`; told to end by `stop`.
    pub(crate) fn new(
        client: KickoffClient,
        broker: &BrokerConfig,
        config: &GatewayConfig,
        default_crew: Option<CrewName>,
        tokens: Arc<ValidTokens>,
        stop: &CancellationToken,
        end: &CancellationToken,
    ) -> Self {
        // Three eighths are for what is known, a quarter for replies that are on their way, an eighth for events that
        // are, a quarter for replies that are looked up.
        let memory = config.memory_limit.as_u64();
        let executions = Arc::new(Executions::new(ByteSize::b(memory / 8 * 3)));
        let at_once = |memory| replies_at_once(memory, broker);
        let kept = Kept {
            history: config.history(),
            results: broker.results(),
        };
        let replies = lookups::Source {
            broker: client.broker().clone(),
            stream: client.names().results(),
            near: lookups::Share {
                prefetch: at_once(memory / 8),
                room: usize::try_from(memory / 16).unwrap_or(usize::MAX),
            },
            far: lookups::Share {
                prefetch: at_once(memory / 32),
                room: usize::try_from(memory / 32).unwrap_or(usize::MAX),
            },
            executions: Arc::clone(&executions),
        };
        let streams = StreamFollowers::follow(
            client.broker().clone(),
            client.names(),
            &kept,
            Prefetch {
                events: events_at_once(memory / 8),
                replies: at_once(memory / 4),
            },
            Arc::clone(&executions),
            end,
        );
        let limits = limits(config, http::descriptors());
        Self {
            crews: Crews::listen(client.clone(), end.clone()),
            client,
            executions,
            streams,
            tokens,
            default_crew,
            lookups: Lookups::run(replies, end.clone()),
            results_kept: TimeDelta::seconds(
                i64::try_from(broker.results_max_age_s).unwrap_or(i64::MAX / 1000),
            ),
            bodies: RequestLimits::new(broker.max_request_bytes, limits.connections),
            limits,
            ending: stop.clone(),
        }
    }

    /// Told to end: each answer is the last one of its connection.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_cancelled()
    }

    /// Whether it knows all that there is to know, and takes kickoffs.
    pub(crate) fn ready(&self) -> Result<(), String> {
        if self.ending.is_cancelled() {
            return Err("it ends; call another".to_owned());
        }
        match self.client.broker().link() {
            None => Err("no connection to the broker".to_owned()),
            Some(link) if link.is_blocked() => {
                Err("RabbitMQ blocks publishers (a memory or disk alarm), so no kickoff is taken".to_owned())
            }
            Some(_) => self.streams.are_read().and_then(|()| self.crews.were_heard()),
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

    /// What it does, for people.
    pub(crate) fn in_words(&self) -> String {
        match self.ready() {
            Ok(()) => format!("ready; {} kickoffs in memory", self.executions.size().0),
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

/// How many replies of the largest kind may be on their way here, so that they fit into so many bytes. One it must be.
fn replies_at_once(memory: u64, broker: &BrokerConfig) -> u16 {
    let largest = u64::try_from(broker.max_reply_bytes).unwrap_or(u64::MAX).max(1);
    u16::try_from((memory / largest).clamp(1, MOST_REPLIES)).unwrap_or(1)
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
        let at_once = |memory, max_reply_bytes| {
            let broker = BrokerConfig {
                max_reply_bytes,
                ..BrokerConfig::default()
            };
            replies_at_once(memory, &broker)
        };
        assert_eq!(at_once(64 << 20, 16 << 20), 4);
        assert_eq!(at_once(1 << 20, 16 << 20), 1);
        assert_eq!(at_once(2 << 30, 1 << 20), 20);
        assert_eq!(events_at_once(32 << 20), 102);
        assert_eq!((events_at_once(1), events_at_once(1 << 40)), (16, 500));
    }
}
