//! Reading the fields of webhooks.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::address::WebhookUrl;
use super::asked::{Authentication, EventWebhook, HumanInputWebhook, WebhookError};
use crate::json_kind::kind;

/// How many events a webhook may name.
pub const MAX_EVENTS: usize = 200;
/// The longest name of an event, in characters.
pub const MAX_EVENT_CHARS: usize = 128;
/// The longest token, user or password, in characters.
pub const MAX_SECRET_CHARS: usize = 4_096;

const URL_FORM: &str = "give a URL, as in \"https://example.org/hook\"";
const EVENTS_FORM: &str = "give a list of names, as in [\"crew_kickoff_started\"]";
const AUTHENTICATION_FORM: &str = "give {\"strategy\": \"bearer\", \"token\": \"…\"} or {\"strategy\": \"basic\", \
                                   \"username\": \"…\", \"password\": \"…\"}";

type Read<T> = Result<Option<T>, WebhookError>;

fn refused<T>(field: &str, problem: impl Into<String>) -> Result<T, WebhookError> {
    Err(WebhookError {
        field: field.to_owned(),
        problem: problem.into(),
    })
}

/// A field that is a URL.
pub(super) fn url(field: &str, sent: Option<&RawValue>) -> Read<WebhookUrl> {
    match asked(field, sent)? {
        Some(value) => url_of(field, &value).map(Some),
        None => Ok(None),
    }
}

/// The field `webhooks`.
pub(super) fn events(field: &str, sent: Option<&RawValue>) -> Read<EventWebhook> {
    const FORM: &str = "give {\"events\": [\"crew_kickoff_started\"], \"url\": \"https://example.org/hook\"}";
    let Some(value) = asked(field, sent)? else {
        return Ok(None);
    };
    let fields = object(field, &value, FORM)?;
    let realtime = match fields.get("realtime") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(realtime)) => *realtime,
        Some(other) => {
            let problem = format!("is {}; give true or false", kind(other));
            return refused(&format!("{field}.realtime"), problem);
        }
    };
    Ok(Some(EventWebhook {
        events: names(&format!("{field}.events"), fields.get("events"))?,
        url: url_in(field, fields)?,
        realtime,
        authentication: authentication(&format!("{field}.authentication"), fields.get("authentication"))?,
    }))
}

/// The field `humanInputWebhook`.
pub(super) fn human_input(field: &str, sent: Option<&RawValue>) -> Read<HumanInputWebhook> {
    const FORM: &str = "give {\"url\": \"https://example.org/hook\"}";
    let Some(value) = asked(field, sent)? else {
        return Ok(None);
    };
    let fields = object(field, &value, FORM)?;
    Ok(Some(HumanInputWebhook {
        url: url_in(field, fields)?,
        authentication: authentication(&format!("{field}.authentication"), fields.get("authentication"))?,
    }))
}

/// What was sent, where it asks for something.
fn asked(field: &str, sent: Option<&RawValue>) -> Read<Value> {
    let Some(sent) = sent else {
        return Ok(None);
    };
    match serde_json::from_str(sent.get()) {
        Ok(value) => Ok(Some(value).filter(asks)),
        // It is JSON for certain: the error would show a part of it.
        Err(_) => refused(field, "is nested too deep, or has a number that is too large"),
    }
}

/// Whether a value asks for something: forms and clients send empty ones for what nobody filled in.
fn asks(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => fields
            .iter()
            // It is so without being said.
            .any(|(name, value)| asks(value) && !(name == "realtime" && *value == Value::Bool(false))),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

fn object<'a>(field: &str, value: &'a Value, form: &str) -> Result<&'a Map<String, Value>, WebhookError> {
    match value {
        Value::Object(fields) => Ok(fields),
        other => refused(field, format!("is {}; {form}", kind(other))),
    }
}

fn url_in(field: &str, fields: &Map<String, Value>) -> Result<WebhookUrl, WebhookError> {
    let field = format!("{field}.url");
    match fields.get("url").filter(|url| asks(url)) {
        Some(url) => url_of(&field, url),
        None => refused(&field, format!("is missing, or empty; {URL_FORM}")),
    }
}

fn url_of(field: &str, value: &Value) -> Result<WebhookUrl, WebhookError> {
    match value {
        Value::String(url) => url.parse().or_else(|problem: String| refused(field, problem)),
        other => refused(field, format!("is {}; {URL_FORM}", kind(other))),
    }
}

fn names(field: &str, value: Option<&Value>) -> Result<Vec<String>, WebhookError> {
    let names = match value {
        Some(Value::Array(names)) if !names.is_empty() => names,
        None | Some(Value::Null | Value::Array(_)) => {
            return refused(
                field,
                format!("is missing, or empty, so that nothing would be called; {EVENTS_FORM}"),
            );
        }
        Some(other) => return refused(field, format!("is {}; {EVENTS_FORM}", kind(other))),
    };
    if names.len() > MAX_EVENTS {
        let problem = format!("has {} names; at most {MAX_EVENTS} are taken", names.len());
        return refused(field, problem);
    }
    let mut seen: Vec<String> = Vec::new();
    for (place, name) in names.iter().enumerate() {
        let field = format!("{field}[{place}]");
        let Value::String(name) = name else {
            return refused(&field, format!("is {}; {EVENTS_FORM}", kind(name)));
        };
        let chars = name.chars().count();
        if name.trim().is_empty() {
            return refused(&field, "is empty; name an event, or leave it out");
        }
        if chars > MAX_EVENT_CHARS {
            return refused(
                &field,
                format!("has {chars} characters; at most {MAX_EVENT_CHARS} are taken"),
            );
        }
        if seen.contains(name) {
            return refused(
                &field,
                format!("is {name:?}, which is named before; name it once"),
            );
        }
        seen.push(name.clone());
    }
    Ok(seen)
}

fn authentication(field: &str, value: Option<&Value>) -> Read<Authentication> {
    let Some(value) = value.filter(|value| asks(value)) else {
        return Ok(None);
    };
    let fields = object(field, value, AUTHENTICATION_FORM)?;
    let strategy = fields.get("strategy").and_then(Value::as_str);
    let text = |name: &str| secret(&format!("{field}.{name}"), fields.get(name));
    Ok(Some(match strategy {
        Some("bearer") => Authentication::Bearer {
            token: token(&format!("{field}.token"), text("token")?)?,
        },
        Some("basic") => Authentication::Basic {
            username: user(&format!("{field}.username"), text("username")?)?,
            password: text("password")?,
        },
        // It is not shown: it may be a secret in the wrong place.
        _ => {
            let problem = format!("is neither \"bearer\" nor \"basic\"; {AUTHENTICATION_FORM}");
            return refused(&format!("{field}.strategy"), problem);
        }
    }))
}

/// A text of authentication. Nothing of it is shown.
fn secret(field: &str, value: Option<&Value>) -> Result<String, WebhookError> {
    match value {
        Some(Value::String(text)) if text.chars().count() > MAX_SECRET_CHARS => {
            let problem = format!("is too long; at most {MAX_SECRET_CHARS} characters are taken");
            refused(field, problem)
        }
        Some(Value::String(text)) if text.chars().any(char::is_control) => refused(
            field,
            "has a line break or another control character, which no header takes; take it out",
        ),
        Some(Value::String(text)) => Ok(text.clone()),
        None | Some(Value::Null) => refused(field, format!("is missing; {AUTHENTICATION_FORM}")),
        Some(other) => refused(field, format!("is {}; {AUTHENTICATION_FORM}", kind(other))),
    }
}

fn token(field: &str, token: String) -> Result<String, WebhookError> {
    if token.is_empty() {
        return refused(field, "is empty; give the token, or leave authentication out");
    }
    match token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(token),
        false => refused(
            field,
            "has a space, or a character beyond ASCII, which no token has; give the token alone",
        ),
    }
}

fn user(field: &str, user: String) -> Result<String, WebhookError> {
    match user.as_str() {
        "" => refused(field, "is empty; give the user, or leave authentication out"),
        name if name.contains(':') => refused(
            field,
            "has a colon, which ends a user's name (RFC 7617); take it out",
        ),
        _ => Ok(user),
    }
}
