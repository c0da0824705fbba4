use super::*;

fn of_id(id: &str) -> RequestProperties<'_> {
    RequestProperties {
        correlation_id: Some(id),
        ..RequestProperties::default()
    }
}

fn decode_as(body: &[u8], properties: RequestProperties<'_>) -> Result<Request, Box<Rejection>> {
    decode(body, properties, &CrewName::parse("echo").unwrap(), 1000)
}

fn kind(body: &[u8], properties: RequestProperties<'_>) -> String {
    decode_as(body, properties).map_or_else(|r| r.error.kind, |_| "accepted".into())
}

#[test]
fn the_plainest_request_is_taken_and_its_inputs_are_kept_byte_for_byte() {
    let properties = of_id("a-1");
    let request = decode_as(
        br#" {"inputs": {"b":1.50,"a" : "\u00e4"}, "other": 1}"#,
        properties,
    )
    .unwrap();
    assert_eq!(request.kickoff_id.as_str(), "a-1");
    assert_eq!(request.inputs.get(), r#"{"b":1.50,"a" : "\u00e4"}"#);
    assert_eq!((request.attempt, request.redrive), (1, 0));
}

#[test]
fn every_kind_of_bad_request_has_its_name() {
    let id = of_id("a-1");
    let good = br#"{"inputs": {}}"#;
    let deep = format!("{{\"inputs\": {}{}}}", "[".repeat(200), "]".repeat(200));
    for (expected, body) in [
        ("accepted", &good[..]),
        ("empty_body", b""),
        ("invalid_json", b"hello"),
        ("invalid_json", br#"{"inputs": {}"#),
        ("invalid_request", br#"["inputs"]"#),
        ("invalid_request", br#"[null, null, {}]"#),
        ("invalid_request", br#"{}"#),
        ("invalid_request", br#"{"inputs": null}"#),
        ("invalid_request", br#"{"inputs": [1]}"#),
        ("invalid_request", br#"{"inputs": {}, "timeout_s": -1}"#),
        ("invalid_request", br#"{"inputs": {}, "deadline": "tomorrow"}"#),
        ("invalid_utf8", b"{\"inputs\": {\"a\": \"\xff\"}}"),
        ("too_deep", deep.as_bytes()),
        ("body_too_large", &[b' '; 1001]),
        ("invalid_then", br#"{"inputs": {}, "then": [{"crew": "b", "when": "now"}]}"#),
        (
            "invalid_chain",
            br#"{"inputs": {}, "chain": {"id": "a", "parent": "a", "step": 1, "parent_hash": "", "crew": "a"}}"#,
        ),
        ("contradicting_ids", br#"{"kickoff_id": "b", "inputs": {}}"#),
        ("contradicting_crew", br#"{"crew": "other", "inputs": {}}"#),
    ] {
        assert_eq!(kind(body, id), expected, "{}", String::from_utf8_lossy(body));
    }
    let none = RequestProperties::default();
    assert_eq!(kind(good, none), "missing_id");
    assert_eq!(
        kind(
            good,
            RequestProperties {
                message_id: Some("a b"),
                ..none
            }
        ),
        "invalid_id"
    );
    assert_eq!(
        kind(
            good,
            RequestProperties {
                content_type: Some("text/plain"),
                ..id
            }
        ),
        "unsupported_content_type"
    );
    assert_eq!(
        kind(
            good,
            RequestProperties {
                content_type: Some("application/json; charset=utf-8"),
                ..id
            }
        ),
        "accepted"
    );
    assert_eq!(
        kind(
            good,
            RequestProperties {
                reply_to: Some("amq.rabbitmq.reply-to.x"),
                ..id
            }
        ),
        "invalid_reply_to"
    );
}

#[test]
fn a_rejection_is_answered_on_the_properties_id() {
    let properties = of_id("mine");
    let rejection =
        decode_as(br#"{"kickoff_id": "other", "inputs": {}, "meta": 7}"#, properties).unwrap_err();
    assert_eq!(rejection.kickoff_id.unwrap().as_str(), "mine");
    assert_eq!(rejection.meta.unwrap().get(), "7");
}

#[test]
fn an_id_that_stands_only_in_the_body_is_answered_too() {
    for body in [
        r#"{"kickoff_id": "k1", "timeout_s": -1, "inputs": {}}"#,
        r#"{"kickoff_id": "k1", "meta": 7}"#,
    ] {
        let rejection = decode_as(body.as_bytes(), RequestProperties::default()).unwrap_err();
        assert_eq!(rejection.error.kind, "invalid_request");
        assert_eq!(rejection.kickoff_id.unwrap().as_str(), "k1", "{body}");
    }
}

#[test]
fn brackets_in_strings_are_not_nesting() {
    assert_eq!(nesting_depth(r#"{"a": "[[\"[[", "b": [1, {}]}"#), 3);
}

#[test]
fn a_meta_that_is_too_large_to_be_repeated_is_refused_and_not_repeated() {
    let body = |bytes: usize| {
        format!(
            r#"{{"kickoff_id": "k1", "inputs": {{}}, "meta": "{}"}}"#,
            "x".repeat(bytes - 2)
        )
    };
    let crew = CrewName::parse("c").unwrap();
    let decoded = |bytes| {
        decode(
            body(bytes).as_bytes(),
            RequestProperties::default(),
            &crew,
            1_000_000,
        )
    };
    assert!(decoded(MAX_META_BYTES).is_ok());
    let rejection = decoded(MAX_META_BYTES + 1).unwrap_err();
    assert_eq!(rejection.error.kind, "meta_too_large");
    assert!(
        rejection
            .error
            .message
            .starts_with("meta has 16385 bytes; at most 16384"),
        "{:?}",
        rejection.error
    );
    assert!(rejection.meta.is_none() && rejection.kickoff_id.is_some());
}

#[test]
fn a_key_in_the_header_makes_the_id() {
    let (body, crew) = (br#"{"inputs": {}}"#.as_slice(), CrewName::parse("echo").unwrap());
    let id = KickoffId::of_key(&crew, "order-7");
    let keyed = |correlation_id, message_id| RequestProperties {
        correlation_id,
        message_id,
        idempotency_key: Some("order-7"),
        ..RequestProperties::default()
    };
    for properties in [
        keyed(None, None),
        keyed(None, Some("a-message-of-its-own")),
        keyed(Some(""), None),
        keyed(Some(id.as_str()), None),
    ] {
        assert_eq!(decode_as(body, properties).unwrap().kickoff_id, id);
    }
    assert_eq!(kind(body, keyed(Some("other"), None)), "contradicting_ids");
    let named = br#"{"inputs": {}, "kickoff_id": "other"}"#;
    let rejection = decode_as(named, keyed(None, None)).unwrap_err();
    assert_eq!(
        (rejection.error.kind.as_str(), rejection.kickoff_id),
        ("contradicting_ids", Some(id.clone()))
    );
    let long = "k".repeat(MAX_KEY_BYTES + 1);
    for key in ["", &long] {
        let properties = RequestProperties {
            idempotency_key: Some(key),
            ..RequestProperties::default()
        };
        assert_eq!(kind(body, properties), "invalid_idempotency_key");
    }
    // One that cannot be read at all is told of under its id, too.
    let rejection = decode_as(b"no JSON", keyed(None, None)).unwrap_err();
    assert_eq!(rejection.kickoff_id, Some(id));
}
