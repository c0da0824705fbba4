//! What is known of all kickoffs: as much as `memory_limit` holds, half of it replies.
//!
//! Those that have ended go first, the longest unasked one before the others: their replies can be looked up. Of those
//! that wait or run, the events go when nothing else is left; what they are is known as long as there is room at all.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytesize::ByteSize;
use crewfleet_protocol::{Event, Reply};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::store::execution::{Execution, Stage};
use crate::store::weighted::Weighted;

/// What an [`Outline`] counts for, in bytes: some 50 were counted, and a table that grows has twice as much for a moment.
const OUTLINE: usize = 96;

/// All that is known.
pub(crate) struct Executions {
    known: Mutex<Known>,
    /// In bytes: of what is known, and of the replies.
    half: usize,
    hasher: RandomState,
    news: Notify,
}

struct Known {
    running: Weighted<Arc<Execution>>,
    ended: Weighted<Arc<Execution>>,
    replies: Weighted<Arc<Reply>>,
    /// Those of `running` that there was no more room for, by the hashes of their ids.
    outlines: HashMap<u64, Outline>,
    /// The names of their crews, once each.
    crews: HashSet<Arc<str>>,
    has_forgotten_ended: bool,
    has_forgotten_running: bool,
}

/// The least that is to be known of a kickoff that waits or runs.
struct Outline {
    crew: Arc<str>,
    stage: Stage,
    redrive: u32,
}

impl Known {
    /// Takes one out.
    fn take(&mut self, id: &str, hash: u64) -> Option<Execution> {
        let known = self.running.remove(id).or_else(|| self.ended.remove(id));
        known
            .map(Arc::unwrap_or_clone)
            .or_else(|| self.outlines.remove(&hash).map(|outline| outline.to_execution()))
    }

    fn put(&mut self, id: &str, execution: Execution) {
        let weight = execution.weight();
        let of_its_kind = match execution.stage.is_ending() {
            true => &mut self.ended,
            false => &mut self.running,
        };
        of_its_kind.put(id.to_owned(), Arc::new(execution), weight);
    }

    fn bytes(&self) -> usize {
        self.running.bytes() + self.ended.bytes() + self.outlines.len() * OUTLINE
    }

    /// Lets go of what is too much.
    fn shrink(&mut self, limit: usize, hash: impl Fn(&str) -> u64) {
        while self.bytes() > limit {
            if self.ended.remove_oldest().is_some() {
                self.has_forgotten_ended = true;
            } else if let Some((id, execution)) = self.running.remove_oldest() {
                if self.bytes() + OUTLINE > limit {
                    self.has_forgotten_running = true;
                    continue;
                }
                let crew = self.crew(&execution.crew);
                let (stage, redrive) = (execution.stage, execution.redrive);
                let outline = Outline { crew, stage, redrive };
                self.outlines.insert(hash(&id), outline);
            } else {
                return;
            }
        }
    }

    fn crew(&mut self, name: &Arc<str>) -> Arc<str> {
        let crew = self.crews.get(name).unwrap_or(name).clone();
        self.crews.insert(Arc::clone(&crew));
        crew
    }
}

impl Outline {
    fn to_execution(&self) -> Execution {
        Execution {
            redrive: self.redrive,
            ..Execution::new(Arc::clone(&self.crew), self.stage)
        }
    }
}

impl Executions {
    pub(crate) fn new(limit: ByteSize) -> Self {
        Self {
            known: Mutex::new(Known {
                running: Weighted::new(),
                ended: Weighted::new(),
                replies: Weighted::new(),
                outlines: HashMap::new(),
                crews: HashSet::new(),
                has_forgotten_ended: false,
                has_forgotten_running: false,
            }),
            half: usize::try_from(limit.as_u64() / 2).unwrap_or(usize::MAX),
            hasher: RandomState::new(),
            news: Notify::new(),
        }
    }

    /// One that a gateway has taken. Its events may have been faster.
    pub(crate) fn take(&self, id: &str, crew: &str) {
        self.change(id, |known| {
            known.unwrap_or_else(|| Execution::new(crew, Stage::Queued))
        });
    }

    /// One more event.
    pub(crate) fn see(&self, event: Event) {
        let id = event.kickoff_id.clone();
        self.change(&id, |known| {
            let mut execution = known.unwrap_or_else(|| Execution::new(event.crew.as_str(), Stage::Queued));
            execution.see(event);
            execution
        });
    }

    /// A reply, and how many bytes it has.
    pub(crate) fn end(&self, id: &str, reply: &Arc<Reply>, bytes: usize) {
        {
            // First this: who sees that it has ended finds the reply.
            let mut known = self.known();
            let best = known.replies.get(id).map(|best| best.redrive);
            if best.is_none_or(|redrive| redrive < reply.redrive) {
                known.replies.put(id.to_owned(), Arc::clone(reply), bytes);
            }
            while known.replies.bytes() > self.half && known.replies.remove_oldest().is_some() {}
        }
        self.change(id, |known| {
            let Some(mut execution) = known else {
                return Execution::ended(reply);
            };
            execution.end(reply);
            execution
        });
    }

    /// What is known of one.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Execution>> {
        let mut known = self.known();
        let Known {
            running,
            ended,
            outlines,
            ..
        } = &mut *known;
        let found = running.get(id).or_else(|| ended.get(id)).cloned();
        found.or_else(|| Some(Arc::new(outlines.get(&self.hash(id))?.to_execution())))
    }

    /// The same, waiting for news of it for so long.
    pub(crate) async fn wait_for(&self, id: &str, limit: Duration) -> Option<Arc<Execution>> {
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
    pub(crate) fn reply(&self, id: &str) -> Option<Arc<Reply>> {
        self.known().replies.get(id).cloned()
    }

    /// Whether there was no room for one that had ended: one that is not known may have ended long ago.
    pub(crate) fn has_forgotten_ended(&self) -> bool {
        self.known().has_forgotten_ended
    }

    /// Whether there was no room even for the outlines of all that wait or run.
    pub(crate) fn has_forgotten_running(&self) -> bool {
        self.known().has_forgotten_running
    }

    /// How many are known, and how many bytes they and their replies count for.
    pub(crate) fn size(&self) -> (usize, usize) {
        let known = self.known();
        let count = known.running.len() + known.ended.len() + known.outlines.len();
        (count, known.bytes() + known.replies.bytes())
    }

    /// Changes one in one step, whoever else changes it.
    fn change(&self, id: &str, change: impl FnOnce(Option<Execution>) -> Execution) {
        {
            let mut known = self.known();
            let before = known.take(id, self.hash(id));
            known.put(id, change(before));
            known.shrink(self.half, |id| self.hash(id));
        }
        self.news.notify_waiters();
    }

    fn hash(&self, id: &str) -> u64 {
        self.hasher.hash_one(id)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crewfleet_protocol::Status;

    use super::*;
    use crate::store::execution::tests::{event, reply};

    fn executions() -> Executions {
        Executions::new(ByteSize::mib(1))
    }

    #[test]
    fn what_was_taken_waits_unless_its_events_were_faster() {
        let executions = executions();
        executions.take("a", "echo");
        assert_eq!(executions.get("a").unwrap().stage, Stage::Queued);
        executions.see(event("b", "kickoff_started"));
        executions.take("b", "echo");
        assert_eq!(executions.get("b").unwrap().stage, Stage::Started);
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
        assert!(bytes <= 1 << 20, "{bytes}");
        assert_eq!(known, 101);
        assert!(executions.reply("0").is_none() && executions.reply("99").is_some());
        assert!(executions.get("0").unwrap().has_ended());
        assert!(!executions.has_forgotten_ended());
    }

    #[test]
    fn what_runs_is_known_when_all_that_has_ended_is_forgotten() {
        let executions = executions();
        executions.see(event("running", "task_completed"));
        for number in 0..5_000 {
            let id = format!("ended-{number}");
            executions.end(&id, &reply(&id, "succeeded", 0), 10);
        }
        assert!(executions.has_forgotten_ended() && executions.get("ended-0").is_none());
        assert!(executions.get("running").unwrap().last_task.is_some());
        // More run than there is room for with their events: what they are is known all the same.
        for number in 0..3_000 {
            let id = format!("queued-{number}");
            executions.take(&id, "echo");
            executions.see(event(&id, "kickoff_started"));
        }
        assert!(executions.get("ended-4999").is_none());
        let outlined = executions.get("running").unwrap();
        assert_eq!((outlined.stage, &*outlined.crew), (Stage::Running, "echo"));
        assert!(outlined.last_task.is_none() && !executions.has_forgotten_running());
        assert!(executions.get("never").is_none());
        executions.see(event("running", "kickoff_retrying"));
        assert_eq!(executions.get("running").unwrap().stage, Stage::Queued);
        executions.end("queued-0", &reply("queued-0", "succeeded", 0), 10);
        assert!(executions.reply("queued-0").is_some());
        let (_, bytes) = executions.size();
        assert!(bytes <= 1 << 20, "{bytes}");
        // And where there is no room even for that, it is known that something is not.
        for number in 0..20_000 {
            executions.take(&format!("more-{number}"), "echo");
        }
        assert!(executions.has_forgotten_running());
        assert!(executions.size().1 <= 1 << 20);
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
