//! Telling of a step that cannot be started, and keeping its request.

use std::sync::Arc;

use chrono::Utc;
use crewfleet_amqp::retrying::Retrying;
use crewfleet_amqp::{Message, PublishError};
use crewfleet_protocol::event::event_type;
use crewfleet_protocol::topology::{RETRY_TIERS, Reason};
use crewfleet_protocol::{fingerprint, header};
use serde_json::json;
use tracing::warn;

use super::step::Successor;
use super::unstarted::{Unstarted, is_too_large};
use crate::settlement::until_confirmed::{ROUND, prepare_republish};

/// How much of a problem a reply tells.
const PROBLEM_CHARS: usize = 500;

/// Tells of a step that cannot be started, and keeps its request where it can be redriven. Returns the problem as the reply
/// tells it.
pub(super) async fn tell(next: &Successor<'_>, unstarted: Unstarted) -> String {
    let worker = next.ended.worker;
    let problem: String = unstarted.problem.chars().take(PROBLEM_CHARS).collect();
    if let Some(request) = unstarted.request
        && keep(next, *request, &problem).await
    {
        // Whoever asks for a chain names its crews, and each name would be a series.
        let labels = [next.ended.crew.name.as_str(), Reason::ChainBroken.as_str()];
        let dead_lettered = &worker.telemetry.metrics.dead_lettered;
        dead_lettered.with_label_values(&labels).inc();
    }
    let labels = [next.ended.crew.name.as_str(), unstarted.why.into()];
    worker
        .telemetry
        .metrics
        .chains_broken
        .with_label_values(&labels)
        .inc();
    let data = json!({"problem": problem, "crew": next.step.crew, "kickoff_id": next.id});
    next.ended.events.emit(event_type::CHAIN_BROKEN, &data);
    warn!(next = %next.id, crew = %next.step.crew, problem, "the next step of the chain cannot be started");
    problem
}

/// Keeps it in the dead letters of its crew. Those of a crew that nobody serves it reaches as all does that returns for a
/// crew which is gone: by a retry tier. No worker needs the right to write there itself.
///
/// `false`: the broker refuses it for its size.
async fn keep(next: &Successor<'_>, request: Message, problem: &str) -> bool {
    let worker = next.ended.worker;
    let properties = request
        .properties
        .with_header(header::REASON, Reason::ChainBroken.as_str())
        .with_header(header::ERROR, problem)
        .with_header(header::FINGERPRINT, &fingerprint::of(problem))
        .with_header_u32(header::REDRIVE, next.ended.request.redrive)
        .with_header(header::DEAD_AT, &Utc::now().to_rfc3339());
    let mut letter = Arc::new(Message {
        exchange: worker.broker.names.dead_letters(),
        properties,
        ..request
    });
    let shortest = worker.broker.names.retry(RETRY_TIERS[0].0);
    let mut retrying = Retrying::default();
    while let Err(failure) = worker.broker.settling.publish(Arc::clone(&letter), ROUND).await {
        match &failure {
            PublishError::Broker(error) if is_too_large(error.code()) => {
                warn!("the step's request is larger than the broker takes, and is not kept");
                return false;
            }
            PublishError::Unroutable { .. } if letter.exchange != shortest => {
                letter = Arc::new(Message {
                    exchange: shortest.clone(),
                    ..(*letter).clone()
                });
            }
            _ => Box::pin(prepare_republish(worker, &failure, &mut retrying)).await,
        }
    }
    true
}
