//! Replies on their way to their requesters.

use std::sync::Arc;
use std::time::Duration;

use crewfleet_amqp::retrying::Retrying;
use crewfleet_amqp::traces::{self, Span};
use crewfleet_amqp::{Message, Properties, PublishError, reply_code};
use crewfleet_protocol::{KickoffError, KickoffId, Request};
use serde_json::json;
use tracing::{info, warn};

use super::attempt::Attempt;
use super::messages;
use super::until_confirmed::{ROUND, prepare_republish, publish_until_confirmed};
use crate::execution::outcome::Outcome;
use crate::state::WorkerState;

/// How long a queue of a requester's is tried.
const QUEUE_REPLY_LIMIT: Duration = Duration::from_secs(5);

/// Publishes the reply, until the broker has it. What cannot be sent becomes a failure that says so. `in_doubt`: it may have
/// gone out before. May be given up half-way.
///
/// Returns the reply; `None` where nobody can be told.
pub(super) async fn publish_reply(
    worker: &WorkerState,
    attempt: &Attempt<'_>,
    outcome: &mut Outcome,
    in_doubt: bool,
) -> Option<Arc<Message>> {
    let kickoff_id = attempt.kickoff_id?;
    let (mut message, mut span) = traced_reply(worker, attempt, kickoff_id, outcome, in_doubt);
    let (mut shortened, mut retrying) = (false, Retrying::default());
    loop {
        let failure = if message.body.len() > worker.broker.config.max_reply_bytes && !shortened {
            None
        } else {
            if let Some(webhooks) = attempt.webhooks {
                Box::pin(webhooks.ended(&message.body)).await;
            }
            match worker.broker.settling.publish(Arc::clone(&message), ROUND).await {
                Ok(()) => {
                    if retrying.works() {
                        info!("published after all");
                    }
                    span.end(None);
                    return Some(message);
                }
                Err(failure) => Some(failure),
            }
        };
        match failure {
            // The broker may take less than we were told. The crew is not run again for that.
            Some(PublishError::Broker(e))
                if e.code() == Some(reply_code::PRECONDITION_FAILED) && !shortened => {}
            Some(failure) => {
                Box::pin(prepare_republish(worker, &failure, &mut retrying)).await;
                continue;
            }
            None => {}
        }
        span.fail("result_too_large");
        span.end(None);
        *outcome =
            Outcome::Failed(Box::pin(too_large(worker, attempt, kickoff_id, outcome, &message.body)).await);
        (message, span) = traced_reply(worker, attempt, kickoff_id, outcome, in_doubt);
        shortened = true;
    }
}

/// The reply, and the span of publishing it.
fn traced_reply(
    worker: &WorkerState,
    attempt: &Attempt<'_>,
    kickoff_id: &KickoffId,
    outcome: &mut Outcome,
    in_doubt: bool,
) -> (Arc<Message>, Span) {
    let mut message = messages::reply(worker, attempt, kickoff_id, outcome);
    if in_doubt {
        message = message.possible_duplicate();
    }
    let span = traces::publish(attempt.trace, worker.broker.endpoint(), &mut message);
    (Arc::new(message), span)
}

/// Keeps what cannot be sent in a file, and says where.
async fn too_large(
    worker: &WorkerState,
    attempt: &Attempt<'_>,
    kickoff_id: &KickoffId,
    outcome: &Outcome,
    body: &[u8],
) -> KickoffError {
    let dir = worker.limits.work_dirs.results();
    let file = dir.join(format!(
        "{kickoff_id}-{}-{}.json",
        attempt.redrive, attempt.attempt
    ));
    let kept = async {
        tokio::fs::create_dir_all(&dir).await?;
        tokio::fs::write(&file, body).await
    };
    let place = match kept.await {
        Ok(()) => format!(
            "the whole reply is kept in {} on worker {}",
            file.display(),
            worker.id
        ),
        Err(e) => format!("it could not be kept in {} either: {e}", file.display()),
    };
    worker
        .limits
        .work_dirs
        .kept_result(file.clone(), body.len() as u64);
    let (bytes, limit) = (body.len(), worker.broker.config.max_reply_bytes);
    let message = format!(
        "the reply has {bytes} bytes; at most {limit} are sent ([broker] max_reply_bytes, and the broker's own \
         max_message_size); {place}"
    );
    KickoffError::new("result_too_large", message).with_detail(&json!({
        "bytes": bytes,
        "limit": limit,
        "file": file,
        "worker": worker.id,
        "status": outcome.status(),
    }))
}

/// Publishes a reply that this process has given before: where this copy of the request wants it.
pub(crate) async fn republish_reply(
    worker: &WorkerState,
    request: &Request,
    properties: &Properties,
    body: &[u8],
) {
    let reply_to = request.reply_to.as_deref();
    let message = messages::reply_with(worker, &request.kickoff_id, properties, reply_to, body.to_vec());
    publish_until_confirmed(worker, message).await;
}

/// Tells a requester who waits at a queue of its own, as RPC clients do, what it would wait for in vain: it need not know of our
/// exchange. Once, since the reply itself is told.
pub(crate) async fn reply_to_queue(worker: &WorkerState, queue: &str, reply: &Message) {
    let message = Message {
        exchange: String::new(),
        routing_key: queue.to_owned(),
        properties: reply.properties.for_republish(),
        body: reply.body.clone(),
        mandatory: false,
    };
    if let Err(error) = worker.broker.publisher.publish(message, QUEUE_REPLY_LIMIT).await {
        warn!(queue, %error, "the requester is not told at its queue; the reply is on the reply exchange");
    }
}
