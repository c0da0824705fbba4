//! Publishing with many messages under way on one channel, by one task: what is handed to it in one moment goes out in
//! one write, and the confirms of one moment are read together. A task a message would wake the client's thread, and be
//! woken by it, for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::task::coop::unconstrained;

use self::desk::{Desk, Lane};
use self::edge::Edge;
pub(super) use self::job::Verdict;
use self::job::{Job, Sent};
use super::error::BrokerError;
use super::linked::LinkedConnection;
use super::message::{Message, Publishing};

mod desk;
mod edge;
mod job;
#[cfg(test)]
mod tests;

/// How many messages are taken at once before confirms are looked at.
const BATCH: usize = 256;

/// Where messages of one link are handed in. The task behind it ends with it.
pub(super) struct BatchPublisher {
    jobs: mpsc::UnboundedSender<Job>,
    /// How many were handed in.
    count: AtomicU64,
}

impl BatchPublisher {
    pub(super) fn open(connection: &Arc<LinkedConnection>) -> Self {
        Self::over(Arc::clone(connection))
    }

    fn over<E: Edge>(edge: E) -> Self {
        let (sender, jobs) = mpsc::unbounded_channel();
        tokio::spawn(run(jobs, edge));
        Self {
            jobs: sender,
            count: AtomicU64::new(0),
        }
    }

    /// Publishes beside others. A mandatory message needs a `message_id` that no other message has meanwhile.
    pub(super) async fn publish(&self, message: &Arc<Message>) -> Verdict {
        let (done, verdict) = oneshot::channel();
        let message = Arc::clone(message);
        let gone = || BrokerError::Disconnected {
            action: Publishing(&message).to_string(),
        };
        let job = Job {
            number: self.count.fetch_add(1, Ordering::Relaxed),
            message: Arc::clone(&message),
            done,
        };
        match self.jobs.send(job) {
            Ok(()) => verdict.await.unwrap_or_else(|_| Verdict::Failed(gone())),
            Err(_) => Verdict::NotSent(gone()),
        }
    }
}

async fn run<E: Edge>(mut jobs: mpsc::UnboundedReceiver<Job>, edge: E) {
    let mut desk = Desk::<E>::default();
    let mut batch = Vec::new();
    let mut under_way = FuturesUnordered::new();
    let woken = Arc::new(Woken::default());
    loop {
        tokio::select! {
            biased;
            handed_in = jobs.recv_many(&mut batch, BATCH) => {
                if handed_in == 0 {
                    return;
                }
                if let Some(lane) = desk.lane(&edge, &mut batch).await {
                    // A budget that is used up would look like news without end below.
                    under_way.extend(batch.drain(..).map(|job| unconstrained(carry::<E>(lane.clone(), job))));
                }
            }
            Some(sent) = under_way.next() => desk.note(sent),
        }
        woken.drain(&mut under_way, |sent| desk.note(sent));
        desk.decide(under_way.is_empty());
        desk.tell();
    }
}

async fn carry<E: Edge>(lane: Lane<E::Channel>, job: Job) -> Sent {
    let result = E::publish(&lane.channel, &job.message).await;
    let lane = lane.number;
    Sent { job, lane, result }
}

/// Whether something has become ready while others were polled.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

impl Woken {
    /// Takes everything that is ready. The collection gives way to others now and then, with more to give: it wakes
    /// then.
    fn drain<F: Future<Output = Sent>>(
        self: &Arc<Self>,
        under_way: &mut FuturesUnordered<F>,
        mut note: impl FnMut(Sent),
    ) {
        let waker = Waker::from(Arc::clone(self));
        loop {
            self.0.store(false, Ordering::Release);
            match under_way.poll_next_unpin(&mut Context::from_waker(&waker)) {
                Poll::Ready(Some(sent)) => note(sent),
                Poll::Pending if self.0.load(Ordering::Acquire) => {}
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
    }
}
