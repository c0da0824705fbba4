//! Requests gone wrong in every way that a program, a person or a network can think of.

use crewfleet_amqp::Properties;
use crewfleet_protocol::{CrewName, decode};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::string::string_regex;
use serde_json::json;

use super::values::{amqp_value, json_value};

/// Stands for the message's own id while the rest is mutated; no valid id has its characters.
const ID: &str = "@ID@";

/// A message that may be no request.
#[derive(Debug, Clone)]
pub(crate) struct Mutated {
    pub(crate) body: Vec<u8>,
    pub(crate) properties: BasicProperties,
    pub(crate) verdict: Verdict,
}

/// What must become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Rejected,
    Accepted,
    /// Not known from how it was made: a flipped bit may hurt or not.
    Open,
}

impl Mutated {
    fn new(body: impl Into<Vec<u8>>, properties: BasicProperties, verdict: Verdict) -> Self {
        let body = body.into();
        Self {
            body,
            properties,
            verdict,
        }
    }

    /// Puts the id in for its stand-in, and the serial into a header by which its dead letter is known.
    pub(crate) fn numbered(mut self, serial: usize) -> Self {
        let id = own_id(serial);
        let mut body = Vec::with_capacity(self.body.len() + 16);
        let mut rest = self.body.as_slice();
        while let Some(place) = rest.windows(ID.len()).position(|part| part == ID.as_bytes()) {
            body.extend_from_slice(&rest[..place]);
            body.extend_from_slice(id.as_bytes());
            rest = &rest[place + ID.len()..];
        }
        body.extend_from_slice(rest);
        self.body = body;
        let own = |text: &str| text == ID;
        let p = &self.properties;
        let (correlation, message) = (p.correlation_id().clone(), p.message_id().clone());
        if correlation.is_some_and(|text| own(text.as_str())) {
            self.properties = self.properties.with_correlation_id(id.as_str().into());
        }
        if message.is_some_and(|text| own(text.as_str())) {
            self.properties = self.properties.with_message_id(id.as_str().into());
        }
        let mut headers = self.properties.headers().clone().unwrap_or_default();
        // The first in order: it is kept where too many headers are cut off.
        headers.insert(SERIAL.into(), AMQPValue::LongLongInt(serial as i64));
        self.properties = self.properties.with_headers(headers);
        self
    }
}

impl Mutated {
    /// Says of one of which it was open what it is.
    pub(crate) fn decided(self) -> Self {
        if self.verdict != Verdict::Open {
            return self;
        }
        let p = &self.properties;
        let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
        let mut properties = text(p.kind()).map_or_else(Properties::default, |kind| Properties::json(&kind));
        if let Some(kind) = text(p.content_type()) {
            properties = properties.with_content_type(&kind);
        }
        if let Some(key) = text(p.reply_to()) {
            properties = properties.with_reply_to(&key);
        }
        properties = properties.with_correlation_id(&text(p.correlation_id()).unwrap_or_default());
        let crew = CrewName::parse("echo").expect("a name");
        match decode(&self.body, &properties, &crew, usize::MAX) {
            Ok(_) => self.with_verdict(Verdict::Accepted),
            Err(_) => self.with_verdict(Verdict::Rejected),
        }
    }

    pub(crate) fn with_verdict(self, verdict: Verdict) -> Self {
        Self { verdict, ..self }
    }
}

/// The header that holds the serial.
pub(crate) const SERIAL: &str = "a-serial";

/// The id of the message with this serial, where it has one.
pub(crate) fn own_id(serial: usize) -> String {
    format!("bad-{serial}")
}

/// Everything at once, in proportions that leave no kind out. Few are good after all.
pub(crate) fn mutated() -> BoxedStrategy<Mutated> {
    prop_oneof![
        10 => damaged(),
        6 => wrong_fields(),
        6 => wrong_properties(),
        6 => odd_headers(),
        3 => wrong_ids(),
        2 => nested(),
        1 => no_object(),
    ]
    .boxed()
}

/// Bytes: cut off, flipped, noise, wrong UTF-8, nothing at all.
fn damaged() -> BoxedStrategy<Mutated> {
    let cut = (request(), any::<prop::sample::Index>()).prop_map(|(body, place)| {
        let body = body.into_bytes();
        let end = place.index(body.len());
        Mutated::new(&body[..end], by_correlation(), Verdict::Rejected)
    });
    let flips = vec((any::<prop::sample::Index>(), 0..8_u32), 1..40);
    let flipped = (request(), flips).prop_map(|(body, flips)| {
        let mut body = body.into_bytes();
        for (place, bit) in flips {
            let place = place.index(body.len());
            body[place] ^= 1 << bit;
        }
        Mutated::new(body, by_correlation(), Verdict::Open)
    });
    let noise =
        vec(any::<u8>(), 1..300).prop_map(|noise| Mutated::new(noise, by_correlation(), Verdict::Rejected));
    let no_utf8 = prop::sample::select(vec![
        &b"\xff"[..],
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf8",
        b"\xe2\x82",
    ])
    .prop_map(|bytes| {
        let body = [b"{\"inputs\": {\"a\": \"", bytes, b"\"}}"].concat();
        Mutated::new(body, by_correlation(), Verdict::Rejected)
    });
    let empty = Just(Mutated::new("", by_correlation(), Verdict::Rejected));
    prop_oneof![3 => cut, 4 => flipped, 1 => noise, 1 => no_utf8, 1 => empty].boxed()
}

/// Each field with a value of another type, twice, out of range, or of another message.
fn wrong_fields() -> BoxedStrategy<Mutated> {
    let fields = ["kickoff_id", "crew", "inputs", "meta", "timeout_s", "deadline"];
    let typed = (prop::sample::select(fields.to_vec()), json_value()).prop_map(|(field, value)| {
        let mut body = json!({"inputs": {}});
        body[field] = value;
        Mutated::new(body.to_string(), by_correlation(), Verdict::Open)
    });
    let bad = [
        r#"{"inputs": {}, "inputs": {}}"#,
        r#"{"inputs": {}, "crew": "echo", "crew": "echo"}"#,
        r#"{"inputs": {}, "timeout_s": 1e999}"#,
        r#"{"inputs": {}, "timeout_s": -0.0}"#,
        r#"{"inputs": {}, "timeout_s": -1}"#,
        r#"{"inputs": {}, "timeout_s": NaN}"#,
        r#"{"inputs": {}, "deadline": "tomorrow"}"#,
        r#"{"inputs": {}, "deadline": "2026-13-41T25:61:00Z"}"#,
        r#"{"inputs": {}, "crew": "other"}"#,
        r#"{"inputs": {}, "kickoff_id": "another"}"#,
        r#"{"inputs": {}} {"inputs": {}}"#,
        r#"{"inputs": {},}"#,
        "{}",
    ];
    let refused = prop::sample::select(bad.to_vec())
        .prop_map(|body| Mutated::new(body, by_correlation(), Verdict::Rejected));
    let good = [
        r#"{"inputs": {"n": 123456789012345678901234567890123456789012345678901234567890}}"#,
        r#"{"inputs": {"n": 1e-999999}}"#,
        r#"{"inputs": {"a": 1, "a": 2}}"#,
        r#"{"inputs": {}, "of the future": [1], "of the future": [2]}"#,
        r#"{"inputs": {}, "timeout_s": 1e300}"#,
        r#"{"inputs": {}, "deadline": "2000-01-01T00:00:00Z"}"#,
        r#"{"kickoff_id": "@ID@", "crew": "echo", "inputs": {}, "meta": null}"#,
        "\r\n\t {\"inputs\": {}} \n",
    ];
    let accepted = prop::sample::select(good.to_vec())
        .prop_map(|body| Mutated::new(body, by_correlation(), Verdict::Accepted));
    prop_oneof![30 => typed, 15 => refused, 1 => accepted].boxed()
}

/// Properties that a request must not have, and any others.
fn wrong_properties() -> BoxedStrategy<Mutated> {
    let text = || string_regex("\\PC{0,40}").expect("a regular expression");
    let refused = prop_oneof![
        prop::sample::select(vec![
            "text/plain",
            "application/xml",
            "application/json5",
            "\u{0}"
        ])
        .prop_map(|kind| by_correlation().with_content_type(kind.into())),
        prop::sample::select(vec!["gzip", "deflate", "br", "latin-1"])
            .prop_map(|encoding| by_correlation().with_content_encoding(encoding.into())),
        prop::sample::select(vec!["kickoff.reply.v1", "kickoff.request.v2", "kickoff."])
            .prop_map(|kind| by_correlation().with_type(kind.into())),
        text().prop_map(|name| by_correlation().with_reply_to(format!("amq.{name}").into())),
    ]
    .prop_map(|properties| Mutated::new(r#"{"inputs": {}}"#, properties, Verdict::Rejected));
    let any = (text(), text(), any::<u8>(), any::<u64>(), text(), text()).prop_map(
        |(content_type, reply_to, priority, timestamp, kind, app)| {
            let properties = by_correlation()
                .with_content_type(content_type.into())
                .with_reply_to(reply_to.into())
                .with_priority(priority)
                .with_timestamp(timestamp)
                .with_type(kind.into())
                .with_app_id(app.into())
                .with_cluster_id("of old".into());
            Mutated::new(r#"{"inputs": {}}"#, properties, Verdict::Open)
        },
    );
    prop_oneof![refused, any].boxed()
}

/// Our own headers and others, of every type that AMQP has. None of them makes a good request bad.
fn odd_headers() -> BoxedStrategy<Mutated> {
    let names = [
        "x-kickoff-attempt",
        "x-kickoff-redrive",
        "x-kickoff-not-before",
        "x-kickoff-workers-lost",
        "x-kickoff-reason",
        "x-kickoff-error",
        "x-death",
        "x-delivery-count",
        "traceparent",
        "tracestate",
        "something else",
        "",
    ];
    let one = (prop::sample::select(names.to_vec()), amqp_value()).prop_map(|(name, value)| {
        // How often a message was delivered is a number of the broker's: as one it would be believed.
        let counts = ["x-delivery-count", "x-kickoff-workers-lost"].contains(&name);
        let value = match value {
            AMQPValue::LongString(_) | AMQPValue::FieldTable(_) | AMQPValue::FieldArray(_) => value,
            AMQPValue::Boolean(_) | AMQPValue::Void | AMQPValue::Timestamp(_) => value,
            _ if counts => AMQPValue::Void,
            _ => value,
        };
        (name, value)
    });
    let several = vec(one, 1..5).prop_map(|all| {
        let mut headers = FieldTable::default();
        for (name, value) in all {
            headers.insert(name.into(), value);
        }
        headers
    });
    let large = (2_000..100_000_usize).prop_map(|length| {
        let mut headers = FieldTable::default();
        headers.insert("large".into(), AMQPValue::LongString("x".repeat(length).into()));
        headers
    });
    let bodies = prop_oneof![
        1 => Just((r#"{"inputs": {}}"#, Verdict::Accepted)),
        12 => Just((r#"{"inputs": 1}"#, Verdict::Rejected)),
    ];
    let headers = prop_oneof![60 => several, 1 => large];
    (headers, bodies)
        .prop_map(|(headers, (body, verdict))| {
            Mutated::new(body, by_correlation().with_headers(headers), verdict)
        })
        .boxed()
}

/// No id, one that is none, or one in another place.
fn wrong_ids() -> BoxedStrategy<Mutated> {
    let plain = r#"{"inputs": {}}"#;
    let invalid = string_regex("[^A-Za-z0-9_-]\\PC{0,60}").expect("a regular expression");
    prop_oneof![
        20 => invalid.prop_map(move |id| {
            let properties = BasicProperties::default().with_correlation_id(id.into());
            Mutated::new(plain, properties, Verdict::Rejected)
        }),
        10 => Just(Mutated::new(
            plain,
            BasicProperties::default().with_message_id("x".repeat(129).into()),
            Verdict::Rejected,
        )),
        10 => Just(Mutated::new(plain, BasicProperties::default(), Verdict::Rejected)),
        1 => Just(Mutated::new(
            plain,
            BasicProperties::default().with_message_id(ID.into()),
            Verdict::Accepted,
        )),
        1 => Just(Mutated::new(
            r#"{"kickoff_id": "@ID@", "inputs": {}}"#,
            BasicProperties::default().with_correlation_id("".into()),
            Verdict::Accepted,
        )),
        10 => Just(Mutated::new(
            r#"{"kickoff_id": "@ID@", "inputs": []}"#,
            BasicProperties::default(),
            Verdict::Rejected,
        )),
    ]
    .boxed()
}

/// Deep, but not too deep; too deep.
fn nested() -> BoxedStrategy<Mutated> {
    let deep = |depth: usize, verdict| {
        let body = format!(
            r#"{{"inputs": {{"a": {}{}}}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        );
        Mutated::new(body, by_correlation(), verdict)
    };
    prop_oneof![
        1 => (1..=126_usize).prop_map(move |depth| deep(depth, Verdict::Accepted)),
        9 => (127..3_000_usize).prop_map(move |depth| deep(depth, Verdict::Rejected)),
    ]
    .boxed()
}

fn no_object() -> BoxedStrategy<Mutated> {
    let scalar = json_value().prop_filter("no object", |value| !value.is_object());
    scalar
        .prop_map(|value| Mutated::new(value.to_string(), by_correlation(), Verdict::Rejected))
        .boxed()
}

/// A good request that uses all fields, its id among them.
fn request() -> BoxedStrategy<String> {
    (json_value(), 1.0..1e6_f64)
        .prop_map(|(value, timeout)| {
            json!({
                "kickoff_id": ID, "crew": "echo", "inputs": {"value": value}, "meta": {"n": 1},
                "timeout_s": timeout, "deadline": "2100-01-01T00:00:00Z"
            })
            .to_string()
        })
        .boxed()
}

fn by_correlation() -> BasicProperties {
    BasicProperties::default()
        .with_correlation_id(ID.into())
        .with_delivery_mode(2)
}
