//! What is known of one kickoff, by its events and by its reply.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use crewfleet_protocol::event::event_type;
use crewfleet_protocol::{Event, Reply, Status};
use serde::Deserialize;
use tokio::time::Instant;

/// CrewAI's name of the event that a task has ended well.
pub(crate) const TASK_COMPLETED: &str = "task_completed";
/// So many of the last events of a kickoff are kept; all are counted.
pub(crate) const EVENTS: usize = 20;
/// So many types of events are counted apart; crews name types, too.
pub(crate) const TYPES: usize = 64;
/// What one takes beside the texts it holds: some 300 bytes were counted.
const OVERHEAD: usize = 512;

/// How far a kickoff is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It waits: for a worker, or for its next attempt.
    Queued,
    /// A worker has begun with it.
    Started,
    /// Its crew has done something.
    Running,
    /// A worker says that it has ended, and since `heard` that is known here. Its reply is not: it comes, or was let go
    /// by its stream before the events were.
    Finished { status: Status, heard: Instant },
    /// It has a reply: of the highest redrive, the first.
    Ended { redrive: u32, status: Status },
}

/// How long a reply may come after the event that says that there is one, by our clock: the worker's may be wrong.
const REPLY_LATE: Duration = Duration::from_secs(60);

impl Stage {
    /// The same, but that it ran until its reply is surely not to come any more: who sees that it has ended, looks for
    /// the reply.
    pub(crate) fn settled(self) -> Self {
        match self {
            Self::Finished { heard, .. } if heard.elapsed() < REPLY_LATE => Self::Running,
            stage => stage,
        }
    }

    /// Whether nothing follows, unless it is redriven.
    pub(crate) fn is_over(self) -> bool {
        matches!(self.settled(), Self::Finished { .. } | Self::Ended { .. })
    }

    /// Whether a worker says that it has ended.
    pub(crate) fn is_ending(self) -> bool {
        matches!(self, Self::Finished { .. } | Self::Ended { .. })
    }
}

/// What is known of one kickoff, but for its reply.
#[derive(Debug, Clone)]
pub(crate) struct Execution {
    pub(crate) crew: Arc<str>,
    pub(crate) stage: Stage,
    /// The highest redrive of which anything is known.
    pub(crate) redrive: u32,
    /// When its reply was given, by the worker's clock: there the results stream has it.
    pub(crate) ended_at: Option<DateTime<Utc>>,
    /// The last events, in the order they came.
    pub(crate) events: VecDeque<Arc<Event>>,
    /// How many events came, by type.
    pub(crate) counts: BTreeMap<String, u64>,
    /// The last task that this redrive has completed: what a crew prints may fill `events`.
    pub(crate) last_task: Option<Arc<Event>>,
}

impl Execution {
    pub(crate) fn new(crew: impl Into<Arc<str>>, stage: Stage) -> Self {
        Self {
            crew: crew.into(),
            stage,
            redrive: 0,
            ended_at: None,
            events: VecDeque::new(),
            counts: BTreeMap::new(),
            last_task: None,
        }
    }

    /// One of which nothing is known but its reply.
    pub(crate) fn ended(reply: &Reply) -> Self {
        let (redrive, status) = (reply.redrive, reply.status);
        Self {
            redrive,
            ended_at: Some(reply.finished_at),
            ..Self::new(reply.crew.as_str(), Stage::Ended { redrive, status })
        }
    }

    /// Whether it has a reply.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended { .. })
    }

    /// One more event.
    pub(crate) fn see(&mut self, mut event: Event) {
        if event.redrive > self.redrive {
            // It runs once more, whatever became of it before.
            self.redrive = event.redrive;
            self.stage = Stage::Queued;
            self.last_task = None;
        }
        self.stage = match (event.event_type.as_str(), self.stage) {
            // Late news of an earlier run.
            (_, stage) if event.redrive < self.redrive => stage,
            (_, ended @ Stage::Ended { .. }) => ended,
            // The order of what two publishers send is not kept.
            (event_type::QUEUED | event_type::CANCELLING, stage) => stage,
            (event_type::FINISHED, stage) => status_of(&event).map_or(stage, |status| Stage::Finished {
                status,
                heard: Instant::now(),
            }),
            (event_type::RETRYING, _) => Stage::Queued,
            (event_type::STARTED, _) => Stage::Started,
            _ => Stage::Running,
        };
        if self.counts.len() < TYPES || self.counts.contains_key(&event.event_type) {
            *self.counts.entry(event.event_type.clone()).or_default() += 1;
        }
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        // Its caller's own, and as large as the caller likes.
        event.meta = None;
        let event = Arc::new(event);
        if event.event_type == TASK_COMPLETED && event.redrive == self.redrive {
            self.last_task = Some(Arc::clone(&event));
        }
        self.events.push_back(event);
    }

    /// Its reply. The first one of the highest redrive counts, and one of a run before the present one does not.
    pub(crate) fn end(&mut self, reply: &Reply) {
        let known = match self.stage {
            Stage::Ended { redrive, .. } => redrive >= reply.redrive,
            _ => self.redrive > reply.redrive,
        };
        if !known {
            self.redrive = reply.redrive;
            self.stage = Self::ended(reply).stage;
            self.ended_at = Some(reply.finished_at);
        }
    }

    /// In bytes.
    pub(crate) fn weight(&self) -> usize {
        let of_event = |event: &Arc<Event>| 256 + event.data.get().len();
        let events = self.events.iter().chain(&self.last_task);
        OVERHEAD + events.map(of_event).sum::<usize>() + self.counts.len() * 64
    }
}

/// The status that `kickoff_finished` tells.
fn status_of(event: &Event) -> Option<Status> {
    #[derive(Deserialize)]
    struct Finished {
        status: Status,
    }
    let finished: Finished = serde_json::from_str(event.data.get()).ok()?;
    Some(finished.status)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use crewfleet::received_reply::read;

    pub(crate) fn event(id: &str, event_type: &str) -> Event {
        serde_json::from_str(&format!(
            r#"{{"kickoff_id": "{id}", "crew": "echo", "attempt": 1, "sequence": 1, "time": "2026-11-22T10:00:01Z",
                "type": "{event_type}", "data": {{"status": "failed"}}, "meta": null}}"#
        ))
        .unwrap()
    }

    pub(crate) fn reply(id: &str, status: &str, redrive: u32) -> Arc<Reply> {
        let text = format!(
            r#"{{"kickoff_id": "{id}", "crew": "echo", "status": "{status}", "result": null, "error": null,
                "attempt": 1, "redrive": {redrive}, "worker": "w", "requested_at": null, "started_at": null,
                "finished_at": "2026-11-22T10:00:00Z", "meta": null}}"#
        );
        read(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_stage_follows_the_events_in_whatever_order_the_first_come() {
        let mut execution = Execution::new("echo", Stage::Queued);
        let mut stage = |event_type| {
            execution.see(event("a", event_type));
            execution.stage
        };
        assert_eq!(stage("kickoff_started"), Stage::Started);
        assert_eq!(stage("kickoff_queued"), Stage::Started);
        assert_eq!(stage("task_started"), Stage::Running);
        assert_eq!(stage("kickoff_retrying"), Stage::Queued);
        assert_eq!(stage("kickoff_started"), Stage::Started);
        let status = Status::Failed;
        assert!(
            matches!(stage("kickoff_finished"), Stage::Finished { status: known, .. } if known == status)
        );
        assert_eq!(execution.counts["kickoff_started"], 2);
    }

    #[test]
    fn a_reply_is_waited_for_whatever_the_worker_s_clock_says() {
        let mut execution = Execution::new("echo", Stage::Queued);
        // Its worker's clock is days behind.
        execution.see(event("a", "kickoff_finished"));
        assert_eq!(execution.stage.settled(), Stage::Running);
        let Stage::Finished { status, heard } = execution.stage else {
            panic!("{:?}", execution.stage);
        };
        let heard = heard - REPLY_LATE;
        assert!(Stage::Finished { status, heard }.is_over());
    }

    #[test]
    fn one_that_is_redriven_runs_again_and_late_news_of_the_run_before_change_nothing() {
        let mut execution = Execution::new("echo", Stage::Queued);
        let failed = reply("a", "failed", 0);
        execution.end(&failed);
        execution.see(event("a", "task_completed"));
        assert!(execution.has_ended());
        let redriven = |event_type| Event {
            redrive: 1,
            ..event("a", event_type)
        };
        execution.see(redriven("kickoff_started"));
        assert_eq!(execution.stage, Stage::Started);
        // A second copy of the first reply, and an event of that run.
        execution.end(&failed);
        execution.see(event("a", "kickoff_finished"));
        assert_eq!(execution.stage, Stage::Started);
        execution.end(&reply("a", "succeeded", 1));
        let (redrive, status) = (1, Status::Succeeded);
        assert_eq!(execution.stage, Stage::Ended { redrive, status });
        execution.see(redriven("kickoff_finished"));
        assert!(execution.has_ended());
    }

    #[test]
    fn an_endless_crew_takes_no_endless_memory() {
        let mut execution = Execution::new("echo", Stage::Queued);
        execution.see(event("a", TASK_COMPLETED));
        for number in 0..10_000 {
            execution.see(event("a", &format!("type-{number}")));
        }
        assert!(execution.last_task.is_some());
        assert_eq!((execution.events.len(), execution.counts.len()), (EVENTS, TYPES));
    }
}
