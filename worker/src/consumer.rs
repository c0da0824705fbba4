//! Deliveries of one crew: consumed while the worker lives and the crew's intake is open, each handed to the pipeline
//! in a task of its own.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crewfleet_shared::amqp::{BrokerError, ConsumeOptions, Link};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::pipeline;
use crate::state::{Crew, WorkerState};

/// The pause before a consumer that failed is started again on the same link. It doubles each time, up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why a consumer is over without an error.
enum Over {
    /// RabbitMQ ended it: its queue is gone, most likely.
    Ended,
    /// The intake was closed: a pause, a blocked connection, the worker drains.
    Closed,
}

/// Consumes until the worker drains; then takes no further deliveries and returns. What was started goes on in
/// `kickoffs`.
pub async fn run(worker: Arc<WorkerState>, crew: Arc<Crew>, kickoffs: TaskTracker) {
    if worker
        .draining
        .run_until_cancelled(crew.runner.usable())
        .await
        .is_none()
    {
        return;
    }
    let mut pause = PAUSE;
    while !worker.draining.is_cancelled() {
        let link = tokio::select! {
            link = intake_opens(&worker, &crew) => link,
            () = worker.draining.cancelled() => return,
        };
        let over = consume(&worker, &crew, &link, &kickoffs).await;
        if crew.consuming.load(Ordering::Relaxed) {
            pause = PAUSE;
        }
        show_consuming(&worker, &crew, false);
        match over {
            Ok(Over::Closed) => {
                info!(crew = %crew.name, "not consuming");
                continue;
            }
            _ if worker.draining.is_cancelled() => return,
            Ok(Over::Ended) => warn!(crew = %crew.name, "RabbitMQ ended the consumer; starting it again"),
            // A link that was lost is told where it was lost, and the next one is the end of it.
            Err(_) if link.is_over() => continue,
            Err(error) => {
                let told = crew.set_trouble(Some(error.to_string()));
                if told {
                    warn!(crew = %crew.name, %error, "the crew is not served; trying again");
                    worker.news.notify_one();
                }
            }
        }
        worker.forget_declared().await;
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (2 * pause).min(LONGEST_PAUSE),
            () = link.ended() => {}
            () = worker.draining.cancelled() => {}
        }
    }
}

/// Waits until kickoffs of the crew may start: all commands are known, nobody has paused it, the broker takes replies.
async fn intake_opens(worker: &WorkerState, crew: &Crew) -> Arc<Link> {
    loop {
        crew.pause.becomes(false).await;
        let link = worker.caught_up.wait().await;
        if link.is_blocked() {
            tokio::select! {
                () = link.becomes_blocked(false) => {}
                () = link.ended() => {}
            }
        } else if !crew.pause.is_paused() {
            return link;
        }
    }
}

async fn intake_closes(worker: &WorkerState, crew: &Crew, link: &Link) {
    tokio::select! {
        () = crew.pause.becomes(true) => {}
        () = link.becomes_blocked(true) => {}
        () = worker.draining.cancelled() => {}
    }
}

async fn consume(
    worker: &Arc<WorkerState>,
    crew: &Arc<Crew>,
    link: &Arc<Link>,
    kickoffs: &TaskTracker,
) -> Result<Over, BrokerError> {
    worker.declare_crew(link, crew).await?;
    let options = ConsumeOptions {
        tag: format!("{}.{}", worker.id, crew.name),
        prefetch: crew.concurrency,
        stream_offset: None,
    };
    let mut consumer = link
        .consume(&worker.names.request_queue(&crew.name), &options)
        .await?;
    show_consuming(worker, crew, true);
    if crew.set_trouble(None) {
        worker.news.notify_one();
    }
    info!(crew = %crew.name, runner = crew.runner_name, concurrency = crew.concurrency, "consuming");
    let mut closed = false;
    let mut intake_closes = pin!(intake_closes(worker, crew, link));
    loop {
        let next = tokio::select! {
            next = consumer.next() => next,
            () = link.ended() => return Err(BrokerError::Disconnected { action: "consume".into() }),
            () = &mut intake_closes, if !closed => {
                // What is already on its way still comes out below; the pipeline requeues it, or lets it wait.
                closed = true;
                consumer.retire(link).await?;
                continue;
            }
        };
        match next {
            Some(delivery) => {
                let delivery = delivery?;
                kickoffs.spawn(pipeline::process(Arc::clone(worker), Arc::clone(crew), delivery));
            }
            None if closed => return Ok(Over::Closed),
            None => return Ok(Over::Ended),
        }
    }
}

fn show_consuming(worker: &WorkerState, crew: &Crew, consuming: bool) {
    crew.consuming.store(consuming, Ordering::Relaxed);
    let gauge = worker.metrics.consumers.with_label_values(&[crew.name.as_str()]);
    gauge.set(consuming.into());
}
