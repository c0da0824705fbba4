//! What the tests themselves rely on.

use crewfleet_tests::{fault_broker::topic_matches, worker::series_value};

#[test]
fn a_series_is_found_by_name_and_labels() {
    let text =
        "# HELP up x\nup 1\ndone{crew=\"a,b\",status=\"failed\"} 2\ndone{crew=\"a\",status=\"ok\"} 3\n";
    assert_eq!(series_value(text, "up", &[]), Some(1.0));
    assert_eq!(series_value(text, "done", &[("status", "ok")]), Some(3.0));
    assert_eq!(
        series_value(text, "done", &[("crew", "a,b"), ("status", "failed")]),
        Some(2.0)
    );
    assert_eq!(series_value(text, "done", &[("crew", "b")]), None);
}

#[test]
fn the_fault_broker_matches_topics_as_rabbitmq_does() {
    for (pattern, key, expected) in [
        ("#", "a", true),
        ("#", "a.b", true),
        ("a.#", "a", true),
        ("a.#", "a.b.c", true),
        ("a.*", "a.b", true),
        ("a.*", "a.b.c", false),
        ("a", "b", false),
    ] {
        assert_eq!(topic_matches(pattern, key), expected, "{pattern} {key}");
    }
}
