//! Deliveries of one crew: consumed while the worker lives, each handed to the pipeline in a task of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crewfleet_shared::amqp::{BrokerError, ConsumeOptions, Link};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::pipeline;
use crate::state::{Crew, WorkerState};

/// The pause before a consumer that failed is started again on the same link.
const PAUSE: Duration = Duration::from_secs(1);

/// Consumes until the worker drains; then takes no further deliveries and returns. What was started goes on in
/// `kickoffs`.
pub async fn run(worker: Arc<WorkerState>, crew: Arc<Crew>, kickoffs: TaskTracker) {
    while !worker.draining.is_cancelled() {
        let link = tokio::select! {
            link = worker.broker.connected() => link,
            () = worker.draining.cancelled() => return,
        };
        let ended = consume(&worker, &crew, &link, &kickoffs).await;
        crew.consuming.store(false, Ordering::Relaxed);
        worker
            .metrics
            .consumers
            .with_label_values(&[crew.name.as_str()])
            .set(0);
        if worker.draining.is_cancelled() {
            return;
        }
        match ended {
            Ok(()) => warn!(crew = %crew.name, "RabbitMQ ended the consumer; starting it again"),
            Err(error) => warn!(crew = %crew.name, %error, "the consumer failed; starting it again"),
        }
        worker.forget_declared().await;
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = worker.draining.cancelled() => {}
        }
    }
}

async fn consume(
    worker: &Arc<WorkerState>,
    crew: &Arc<Crew>,
    link: &Arc<Link>,
    kickoffs: &TaskTracker,
) -> Result<(), BrokerError> {
    worker.declare(link).await?;
    let options = ConsumeOptions {
        tag: format!("{}.{}", worker.id, crew.name),
        prefetch: crew.concurrency,
        stream_offset: None,
    };
    let mut consumer = link
        .consume(&worker.names.request_queue(&crew.name), &options)
        .await?;
    crew.consuming.store(true, Ordering::Relaxed);
    worker
        .metrics
        .consumers
        .with_label_values(&[crew.name.as_str()])
        .set(1);
    info!(crew = %crew.name, runner = crew.runner_name, concurrency = crew.concurrency, "consuming");
    let mut cancelled = false;
    loop {
        let next = tokio::select! {
            next = consumer.next() => next,
            () = link.ended() => return Err(BrokerError::Disconnected { action: "consume".into() }),
            () = worker.draining.cancelled(), if !cancelled => {
                // What is already on its way still comes out below; the pipeline requeues it.
                cancelled = true;
                consumer.cancel().await?;
                continue;
            }
        };
        match next {
            Some(delivery) => {
                let delivery = delivery?;
                kickoffs.spawn(pipeline::process(Arc::clone(worker), Arc::clone(crew), delivery));
            }
            None => return Ok(()),
        }
    }
}
