//! Addresses, what the calls need, and the end.

use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use chrono::TimeDelta;
use crewfleet_amqp::BrokerConfig;
use crewfleet_protocol::{CrewName, KickoffId};
use crewfleet_service::admin::{self, BindError};
use crewfleet_service::http::{self, Limits};
use crewfleet_service::metrics::{Book, render};
use crewfleet_service::systemd;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::bodies::Bodies;
use super::config::GatewayConfig;
use super::crews::Crews;
use super::executions::Executions;
use super::lookups::{self, Lookups};
use super::meters::Meters;
use super::problem::Problem;
use super::streams::{Kept, Prefetch, Streams};
use super::tokens::{TokensError, TokensFile};
use super::valid_tokens::Tokens;
use super::{alarms, kickoff, routes};
use crate::client::KickoffClient;
use crate::error::ClientError;

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
pub(super) struct Gateway {
    pub(super) client: KickoffClient,
    pub(super) executions: Arc<Executions>,
    pub(super) streams: Arc<Streams>,
    pub(super) crews: Arc<Crews>,
    pub(super) tokens: Arc<Tokens>,
    pub(super) default_crew: Option<CrewName>,
    pub(super) lookups: Arc<Lookups>,
    /// For how long the results stream keeps a reply.
    pub(super) results_kept: TimeDelta,
    pub(super) bodies: Bodies,
    limits: Limits,
    /// Told to end.
    ending: CancellationToken,
}

impl Gateway {
    /// Reads and listens until `end`; told to end by `stop`.
    fn new(
        client: KickoffClient,
        broker: &BrokerConfig,
        config: &GatewayConfig,
        default_crew: Option<CrewName>,
        tokens: Arc<Tokens>,
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
        let streams = Streams::follow(
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
            bodies: Bodies::new(broker.max_request_bytes, limits.connections),
            limits,
            ending: stop.clone(),
        }
    }

    /// Told to end: each answer is the last one of its connection.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_cancelled()
    }

    /// Whether it knows all that there is to know, and takes kickoffs.
    fn ready(&self) -> Result<(), String> {
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
    pub(super) fn may_publish(&self) -> Result<(), Problem> {
        match self.client.broker().link() {
            Some(link) if link.is_blocked() => Err(Problem::blocked()),
            // A connection that was lost may be back in a moment.
            _ => Ok(()),
        }
    }

    /// What it does, for people.
    fn in_words(&self) -> String {
        match self.ready() {
            Ok(()) => format!("ready; {} kickoffs in memory", self.executions.size().0),
            Err(reason) => format!("not ready: {reason}"),
        }
    }
}

/// Why a gateway does not start, or ends by itself.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// No connection to the broker.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The tokens cannot be read.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// The address of the API cannot be used.
    #[error("cannot listen on {address}: {cause}; choose another [gateway] addr (port 0 takes a free one)")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        cause: io::Error,
    },
    /// The address of the admin endpoint cannot be used.
    #[error(transparent)]
    Admin(#[from] BindError),
    /// A metric was defined twice.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// Serves the API until `stop`, and for `lame_duck_s` more, in which it says that it is not ready; then lets calls that
/// run end, for 10 s at most. `config` has been checked, and names the default crew.
///
/// # Errors
/// [`GatewayError`].
pub async fn serve(
    broker: &BrokerConfig,
    config: &GatewayConfig,
    default_crew: Option<CrewName>,
    stop: &CancellationToken,
) -> Result<(), GatewayError> {
    // What calls need lives until the last one has ended.
    let end = CancellationToken::new();
    let _end = end.clone().drop_guard();
    let tokens = Tokens::watch(TokensFile::new(&config.tokens_file), end.clone())?;
    let listen = |cause| GatewayError::Listen {
        address: config.addr.clone(),
        cause,
    };
    let listener = TcpListener::bind(&config.addr).await.map_err(listen)?;
    let id = KickoffId::generate();
    let client =
        KickoffClient::connect_as(broker, "crewfleet-gateway", id.as_str(), kickoff::PUBLISHING).await?;
    let gateway = Gateway::new(client, broker, config, default_crew, tokens, stop, &end);
    let limits = gateway.limits;
    let gateway = Arc::new(gateway);
    let mut book = Book::new()?;
    let meters = Meters::register(&mut book)?;
    book.add_broker(gateway.client.broker().metrics())?;
    let admin = serve_admin(&config.admin_addr, &gateway, &meters, book, &end).await?;
    let admin_addr = admin.address();
    let told = Arc::clone(&gateway);
    let _telling = AbortOnDropHandle::new(tokio::spawn(systemd::tell(move || told.in_words())));
    let looking_out = Arc::clone(&gateway);
    let _looking_out = AbortOnDropHandle::new(tokio::spawn(async move {
        alarms::look_out(&looking_out.client, &looking_out.streams).await;
    }));
    let addr = listener.local_addr().map_err(listen)?;
    info!(%addr, %admin_addr, max_connections = limits.connections, "the gateway listens");
    systemd::ready();
    let router = routes::router(&gateway, meters);
    let no_more = CancellationToken::new();
    let (last, lame_duck) = (no_more.clone(), Duration::from_secs(config.lame_duck_s));
    let ending = async move {
        stop.cancelled().await;
        systemd::stopping();
        info!(
            lame_duck_s = lame_duck.as_secs(),
            "calls are taken for so long, and then no more"
        );
        tokio::time::sleep(lame_duck).await;
        last.cancel();
    };
    tokio::join!(http::serve(listener, router, limits, &no_more), ending);
    gateway.client.clone().close().await;
    Ok(())
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

async fn serve_admin(
    address: &str,
    gateway: &Arc<Gateway>,
    meters: &Arc<Meters>,
    book: Book,
    stop: &CancellationToken,
) -> Result<admin::Serving, BindError> {
    let (asked, shown, meters) = (Arc::clone(gateway), Arc::clone(gateway), Arc::clone(meters));
    let ready = move || asked.ready();
    let scrape = move || {
        let (count, bytes) = shown.executions.size();
        meters.executions.set(i64::try_from(count).unwrap_or(i64::MAX));
        meters
            .executions_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
        meters.ready.set(shown.ready().is_ok().into());
        render(book.registry())
    };
    let listening = admin::listen(address, "[gateway] admin_addr").await?;
    Ok(listening.serve(Arc::new(scrape), Arc::new(ready), stop))
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
