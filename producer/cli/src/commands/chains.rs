//! What is said of chains.

use crewfleet::Reply;
use crewfleet_protocol::ChainPlace;

use crate::output::in_words;

/// Where a kickoff stands, as in `step 2 of chain ID`.
pub(super) fn place(place: &ChainPlace) -> String {
    match place.step {
        0 => "the first of a chain".to_owned(),
        step => format!("step {step} of chain {}", place.id),
    }
}

/// That another kickoff follows one that has ended.
pub(super) fn went_on(reply: &Reply) -> String {
    let next = reply.chain.as_ref().and_then(|chain| chain.next.as_ref());
    let next = next.map(|next| {
        format!(
            "; step {}, kickoff {} of the crew {}, follows",
            next.step, next.kickoff_id, next.crew
        )
    });
    format!(
        "kickoff {} of the crew {} {}{}",
        reply.kickoff_id,
        reply.crew,
        in_words(reply.status),
        next.unwrap_or_default()
    )
}

/// Why a chain ends where it should not, or which of its steps were left out; `None` where it ends with its last step.
pub(super) fn end(reply: &Reply) -> Option<String> {
    let chain = reply.chain.as_ref()?;
    let id = &reply.kickoff_id;
    if let Some(problem) = &chain.problem {
        return Some(format!("the chain ends after kickoff {id}: {problem}"));
    }
    if chain.next.is_some() || chain.left_out == 0 {
        return None;
    }
    let noun = if chain.left_out == 1 { "step" } else { "steps" };
    Some(format!(
        "the chain ends after kickoff {id}, which {}: {} {noun} left out",
        in_words(reply.status),
        chain.left_out
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn reply(chain: &str) -> Reply {
        let text = format!(
            r#"{{"kickoff_id": "a", "crew": "write", "status": "timed_out", "result": null, "error": null, "attempt": 1,
                "redrive": 0, "worker": "w", "requested_at": null, "started_at": null,
                "finished_at": "2026-11-30T10:00:00Z", "meta": null{chain}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_chain_is_told_as_far_as_it_is_none_of_the_expected() {
        assert_eq!(end(&reply("")), None);
        let chain = |fields: &str| {
            reply(&format!(
                r#", "chain": {{"id": "a", "parent": null, "step": 0, {fields}}}"#
            ))
        };
        let next = chain(
            r#""next": {"kickoff_id": "b", "crew": "alert", "step": 1}, "left_out": 1, "problem": null"#,
        );
        assert_eq!(
            went_on(&next),
            "kickoff a of the crew write timed out; step 1, kickoff b of the crew alert, follows"
        );
        assert_eq!(end(&next), None);
        let left_out = chain(r#""next": null, "left_out": 2, "problem": null"#);
        assert_eq!(
            end(&left_out).unwrap(),
            "the chain ends after kickoff a, which timed out: 2 steps left out"
        );
        let broken = chain(r#""next": null, "left_out": 0, "problem": "then[0].crew is bad""#);
        assert_eq!(
            end(&broken).unwrap(),
            "the chain ends after kickoff a: then[0].crew is bad"
        );
    }
}
