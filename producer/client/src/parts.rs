//! What a kickoff is made of, and the message that becomes of it.

use chrono::{DateTime, Utc};
use crewfleet_amqp::{Message, Properties};
use crewfleet_protocol::webhooks::WebhookFields;
use crewfleet_protocol::{CrewName, KickoffId, KickoffRequest, Names, Step, decode, message_type};
use serde_json::value::{RawValue, to_raw_value};

use crate::error::ClientError;

/// What a kickoff is made of.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) kickoff_id: KickoffId,
    pub(crate) inputs: Box<RawValue>,
    pub(crate) meta: Option<Box<RawValue>>,
    pub(crate) timeout_s: Option<f64>,
    pub(crate) deadline: Option<DateTime<Utc>>,
    pub(crate) priority: Option<u8>,
    pub(crate) then: Vec<Step>,
    pub(crate) webhooks: WebhookFields,
}

impl Parts {
    /// With nothing but inputs.
    pub(crate) fn new(kickoff_id: KickoffId, inputs: Box<RawValue>) -> Self {
        Self {
            kickoff_id,
            inputs,
            meta: None,
            timeout_s: None,
            deadline: None,
            priority: None,
            then: Vec::new(),
            webhooks: WebhookFields::default(),
        }
    }

    /// The message, as a worker would take it.
    ///
    /// # Errors
    /// [`ClientError::InvalidInput`].
    pub(crate) fn into_message(
        self,
        crew: &CrewName,
        reply_to: Option<&str>,
        names: &Names,
        max_bytes: usize,
    ) -> Result<Message, ClientError> {
        let id = self.kickoff_id.as_str();
        let mut properties = Properties::json(message_type::REQUEST)
            .with_message_id(id)
            .with_correlation_id(id);
        if let Some(key) = reply_to {
            properties = properties.with_reply_to(key);
        }
        if let Some(priority) = self.priority {
            properties = properties.with_priority(priority);
        }
        // JSON has no such number: it would silently become "no limit".
        if let Some(timeout) = self.timeout_s.filter(|timeout| !timeout.is_finite()) {
            let problem = format!("timeout_s is {timeout}; it must be greater than 0 seconds");
            return Err(ClientError::InvalidInput(problem));
        }
        let then = match self.then.as_slice() {
            [] => Ok(None),
            steps => to_raw_value(steps).map(Some),
        };
        let not_written =
            |e| ClientError::InvalidInput(format!("the kickoff cannot be written as JSON: {e}"));
        let request = KickoffRequest {
            kickoff_id: Some(id.to_owned()),
            crew: Some(crew.to_string()),
            inputs: self.inputs,
            meta: self.meta,
            timeout_s: self.timeout_s,
            deadline: self.deadline,
            then: then.map_err(not_written)?,
            chain: None,
            task_webhook_url: self.webhooks.task,
            step_webhook_url: self.webhooks.step,
            crew_webhook_url: self.webhooks.crew,
            webhooks: self.webhooks.events,
            human_input_webhook: self.webhooks.human_input,
        };
        let body = serde_json::to_vec(&request).map_err(not_written)?;
        // What a worker would reject is refused here, by the worker's own rules and in its words.
        decode(&body, &properties, crew, max_bytes).map_err(|rejection| {
            ClientError::InvalidInput(format!("{}: {}", rejection.error.kind, rejection.error.message))
        })?;
        Ok(Message {
            exchange: names.requests(),
            routing_key: crew.to_string(),
            properties,
            body,
            mandatory: true,
        })
    }
}

/// Checks a kickoff that is to be sent later, by the rules of the workers: also before there is a connection. `max_bytes` is
/// `[broker] max_request_bytes`.
///
/// # Errors
/// [`ClientError::InvalidInput`].
pub fn check(
    crew: &CrewName,
    kickoff_id: KickoffId,
    inputs: Box<RawValue>,
    max_bytes: usize,
) -> Result<(), ClientError> {
    // The names of exchanges are no part of what is checked.
    Parts::new(kickoff_id, inputs)
        .into_message(crew, None, &Names::new("kickoff"), max_bytes)
        .map(drop)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crewfleet_protocol::Webhooks;
    use crewfleet_protocol::webhooks::{Authentication, HumanInputWebhook};

    use super::*;

    fn parts(inputs: &str) -> Parts {
        Parts::new(
            KickoffId::parse("a-1").unwrap(),
            RawValue::from_string(inputs.to_owned()).unwrap(),
        )
    }

    fn message(parts: Parts) -> Result<Message, ClientError> {
        let crew = CrewName::parse("echo").unwrap();
        parts.into_message(&crew, Some("client.me"), &Names::new("kickoff"), 1000)
    }

    #[test]
    fn the_inputs_are_sent_byte_for_byte_and_the_id_stands_everywhere() {
        let sent = message(parts(r#"{"b":1.50,"a" : "\u00e4"}"#)).unwrap();
        assert_eq!(
            String::from_utf8(sent.body).unwrap(),
            r#"{"kickoff_id":"a-1","crew":"echo","inputs":{"b":1.50,"a" : "\u00e4"}}"#
        );
        assert_eq!(sent.properties.message_id(), Some("a-1"));
        assert_eq!(sent.properties.correlation_id(), Some("a-1"));
        assert_eq!(sent.properties.reply_to(), Some("client.me"));
        assert_eq!(
            (sent.exchange.as_str(), sent.routing_key.as_str()),
            ("kickoff.requests", "echo")
        );
        assert!(sent.mandatory);
    }

    #[test]
    fn what_a_worker_would_reject_is_refused_before_it_is_sent() {
        let refused = |parts: Parts| message(parts).unwrap_err().to_string();
        assert!(refused(parts("[1]")).contains("inputs is not a JSON object"));
        assert!(
            refused(parts(&format!("{{\"a\": \"{}\"}}", "x".repeat(1000))))
                .contains("[broker] max_request_bytes")
        );
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let mut limited = parts("{}");
            limited.timeout_s = Some(seconds);
            assert!(
                refused(limited).contains("must be greater than 0 seconds"),
                "{seconds}"
            );
        }
    }

    #[test]
    fn webhooks_are_sent_by_amp_s_names_and_a_bad_one_is_refused_without_its_secrets() {
        let webhooks = Webhooks {
            crew: Some("https://example.org/hook?k=hunter2".parse().unwrap()),
            ..Webhooks::default()
        };
        let mut asking = parts("{}");
        asking.webhooks = (&webhooks).into();
        let sent = String::from_utf8(message(asking).unwrap().body).unwrap();
        let field = r#""crewWebhookUrl":"https://example.org/hook?k=hunter2"}"#;
        assert!(sent.ends_with(field), "{sent}");
        let mut wrong = parts("{}");
        let user = Authentication::Basic {
            username: "a:b".into(),
            password: "hunter2".into(),
        };
        let human_input = HumanInputWebhook {
            url: "https://example.org".parse().unwrap(),
            authentication: Some(user),
        };
        let webhooks = Webhooks {
            human_input: Some(human_input),
            ..webhooks
        };
        wrong.webhooks = (&webhooks).into();
        let refused = message(wrong).unwrap_err().to_string();
        assert!(
            refused.contains("invalid_webhook: humanInputWebhook.authentication.username has a colon"),
            "{refused}"
        );
        assert!(!refused.contains("hunter2"), "{refused}");
    }
}
