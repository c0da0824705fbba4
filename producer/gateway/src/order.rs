//! A kickoff that somebody asks a gateway for, before it is taken.

use chrono::{DateTime, Utc};
use crewfleet::{Kickoff, KickoffId};
use crewfleet_amqp::traces::Headers;
use crewfleet_protocol::webhooks::WebhookFields;
use crewfleet_protocol::{ChainPlace, CrewName, Step, body_hash};
use serde_json::json;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::gateway::Gateway;
use crate::http::api_error::ApiError;
use crate::http::webhooks;
use crate::store::row::{self, millis};

/// A kickoff that somebody asks for.
pub(crate) struct Order {
    pub(crate) id: KickoffId,
    pub(crate) crew: CrewName,
    pub(crate) kickoff: Kickoff,
    meta: Option<Box<RawValue>>,
    pub(crate) body: Vec<u8>,
    /// What its caller is to know of it.
    pub(crate) note: Option<&'static str>,
    /// Steps follow it.
    begins_chain: bool,
    /// Others may ask for it under the same id.
    pub(crate) is_named: bool,
    /// Whatever body the first of them had is the right one.
    pub(crate) first_counts: bool,
    /// Where its reply goes, beside all who wait for it by its id.
    pub(crate) reply_to: Option<String>,
}

impl Order {
    /// With this id, and what comes back in each reply.
    ///
    /// # Errors
    /// As [`Gateway::order`].
    pub(crate) fn new(
        crew: CrewName,
        id: KickoffId,
        kickoff: Kickoff,
        meta: Option<Box<RawValue>>,
        note: Option<&'static str>,
    ) -> Result<Self, ApiError> {
        let mut kickoff = kickoff.id(id.clone());
        if let Some(meta) = &meta {
            kickoff = kickoff.meta(meta);
        }
        Ok(Self {
            body: kickoff.body()?,
            id,
            crew,
            kickoff,
            meta,
            note,
            begins_chain: false,
            is_named: false,
            first_counts: false,
            reply_to: None,
        })
    }

    /// The same under another id.
    ///
    /// # Errors
    /// As [`Gateway::order`].
    pub(crate) fn under(self, id: KickoffId) -> Result<Self, ApiError> {
        let begins_chain = self.begins_chain;
        let order = Self::new(self.crew, id, self.kickoff, self.meta, self.note)?;
        Ok(Self {
            begins_chain,
            ..order
        })
    }

    /// Followed by these steps.
    ///
    /// # Errors
    /// As [`Gateway::order`].
    pub(crate) fn then(mut self, steps: Vec<Step>) -> Result<Self, ApiError> {
        if steps.is_empty() {
            return Ok(self);
        }
        for step in steps {
            self.kickoff = self.kickoff.then(step);
        }
        self.begins_chain = true;
        self.body = self.kickoff.body()?;
        Ok(self)
    }

    /// Its place in the chain that it begins, where it does.
    fn chain(&self) -> Option<ChainPlace> {
        self.begins_chain.then(|| ChainPlace {
            id: self.id.to_string(),
            parent: None,
            step: 0,
        })
    }

    /// Under an id that its caller chose.
    pub(crate) fn named(mut self) -> Self {
        self.is_named = true;
        self
    }

    /// Under an id that all gateways make alike, with a body that may differ a little: the first one counts.
    pub(crate) fn first_counts(self) -> Self {
        Self {
            first_counts: true,
            ..self.named()
        }
    }

    /// Answered to this key.
    pub(crate) fn reply_to(mut self, key: &str) -> Self {
        self.kickoff = self.kickoff.reply_to(key);
        self.reply_to = Some(key.to_owned());
        self
    }

    /// In the trace that its caller names.
    pub(crate) fn in_context(mut self, context: Headers) -> Self {
        self.kickoff = self.kickoff.context(context);
        self
    }

    /// The kickoff that it becomes.
    pub(crate) fn kickoff(&self) -> row::Kickoff {
        row::Kickoff {
            meta: self.meta.as_deref().map(|meta| meta.get().to_owned()),
            chain: self.chain().map(row::begun),
            ..row::Kickoff::new(self.id.as_str(), self.crew.as_str(), millis(Utc::now()))
        }
    }

    pub(crate) fn body_hash(&self) -> String {
        body_hash(&Sha256::digest(&self.body).into())
    }
}

/// What a caller may say of the time of a kickoff.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    /// Lowers its crew's limit, in seconds.
    pub(crate) timeout_s: Option<f64>,
    /// It is not started after this moment.
    pub(crate) deadline: Option<DateTime<Utc>>,
}

impl Gateway {
    /// An order of a kickoff.
    ///
    /// # Errors
    /// [`ApiError::Validation`], where it is no request, or lacks inputs that its crew must be given.
    pub(crate) fn order(
        &self,
        crew: CrewName,
        id: KickoffId,
        inputs: &RawValue,
        meta: Option<Box<RawValue>>,
        times: Times,
        webhooks: WebhookFields,
    ) -> Result<Order, ApiError> {
        let of_crew = self.crews.inputs(&crew).unwrap_or_default();
        checked_inputs(inputs, of_crew.required())?;
        self.order_unchecked(crew, id, inputs, meta, times, webhooks)
    }

    /// The same, whatever inputs its crew must be given.
    ///
    /// # Errors
    /// [`ApiError::Validation`], where it is no request.
    pub(crate) fn order_unchecked(
        &self,
        crew: CrewName,
        id: KickoffId,
        inputs: &RawValue,
        meta: Option<Box<RawValue>>,
        times: Times,
        webhooks: WebhookFields,
    ) -> Result<Order, ApiError> {
        let mut kickoff = self.client.kickoff(crew.as_str(), inputs);
        if let Some(seconds) = times.timeout_s {
            kickoff = kickoff.timeout_s(seconds);
        }
        if let Some(deadline) = times.deadline {
            kickoff = kickoff.deadline(deadline);
        }
        let note = webhooks::note(&webhooks);
        Order::new(crew, id, kickoff.webhooks(webhooks), meta, note)
    }
}

/// Refuses inputs that are no object, or that lack some which the crew must be given.
pub(crate) fn checked_inputs(inputs: &RawValue, required: &[String]) -> Result<(), ApiError> {
    if !inputs.get().trim_start().starts_with('{') {
        let problem = "inputs is not a JSON object, as in {\"TOPIC\": \"bread\"}";
        return Err(ApiError::validation(problem));
    }
    let lacking = crewfleet::inputs::missing(required, inputs);
    match lacking.is_empty() {
        true => Ok(()),
        false => Err(ApiError::Validation {
            message: "Missing required inputs".into(),
            details: json!({ "missing_inputs": lacking }),
        }),
    }
}
