//! Webhooks, and the rows of a sink.

use super::*;
use crate::{history::Row, hook::Hooked};

/// One kickoff that asked to be told of its end, and is in the database.
fn handed_on() -> History {
    let mut history = sound();
    asked(&mut history).follow.webhook = true;
    history.hooked = vec![
        call("msg_1", None),
        call("msg_1", Some(503)),
        call("msg_1", Some(200)),
    ];
    history.rows = Some(vec![row("succeeded")]);
    history
}

fn call(id: &str, status: Option<u16>) -> Hooked {
    Hooked {
        t: 12 * SECOND,
        id: id.to_owned(),
        kickoff: ID.to_owned(),
        status,
    }
}

fn row(status: &str) -> Row {
    Row {
        id: ID.to_owned(),
        redrive: 0,
        status: status.to_owned(),
    }
}

#[test]
fn an_end_that_is_to_be_told_is_told_under_one_id() {
    passes(&handed_on());

    let mut untold = handed_on();
    untold.hooked.truncate(2);
    caught(&untold, Rule::WebhookLost);

    let mut given_up = handed_on();
    given_up
        .dead_letters
        .push(dead_letter("campaign.dead-letters.sinks.webhooks"));
    caught(&given_up, Rule::WebhookLost);

    let mut changed = handed_on();
    changed.hooked.push(call("msg_2", Some(200)));
    caught(&changed, Rule::WebhookIdChanged);

    let mut unasked = handed_on();
    asked(&mut unasked).follow.webhook = false;
    unasked.hooked.truncate(1);
    caught(&unasked, Rule::Unasked);
}

#[test]
fn each_reply_is_in_the_database_once() {
    let mut lost = handed_on();
    lost.rows = Some(Vec::new());
    caught(&lost, Rule::SinkRowLost);

    let mut doubled = handed_on();
    doubled.rows = Some(vec![row("succeeded"), row("succeeded")]);
    caught(&doubled, Rule::SinkRowDoubled);

    let mut another = handed_on();
    another.rows = Some(vec![row("failed")]);
    caught(&another, Rule::SinkRowDoubled);
}
