//! One kickoff before it is sent.

use std::future::IntoFuture;
use std::mem::{replace, take};
use std::pin::Pin;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use crewfleet_amqp::Message;
use crewfleet_amqp::traces::Headers;
use crewfleet_protocol::webhooks::WebhookFields;
use crewfleet_protocol::{CrewName, KickoffId, Step};
use serde::Serialize;
use serde_json::value::to_raw_value;

use crate::connection::Connection;
use crate::error::ClientError;
use crate::handle::KickoffHandle;
use crate::parts::Parts;

/// A kickoff that is being put together. Awaiting it sends it, and gives its [`KickoffHandle`]:
///
/// ```no_run
/// # async fn example(client: &crewfleet::KickoffClient) -> Result<(), crewfleet::ClientError> {
/// let inputs = serde_json::json!({"BUSINESS_DETAILS": "a bakery"});
/// let mut handle = client.kickoff("marketing", &inputs).timeout_s(300.0).await?;
/// let reply = handle.reply().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a kickoff is sent when it is awaited"]
pub struct Kickoff {
    pub(crate) connection: Arc<Connection>,
    crew: String,
    parts: Result<Parts, ClientError>,
    pub(crate) events: bool,
    possible_duplicate: bool,
    reply_to: Option<String>,
    /// The trace that it belongs to, where no span of ours does.
    context: Headers,
}

impl Kickoff {
    pub(crate) fn new(connection: Arc<Connection>, crew: &str, inputs: &(impl Serialize + ?Sized)) -> Self {
        let parts = to_raw_value(inputs)
            .map(|inputs| Parts::new(KickoffId::generate(), inputs))
            .map_err(|e| ClientError::InvalidInput(format!("the inputs cannot be written as JSON: {e}")));
        Self {
            connection,
            crew: crew.to_owned(),
            parts,
            events: false,
            possible_duplicate: false,
            reply_to: None,
            context: Headers::default(),
        }
    }

    /// Under this id instead of a new UUIDv7. The same request under an id that ran already is not run again as long as the
    /// worker that gets it remembers it; [`Self::known`] looks before it is sent.
    pub fn id(self, kickoff_id: KickoffId) -> Self {
        self.with(|parts| parts.kickoff_id = kickoff_id)
    }

    /// Under the id that an idempotency key stands for: the same as over HTTP, and in the package for Python. See
    /// [`Self::id`].
    pub fn idempotency_key(self, key: &str) -> Self {
        match CrewName::parse(&self.crew) {
            Ok(crew) => self.id(KickoffId::of_key(&crew, key)),
            // It is refused when it is sent.
            Err(_) => self,
        }
    }

    /// With `meta`, which is opaque to crewfleet and comes back in the reply and in every event. At most 16 KiB.
    pub fn meta(mut self, meta: &(impl Serialize + ?Sized)) -> Self {
        match to_raw_value(meta) {
            Ok(meta) => self.with(|parts| parts.meta = Some(meta)),
            Err(e) => {
                let problem = format!("meta cannot be written as JSON: {e}");
                self.parts = Err(ClientError::InvalidInput(problem));
                self
            }
        }
    }

    /// With this time limit, in seconds; it may lower the crew's own, not raise it.
    pub fn timeout_s(self, seconds: f64) -> Self {
        self.with(|parts| parts.timeout_s = Some(seconds))
    }

    /// Not to be started after this moment; its reply is then `expired`.
    pub fn deadline(self, deadline: DateTime<Utc>) -> Self {
        self.with(|parts| parts.deadline = Some(deadline))
    }

    /// With an AMQP priority. RabbitMQ heeds it on quorum queues from 4.0 on: above 4 is high.
    pub fn priority(self, priority: u8) -> Self {
        self.with(|parts| parts.priority = Some(priority))
    }

    /// Followed by this step, and after that by those that are added later: at most 20. The worker that ends a kickoff starts
    /// the next step; [`KickoffHandle::chain_reply`] waits for the last one.
    ///
    /// ```no_run
    /// # async fn example(client: &crewfleet::KickoffClient) -> Result<(), Box<dyn std::error::Error>> {
    /// use crewfleet::Step;
    ///
    /// let mut review = Step::new("review".parse()?);
    /// review.inputs.insert("draft".into(), "$.result.raw".into());
    /// let inputs = serde_json::json!({"topic": "lamps"});
    /// let mut handle = client.kickoff("write", &inputs).then(review).await?;
    /// let reply = handle.chain_reply().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn then(self, step: Step) -> Self {
        self.with(|parts| parts.then.push(step))
    }

    /// With webhooks: where it is to be told of what happens to it.
    ///
    /// ```no_run
    /// # fn example(client: &crewfleet::KickoffClient) -> Result<(), String> {
    /// use crewfleet::Webhooks;
    ///
    /// let crew = Some("https://example.org/hook".parse()?);
    /// let kickoff = client.kickoff("marketing", &()).webhooks(&Webhooks { crew, ..Webhooks::default() });
    /// # drop(kickoff);
    /// # Ok(())
    /// # }
    /// ```
    pub fn webhooks(self, webhooks: impl Into<WebhookFields>) -> Self {
        let webhooks = webhooks.into();
        self.with(|parts| parts.webhooks = webhooks)
    }

    /// With its events from the first one on: [`KickoffHandle::events`] is bound before the kickoff is sent.
    pub fn with_events(mut self) -> Self {
        self.events = true;
        self
    }

    /// Marked as one that somebody may have sent before: the worker that gets it asks the others whether one of them has it,
    /// which takes some seconds where none has.
    pub fn possible_duplicate(mut self) -> Self {
        self.possible_duplicate = true;
        self
    }

    /// Where it is [detached](Self::detach): with a key of somebody else, to whom its reply goes.
    pub fn reply_to(mut self, key: &str) -> Self {
        self.reply_to = Some(key.to_owned());
        self
    }

    /// The body of the request that is sent: the same for the same inputs and options, so that two who send it under one id
    /// can tell that it is one kickoff.
    ///
    /// # Errors
    /// As awaiting it, where it is never sent.
    pub fn body(&self) -> Result<Vec<u8>, ClientError> {
        let (_, message, _) = self.preview()?;
        Ok(message.body)
    }

    /// In the trace that these headers name, such as those of a request that the program itself answers; also where it has no
    /// spans of its own. Headers that are none of W3C's trace context are left out.
    pub fn context(mut self, context: Headers) -> Self {
        self.context = context.checked();
        self
    }

    /// Sends it without asking for the reply to come here. Its reply can still be had with the id, from
    /// anywhere: [`KickoffClient::attach`](crate::KickoffClient::attach).
    ///
    /// # Errors
    /// As awaiting it.
    pub async fn detach(self) -> Result<KickoffId, ClientError> {
        let mut kickoff = self;
        let key = kickoff.reply_to.take();
        let (crew, message, kickoff_id) = kickoff.message(key.as_deref())?;
        kickoff.connection.publish(&crew, &kickoff_id, message).await?;
        Ok(kickoff_id)
    }

    /// The message that it would become, without a reply's address; it can still be sent.
    pub(crate) fn preview(&self) -> Result<(CrewName, Message, KickoffId), ClientError> {
        self.message_of(self.parts.clone()?, None)
    }

    fn with(mut self, change: impl FnOnce(&mut Parts)) -> Self {
        if let Ok(parts) = &mut self.parts {
            change(parts);
        }
        self
    }

    /// It is sent once; its inputs may be large.
    fn message(&mut self, reply_to: Option<&str>) -> Result<(CrewName, Message, KickoffId), ClientError> {
        let sent = ClientError::InvalidInput("this kickoff was sent already".into());
        let parts = replace(&mut self.parts, Err(sent))?;
        self.message_of(parts, reply_to)
    }

    fn message_of(
        &self,
        parts: Parts,
        reply_to: Option<&str>,
    ) -> Result<(CrewName, Message, KickoffId), ClientError> {
        let crew = CrewName::parse(&self.crew).map_err(|e| ClientError::InvalidInput(e.to_string()))?;
        let kickoff_id = parts.kickoff_id.clone();
        let mut message = parts.into_message(
            &crew,
            reply_to,
            &self.connection.names,
            self.connection.max_request_bytes,
        )?;
        message.properties = self.context.clone().write(take(&mut message.properties));
        if self.possible_duplicate {
            message = message.possible_duplicate();
        }
        Ok((crew, message, kickoff_id))
    }

    /// Wait, then publish: the reply may be faster than the confirm.
    async fn send(mut self) -> Result<KickoffHandle, ClientError> {
        let key = self.connection.reply_key.clone();
        let steps = self.parts.as_ref().map_or(0, |parts| parts.then.len());
        let (crew, message, kickoff_id) = self.message(Some(&key))?;
        let mut handle = KickoffHandle::new(Arc::clone(&self.connection), &kickoff_id).followed_by(steps);
        self.connection.open_replies(&crew).await?;
        if self.events {
            handle.follow().await?;
        }
        self.connection.publish(&crew, &kickoff_id, message).await?;
        Ok(handle)
    }
}

impl IntoFuture for Kickoff {
    type Output = Result<KickoffHandle, ClientError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
