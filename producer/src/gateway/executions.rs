//! What is known of each kickoff: by its events, by its reply. As much as `memory_limit` holds, half of it replies;
//! what has not changed and was not asked for the longest goes first.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytesize::ByteSize;
use chrono::{DateTime, TimeDelta, Utc};
use crewfleet_shared::kickoff::event::event_type;
use crewfleet_shared::kickoff::{Event, Reply, Status};
use moka::notification::RemovalCause;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// CrewAI's name of the event that a task has ended well.
const TASK_COMPLETED: &str = "task_completed";
/// So many of the last events of a kickoff are kept; all are counted.
const EVENTS: usize = 20;
/// So many types of events are counted apart; crews name types, too.
const TYPES: usize = 64;
/// What an entry takes beside the texts it holds: some 300 bytes were counted, and the cache's own share.
const OVERHEAD: usize = 512;

/// How far a kickoff is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits: for a worker, or for its next attempt.
    Queued,
    /// A worker has begun with it.
    Started,
    /// Its crew has done something.
    Running,
    /// A worker said at this moment that it has ended. Its reply is not here: it comes, or was let go by its stream
    /// before the events were.
    Finished { status: Status, at: DateTime<Utc> },
    /// It has a reply: of the highest redrive, the first.
    Ended { redrive: u32, status: Status },
}

/// How long a reply may come after the event that says that there is one.
const REPLY_LATE: TimeDelta = TimeDelta::minutes(1);

impl Stage {
    /// The same, but that it ran until its reply is surely not to come any more: who sees that it has ended, looks for
    /// the reply.
    pub(super) fn settled(self) -> Self {
        match self {
            Self::Finished { at, .. } if Utc::now() - at < REPLY_LATE => Self::Running,
            stage => stage,
        }
    }

    /// Whether nothing follows, unless it is redriven.
    pub(super) fn is_over(self) -> bool {
        matches!(self.settled(), Self::Finished { .. } | Self::Ended { .. })
    }
}

/// What is known of one kickoff, but for its reply.
#[derive(Debug, Clone)]
pub(super) struct Execution {
    pub(super) crew: String,
    pub(super) stage: Stage,
    /// The last events, in the order they came.
    pub(super) events: VecDeque<Arc<Event>>,
    /// How many events came, by type.
    pub(super) counts: BTreeMap<String, u64>,
    /// The last task that was completed: what a crew prints may fill `events`.
    pub(super) last_task: Option<Arc<Event>>,
}

impl Execution {
    fn new(crew: &str, stage: Stage) -> Self {
        Self {
            crew: crew.to_owned(),
            stage,
            events: VecDeque::new(),
            counts: BTreeMap::new(),
            last_task: None,
        }
    }

    /// One of which nothing is known but its reply.
    pub(super) fn ended(reply: &Reply) -> Self {
        let (redrive, status) = (reply.redrive, reply.status);
        Self::new(&reply.crew, Stage::Ended { redrive, status })
    }

    /// Whether it has a reply.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended { .. })
    }

    fn see(&mut self, mut event: Event) {
        self.stage = match (event.event_type.as_str(), self.stage) {
            (_, ended @ Stage::Ended { .. }) => ended,
            // The order of what two publishers send is not kept.
            (event_type::QUEUED | event_type::CANCELLING, stage) => stage,
            (event_type::FINISHED, stage) => status_of(&event).map_or(stage, |status| Stage::Finished {
                status,
                at: event.time,
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
        if event.event_type == TASK_COMPLETED {
            self.last_task = Some(Arc::clone(&event));
        }
        self.events.push_back(event);
    }

    fn weight(&self) -> usize {
        let of_event = |event: &Arc<Event>| 256 + event.data.get().len();
        OVERHEAD
            + self
                .events
                .iter()
                .chain(&self.last_task)
                .map(of_event)
                .sum::<usize>()
            + self.counts.len() * 64
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

/// All that is known.
pub(super) struct Executions {
    known: Cache<String, Arc<Execution>>,
    /// With how many bytes each has.
    replies: Cache<String, (Arc<Reply>, usize)>,
    forgotten: Arc<Forgotten>,
    news: Notify,
}

/// What there was no room for.
#[derive(Default)]
struct Forgotten {
    /// Whether there was none for some that had ended.
    ended: AtomicBool,
    /// Those that had not, by their hashes.
    running: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

impl Forgotten {
    fn forget(&self, id: &str, execution: &Execution) {
        match matches!(execution.stage, Stage::Ended { .. } | Stage::Finished { .. }) {
            true => self.ended.store(true, Ordering::Relaxed),
            false => drop(self.running().insert(self.hasher.hash_one(id))),
        }
    }

    fn running(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Executions {
    pub(super) fn new(limit: ByteSize) -> Self {
        let forgotten = Arc::<Forgotten>::default();
        let (of_known, half) = (Arc::clone(&forgotten), limit.as_u64() / 2);
        let weight = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let known = Cache::builder()
            .weigher(move |id: &String, execution: &Arc<Execution>| weight(id.len() + execution.weight()))
            .max_capacity(half)
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |id: Arc<String>, execution: Arc<Execution>, cause| {
                if cause == RemovalCause::Size {
                    of_known.forget(&id, &execution);
                }
            })
            .build();
        let replies = Cache::builder()
            .weigher(move |id: &String, (_, bytes): &(_, usize)| weight(id.len() + OVERHEAD + bytes))
            .max_capacity(half)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self {
            known,
            replies,
            forgotten,
            news: Notify::new(),
        }
    }

    /// One that this gateway has taken.
    pub(super) fn take(&self, id: &str, crew: &str) {
        self.change(id, |known| match known {
            // Its events were faster.
            Some(_) => None,
            None => Some(Execution::new(crew, Stage::Queued)),
        });
    }

    /// One more event.
    pub(super) fn see(&self, event: Event) {
        let id = event.kickoff_id.clone();
        self.change(&id, |known| {
            let mut execution = known.unwrap_or_else(|| Execution::new(&event.crew, Stage::Queued));
            execution.see(event);
            Some(execution)
        });
    }

    /// A reply, and how many bytes it has.
    pub(super) fn end(&self, id: &str, reply: &Arc<Reply>, bytes: usize) {
        // In this order: who sees that it has ended finds the reply.
        self.replies
            .entry_by_ref(id)
            .and_compute_with(|entry| match entry {
                Some(best) if best.value().0.redrive >= reply.redrive => Op::Nop,
                _ => Op::Put((Arc::clone(reply), bytes)),
            });
        self.change(id, |known| {
            let ended = Execution::ended(reply);
            match known {
                Some(known) if matches!(known.stage, Stage::Ended { redrive, .. } if redrive >= reply.redrive) => None,
                Some(known) => Some(Execution {
                    stage: ended.stage,
                    ..known
                }),
                None => Some(ended),
            }
        });
    }

    /// What is known of one.
    pub(super) fn get(&self, id: &str) -> Option<Arc<Execution>> {
        self.known.get(id)
    }

    /// The same, waiting for news of it for so long.
    pub(super) async fn wait_for(&self, id: &str, limit: Duration) -> Option<Arc<Execution>> {
        let deadline = Instant::now() + limit;
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            news.as_mut().enable();
            if let Some(known) = self.get(id) {
                return Some(known);
            }
            timeout_at(deadline, news).await.ok()?;
        }
    }

    /// The reply of one that has ended, unless there was no room for it.
    pub(super) fn reply(&self, id: &str) -> Option<Arc<Reply>> {
        self.replies.get(id).map(|(reply, _)| reply)
    }

    /// Whether there was no room for one that had ended: one that is not known may have ended long ago.
    pub(super) fn has_forgotten_ended(&self) -> bool {
        self.forgotten.ended.load(Ordering::Relaxed)
    }

    /// Whether there was no room for this one, which has not ended.
    pub(super) fn has_forgotten(&self, id: &str) -> bool {
        self.forgotten
            .running()
            .contains(&self.forgotten.hasher.hash_one(id))
    }

    /// How many are known, and how many bytes they and their replies count for.
    pub(super) fn size(&self) -> (u64, u64) {
        self.known.run_pending_tasks();
        self.replies.run_pending_tasks();
        let bytes = self.known.weighted_size() + self.replies.weighted_size();
        (self.known.entry_count(), bytes)
    }

    /// Changes one in one step, whoever else changes it; `None` leaves it as it is.
    fn change(&self, id: &str, change: impl FnOnce(Option<Execution>) -> Option<Execution>) {
        self.known.entry_by_ref(id).and_compute_with(|entry| {
            let known = entry.map(|entry| Execution::clone(entry.value()));
            change(known).map_or(Op::Nop, |execution| Op::Put(Arc::new(execution)))
        });
        self.forgotten
            .running()
            .remove(&self.forgotten.hasher.hash_one(id));
        self.news.notify_waiters();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::replies::read;

    fn event(id: &str, event_type: &str) -> Event {
        serde_json::from_str(&format!(
            r#"{{"kickoff_id": "{id}", "crew": "echo", "attempt": 1, "sequence": 1, "time": "2026-11-22T10:00:01Z",
                "type": "{event_type}", "data": {{"status": "failed"}}, "meta": null}}"#
        ))
        .unwrap()
    }

    fn reply(id: &str, status: &str, redrive: u32) -> Arc<Reply> {
        let text = format!(
            r#"{{"kickoff_id": "{id}", "crew": "echo", "status": "{status}", "result": null, "error": null,
                "attempt": 1, "redrive": {redrive}, "worker": "w", "requested_at": null, "started_at": null,
                "finished_at": "2026-11-22T10:00:00Z", "meta": null}}"#
        );
        read(text.as_bytes()).unwrap()
    }

    fn executions() -> Executions {
        Executions::new(ByteSize::mib(1))
    }

    #[test]
    fn the_stage_follows_the_events_in_whatever_order_the_first_come() {
        let executions = executions();
        let stage = |event_type| {
            executions.see(event("a", event_type));
            executions.get("a").unwrap().stage
        };
        assert_eq!(stage("kickoff_started"), Stage::Started);
        assert_eq!(stage("kickoff_queued"), Stage::Started);
        assert_eq!(stage("task_started"), Stage::Running);
        assert_eq!(stage("kickoff_retrying"), Stage::Queued);
        assert_eq!(stage("kickoff_started"), Stage::Started);
        executions.take("a", "echo");
        assert_eq!(executions.get("a").unwrap().counts["kickoff_started"], 2);
        assert!(matches!(
            stage("kickoff_finished"),
            Stage::Finished {
                status: Status::Failed,
                ..
            }
        ));
        assert_eq!(stage("kickoff_started"), Stage::Started, "it is redriven");
        executions.take("b", "echo");
        assert_eq!(executions.get("b").unwrap().stage, Stage::Queued);
    }

    #[test]
    fn the_first_reply_of_the_highest_redrive_stays() {
        let executions = executions();
        for (status, redrive) in [
            ("failed", 0),
            ("succeeded", 0),
            ("timed_out", 1),
            ("succeeded", 0),
        ] {
            executions.end("a", &reply("a", status, redrive), 100);
        }
        let (redrive, status) = (1, Status::TimedOut);
        assert_eq!(
            executions.get("a").unwrap().stage,
            Stage::Ended { redrive, status }
        );
        assert_eq!(executions.reply("a").unwrap().status.as_str(), "timed_out");
        // What comes late changes nothing.
        executions.see(event("a", "task_completed"));
        assert!(executions.get("a").unwrap().has_ended());
    }

    #[test]
    fn an_endless_crew_takes_no_endless_memory() {
        let executions = executions();
        executions.see(event("a", TASK_COMPLETED));
        for number in 0..10_000 {
            executions.see(event("a", &format!("type-{number}")));
        }
        let known = executions.get("a").unwrap();
        assert!(known.last_task.is_some());
        assert_eq!((known.events.len(), known.counts.len()), (EVENTS, TYPES));
    }

    #[test]
    fn replies_that_are_too_much_go_and_what_runs_stays() {
        let executions = executions();
        executions.take("queued", "echo");
        for number in 0..100 {
            let id = number.to_string();
            executions.end(&id, &reply(&id, "succeeded", 0), 100_000);
        }
        let (known, bytes) = executions.size();
        assert!(bytes <= ByteSize::mib(1).as_u64(), "{bytes}");
        assert_eq!(known, 101);
        assert!(executions.reply("0").is_none() && executions.reply("99").is_some());
        assert!(executions.get("0").unwrap().has_ended());
        assert!(!executions.has_forgotten_ended());
    }

    #[test]
    fn that_something_was_forgotten_is_known() {
        let executions = executions();
        for number in 0..2_000 {
            let id = format!("ended-{number}");
            executions.end(&id, &reply(&id, "succeeded", 0), 10);
        }
        executions.size();
        assert!(executions.has_forgotten_ended() && !executions.has_forgotten("ended-0"));
        for number in 0..2_000 {
            executions.take(&format!("queued-{number}"), "echo");
        }
        executions.size();
        assert!(executions.has_forgotten("queued-0") && executions.get("queued-0").is_none());
        assert!(!executions.has_forgotten("queued-1999") && !executions.has_forgotten("never"));
        executions.end("queued-0", &reply("queued-0", "succeeded", 0), 10);
        assert!(!executions.has_forgotten("queued-0") && executions.get("queued-0").is_some());
    }

    #[tokio::test]
    async fn news_end_the_waiting() {
        let executions = Arc::new(executions());
        let waiting = Arc::clone(&executions);
        let waiting = tokio::spawn(async move { waiting.wait_for("a", Duration::from_secs(60)).await });
        tokio::task::yield_now().await;
        executions.take("b", "echo");
        executions.take("a", "echo");
        assert!(waiting.await.unwrap().is_some());
        assert!(executions.wait_for("c", Duration::ZERO).await.is_none());
    }
}
