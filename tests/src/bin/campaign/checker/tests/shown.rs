//! What gateways may show when all is settled.

use serde_json::json;

use super::*;
use crate::shown::{ErrorShown, EventShown, Filtered, Look, Shown, Survey};

/// The sound history, as two gateways show it.
fn surveyed() -> History {
    let mut history = sound();
    let shown = shown("succeeded");
    let look = Look {
        shown: Ok(shown.clone()),
        result: Ok(history.replies[0].clone()),
        events: Ok(vec![
            event(4, "kickoff_queued"),
            event(5, "kickoff_started"),
            event(9, "kickoff_finished"),
        ]),
    };
    let filtered = Filtered {
        crews: vec![SWIFT.to_owned()],
        states: vec!["succeeded".to_owned()],
        ids: vec![ID.to_owned()],
    };
    let survey = |gateway: &str| Survey {
        gateway: gateway.to_owned(),
        listed: vec![shown.clone()],
        filtered: vec![filtered.clone()],
        looks: BTreeMap::from([(ID.to_owned(), look.clone())]),
        batch: None,
        never: vec![("never".to_owned(), 404)],
        unanswered: Vec::new(),
    };
    history.surveys = vec![survey("g1"), survey("g2")];
    history
}

fn shown(status: &str) -> Shown {
    Shown {
        kickoff_id: ID.to_owned(),
        crew: SWIFT.to_owned(),
        status: status.to_owned(),
        attempt: 1,
        redrive: 0,
        worker: Some("w1".to_owned()),
        error: None,
    }
}

fn event(id: u64, kind: &str) -> EventShown {
    EventShown {
        id,
        kickoff_id: ID.to_owned(),
        crew: SWIFT.to_owned(),
        kind: kind.to_owned(),
        attempt: 1,
        redrive: 0,
        data: match kind {
            "kickoff_finished" => json!({"status": "succeeded"}),
            _ => json!({}),
        },
    }
}

type Change = fn(&mut Shown);

/// With this done to what the second gateway shows, it is caught.
#[track_caller]
fn wrong(what: &str, change: impl Fn(&mut Survey)) {
    let mut history = surveyed();
    change(&mut history.surveys[1]);
    let findings = check(&history);
    let all = findings.violations.len();
    assert!(
        all > 0 && findings.broken(Rule::WrongState) == all,
        "{what}: {findings:?}"
    );
}

fn look(survey: &mut Survey) -> &mut Look {
    survey.looks.get_mut(ID).expect("a look")
}

fn events(survey: &mut Survey) -> &mut Vec<EventShown> {
    look(survey).events.as_mut().expect("events")
}

#[test]
fn each_kickoff_is_shown_as_its_reply_has_it() {
    passes(&surveyed());
    let changes: [(&str, Change); 7] = [
        ("runs for ever", |shown| shown.status = "running".to_owned()),
        ("ended otherwise", |shown| shown.status = "failed".to_owned()),
        ("another's crew", |shown| shown.crew = FORKED.to_owned()),
        ("another worker", |shown| shown.worker = None),
        ("another attempt", |shown| shown.attempt = 2),
        ("another run", |shown| shown.redrive = 1),
        ("an error", |shown| {
            shown.error = Some(ErrorShown {
                kind: "crashed".to_owned(),
            });
        }),
    ];
    for (what, change) in changes {
        wrong(what, |survey| change(&mut survey.listed[0]));
        wrong(what, |survey| {
            change(look(survey).shown.as_mut().expect("a kickoff"));
        });
    }
    // A run that was overtaken told of a further attempt, and ended alike.
    let mut overtaken = surveyed();
    let mut second = reply("w1", "succeeded");
    second.attempt = 2;
    overtaken.replies.push(second);
    overtaken.surveys[1].listed[0].attempt = 2;
    passes(&overtaken);
}

#[test]
fn the_list_has_each_kickoff_once_and_filters_take_what_they_name() {
    wrong("is missing", |survey| {
        survey.listed.clear();
        survey.filtered.clear();
    });
    wrong("is there twice", |survey| {
        survey.listed.push(survey.listed[0].clone());
        survey.filtered.clear();
    });
    wrong("was never answered", |survey| {
        survey.listed[0].kickoff_id = "k-2".to_owned();
        survey.filtered.clear();
    });
    wrong("the filter takes nothing", |survey| {
        survey.filtered[0].ids.clear()
    });
    wrong("the filter takes another's", |survey| {
        survey.filtered[0].states = vec!["failed".to_owned()];
    });
    wrong("one that never was", |survey| survey.never[0].1 = 200);
    wrong("one that never was is not known", |survey| {
        survey.never[0].1 = 503;
    });
    wrong("it is silent", |survey| {
        survey.unanswered.push("connection refused".to_owned());
    });
}

#[test]
fn the_result_is_the_reply() {
    wrong("of another run", |survey| {
        look(survey).result.as_mut().expect("a reply").redrive = 1;
    });
    wrong("none", |survey| {
        look(survey).result = Err("GET answers 202".to_owned());
    });
}

#[test]
fn events_are_borne_out_by_replies_and_are_the_same_at_each_gateway() {
    wrong("not there", |survey| {
        look(survey).events = Err("GET answers 404".to_owned());
    });
    wrong("another end", |survey| {
        events(survey)[2].data = json!({"status": "failed"});
    });
    wrong("a further attempt", |survey| events(survey)[1].attempt = 2);
    wrong("another run", |survey| events(survey)[1].redrive = 1);
    wrong("another's", |survey| {
        events(survey)[1].kickoff_id = "k-2".to_owned();
    });
    wrong("in another order", |survey| events(survey).swap(0, 1));
    wrong("one is missing between", |survey| {
        events(survey).remove(1);
    });
    // The last one may be on its way.
    let mut history = surveyed();
    events(&mut history.surveys[1]).pop();
    passes(&history);
}
