//! One kickoff that is followed: where it is, what happens, and how it ended.

use std::collections::BTreeSet;

use crewfleet::status::{KickoffAt, Stage};
use crewfleet::{Event, KickoffId, KickoffStatus, Reply};
use crewfleet_protocol::HeldState;

use super::harmless_text::{harmless_line, harmless_lines};
use super::news::OfKickoff;
use crate::commands::{events, status};
use crate::failure;
use crate::output::in_words;

/// How many events are kept; older ones are left out.
const MOST_EVENTS: usize = 2_000;

/// How many lines of a result are shown.
const MOST_LINES: usize = 2_000;

/// A kickoff that is followed.
pub(crate) struct Followed {
    /// Its id.
    pub(crate) id: KickoffId,
    /// Its crew, once somebody has said it.
    pub(crate) crew: Option<String>,
    /// The worker that has it, as far as we know.
    pub(crate) worker: Option<String>,
    /// It was run again from the dead letters.
    pub(crate) is_redriven: bool,
    /// Where it is, in lines.
    pub(crate) status: Vec<String>,
    /// How it ended, in lines.
    pub(crate) reply: Option<Vec<String>>,
    /// How many lines are below what is shown; 0 shows what comes as it comes.
    pub(crate) scrolled: usize,
    events: Vec<(Key, String)>,
    seen: BTreeSet<Key>,
    left_out: usize,
}

/// By which an event is known that comes twice: as it happens, and from a gateway's stream.
type Key = (u32, u32, chrono::DateTime<chrono::Utc>, u64, String);

impl Followed {
    /// One of which is known what a worker says.
    pub(crate) fn new(id: KickoffId, at: &KickoffAt) -> Self {
        Self {
            id,
            crew: at.kickoff.crew.clone(),
            worker: Some(at.worker.clone()),
            is_redriven: at.kickoff.redrive > 0,
            status: vec!["asking the workers …".to_owned()],
            reply: None,
            scrolled: 0,
            events: Vec::new(),
            seen: BTreeSet::new(),
            left_out: 0,
        }
    }

    /// What news make of it.
    pub(crate) fn hear(&mut self, news: OfKickoff) {
        match news {
            OfKickoff::Status(status) => self.set_status(&status),
            OfKickoff::Past(events) => {
                for event in &events {
                    self.add(event);
                }
            }
            OfKickoff::Event(event) => self.add(&event),
            OfKickoff::Reply(reply) => {
                self.crew = Some(reply.crew.clone());
                self.status = harmless_lines(&status::ended(&reply), MOST_LINES);
                self.reply = Some(ended(&reply));
            }
            OfKickoff::Problem(problem) => self.status = harmless_lines(&problem, MOST_LINES),
        }
    }

    /// The events and then the reply, in lines.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        let events = self.events.iter().map(|(_, line)| line.as_str());
        events.chain(self.reply.iter().flatten().map(String::as_str))
    }

    /// How many events are not shown, since others came later.
    pub(crate) fn left_out(&self) -> usize {
        self.left_out
    }

    /// Whether any event came.
    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    fn set_status(&mut self, known: &KickoffStatus) {
        let mut text = status::text(known);
        for crew in known.waits_for_paused() {
            text += &format!("\nThe crew {crew} is paused");
        }
        for doubt in &known.doubts {
            text += &format!("\n{doubt}");
        }
        self.status = harmless_lines(&text, MOST_LINES);
        let mut present = known
            .workers
            .iter()
            .filter(|at| at.kickoff.state != HeldState::Ended);
        if let Some(at) = present.next() {
            self.worker = Some(at.worker.clone());
            self.is_redriven = at.kickoff.redrive > 0;
            self.crew = at.kickoff.crew.clone().or(self.crew.take());
        }
        if let Some(reply) = known.reply.as_ref().filter(|_| known.stage == Stage::Ended) {
            self.hear(OfKickoff::Reply(Box::new(reply.clone())));
        }
    }

    fn add(&mut self, event: &Event) {
        let key = (
            event.redrive,
            event.attempt,
            event.time,
            event.sequence,
            event.event_type.clone(),
        );
        if !self.seen.insert(key.clone()) {
            return;
        }
        self.crew.get_or_insert_with(|| event.crew.clone());
        // Almost always at the end. What is kept comes after what happened meanwhile.
        let at = self.events.partition_point(|(other, _)| *other <= key);
        self.events.insert(at, (key, harmless_line(&events::line(event))));
        if self.events.len() > MOST_EVENTS {
            let (oldest, _) = self.events.remove(0);
            self.seen.remove(&oldest);
            self.left_out += 1;
        }
        // What a person reads stays where it is.
        if self.scrolled > 0 {
            self.scrolled += 1;
        }
    }
}

/// How it ended: the result as text, or what went wrong.
fn ended(reply: &Reply) -> Vec<String> {
    let mut lines = vec![format!("── {} ──", in_words(reply.status))];
    if let Some((headline, traceback)) = failure::told(reply) {
        lines.extend(harmless_lines(&headline, MOST_LINES));
        let traceback = traceback.unwrap_or_default();
        lines.extend(failure::excerpt(&traceback).into_iter().map(harmless_line));
    }
    if let Some(result) = &reply.result {
        lines.extend(harmless_lines(&result.raw, MOST_LINES));
        if result.raw.lines().nth(MOST_LINES).is_some() {
            let id = harmless_line(&reply.kickoff_id);
            lines.push(format!("… the whole result: crewfleet wait {id}"));
        }
    }
    lines
}
