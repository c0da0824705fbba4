use serde_json::json;

use super::*;
use crate::Status;

fn refused(then: &serde_json::Value) -> String {
    let raw = serde_json::value::to_raw_value(then).unwrap();
    read(&raw).unwrap_err().to_string()
}

#[test]
fn steps_are_read_with_their_defaults() {
    let raw = serde_json::value::to_raw_value(&json!([
        {"crew": "review", "inputs": {"draft": "$.result.raw"}, "unknown": 1},
        {"crew": "alert", "when": "failed", "timeout_s": 5, "inputs": null},
    ]))
    .unwrap();
    let steps = read(&raw).unwrap();
    assert_eq!(steps[0].when, When::Succeeded);
    assert_eq!(steps[0].inputs["draft"], "$.result.raw");
    assert_eq!((steps[1].when, steps[1].timeout_s), (When::Failed, Some(5.0)));
    assert_eq!(
        serde_json::to_value(&steps).unwrap(),
        json!([
            {"crew": "review", "inputs": {"draft": "$.result.raw"}},
            {"crew": "alert", "inputs": {}, "when": "failed", "timeout_s": 5.0},
        ])
    );
    for none in [json!(null), json!([])] {
        let raw = serde_json::value::to_raw_value(&none).unwrap();
        assert_eq!(read(&raw), Ok(vec![]));
    }
}

#[test]
fn what_is_wrong_is_named_with_its_place_and_its_fix() {
    for (then, place, fix) in [
        (json!({"crew": "a"}), "then is an object", "give a list"),
        (
            json!(vec![json!({"crew": "a"}); 21]),
            "then has 21 steps",
            "at most 20",
        ),
        (json!(["a"]), "then[0] is a text", "give {\"crew\""),
        (
            json!([{"crew": "a"}, {}]),
            "then[1].crew is missing",
            "give {\"crew\"",
        ),
        (
            json!([{"crew": "A b"}]),
            "then[0].crew is bad: crew name \"A b\"",
            "a-z",
        ),
        (
            json!([{"crew": "a", "when": "always"}]),
            "then[0].when is \"always\"",
            "\"ended\"",
        ),
        (
            json!([{"crew": "a", "timeout_s": 0}]),
            "then[0].timeout_s is 0",
            "greater than 0",
        ),
        (
            json!([{"crew": "a", "inputs": [1]}]),
            "then[0].inputs is a list",
            "give an object",
        ),
    ] {
        let error = refused(&then);
        assert!(error.starts_with(place) && error.contains(fix), "{error}");
    }
}

#[cfg(feature = "mapping")]
#[test]
fn a_path_that_is_none_is_refused_before_anything_runs() {
    let error = refused(&json!([{"crew": "a", "inputs": {"x": ["$.["]}}]));
    assert!(
        error.starts_with("then[0].inputs.x[0] is \"$.[\": no path"),
        "{error}"
    );
}

#[test]
fn what_was_cancelled_starts_nothing() {
    for when in When::ALL {
        assert!(!when.means(Status::Cancelled), "{when}");
    }
    for status in Status::ALL
        .into_iter()
        .filter(|status| *status != Status::Cancelled)
    {
        let succeeded = status == Status::Succeeded;
        assert_eq!(When::Succeeded.means(status), succeeded, "{status}");
        assert_eq!(When::Failed.means(status), !succeeded, "{status}");
        assert!(When::Ended.means(status), "{status}");
    }
}
