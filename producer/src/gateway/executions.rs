//! What is known of each kickoff: by its events, by its reply. As much as `memory_limit` holds; what has not changed and
//! was not asked for the longest goes first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytesize::ByteSize;
use crewfleet_shared::kickoff::event::event_type;
use crewfleet_shared::kickoff::{Event, Reply};
use moka::notification::RemovalCause;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

/// So many of the last events of a kickoff are kept; all are counted.
const EVENTS: usize = 20;
/// So many types of events are counted apart; crews name types, too.
const TYPES: usize = 64;
/// What an execution takes beside the texts it holds.
const OVERHEAD: usize = 1024;

/// How far a kickoff is that has no reply yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits: for a worker, or for its next attempt.
    Queued,
    /// A worker has begun with it.
    Started,
    /// Its crew has done something.
    Running,
}

/// What is known of one kickoff.
#[derive(Debug, Clone)]
pub(super) struct Execution {
    pub(super) crew: String,
    pub(super) stage: Stage,
    /// The last events, in the order they came.
    pub(super) events: VecDeque<Arc<Event>>,
    /// How many events came, by type.
    pub(super) counts: BTreeMap<String, u64>,
    /// The first reply of the highest redrive.
    pub(super) reply: Option<Arc<Reply>>,
    /// How long that was, as it came.
    reply_bytes: usize,
}

impl Execution {
    /// One of which nothing is known but that it was asked for.
    fn queued(crew: &str) -> Self {
        Self {
            crew: crew.to_owned(),
            stage: Stage::Queued,
            events: VecDeque::new(),
            counts: BTreeMap::new(),
            reply: None,
            reply_bytes: 0,
        }
    }

    /// One of which nothing is known but how it ended.
    pub(super) fn ended(reply: Arc<Reply>, bytes: usize) -> Self {
        Self {
            reply_bytes: bytes,
            ..Self::queued(&reply.crew).with(reply)
        }
    }

    fn with(mut self, reply: Arc<Reply>) -> Self {
        self.reply = Some(reply);
        self
    }

    fn see(&mut self, event: Event) {
        self.stage = match event.event_type.as_str() {
            // The order of what two publishers send is not kept.
            event_type::QUEUED | event_type::CANCELLING | event_type::FINISHED => self.stage,
            event_type::RETRYING => Stage::Queued,
            event_type::STARTED => Stage::Started,
            _ => Stage::Running,
        };
        if self.counts.len() < TYPES || self.counts.contains_key(&event.event_type) {
            *self.counts.entry(event.event_type.clone()).or_default() += 1;
        }
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(Arc::new(event));
    }

    fn weight(&self) -> u32 {
        let of_event = |event: &Arc<Event>| {
            let meta = event.meta.as_ref().map_or(0, |meta| meta.get().len());
            256 + event.data.get().len() + meta
        };
        let bytes = OVERHEAD
            + self.reply_bytes
            + self.events.iter().map(of_event).sum::<usize>()
            + self.counts.len() * 64;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// All that is known.
pub(super) struct Executions {
    cache: Cache<String, Arc<Execution>>,
    has_forgotten: Arc<AtomicBool>,
}

impl Executions {
    pub(super) fn new(limit: ByteSize) -> Self {
        let has_forgotten = Arc::new(AtomicBool::new(false));
        let forgotten = Arc::clone(&has_forgotten);
        let cache = Cache::builder()
            .weigher(|_, execution: &Arc<Execution>| execution.weight())
            .max_capacity(limit.as_u64())
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |_, _, cause| {
                if cause == RemovalCause::Size {
                    forgotten.store(true, Ordering::Relaxed);
                }
            })
            .build();
        Self { cache, has_forgotten }
    }

    /// One that this gateway has taken.
    pub(super) fn take(&self, id: &str, crew: &str) {
        self.change(id, |known| match known {
            // Its events were faster.
            Some(_) => None,
            None => Some(Execution::queued(crew)),
        });
    }

    /// One more event.
    pub(super) fn see(&self, event: Event) {
        let id = event.kickoff_id.clone();
        self.change(&id, |known| {
            let mut execution = known.unwrap_or_else(|| Execution::queued(&event.crew));
            execution.see(event);
            Some(execution)
        });
    }

    /// A reply, and how many bytes it has.
    pub(super) fn end(&self, id: &str, reply: Arc<Reply>, bytes: usize) {
        self.change(id, |known| match known {
            Some(known)
                if known
                    .reply
                    .as_ref()
                    .is_some_and(|best| best.redrive >= reply.redrive) =>
            {
                None
            }
            Some(known) => Some(Execution {
                reply_bytes: bytes,
                ..known.with(reply)
            }),
            None => Some(Execution::ended(reply, bytes)),
        });
    }

    /// What is known of one.
    pub(super) fn get(&self, id: &str) -> Option<Arc<Execution>> {
        self.cache.get(id)
    }

    /// Whether there was ever one too many: then one that is not known may have ended long ago.
    pub(super) fn has_forgotten(&self) -> bool {
        self.has_forgotten.load(Ordering::Relaxed)
    }

    /// How many are known, and how many bytes they count for.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.cache.entry_count(), self.cache.weighted_size())
    }

    /// Changes one in one step, whoever else changes it; `None` leaves it as it is.
    fn change(&self, id: &str, change: impl FnOnce(Option<Execution>) -> Option<Execution>) {
        self.cache.entry_by_ref(id).and_compute_with(|entry| {
            let known = entry.map(|entry| Arc::unwrap_or_clone(entry.into_value()));
            change(known).map_or(Op::Nop, |execution| Op::Put(Arc::new(execution)))
        });
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
                "type": "{event_type}", "data": {{}}, "meta": null}}"#
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
            executions.end("a", reply("a", status, redrive), 100);
        }
        let known = executions.get("a").unwrap().reply.clone().unwrap();
        assert_eq!((known.status.as_str(), known.redrive), ("timed_out", 1));
    }

    #[test]
    fn an_endless_crew_takes_no_endless_memory() {
        let executions = executions();
        for number in 0..10_000 {
            executions.see(event("a", &format!("type-{number}")));
        }
        let known = executions.get("a").unwrap();
        assert_eq!((known.events.len(), known.counts.len()), (EVENTS, TYPES));
    }

    #[test]
    fn what_is_too_much_is_forgotten_and_that_is_known() {
        let executions = executions();
        assert!(!executions.has_forgotten());
        for number in 0..100 {
            let id = number.to_string();
            executions.end(&id, reply(&id, "succeeded", 0), 100_000);
        }
        executions.cache.run_pending_tasks();
        let (_, bytes) = executions.size();
        assert!(bytes <= ByteSize::mib(1).as_u64(), "{bytes}");
        assert!(executions.has_forgotten() && executions.get("0").is_none());
        assert!(executions.get("99").is_some());
    }
}
