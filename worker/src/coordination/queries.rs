//! Questions that anybody asks of one worker, or of all: for parts of kickoffs' files, for a heartbeat at once, for the
//! kickoffs that it has, and for the JSON Schema of a crew's inputs; which kickoffs somebody follows; and what the workers say to each other.
//!
//! A worker that is asked by its name answers; where nobody is named, only one that knows does. Who asks gets the
//! answer under a key of its own. Few are answered at once, off the runtime, so no kickoff waits for them.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use crewfleet_amqp::retrying::Retrying;
use crewfleet_amqp::{BrokerError, Delivery, Link, Message, reply_code};
use crewfleet_protocol::control::TALK_KEY;
use crewfleet_protocol::query::FOLLOW_KEY;
use crewfleet_protocol::topology::QUERY_LIFETIME;
use crewfleet_protocol::{Answer, Answered, Control, Query, Question, SchemaAsked};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::coordination::control;
use crate::folders::retention::blocking;
use crate::lifecycle::panics::caught;
use crate::lifecycle::part::Part;
use crate::state::WorkerState;

/// How many questions are answered at once; each holds a part of a file in memory.
const AT_ONCE: u16 = 16;
/// The pause before listening begins again where we have no right to: a person must mend that.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// Answers until the worker ends.
pub(crate) async fn run(worker: Arc<WorkerState>) {
    let mut retrying = Retrying::default();
    loop {
        let link = worker.broker.connected().await;
        let mut pause = retrying.pause();
        if let Err(error) = listen(&worker, &link, &mut retrying).await {
            if !error.is_refusal() {
                debug!(%error, "questions are not heard; trying again");
            } else if retrying.failed(&error) {
                warn!(%error, "this worker cannot be asked for its kickoffs, nor for their files; trying again");
            }
            pause = match error.code() {
                Some(reply_code::ACCESS_REFUSED) => REFUSED_PAUSE,
                _ => retrying.pause(),
            };
        }
        let _ = timeout(pause, link.ended()).await;
    }
}

async fn listen(
    worker: &Arc<WorkerState>,
    link: &Arc<Link>,
    retrying: &mut Retrying,
) -> Result<(), BrokerError> {
    // Without the crews' queues: what is wrong with one of them is told where that crew is consumed.
    worker.broker.declare(link).await?;
    let client = worker.broker.config.client_id(&worker.id);
    let queue = worker.broker.names.client_queue(&format!("{client}.queries"));
    let names = &worker.broker.names;
    let bindings = [
        (names.queries(), worker.id.clone()),
        (names.queries(), String::new()),
        (names.queries(), FOLLOW_KEY.to_owned()),
        (names.talk(), TALK_KEY.to_owned()),
    ];
    let mut consumer = link.consume_ephemeral(&queue, &bindings, AT_ONCE).await?;
    if retrying.works() {
        info!("this worker can be asked again");
    }
    // They end with the link: an answer could not be sent.
    let mut answering = JoinSet::new();
    loop {
        tokio::select! {
            next = consumer.next() => match next.transpose()? {
                // In their order, and so not in tasks of their own.
                Some(delivery) if delivery.routing_key == TALK_KEY => {
                    hear(worker, &delivery.body);
                    delivery.ack().await;
                }
                Some(delivery) if delivery.routing_key == FOLLOW_KEY => {
                    follow(worker, &delivery.body);
                    delivery.ack().await;
                }
                Some(delivery) => {
                    let worker = Arc::clone(worker);
                    answering.spawn(async move {
                        // A panic is told; who asked asks again.
                        let _ = caught(&worker.telemetry.metrics, Part::Queries, attend(&worker, &delivery)).await;
                        delivery.ack().await;
                    });
                }
                None => return Ok(()),
            },
            Some(_) = answering.join_next() => {}
        }
    }
}

fn hear(worker: &WorkerState, talk: &[u8]) {
    match serde_json::from_slice::<Control>(talk) {
        Ok(control) => control::apply_talk(worker, control),
        // Another version's.
        Err(error) => debug!(%error, "talk of another worker that this one does not know"),
    }
}

fn follow(worker: &WorkerState, told: &[u8]) {
    match serde_json::from_slice::<Query>(told) {
        Ok(Query {
            question: Question::Follow(told),
            ..
        }) => worker.telemetry.followers.hear(told),
        Ok(_) => debug!("a question under the key of followers"),
        // Another version's.
        Err(error) => debug!(%error, "what a follower tells, and this worker does not know"),
    }
}

/// Acked when it is answered: so the broker sends no more than can be answered at once.
async fn attend(worker: &WorkerState, delivery: &Delivery) {
    match serde_json::from_slice::<Query>(&delivery.body) {
        Ok(Query {
            question: Question::Beat,
            ..
        }) => worker.lifecycle.heartbeat_due.notify_one(),
        Ok(query) => answer(worker, query, delivery.properties.reply_to()).await,
        // Another version's question, or nobody's: not ours to judge.
        Err(error) => debug!(%error, "a question that this worker does not know"),
    }
}

async fn answer(worker: &WorkerState, query: Query, reply_to: Option<&str>) {
    let named = query.worker.as_deref();
    let Some(key) = reply_to.filter(|_| named.is_none_or(|named| named == worker.id)) else {
        return;
    };
    let Some(answer) = answer_to(worker, query.question, named.is_some()).await else {
        return;
    };
    let answer = Answer {
        id: query.id,
        time: Utc::now(),
        worker: worker.id.clone(),
        answer,
    };
    let message = Message::from(answer.message(&worker.broker.names, key));
    if let Err(error) = worker.broker.publisher.publish(message, QUERY_LIFETIME).await {
        debug!(id = answer.id, %error, "an answer is lost; who asked asks again");
    }
}

/// `None` where this worker does not know, and nobody asked it by its name.
async fn answer_to(worker: &WorkerState, question: Question, is_named: bool) -> Option<Answered> {
    let missing = |reason: String| is_named.then_some(Answered::Missing { reason });
    let asked = match question {
        Question::File(asked) => asked,
        Question::InputsSchema(asked) => {
            let schema = schema_asked(worker, &asked);
            return schema.or_else(|| missing(no_such_schema(worker, &asked)));
        }
        Question::Kickoffs(asked) => {
            let (kickoffs, left_out) = worker.runs.held(&asked);
            return Some(Answered::Kickoffs { kickoffs, left_out });
        }
        Question::Beat | Question::Follow(_) => return None,
    };
    let offset = asked.offset;
    let files = worker.limits.work_dirs.files().clone();
    let path = asked.path.clone();
    match blocking(move || files.read(&asked)).await {
        Ok(Some(part)) => Some(Answered::part(offset, part.bytes_total, &part.data)),
        Ok(None) => missing(no_longer(worker, &path)),
        Err(error) => {
            warn!(path, %error, "a file that is kept cannot be read");
            missing(format!("worker {} cannot read {path:?}: {error}", worker.id))
        }
    }
}

fn schema_asked(worker: &WorkerState, asked: &SchemaAsked) -> Option<Answered> {
    let crew = worker
        .crews
        .iter()
        .find(|crew| crew.name.as_str() == asked.crew)?;
    let schema = crew
        .inputs_schema()
        .filter(|schema| schema.hash() == asked.hash)?;
    let schema = schema.json().to_owned();
    Some(Answered::InputsSchema { schema })
}

fn no_such_schema(worker: &WorkerState, asked: &SchemaAsked) -> String {
    let (worker, SchemaAsked { crew, hash }) = (&worker.id, asked);
    format!(
        "worker {worker} has no JSON Schema {hash} of the inputs of crew {crew:?}; its heartbeat says which one it has"
    )
}

fn no_longer(worker: &WorkerState, path: &str) -> String {
    format!(
        "worker {} does not keep {path:?}, or no longer: files are kept for {} s ([worker] keep_files_s), and the oldest go \
         first when there are more than {} of them ([worker] disk_limit)",
        worker.id, worker.config.keep_files_s, worker.config.disk_limit
    )
}
