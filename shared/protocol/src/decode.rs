//! From the bytes of a message to a [`Request`], or to a [`Rejection`] that says what is wrong with it.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;

use super::header::IDEMPOTENCY_KEY;
use super::id::{CrewName, KickoffId};
use super::message_type;
use super::reply::KickoffError;
use super::request::{KickoffRequest, Request};
use super::webhooks::Webhooks;

/// How deep a request may be nested: what every common JSON reader accepts by default.
pub const MAX_DEPTH: usize = 128;

/// How many bytes `meta` may have: it is repeated in the reply and in every event.
pub const MAX_META_BYTES: usize = 16 * 1024;

/// How many bytes an idempotency key may have.
pub const MAX_KEY_BYTES: usize = 255;

/// A message that is not a kickoff request, with all that could still be read of it.
#[derive(Debug, Clone)]
pub struct Rejection {
    /// What is wrong, as it goes into the reply and the dead letter.
    pub error: KickoffError,
    /// On which id the requester can be told; `None` when the message names no valid one.
    pub kickoff_id: Option<KickoffId>,
    /// The extra routing key, when it is usable.
    pub reply_to: Option<String>,
    /// The request's `meta`, as far as the body could be read.
    pub meta: Option<Box<RawValue>>,
    /// The webhooks that it asks for, as far as the body could be read.
    pub webhooks: Option<Box<Webhooks>>,
    /// From the headers, 1 when absent.
    pub attempt: u32,
    /// From the headers, 0 when absent.
    pub redrive: u32,
    /// From the `timestamp` property.
    pub requested_at: Option<DateTime<Utc>>,
}

/// What is read of a message's properties.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestProperties<'a> {
    /// `correlation_id`.
    pub correlation_id: Option<&'a str>,
    /// `message_id`.
    pub message_id: Option<&'a str>,
    /// `reply_to`.
    pub reply_to: Option<&'a str>,
    /// `content_type`.
    pub content_type: Option<&'a str>,
    /// `content_encoding`.
    pub content_encoding: Option<&'a str>,
    /// `type`.
    pub message_type: Option<&'a str>,
    /// `timestamp`.
    pub timestamp: Option<DateTime<Utc>>,
    /// The header [`header::IDEMPOTENCY_KEY`](crate::header::IDEMPOTENCY_KEY); empty where it is there and no text.
    pub idempotency_key: Option<&'a str>,
    /// The header [`header::ATTEMPT`](crate::header::ATTEMPT).
    pub attempt: Option<u32>,
    /// The header [`header::REDRIVE`](crate::header::REDRIVE).
    pub redrive: Option<u32>,
}

impl<'a> RequestProperties<'a> {
    /// The queue of a requester that waits there for its answer (RPC), by RabbitMQ's names for such queues. No key of ours.
    pub fn reply_queue(&self) -> Option<&'a str> {
        self.reply_to.filter(|name| name.starts_with("amq."))
    }
}

/// Reads a request that arrived on the queue of `crew`.
///
/// The id is that of the header `x-kickoff-idempotency-key`, else the body's `kickoff_id`, else the property
/// `correlation_id`, else `message_id`. Where they disagree the request is refused and answered on the properties' id; a
/// `message_id` beside the header is none.
///
/// # Errors
/// [`Rejection`] for everything that is not a request of version 1; nothing is ever repaired silently.
pub fn decode<'a>(
    body: &[u8],
    properties: impl Into<RequestProperties<'a>>,
    crew: &CrewName,
    max_bytes: usize,
) -> Result<Request, Box<Rejection>> {
    let properties = &properties.into();
    let mut seen = Rejection {
        error: KickoffError::new("invalid_request", ""),
        kickoff_id: requester_id(properties, crew),
        reply_to: usable_reply_to(properties).ok().flatten(),
        meta: None,
        webhooks: None,
        attempt: properties.attempt.filter(|a| *a > 0).unwrap_or(1),
        redrive: properties.redrive.unwrap_or(0),
        requested_at: properties.timestamp,
    };
    match read(body, properties, crew, max_bytes, &mut seen) {
        Ok(request) => Ok(request),
        Err(error) => Err(Box::new(Rejection { error, ..seen })),
    }
}

fn read(
    body: &[u8],
    properties: &RequestProperties<'_>,
    crew: &CrewName,
    max_bytes: usize,
    seen: &mut Rejection,
) -> Result<Request, KickoffError> {
    let refuse = |kind: &str, message: String| Err(KickoffError::new(kind, message));
    if body.len() > max_bytes {
        let message = format!(
            "the request has {} bytes; at most {max_bytes} are taken ([broker] max_request_bytes)",
            body.len()
        );
        return refuse("body_too_large", message);
    }
    check_properties(properties)?;
    if body.is_empty() {
        return refuse(
            "empty_body",
            "the request has no body; send {\"inputs\": {…}}".into(),
        );
    }
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(e) => {
            let message = format!(
                "the request is not UTF-8: the byte at {} is wrong",
                e.valid_up_to()
            );
            return refuse("invalid_utf8", message);
        }
    };
    let depth = nesting_depth(text);
    if depth > MAX_DEPTH {
        let message = format!("the request is nested {depth} deep; at most {MAX_DEPTH} levels are taken");
        return refuse("too_deep", message);
    }
    if !text.trim_start().starts_with('{') {
        return match serde_json::from_str::<&RawValue>(text) {
            Ok(_) => refuse(
                "invalid_request",
                "the request is not a JSON object; send {\"inputs\": {…}}".into(),
            ),
            Err(e) => refuse("invalid_json", format!("the request is not JSON: {e}")),
        };
    }
    let mut request: KickoffRequest = serde_json::from_str(text).map_err(|e| {
        told_by_body(text, properties, seen);
        let kind = if e.is_data() {
            "invalid_request"
        } else {
            "invalid_json"
        };
        KickoffError::new(
            kind,
            format!("the request cannot be read: {e}; a request is {{\"inputs\": {{…}}}}"),
        )
    })?;
    seen.meta = request.meta.clone().filter(is_repeatable);
    let webhooks = request.take_webhooks().read();
    let ordered = webhooks.as_ref().ok().filter(|webhooks| webhooks.orders_any());
    seen.webhooks = ordered.cloned().map(Box::new);
    let kickoff_id = match properties.idempotency_key {
        Some(key) => id_of_key(key, &request, properties, crew)?,
        None => agreed_id(&request, properties, seen)?,
    };
    check_fields(&request, crew)?;
    if let Err(problem) = webhooks {
        return Err(KickoffError::new("invalid_webhook", problem.to_string()));
    }
    let requested_at = seen.requested_at.or_else(|| kickoff_id.created_at());
    seen.requested_at = requested_at;
    Ok(Request {
        reply_to: usable_reply_to(properties)?,
        kickoff_id,
        crew: crew.clone(),
        inputs: request.inputs,
        meta: request.meta,
        timeout_s: request.timeout_s,
        deadline: request.deadline,
        webhooks: seen.webhooks.take(),
        attempt: seen.attempt,
        redrive: seen.redrive,
        requested_at,
    })
}

/// What a body that is no request still says of whom to tell.
fn told_by_body(text: &str, properties: &RequestProperties<'_>, seen: &mut Rejection) {
    #[derive(serde::Deserialize)]
    struct Told {
        kickoff_id: Option<String>,
        meta: Option<Box<RawValue>>,
    }
    let Ok(told) = serde_json::from_str::<Told>(text) else {
        return;
    };
    seen.meta = told.meta.filter(is_repeatable);
    if seen.kickoff_id.is_none() && property_id(properties).is_none() {
        seen.kickoff_id = told.kickoff_id.and_then(|id| KickoffId::parse(&id).ok());
    }
}

fn check_properties(properties: &RequestProperties<'_>) -> Result<(), KickoffError> {
    if let Some(content_type) = properties.content_type {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.is_empty() && !media_type.eq_ignore_ascii_case("application/json") {
            let message =
                format!("content_type {content_type:?} is not taken; send application/json, or none");
            return Err(KickoffError::new("unsupported_content_type", message));
        }
    }
    // kombu says "utf-8" here, which is what JSON is anyway; a compression would have to be undone.
    if let Some(encoding) = properties.content_encoding
        && !["", "utf-8", "utf8", "identity"].contains(&encoding.to_ascii_lowercase().as_str())
    {
        let message = format!("content_encoding {encoding:?} is not taken; send the JSON as it is");
        return Err(KickoffError::new("unsupported_content_encoding", message));
    }
    if let Some(kind) = properties.message_type
        && kind.starts_with("kickoff.")
        && kind != message_type::REQUEST
    {
        let message = format!(
            "type {kind:?} is not a request; this worker takes {:?}",
            message_type::REQUEST
        );
        return Err(KickoffError::new("unsupported_type", message));
    }
    usable_reply_to(properties).map(drop)
}

fn usable_reply_to(properties: &RequestProperties<'_>) -> Result<Option<String>, KickoffError> {
    if let Some(queue) = properties.reply_queue() {
        let message = format!(
            "reply_to {queue:?} is refused: it is an extra routing key on the reply exchange, not a queue name, and amq.* is \
             RabbitMQ's own; bind your queue to the reply exchange by the kickoff's id, and leave reply_to out"
        );
        return Err(KickoffError::new("invalid_reply_to", message));
    }
    let key = properties.reply_to.filter(|key| !key.is_empty());
    Ok(key.map(ToOwned::to_owned))
}

#[allow(clippy::borrowed_box, reason = "as Option::filter hands it out")]
fn is_repeatable(meta: &Box<RawValue>) -> bool {
    meta.get().len() <= MAX_META_BYTES
}

fn check_fields(request: &KickoffRequest, crew: &CrewName) -> Result<(), KickoffError> {
    if !request.inputs.get().starts_with('{') {
        let message = "inputs is not a JSON object; send {\"inputs\": {\"NAME\": value, …}}";
        return Err(KickoffError::new("invalid_request", message));
    }
    if let Some(meta) = request.meta.as_ref().filter(|meta| !is_repeatable(meta)) {
        let message = format!(
            "meta has {} bytes; at most {MAX_META_BYTES} are taken, since the reply and every event repeat it. Put what the \
             crew needs into inputs",
            meta.get().len()
        );
        return Err(KickoffError::new("meta_too_large", message));
    }
    if let Some(named) = request.crew.as_deref().filter(|named| *named != crew.as_str()) {
        let named: String = named.chars().take(80).collect();
        let message = format!(
            "the body names the crew {named:?}, the routing key {:?}; make them the same, or leave one out",
            crew.as_str()
        );
        return Err(KickoffError::new("contradicting_crew", message));
    }
    if let Some(timeout) = request.timeout_s.filter(|t| !(t.is_finite() && *t > 0.0)) {
        let message = format!("timeout_s is {timeout}; it must be greater than 0 seconds");
        return Err(KickoffError::new("invalid_request", message));
    }
    Ok(())
}

/// On which id the requester waits, by the properties alone.
fn requester_id(properties: &RequestProperties<'_>, crew: &CrewName) -> Option<KickoffId> {
    let named = properties.correlation_id.filter(|id| !id.is_empty());
    match (properties.idempotency_key, named) {
        (Some(key), None) if !key.is_empty() => Some(KickoffId::of_key(crew, key)),
        _ => property_id(properties).and_then(|id| KickoffId::parse(id).ok()),
    }
}

/// The id that the header's key stands for. Whoever names another one waits for that.
fn id_of_key(
    key: &str,
    request: &KickoffRequest,
    properties: &RequestProperties<'_>,
    crew: &CrewName,
) -> Result<KickoffId, KickoffError> {
    if !(1..=MAX_KEY_BYTES).contains(&key.len()) {
        let message = format!("{IDEMPOTENCY_KEY} must be a text of 1 to {MAX_KEY_BYTES} bytes");
        return Err(KickoffError::new("invalid_idempotency_key", message));
    }
    let id = KickoffId::of_key(crew, key);
    let named = [
        request.kickoff_id.as_deref(),
        properties.correlation_id.filter(|id| !id.is_empty()),
    ];
    if let Some(other) = named.into_iter().flatten().find(|named| *named != id.as_str()) {
        let other: String = other.chars().take(KickoffId::MAX).collect();
        let message = format!(
            "{IDEMPOTENCY_KEY} makes the id {id}, and the request names {other:?} (kickoff_id or correlation_id); leave that out"
        );
        return Err(KickoffError::new("contradicting_ids", message));
    }
    Ok(id)
}

/// The id that body and properties agree on.
fn agreed_id(
    request: &KickoffRequest,
    properties: &RequestProperties<'_>,
    seen: &mut Rejection,
) -> Result<KickoffId, KickoffError> {
    let (from_body, from_properties) = (request.kickoff_id.as_deref(), property_id(properties));
    if let (Some(body), Some(property)) = (from_body, from_properties)
        && body != property
    {
        let body: String = body.chars().take(KickoffId::MAX).collect();
        let message = format!(
            "the body's kickoff_id {body:?} differs from the properties' {property:?} \
             (correlation_id, else message_id); make them the same, or leave one out"
        );
        return Err(KickoffError::new("contradicting_ids", message));
    }
    let Some(id) = from_body.or(from_properties) else {
        let message = "the request has no id; set the property correlation_id, or kickoff_id in the body";
        return Err(KickoffError::new("missing_id", message));
    };
    let id = KickoffId::parse(id).map_err(|e| KickoffError::new("invalid_id", e.to_string()))?;
    seen.kickoff_id = Some(id.clone());
    Ok(id)
}

fn property_id<'a>(properties: &RequestProperties<'a>) -> Option<&'a str> {
    properties
        .correlation_id
        .filter(|id| !id.is_empty())
        .or_else(|| properties.message_id.filter(|id| !id.is_empty()))
}

/// How deep arrays and objects are nested. `RawValue` itself is read without recursion and without a limit,
/// but those who read the inputs later recurse.
fn nesting_depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests;
