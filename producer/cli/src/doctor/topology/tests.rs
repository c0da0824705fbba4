use crewfleet_amqp::reply_code;

use super::*;

#[test]
fn a_stream_that_is_down_is_unsafe_and_not_said_to_be_missing() {
    let cause = "NOT_FOUND - process is stopped by supervisor";
    let error = BrokerError::Failed {
        action: "look at queue \"kickoff.control\"".into(),
        cause: cause.into(),
        code: Some(reply_code::NOT_FOUND),
    };
    assert!(error.is_down());
    let finding = down("queue kickoff.control".into(), &error);
    assert_eq!(finding.state, State::Unsafe);
    assert!(
        finding.found.contains(cause) && !finding.found.contains("does not exist"),
        "{finding:?}"
    );
    let fix = finding.fix.unwrap();
    assert!(
        fix.contains("stream_status") && fix.contains("runbook stream-down"),
        "{fix}"
    );
    assert!(!fix.contains(DECLARE), "declaring does not bring it up: {fix}");
}
