//! `crewfleet sinks`: all sinks, in a process of their own.

use std::sync::Arc;

use crewfleet_amqp::{Broker, BrokerConfig};
use crewfleet_service::metrics::{MetricsRegistry, render};
use crewfleet_service::{admin, systemd};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use crate::config::SinksConfig;
use crate::error::SinksError;
use crate::metrics::SinkMetrics;
use crate::running::{Declares, Running};

/// Runs all sinks until `stop`.
///
/// # Errors
/// [`SinksError`] when they cannot start. A broker that is away is waited for.
pub async fn serve(
    broker: &BrokerConfig,
    sinks: &SinksConfig,
    stop: &CancellationToken,
) -> Result<(), SinksError> {
    let admin = admin::listen(&sinks.webhooks.admin_addr, "[webhooks] admin_addr").await?;
    let mut book = MetricsRegistry::new()?;
    let metrics = SinkMetrics::register(&mut book)?;
    let link = Broker::start(broker, "crewfleet-sinks")?;
    book.add_broker(link.metrics())?;
    let running = Arc::new(Running::start(
        &link,
        broker,
        sinks,
        &metrics,
        Declares::All,
        stop,
    )?);
    let (asked, told, admin_addr) = (Arc::clone(&running), Arc::clone(&running), admin.address());
    let scrape = move || render(book.registry());
    let _serving = admin.serve(Arc::new(scrape), Arc::new(move || asked.ready()), stop);
    let _telling = AbortOnDropHandle::new(tokio::spawn(systemd::tell(move || match told.ready() {
        Ok(()) => format!("ready; sinks: {}", told.names()),
        Err(why) => format!("not ready: {why}"),
    })));
    info!(%admin_addr, sinks = running.names(), "the sinks start");
    systemd::ready();
    stop.cancelled().await;
    systemd::stopping();
    running.end().await;
    link.close().await;
    Ok(())
}
