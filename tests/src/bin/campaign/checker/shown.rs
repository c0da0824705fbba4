//! What the gateways show when all is settled, held against the replies on the wire.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, Rule};
use crate::{
    calls::kept,
    history::{History, ReplySeen},
    shown::{EventShown, Look, Shown, Survey},
};

/// Each gateway shows each kickoff that has a reply, once, and as its reply has it.
pub(super) fn at_the_end(
    findings: &mut Findings,
    history: &History,
    replies: &BTreeMap<&str, Vec<&ReplySeen>>,
) {
    for survey in &history.surveys {
        for wrong in list(survey, replies).into_iter().chain(looks(survey, replies)) {
            findings.violation(Rule::WrongState, format!("{}: {wrong}", survey.gateway));
        }
    }
    for wrong in apart(&history.surveys) {
        findings.violation(Rule::WrongState, wrong);
    }
}

fn list(survey: &Survey, replies: &BTreeMap<&str, Vec<&ReplySeen>>) -> Vec<String> {
    let mut wrong = survey.unanswered.clone();
    for (never, status) in survey.never.iter().filter(|(_, status)| *status != 404) {
        wrong.push(format!("{never}, which never was, is answered with {status}"));
    }
    let mut listed = BTreeSet::new();
    for shown in &survey.listed {
        if !listed.insert(shown.kickoff_id.as_str()) {
            wrong.push(format!("the list has {} twice", shown.kickoff_id));
        }
        match replies.get(shown.kickoff_id.as_str()) {
            Some(replies) => wrong.extend(unlike(shown, replies)),
            None => wrong.push(format!("the list has {shown:?}, which has no reply")),
        }
    }
    for id in replies.keys().filter(|id| !listed.contains(*id)) {
        wrong.push(format!("the list lacks {id}"));
    }
    for filtered in &survey.filtered {
        let taken = survey.listed.iter().filter(|shown| filtered.takes(shown));
        let taken: Vec<&String> = taken.map(|shown| &shown.kickoff_id).collect();
        if !taken.iter().copied().eq(&filtered.ids) {
            wrong.push(format!(
                "of the list the filter should take {taken:?}: {filtered:?}"
            ));
        }
    }
    wrong
}

fn looks(survey: &Survey, replies: &BTreeMap<&str, Vec<&ReplySeen>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, look) in &survey.looks {
        let replies = replies.get(id.as_str()).map_or(&[][..], Vec::as_slice);
        match &look.shown {
            Ok(shown) => wrong.extend(unlike(shown, replies)),
            Err(answer) => wrong.push(answer.clone()),
        }
        match &look.result {
            Ok(result) if Some(result) == kept(replies.iter().copied()) => {}
            Ok(result) => wrong.push(format!(
                "the result of {id} is {result:?}, and not of {replies:?}"
            )),
            Err(answer) => wrong.push(answer.clone()),
        }
        match &look.events {
            Ok(events) => wrong.extend(contradicting(id, events, replies)),
            Err(answer) => wrong.push(answer.clone()),
        }
    }
    wrong
}

/// What a kickoff is shown as, where its replies have it otherwise. A run that was overtaken may have told of a later
/// attempt than the one whose reply counts.
fn unlike(shown: &Shown, replies: &[&ReplySeen]) -> Option<String> {
    let is_like = kept(replies.iter().copied()).is_some_and(|reply| {
        let attempts = replies.iter().map(|reply| reply.attempt);
        let last = attempts.max().unwrap_or(reply.attempt);
        shown.kickoff_id == reply.id
            && shown.crew == reply.crew
            && shown.status == reply.status
            && shown.redrive == reply.redrive
            && (reply.attempt..=last).contains(&shown.attempt)
            && shown.worker.as_ref() == Some(&reply.worker)
            && shown.error.as_ref().map(|error| &error.kind) == reply.error.as_ref()
    });
    (!is_like).then(|| format!("{shown:?} is not as its replies are: {replies:?}"))
}

/// What events say that no reply bears out. An event may be lost, so none of them is missed.
fn contradicting(id: &str, events: &[EventShown], replies: &[&ReplySeen]) -> Option<String> {
    let is_ordered = events.is_sorted_by(|one, next| one.id < next.id);
    let is_so = |event: &EventShown| {
        let mut of_run = replies.iter().filter(|reply| reply.redrive == event.redrive);
        event.kickoff_id == id
            && of_run
                .clone()
                .any(|reply| reply.crew == event.crew && event.attempt <= reply.attempt)
            && event
                .end()
                .is_none_or(|end| of_run.any(|reply| reply.status == end))
    };
    (!is_ordered || !events.iter().all(is_so))
        .then(|| format!("the events of {id} are {events:?}, and its replies {replies:?}"))
}

/// All gateways have the same events, but for the last ones, which one may have read and another may not.
fn apart(surveys: &[Survey]) -> Vec<String> {
    let mut wrong = Vec::new();
    for pair in surveys.windows(2) {
        for (id, one) in &pair[0].looks {
            let others = pair[1].looks.get(id).map(events);
            let is_alike = others.is_none_or(|others| {
                let both = events(one).iter().zip(others);
                both.clone().all(|(one, other)| one == other)
            });
            if !is_alike {
                wrong.push(format!(
                    "the gateways have other events of {id}: {one:?}, {others:?}"
                ));
            }
        }
    }
    wrong
}

fn events(look: &Look) -> &[EventShown] {
    look.events.as_deref().unwrap_or_default()
}
