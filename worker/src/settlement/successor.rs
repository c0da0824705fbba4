//! The step of a chain that follows a kickoff which has ended: its request is in its queue, confirmed, before the reply
//! to the kickoff goes out, and long before the ack.
//!
//! A worker that dies in between has its kickoff run again, and the step is published again. It is the same one then:
//! its id and its [`RunKey`](crate::intake::run_key::RunKey) are those of its place in the chain. So a step that cannot be
//! started is told, and never tried for ever.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use crewfleet_amqp::retrying::Retrying;
use crewfleet_amqp::traces::{self, Headers};
use crewfleet_amqp::{Message, Properties, PublishError, reply_code};
use crewfleet_protocol::event::event_type;
use crewfleet_protocol::topology::Reason;
use crewfleet_protocol::{
    Body, ChainLink, KickoffId, KickoffRequest, NextStep, ReplyChain, Step, decode, fingerprint, header,
    mapping, message_type,
};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use strum::{IntoStaticStr, VariantArray};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::attempt::Attempt;
use super::ended::EndedAttempt;
use super::reply;
use super::until_confirmed::{ROUND, prepare_republish};
use crate::execution::outcome::Outcome;
use crate::state::WorkerState;

/// How long making the inputs of a step may take: a path may look at everything several times over.
const MAPPING_LIMIT: Duration = Duration::from_secs(30);
/// What a reply has room for beside its result, so that the chain cannot make it too large.
const CHAIN_BYTES: usize = 8 * 1024;
/// How much of a problem a reply tells.
const PROBLEM_CHARS: usize = 500;
/// How often a step is published that no queue takes. Its queue may just be declared, or declared again.
const UNROUTABLE_TRIES: u32 = 3;
const UNROUTABLE_PAUSE: Duration = Duration::from_secs(1);

/// Why a step that should follow does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Broken {
    /// Its inputs cannot be made.
    Mapping,
    /// Its request is larger than a request may be.
    TooLarge,
    /// No queue takes requests for its crew.
    Unserved,
    /// What was made is no request.
    Refused,
}

/// A step that cannot be started.
struct Unstarted {
    why: Broken,
    problem: String,
    /// Its request, where it has one.
    request: Option<Box<Message>>,
}

impl Unstarted {
    fn new(why: Broken, problem: impl Into<String>) -> Self {
        Self {
            why,
            problem: problem.into(),
            request: None,
        }
    }
}

/// Starts what follows an attempt that is the last, and returns what the reply says of it. A result that is too large to be
/// told is none by then. `in_doubt`: it may have been started before. May be given up half-way.
pub(super) async fn follow(
    ended: &EndedAttempt<'_>,
    outcome: &mut Outcome,
    in_doubt: bool,
) -> Option<ReplyChain> {
    let place = ended.request.chain_place()?;
    let mut chain = ReplyChain {
        place,
        next: None,
        left_out: 0,
        problem: None,
    };
    let then = &ended.request.then;
    if then.is_empty() {
        return Some(chain);
    }
    let told = told(ended, outcome).await;
    let status = outcome.status()?;
    let Some(index) = then.iter().position(|step| step.when.means(status)) else {
        chain.left_out = then.len().try_into().unwrap_or(u32::MAX);
        return Some(chain);
    };
    chain.left_out = index.try_into().unwrap_or(u32::MAX);
    let next = Successor {
        ended,
        step: &then[index],
        index,
        id: KickoffId::of_step(
            ended.request.kickoff_id.as_str(),
            chain.place.step.saturating_add(1),
        ),
        link: link(ended, &chain),
    };
    match next.start(told, in_doubt).await {
        Ok(()) => {
            info!(next = %next.id, crew = %next.step.crew, "the next step of the chain is started");
            chain.next = Some(NextStep {
                kickoff_id: next.id.to_string(),
                crew: next.step.crew.to_string(),
                step: next.link.step,
            });
        }
        Err(unstarted) => chain.problem = Some(Box::pin(next.broken(unstarted)).await),
    }
    Some(chain)
}

/// The reply as it will be told, but for its chain; a result that is too large becomes a failure that says so.
async fn told(ended: &EndedAttempt<'_>, outcome: &mut Outcome) -> Vec<u8> {
    let EndedAttempt {
        worker,
        attempt,
        request,
        ..
    } = ended;
    let body = reply_body(worker, attempt, &request.kickoff_id, outcome);
    if body.len().saturating_add(CHAIN_BYTES) <= worker.broker.config.max_reply_bytes {
        return body;
    }
    *outcome = Outcome::Failed(
        Box::pin(reply::too_large(
            worker,
            attempt,
            &request.kickoff_id,
            outcome,
            &body,
        ))
        .await,
    );
    reply_body(worker, attempt, &request.kickoff_id, outcome)
}

/// The reply's body; the outcome keeps its result.
fn reply_body(
    worker: &WorkerState,
    attempt: &Attempt<'_>,
    kickoff_id: &KickoffId,
    outcome: &mut Outcome,
) -> Vec<u8> {
    let mut reply = attempt.reply(&worker.id, kickoff_id, outcome);
    let body = reply.body();
    if let (Outcome::Succeeded(kept), Some(result)) = (outcome, reply.result.take()) {
        **kept = result;
    }
    body
}

fn link(ended: &EndedAttempt<'_>, chain: &ReplyChain) -> ChainLink {
    let request = ended.request;
    ChainLink {
        id: chain.place.id.clone(),
        parent: request.kickoff_id.to_string(),
        step: chain.place.step.saturating_add(1),
        parent_hash: ended.key.body_hash(),
        crew: match &request.chain {
            Some(link) => link.crew.clone(),
            None => request.crew.to_string(),
        },
        redrive: request.redrive,
        requested_at: request.chain_moment(),
    }
}

/// The step that is to follow.
struct Successor<'a> {
    ended: &'a EndedAttempt<'a>,
    step: &'a Step,
    /// Its place in the list.
    index: usize,
    id: KickoffId,
    link: ChainLink,
}

impl Successor<'_> {
    async fn start(&self, told: Vec<u8>, in_doubt: bool) -> Result<(), Unstarted> {
        let inputs = self.inputs(told).await?;
        let message = self.message(&inputs)?;
        let again = in_doubt || self.ended.attempt.redelivered || self.ended.attempt.undecided;
        self.publish(match again {
            true => message.possible_duplicate(),
            false => message,
        })
        .await
    }

    async fn inputs(&self, told: Vec<u8>) -> Result<Map<String, Value>, Unstarted> {
        let broken = |problem| Err(Unstarted::new(Broken::Mapping, problem));
        let (template, inputs) = (self.step.inputs.clone(), self.ended.request.inputs.clone());
        let mapped = spawn_blocking(move || mapped(&template, &told, &inputs));
        match timeout(MAPPING_LIMIT, mapped).await {
            Ok(Ok(Ok(inputs))) => Ok(inputs),
            Ok(Ok(Err(problem))) => broken(format!("then[{}].{problem}", self.index)),
            Ok(Err(_)) => broken(format!(
                "then[{}].inputs cannot be made: the worker failed at it",
                self.index
            )),
            Err(_) => broken(format!(
                "then[{}].inputs are not made within {} s; give simpler paths",
                self.index,
                MAPPING_LIMIT.as_secs()
            )),
        }
    }

    /// Its request. What its crew's worker would refuse is refused here, where the chain can say so.
    fn message(&self, inputs: &Map<String, Value>) -> Result<Message, Unstarted> {
        let worker = self.ended.worker;
        let refused = |problem: String| Unstarted::new(Broken::Refused, problem);
        let body = self
            .body(inputs)
            .map_err(|error| refused(format!("then[{}] cannot be written: {error}", self.index)))?;
        let message = Message {
            exchange: worker.broker.names.requests(),
            routing_key: self.step.crew.to_string(),
            properties: self.properties(),
            body,
            mandatory: true,
        };
        let max_bytes = worker.broker.config.max_request_bytes;
        let broken = match decode(&message.body, &message.properties, &self.step.crew, max_bytes) {
            Ok(_) => return Ok(message),
            Err(rejection) if message.body.len() > max_bytes => Unstarted::new(
                Broken::TooLarge,
                format!(
                    "then[{}]: {}. Map less into its inputs",
                    self.index, rejection.error.message
                ),
            ),
            Err(rejection) => refused(format!("then[{}]: {}", self.index, rejection.error.message)),
        };
        Err(Unstarted {
            request: Some(Box::new(message)),
            ..broken
        })
    }

    /// All of the kickoff before that is for its chain: `meta`, the deadline, the webhooks; and the steps that are left, as
    /// they were sent.
    fn body(&self, inputs: &Map<String, Value>) -> serde_json::Result<Vec<u8>> {
        let mut request: KickoffRequest = serde_json::from_slice(self.ended.attempt.body)?;
        let steps: Vec<&RawValue> = match &request.then {
            Some(then) => serde_json::from_str(then.get())?,
            None => Vec::new(),
        };
        let rest = steps.get(self.index + 1..).filter(|rest| !rest.is_empty());
        request.then = rest.map(to_raw_value).transpose()?;
        request.kickoff_id = Some(self.id.to_string());
        request.crew = Some(self.step.crew.to_string());
        request.inputs = to_raw_value(inputs)?;
        request.timeout_s = self.step.timeout_s;
        request.chain = Some(self.link.clone());
        serde_json::to_vec(&request)
    }

    fn properties(&self) -> Properties {
        let attempt = self.ended.attempt;
        let properties = Properties::json(message_type::REQUEST)
            .with_correlation_id(self.id.as_str())
            .with_message_id(self.id.as_str());
        let mut properties = Headers::of(attempt.properties).write(properties);
        if let Some(key) = attempt.reply_to {
            properties = properties.with_reply_to(key);
        }
        if let Some(priority) = attempt.properties.priority() {
            properties = properties.with_priority(priority);
        }
        match attempt.redrive {
            0 => properties,
            redrive => properties.with_header_u32(header::REDRIVE, redrive),
        }
    }

    /// Publishes it, until the broker has it, or says what no further try can mend.
    async fn publish(&self, mut message: Message) -> Result<(), Unstarted> {
        let worker = self.ended.worker;
        let span = traces::publish(self.ended.attempt.trace, worker.broker.endpoint(), &mut message);
        let (mut message, mut retrying) = (Arc::new(message), Retrying::default());
        let mut unroutable = 0;
        loop {
            let Err(failure) = worker.broker.settling.publish(Arc::clone(&message), ROUND).await else {
                span.end(None);
                return Ok(());
            };
            let broken = match &failure {
                PublishError::Unroutable { .. } => {
                    unroutable += 1;
                    (unroutable == UNROUTABLE_TRIES).then(|| self.unserved())
                }
                PublishError::Broker(error) if is_too_large(error.code()) => Some(Unstarted::new(
                    Broken::TooLarge,
                    format!(
                        "then[{}]: its request has {} bytes, more than the broker takes (max_message_size). Map less into \
                         its inputs",
                        self.index,
                        message.body.len()
                    ),
                )),
                _ => None,
            };
            if let Some(broken) = broken {
                span.fail(broken.why.into());
                span.end(None);
                return Err(Unstarted {
                    request: Some(Box::new((*message).clone())),
                    ..broken
                });
            }
            if let PublishError::InDoubt { sent: true, .. } = failure {
                message = Arc::new(message.possible_duplicate());
            }
            match failure {
                // Its crew is another worker's to declare.
                PublishError::Unroutable { .. } => sleep(UNROUTABLE_PAUSE).await,
                failure => Box::pin(prepare_republish(worker, &failure, &mut retrying)).await,
            }
        }
    }

    fn unserved(&self) -> Unstarted {
        let problem = format!(
            "then[{}].crew is {:?}, and no queue takes requests for it. Start a worker that serves it, and redrive the step",
            self.index,
            self.step.crew.as_str()
        );
        Unstarted::new(Broken::Unserved, problem)
    }

    /// Tells of a step that cannot be started, and keeps its request where it can be redriven. Returns the problem as the
    /// reply tells it.
    async fn broken(&self, unstarted: Unstarted) -> String {
        let worker = self.ended.worker;
        let Unstarted {
            why,
            problem,
            request,
        } = unstarted;
        let problem: String = problem.chars().take(PROBLEM_CHARS).collect();
        if let Some(request) = request {
            self.keep(*request, &problem).await;
        }
        let labels = [self.ended.crew.name.as_str(), why.into()];
        worker
            .telemetry
            .metrics
            .chains_broken
            .with_label_values(&labels)
            .inc();
        let data = json!({"problem": problem, "crew": self.step.crew, "kickoff_id": self.id});
        self.ended.events.emit(event_type::CHAIN_BROKEN, &data);
        warn!(next = %self.id, crew = %self.step.crew, problem, "the next step of the chain cannot be started");
        problem
    }

    async fn keep(&self, request: Message, problem: &str) {
        let worker = self.ended.worker;
        let properties = request
            .properties
            .with_header(header::REASON, Reason::ChainBroken.as_str())
            .with_header(header::ERROR, problem)
            .with_header(header::FINGERPRINT, &fingerprint::of(problem))
            .with_header_u32(header::REDRIVE, self.ended.request.redrive)
            .with_header(header::DEAD_AT, &Utc::now().to_rfc3339());
        let letter = Arc::new(Message {
            exchange: worker.broker.names.unroutable(),
            properties,
            ..request
        });
        let mut retrying = Retrying::default();
        while let Err(failure) = worker.broker.settling.publish(Arc::clone(&letter), ROUND).await {
            if let PublishError::Broker(error) = &failure
                && is_too_large(error.code())
            {
                warn!(
                    "the step's request is larger than the broker takes, so it is not kept in the dead letters"
                );
                return;
            }
            Box::pin(prepare_republish(worker, &failure, &mut retrying)).await;
        }
    }
}

fn is_too_large(code: Option<u16>) -> bool {
    matches!(
        code,
        Some(reply_code::PRECONDITION_FAILED | reply_code::CONTENT_TOO_LARGE)
    )
}

/// The inputs by their template; `told` is the reply to the kickoff before, `inputs` are that kickoff's.
fn mapped(
    template: &Map<String, Value>,
    told: &[u8],
    inputs: &RawValue,
) -> Result<Map<String, Value>, String> {
    let read = || -> serde_json::Result<Value> {
        let mut root: Map<String, Value> = serde_json::from_slice(told)?;
        root.insert("inputs".to_owned(), serde_json::from_str(inputs.get())?);
        Ok(Value::Object(root))
    };
    let root =
        read().map_err(|error| format!("inputs cannot be made: the reply before cannot be read: {error}"))?;
    mapping::map(template, &root).map_err(|error| error.to_string())
}
