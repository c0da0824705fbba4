//! Of batches with an end.

use serde_json::json;

use super::*;
use crate::{
    history::BatchRan,
    shown::{BatchShown, Survey},
    workload::{BATCHER, ROWS},
};

/// Two rows, of which one failed, and what follows them.
fn batch() -> History {
    let mut history = History {
        batch: Some(BatchRan {
            id: "b".to_owned(),
            items: 2,
            callback: "after".to_owned(),
        }),
        ..History::default()
    };
    let told = json!({"total": 2, "by_status": {"failed": 1, "succeeded": 1}});
    for (id, crew, act) in [
        ("b-1", ROWS, Act::Succeed),
        ("b-2", ROWS, Act::Fail),
        ("after", SWIFT, Act::Succeed),
    ] {
        let status = if act == Act::Fail { "failed" } else { "succeeded" };
        let reply = ReplySeen {
            id: id.to_owned(),
            crew: crew.to_owned(),
            told: (id == "after").then(|| told.clone()),
            ..reply("w1", status)
        };
        let mut asked = sound().asked.remove(ID).expect("it is there");
        (asked.producer, asked.crew, asked.order.acts) = (BATCHER.to_owned(), crew.to_owned(), vec![act]);
        asked.answers = vec![(12 * SECOND, reply.clone())];
        history.asked.insert(id.to_owned(), asked);
        history.replies.push(reply);
    }
    history.dead_letters.push(DeadLetter {
        queue: "campaign.dead-letters.rows".to_owned(),
        id: "b-2".to_owned(),
        reason: "failed".to_owned(),
    });
    history
}

fn broken(history: &History) -> Vec<Rule> {
    check(history)
        .violations
        .iter()
        .map(|violation| violation.rule)
        .collect()
}

#[test]
fn a_batch_that_ends_as_its_rows_did_is_sound() {
    assert_eq!(broken(&batch()), []);
}

#[test]
fn a_row_without_a_reply_and_nothing_that_follows_are_lost() {
    for id in ["b-1", "after"] {
        let mut history = batch();
        history.replies.retain(|reply| reply.id != id);
        assert!(broken(&history).contains(&Rule::BatchLost), "{id}");
    }
    let mut unheard = batch();
    let row = unheard.asked.get_mut("b-1").expect("it is there");
    row.answers.clear();
    assert_eq!(broken(&unheard), [Rule::BatchLost]);
}

#[test]
fn counts_that_are_not_those_of_the_replies_are_found() {
    let mut history = batch();
    history.replies[2].told = Some(json!({"total": 2, "by_status": {"succeeded": 2}}));
    assert_eq!(broken(&history), [Rule::BatchMiscounted]);
}

#[test]
fn a_gateway_that_shows_other_counts_or_no_end_is_found() {
    let shown = BatchShown {
        total: Some(2),
        by_status: [("failed", 1), ("succeeded", 1)]
            .map(|(status, count)| (status.to_owned(), count))
            .into(),
        callback: Some("after".to_owned()),
    };
    let surveyed = |shown: Option<BatchShown>| {
        let survey = Survey {
            batch: shown,
            ..Survey::default()
        };
        let history = History {
            surveys: vec![survey],
            ..batch()
        };
        broken(&history).contains(&Rule::BatchMiscounted)
    };
    assert!(!surveyed(Some(shown.clone())));
    assert!(surveyed(None));
    assert!(surveyed(Some(BatchShown {
        callback: None,
        ..shown
    })));
}

#[test]
fn a_second_kickoff_that_follows_is_found() {
    let mut history = batch();
    history.executions.push(Execution {
        id: "another".to_owned(),
        nonce: history.asked["after"].order.nonce.clone(),
        ..execution("w1", 10, 1)
    });
    assert!(broken(&history).contains(&Rule::BatchDoubled));
}
