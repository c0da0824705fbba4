//! Start, addresses, and the end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crewfleet::{ClientError, ClientOptions, KickoffClient};
use crewfleet_amqp::{BrokerConfig, Problem};
use crewfleet_protocol::CrewName;
use crewfleet_service::admin::{self, BindError};
use crewfleet_service::http::{self as service_http, Door, NamedFile, Tls};
use crewfleet_service::metrics::{MetricsRegistry, render};
use crewfleet_service::systemd;
use crewfleet_sinks::{Declares, Running, SinkMetrics, SinksConfig, SinksError};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::config::{GatewayConfig, TLS_CERTIFICATE, TLS_KEY};
use crate::gateway::Gateway;
use crate::http::metrics::RequestMetrics;
use crate::http::routes;
use crate::store::StoreError;
use crate::taking::PUBLISHING;
use crate::tokens::valid::ValidTokens;
use crate::tokens::{TokensError, TokensFile};
use crate::{abandoned, alarms, announcing, batches};

/// How long the broker has to say at the start that it does not take us. One that says nothing may come later.
const REFUSING: Duration = Duration::from_secs(5);

/// Why a gateway does not start, or ends by itself.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The broker does not take us as we are configured.
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
    /// Nobody could call, and everybody could try.
    #[error(
        "[gateway] addr = {address} can be reached from other machines, and there is no token yet in {}; `crewfleet token \
         create NAME --crew CREW` makes one, or set [gateway] allow_no_tokens = true to start without",
        .tokens.display()
    )]
    NoTokens {
        /// The address.
        address: String,
        /// The file without tokens.
        tokens: PathBuf,
    },
    /// The certificate or its key cannot be used.
    #[error("{0}")]
    Tls(String),
    /// The address of the admin endpoint cannot be used.
    #[error(transparent)]
    Admin(#[from] BindError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The sinks cannot start.
    #[error(transparent)]
    Sinks(#[from] SinksError),
    /// A metric was defined twice.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
}

/// Serves the API until `stop`, and for `lame_duck_s` more, in which it says that it is not ready; then lets calls that
/// run end, for 10 s at most. `config` has been checked, and names the default crew. A broker that is away is waited for.
/// With `sinks` it calls webhooks, too, and hands replies and events on to these sinks.
///
/// # Errors
/// [`GatewayError`].
pub async fn serve(
    broker: &BrokerConfig,
    config: &GatewayConfig,
    default_crew: Option<CrewName>,
    sinks: Option<&SinksConfig>,
    stop: &CancellationToken,
) -> Result<(), GatewayError> {
    // What calls need lives until the last one has ended.
    let end = CancellationToken::new();
    let _end = end.clone().drop_guard();
    let file = TokensFile::new(&config.tokens_file);
    let tokens = ValidTokens::watch(file.clone(), config.uses_file(), end.clone())?;
    let tls = tls(config)?;
    let listen = |cause| GatewayError::Listen {
        address: config.addr.clone(),
        cause,
    };
    let listener = TcpListener::bind(&config.addr).await.map_err(listen)?;
    let addr = listener.local_addr().map_err(listen)?;
    let is_exposed = !addr.ip().to_canonical().is_loopback();
    if is_exposed && tokens.is_empty() && !config.allow_no_tokens {
        return Err(GatewayError::NoTokens {
            address: config.addr.clone(),
            tokens: file.place(),
        });
    }
    let client = client(broker, stop).await?;
    let gateway = Gateway::new(client, broker, config, default_crew, tokens, stop, &end)?;
    let limits = gateway.limits;
    let gateway = Arc::new(gateway);
    let mut book = MetricsRegistry::new()?;
    let metrics = RequestMetrics::register(&mut book)?;
    book.add_broker(gateway.client.broker().metrics())?;
    let of_sinks = SinkMetrics::register(&mut book)?;
    let admin = serve_admin(&config.admin_addr, &gateway, &metrics, book, &end).await?;
    let admin_addr = admin.address();
    let start = |sinks| {
        Running::start(
            gateway.client.broker(),
            broker,
            sinks,
            &of_sinks,
            Declares::Own,
            stop,
        )
    };
    let running = sinks.map(start).transpose()?;
    let told = Arc::clone(&gateway);
    let _telling = AbortOnDropHandle::new(tokio::spawn(systemd::tell(move || told.in_words())));
    let looking_out = Arc::clone(&gateway);
    let _looking_out = AbortOnDropHandle::new(tokio::spawn(async move {
        alarms::look_out(&looking_out.client, &looking_out.store).await;
    }));
    let cancelling = Arc::clone(&gateway);
    let _cancelling = AbortOnDropHandle::new(tokio::spawn(async move {
        abandoned::look_out(&cancelling).await;
    }));
    let telling = Arc::clone(&gateway);
    let _announcing = AbortOnDropHandle::new(tokio::spawn(async move {
        announcing::look_out(&telling).await;
    }));
    let (ending, counting) = (Arc::clone(&gateway), Arc::clone(&metrics));
    let _ending = AbortOnDropHandle::new(tokio::spawn(async move {
        batches::ender::look_out(&ending, &counting).await;
    }));
    let has_tls = tls.is_some();
    if is_exposed && !has_tls {
        warn!(%addr, "callers' tokens come in the clear, unless a proxy before this gateway ends TLS; [gateway] tls_cert_file and tls_key_file have it speak TLS itself");
    }
    if let Some(tls) = &tls {
        tls.watch(end.clone());
    }
    info!(%addr, %admin_addr, tls = has_tls, max_connections = limits.connections, "the gateway listens");
    systemd::ready();
    let router = routes::router(&gateway, metrics);
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
    let door = Door::new(listener, tls);
    tokio::join!(service_http::serve(door, router, limits, &no_more), ending);
    if let Some(running) = running {
        running.end().await;
    }
    gateway.tokens.keep_uses(Duration::ZERO).await;
    gateway.client.clone().close().await;
    Ok(())
}

/// A client that waits for its broker, unless that refuses it.
async fn client(broker: &BrokerConfig, stop: &CancellationToken) -> Result<KickoffClient, ClientError> {
    let options = ClientOptions::default().publish_timeout(PUBLISHING);
    let client = KickoffClient::start(broker, "crewfleet-gateway", options)?;
    let attempted = timeout(REFUSING, client.broker().attempted());
    match stop.run_until_cancelled(attempted).await {
        Some(Ok(Err(error))) if error.is_refusal() => Err(error.into()),
        _ => Ok(client),
    }
}

/// What `[gateway]` says of TLS; `None` where it says nothing. Its values have been checked.
fn tls(config: &GatewayConfig) -> Result<Option<Arc<Tls>>, GatewayError> {
    let (Some(certificate), Some(key)) = (&config.tls_cert_file, &config.tls_key_file) else {
        return Ok(None);
    };
    let named = |key, file: &PathBuf| NamedFile {
        key,
        file: file.clone(),
    };
    let loaded = Tls::load(named(TLS_CERTIFICATE, certificate), named(TLS_KEY, key));
    let tls = loaded.map_err(|Problem { key, value, problem }| {
        let key = key.trim_start_matches("gateway.");
        GatewayError::Tls(format!("[gateway] {key} = {value}: {problem}"))
    })?;
    Ok(Some(Arc::new(tls)))
}

async fn serve_admin(
    address: &str,
    gateway: &Arc<Gateway>,
    metrics: &Arc<RequestMetrics>,
    book: MetricsRegistry,
    stop: &CancellationToken,
) -> Result<admin::Serving, BindError> {
    let (asked, shown, metrics) = (Arc::clone(gateway), Arc::clone(gateway), Arc::clone(metrics));
    let ready = move || asked.ready();
    let scrape = move || {
        let size = &shown.store.size;
        metrics
            .kickoffs
            .set(size.kickoffs.load(Ordering::Relaxed).cast_signed());
        metrics
            .stored_bytes
            .set(size.bytes.load(Ordering::Relaxed).cast_signed());
        metrics.ready.set(shown.ready().is_ok().into());
        render(book.registry())
    };
    let listening = admin::listen(address, "[gateway] admin_addr").await?;
    Ok(listening.serve(Arc::new(scrape), Arc::new(ready), stop))
}
