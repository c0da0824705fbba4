//! The request of a step, and publishing it.

use std::sync::Arc;
use std::time::Duration;

use crewfleet_amqp::retrying::Retrying;
use crewfleet_amqp::traces::{self, Headers};
use crewfleet_amqp::{Message, Properties, PublishError};
use crewfleet_protocol::{ChainLink, KickoffId, KickoffRequest, Step, decode, header, mapping, message_type};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::unstarted::{Broken, Unstarted, is_too_large};
use crate::settlement::ended_attempt::EndedAttempt;
use crate::settlement::until_confirmed::{ROUND, prepare_republish};

/// How long making the inputs of a step may take: a path may look at everything several times over.
const MAPPING_LIMIT: Duration = Duration::from_secs(30);
/// How often a step is published that no queue takes. Its queue may just be declared, or declared again.
const UNROUTABLE_TRIES: u32 = 3;
const UNROUTABLE_PAUSE: Duration = Duration::from_secs(1);

/// The step that is to follow.
pub(super) struct Successor<'a> {
    pub(super) ended: &'a EndedAttempt<'a>,
    pub(super) step: &'a Step,
    /// Its place in the list.
    pub(super) index: usize,
    pub(super) id: KickoffId,
    pub(super) link: ChainLink,
}

impl Successor<'_> {
    /// Has it in its queue, confirmed. `told` is the reply to the kickoff before. `in_doubt`: it may be there already.
    pub(super) async fn start(&self, told: Vec<u8>, in_doubt: bool) -> Result<(), Unstarted> {
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
        let (index, crew) = (self.index, self.step.crew.as_str());
        let problem = format!(
            "then[{index}].crew is {crew:?}, and no queue takes requests for it. Start a worker that serves it, and redrive the \
             step"
        );
        Unstarted::new(Broken::Unserved, problem)
    }
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
