//! What a sink is for: statuses and types of events, of all crews or of some.

use std::collections::BTreeSet;

use crewfleet_protocol::event::event_type;
use crewfleet_protocol::topology::SinkSource;
use crewfleet_protocol::{CrewName, Names, Status};
use crewfleet_service::spelling;

use crate::item::Item;

/// All statuses.
const REPLIES: &str = "replies";
/// All types of events.
const EVENTS: &str = "events";
/// The longest name of an event's type.
const LONGEST: usize = 128;

/// What a sink is for, and of whom.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pub(crate) on: On,
    /// Of all where it is empty.
    pub(crate) crews: BTreeSet<CrewName>,
}

impl Filter {
    /// Whether it is for this item.
    pub(crate) fn wants(&self, item: &Item) -> bool {
        let is_for = match item {
            Item::Reply(reply) => self.on.status(reply.of.status),
            Item::Event(event) => self.on.event(&event.of.event_type),
            Item::Order(_) => false,
        };
        is_for && (self.crews.is_empty() || self.crews.iter().any(|crew| crew.as_str() == item.crew()))
    }
}

/// What a sink is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct On {
    statuses: BTreeSet<&'static str>,
    all_events: bool,
    events: BTreeSet<String>,
}

impl On {
    /// All replies.
    pub(crate) fn replies() -> Self {
        Self {
            statuses: Status::ALL.map(Status::as_str).into(),
            ..Self::default()
        }
    }

    /// As the names say.
    ///
    /// # Errors
    /// The name that is none, and why.
    pub(crate) fn read(names: &[String]) -> Result<Self, (String, String)> {
        let mut on = Self::default();
        let statuses = Status::ALL.map(Status::as_str);
        for name in names {
            match name.as_str() {
                REPLIES => on.statuses.extend(statuses),
                EVENTS => on.all_events = true,
                name => match statuses.iter().find(|status| **status == name) {
                    Some(status) => drop(on.statuses.insert(status)),
                    None => {
                        check_event(name).map_err(|problem| (name.to_owned(), problem))?;
                        on.events.insert(name.to_owned());
                    }
                },
            }
        }
        Ok(on)
    }

    /// Whether it is for nothing.
    pub(crate) fn is_empty(&self) -> bool {
        !self.has_replies() && !self.has_events()
    }

    /// Whether it is for replies.
    pub(crate) fn has_replies(&self) -> bool {
        !self.statuses.is_empty()
    }

    /// Whether it is for events.
    pub(crate) fn has_events(&self) -> bool {
        self.all_events || !self.events.is_empty()
    }

    /// Whether it is for replies of this status.
    pub(crate) fn status(&self, status: Status) -> bool {
        self.statuses.contains(status.as_str())
    }

    /// Whether it is for events of this type.
    pub(crate) fn event(&self, event_type: &str) -> bool {
        self.all_events || self.events.contains(event_type)
    }

    /// Where its messages come from.
    pub(crate) fn sources(&self, names: &Names) -> Vec<SinkSource> {
        let source = |exchange: String, key: &str| SinkSource {
            exchange,
            key: key.to_owned(),
        };
        let replies = self.has_replies().then(|| source(names.replies(), "#"));
        let events: Vec<_> = match self.all_events {
            true => vec![source(names.events(), "#")],
            false => self
                .events
                .iter()
                .map(|name| source(names.events(), &format!("*.{name}")))
                .collect(),
        };
        replies.into_iter().chain(events).collect()
    }
}

/// Types of events are CrewAI's, and more than we know: only what is nearly a name of ours is taken for a mistake.
fn check_event(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !(1..=LONGEST).contains(&name.len()) || !name.chars().all(allowed) {
        return Err(format!(
            "it is neither a status nor a type of events, which has 1 to {LONGEST} characters of A-Z, a-z, 0-9 and _"
        ));
    }
    let own = [
        event_type::QUEUED,
        event_type::WATCHED,
        event_type::STARTED,
        event_type::RETRYING,
        event_type::CANCELLING,
        event_type::FINISHED,
        event_type::LOG,
        event_type::STREAM_CHUNK,
        event_type::THINKING_CHUNK,
    ];
    if own.contains(&name) {
        return Ok(());
    }
    let statuses = Status::ALL.map(Status::as_str);
    let known = statuses.into_iter().chain([REPLIES, EVENTS]);
    match spelling::did_you_mean(name, known).as_str() {
        "" => Ok(()),
        meant => Err(format!(
            "it is no status{meant} It would be taken for a type of events"
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn on(names: &[&str]) -> Result<On, (String, String)> {
        On::read(&names.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn statuses_and_types_of_events_are_told_apart() {
        let some = on(&["failed", "timed_out", "kickoff_started", "task_completed"]).unwrap();
        assert!(some.status(Status::Failed) && !some.status(Status::Succeeded));
        assert!(some.event("task_completed") && !some.event("log"));
        let keys: Vec<_> = some
            .sources(&Names::new("k"))
            .into_iter()
            .map(|source| source.key)
            .collect();
        assert_eq!(keys, ["#", "*.kickoff_started", "*.task_completed"]);
        let all = on(&["replies", "events"]).unwrap();
        assert!(all.status(Status::Rejected) && all.event("anything"));
        assert_eq!(all.sources(&Names::new("k")).len(), 2);
        assert_eq!(on(&["replies"]).unwrap(), On::replies());
        assert!(on(&[]).unwrap().is_empty());
    }

    #[test]
    fn a_misspelt_status_is_no_type_of_events() {
        for (name, part) in [
            ("suceeded", "did you mean succeeded?"),
            ("event", "events"),
            ("a.b", "A-Z"),
            ("", "A-Z"),
        ] {
            let (named, problem) = on(&[name]).unwrap_err();
            assert!(named == name && problem.contains(part), "{problem}");
        }
    }
}
