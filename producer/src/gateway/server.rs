//! Addresses, routes, and the end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, ServiceExt};
use chrono::TimeDelta;
use crewfleet_shared::admin::{self, BindError};
use crewfleet_shared::config::BrokerConfig;
use crewfleet_shared::kickoff::CrewName;
use crewfleet_shared::metrics::{Book, render};
use crewfleet_shared::systemd;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tower::util::MapRequest;
use tracing::{info, warn};

use super::bodies::Bodies;
use super::config::GatewayConfig;
use super::crews::Crews;
use super::executions::Executions;
use super::meters::{self, Meters};
use super::problem::Problem;
use super::streams::Streams;
use super::tokens::{Tokens, TokensError, TokensFile};
use super::{calls, files};
use crate::client::KickoffClient;
use crate::error::ClientError;

/// No call takes longer: a publish is given up after 30 s, and what is asked besides of a broker that hangs, within
/// this.
const CALL_LIMIT: Duration = Duration::from_secs(75);
/// How long calls that run when the gateway is told to end may take.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// More replies on their way buy nothing.
const MOST_REPLIES: u64 = 20;
/// How many kickoffs that memory had no room for are looked up at once.
const LOOKUPS: usize = 2;

/// What the calls need.
pub(super) struct Gateway {
    pub(super) client: KickoffClient,
    pub(super) executions: Arc<Executions>,
    pub(super) streams: Arc<Streams>,
    pub(super) crews: Arc<Crews>,
    pub(super) tokens: Arc<Tokens>,
    pub(super) default_crew: Option<CrewName>,
    pub(super) lookups: Semaphore,
    /// For how long the results stream keeps a reply.
    pub(super) results_kept: TimeDelta,
    pub(super) bodies: Bodies,
}

impl Gateway {
    /// Whether it knows all that there is to know.
    fn ready(&self) -> Result<(), String> {
        match self.client.broker().link() {
            Some(_) => self.streams.are_read(),
            None => Err("no connection to the broker".to_owned()),
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

/// Serves the API until `stop`, then lets calls that run end, for 10 s at most. `config` has been checked, and names
/// the default crew.
///
/// # Errors
/// [`GatewayError`].
pub async fn serve(
    broker: &BrokerConfig,
    config: &GatewayConfig,
    default_crew: Option<CrewName>,
    stop: &CancellationToken,
) -> Result<(), GatewayError> {
    let tokens = Tokens::watch(TokensFile::new(&config.tokens_file), stop.clone())?;
    let listen = |cause| GatewayError::Listen {
        address: config.addr.clone(),
        cause,
    };
    let listener = TcpListener::bind(&config.addr).await.map_err(listen)?;
    let client = KickoffClient::connect(broker, "crewfleet-gateway").await?;
    let executions = Arc::new(Executions::new(config.memory_limit));
    let streams = Streams::follow(
        client.broker().clone(),
        client.names(),
        config.history(),
        replies_at_once(config, broker),
        Arc::clone(&executions),
        stop,
    );
    let gateway = Arc::new(Gateway {
        crews: Crews::listen(client.clone(), stop.clone()),
        client,
        executions,
        streams,
        tokens,
        default_crew,
        lookups: Semaphore::new(LOOKUPS),
        results_kept: TimeDelta::seconds(i64::try_from(broker.results_max_age_s).unwrap_or(i64::MAX / 1000)),
        bodies: Bodies::new(broker.max_request_bytes),
    });
    let mut book = Book::new()?;
    let meters = Meters::register(&mut book)?;
    gateway.client.broker().metrics().register(&mut book)?;
    let admin = serve_admin(&config.admin_addr, &gateway, &meters, book, stop).await?;
    let admin_addr = admin.address();
    let told = Arc::clone(&gateway);
    let _telling = AbortOnDropHandle::new(tokio::spawn(systemd::tell(move || told.in_words())));
    let addr = listener.local_addr().map_err(listen)?;
    info!(%addr, %admin_addr, "the gateway listens");
    systemd::ready();
    // Before the routes are looked at: many clients put a slash behind the base URL, or behind the path.
    let router = MapRequest::new(
        router(&gateway, meters),
        without_last_slash as fn(Request) -> Request,
    );
    let told_to_end = stop.clone();
    let served = axum::serve(listener, ServiceExt::<Request>::into_make_service(router))
        .with_graceful_shutdown(async move {
            told_to_end.cancelled().await;
            systemd::stopping();
        });
    // Those that connect but say nothing must not hold the end.
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN_LIMIT).await;
    };
    tokio::select! {
        served = served.into_future() => served.map_err(listen)?,
        () = overdue => warn!(limit_s = DRAIN_LIMIT.as_secs(), "calls that run are cut off"),
    }
    gateway.client.clone().close().await;
    Ok(())
}

/// How many replies of the largest kind may be on their way here: a quarter of the memory that is granted, beside the
/// half that keeps them and what one takes while it is read. One it must be.
fn replies_at_once(config: &GatewayConfig, broker: &BrokerConfig) -> u16 {
    let largest = u64::try_from(broker.max_reply_bytes).unwrap_or(u64::MAX).max(1);
    let most = config.memory_limit.as_u64() / 4 / largest;
    u16::try_from(most.clamp(1, MOST_REPLIES)).unwrap_or(1)
}

fn router(gateway: &Arc<Gateway>, meters: Arc<Meters>) -> Router {
    let of_crew = Router::new()
        .route("/healthcheck", get(calls::healthcheck))
        .route("/inputs", get(calls::inputs))
        .route("/kickoff", post(calls::kickoff))
        .route("/status/{kickoff_id}", get(calls::status))
        .route("/{kickoff_id}/status", get(calls::status))
        .route("/files/{kickoff_id}", get(files::list))
        .route("/files/{kickoff_id}/{*path}", get(files::get))
        .route("/stop/{kickoff_id}", post(calls::stop))
        .route("/resume", post(calls::resume));
    Router::new()
        .route("/", get(calls::healthy))
        .route("/crews/{crew}", get(calls::healthy))
        .merge(of_crew.clone())
        .nest("/crews/{crew}", of_crew)
        .fallback(calls::unknown)
        .method_not_allowed_fallback(calls::other_method)
        .with_state(Arc::clone(gateway))
        .layer(middleware::from_fn(within_limit))
        .layer(middleware::from_fn_with_state(meters, meters::count))
}

fn without_last_slash(mut request: Request) -> Request {
    let path = request.uri().path();
    let shorter = path.trim_end_matches('/');
    if shorter.is_empty() || shorter == path {
        return request;
    }
    let asked = match request.uri().query() {
        Some(query) => format!("{shorter}?{query}"),
        None => shorter.to_owned(),
    };
    if let Ok(uri) = asked.parse() {
        *request.uri_mut() = uri;
    }
    request
}

async fn within_limit(request: Request, next: Next) -> Response {
    let late = |_| Problem::Unavailable("The message broker takes too long".into()).into_response();
    timeout(CALL_LIMIT, next.run(request)).await.unwrap_or_else(late)
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
    admin::serve(
        address,
        "[gateway] admin_addr",
        Arc::new(scrape),
        Arc::new(ready),
        stop,
    )
    .await
}

#[cfg(test)]
mod tests {
    use bytesize::ByteSize;

    use super::*;

    #[test]
    fn the_largest_replies_that_may_be_on_their_way_fit_into_the_memory() {
        let at_once = |memory_limit, max_reply_bytes| {
            let config = GatewayConfig {
                memory_limit,
                ..GatewayConfig::default()
            };
            let broker = BrokerConfig {
                max_reply_bytes,
                ..BrokerConfig::default()
            };
            replies_at_once(&config, &broker)
        };
        assert_eq!(at_once(ByteSize::mib(256), 16 << 20), 4);
        assert_eq!(at_once(ByteSize::mib(1), 16 << 20), 1);
        assert_eq!(at_once(ByteSize::gib(8), 1 << 20), 20);
    }
}
