//! Publishing with many messages under way on one channel, by one task: what is handed to it in one moment goes out in
//! one write, and the confirms of one moment are read together. A task a message would wake the client's thread, and be
//! woken by it, for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::message::BasicReturnMessage;
use lapin::{Channel, Confirmation};
use tokio::sync::{mpsc, oneshot};
use tokio::task::coop::unconstrained;

use super::error::BrokerError;
use super::linked::LinkedConnection;
use super::message::{Message, Publishing};
use super::returns::{Identity, Returns};

/// How many messages are taken at once before confirms are looked at.
const BATCH: usize = 256;

/// What became of a message.
pub(super) enum Verdict {
    /// The broker has it.
    Taken,
    /// The broker has dropped it: it was mandatory, and no queue takes it.
    Returned,
    /// The broker said no, and has no copy.
    Refused,
    /// It was not sent.
    NotSent(BrokerError),
    /// It was sent, and nothing said that it was taken.
    Failed(BrokerError),
    /// As [`Self::Failed`], with a channel on which there were others: it may have been the fault of one of them.
    FailedAmongOthers(BrokerError),
}

impl From<Confirmation> for Verdict {
    /// Of a message that is alone on its channel.
    fn from(confirmation: Confirmation) -> Self {
        match confirmation {
            Confirmation::Ack(None) | Confirmation::NotRequested => Self::Taken,
            Confirmation::Ack(Some(_)) => Self::Returned,
            Confirmation::Nack(_) => Self::Refused,
        }
    }
}

/// Where messages of one link are handed in. The task behind it ends with it.
pub(super) struct BatchPublisher {
    jobs: mpsc::UnboundedSender<Job>,
    /// How many were handed in.
    count: AtomicU64,
}

/// A message, and who waits for what becomes of it.
struct Job {
    /// In the order in which they were handed in.
    number: u64,
    message: Arc<Message>,
    done: oneshot::Sender<Verdict>,
}

/// A message whose confirm has come, or will not.
struct Sent {
    job: Job,
    lane: u64,
    result: Result<Confirmation, BrokerError>,
}

impl BatchPublisher {
    pub(super) fn open(connection: &Arc<LinkedConnection>) -> Self {
        let (sender, jobs) = mpsc::unbounded_channel();
        tokio::spawn(run(jobs, Arc::clone(connection)));
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

async fn run(mut jobs: mpsc::UnboundedReceiver<Job>, connection: Arc<LinkedConnection>) {
    let mut desk = Desk::default();
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
                if let Some(lane) = desk.lane(&connection, &mut batch).await {
                    // A budget that is used up would look like news without end below.
                    under_way.extend(batch.drain(..).map(|job| unconstrained(carry(lane.clone(), job))));
                }
            }
            Some(sent) = under_way.next() => desk.note(sent),
        }
        woken.drain(&mut under_way, |sent| desk.note(sent));
        desk.decide(under_way.is_empty());
        desk.tell();
    }
}

async fn carry(lane: Lane, job: Job) -> Sent {
    let result = job.message.confirmed_on(&lane.channel).await;
    let lane = lane.number;
    Sent { job, lane, result }
}

/// A channel, under a number that none before it had.
#[derive(Clone)]
struct Lane {
    channel: Channel,
    number: u64,
}

/// What the task knows beside what is under way.
#[derive(Default)]
struct Desk {
    lane: Option<Lane>,
    /// How many there have been.
    lanes: u64,
    /// Mandatory messages that are confirmed on the present lane, and may have been returned.
    returns: Returns<Job>,
    /// What failed in this round.
    failed: Vec<Failed>,
    /// What is known, and not told yet.
    verdicts: Vec<(Job, Verdict)>,
}

struct Failed {
    job: Job,
    error: BrokerError,
    /// Its lane was thought to be fine until then.
    first: bool,
}

impl Desk {
    /// The lane to publish on; where there is none to be had, the jobs hear why.
    async fn lane(&mut self, connection: &LinkedConnection, jobs: &mut Vec<Job>) -> Option<Lane> {
        if self
            .lane
            .as_ref()
            .is_none_or(|lane| !lane.channel.status().connected())
        {
            self.give_up();
            match connection.open_confirm_channel().await {
                Ok(channel) => {
                    self.lanes += 1;
                    let number = self.lanes;
                    self.lane = Some(Lane { channel, number });
                }
                Err(error) => {
                    for job in jobs.drain(..) {
                        self.verdicts.push((job, Verdict::NotSent(error.clone())));
                    }
                }
            }
        }
        // Whoever has given up meanwhile wants nothing sent.
        jobs.retain(|job| !job.done.is_closed());
        self.lane.clone()
    }

    fn note(&mut self, sent: Sent) {
        let Sent { job, lane, result } = sent;
        let present = self.lane.as_ref().is_some_and(|present| present.number == lane);
        let (verdict, returned) = match result {
            Ok(Confirmation::Ack(returned)) => (Verdict::Taken, returned),
            Ok(Confirmation::Nack(returned)) => (Verdict::Refused, returned),
            Ok(Confirmation::NotRequested) => (Verdict::Taken, None),
            Err(error) => {
                if present {
                    self.give_up();
                }
                let first = present;
                return self.failed.push(Failed { job, error, first });
            }
        };
        let returned = returned.map(|returned| of_returned(&returned));
        match verdict {
            Verdict::Taken if job.message.mandatory => {
                let message = of_message(&job.message);
                if present {
                    self.returns.confirm(returned, message, job);
                } else if returned.as_ref() == Some(&message) {
                    self.verdicts.push((job, Verdict::Returned));
                } else {
                    self.never_known(job);
                }
            }
            verdict => {
                if present {
                    self.returns.note(returned);
                }
                self.verdicts.push((job, verdict));
            }
        }
    }

    /// A lane on which something failed is given up: a confirm that nobody awaits any more takes a return along.
    fn give_up(&mut self) {
        self.lane = None;
        let open: Vec<_> = self.returns.lose().collect();
        for job in open {
            self.never_known(job);
        }
    }

    /// It is confirmed, and may have been returned.
    fn never_known(&mut self, job: Job) {
        let error = BrokerError::Failed {
            action: Publishing(&job.message).to_string(),
            cause: "its channel was given up before it was known whether a queue took it".into(),
            code: None,
        };
        self.verdicts.push((job, Verdict::FailedAmongOthers(error)));
    }

    /// Finds out what is known, at the end of a round: everything that had come is noted.
    fn decide(&mut self, nothing_under_way: bool) {
        let alone = nothing_under_way && self.failed.len() == 1;
        for Failed { job, error, first } in self.failed.drain(..) {
            let verdict = match alone && first {
                true => Verdict::Failed(error),
                false => Verdict::FailedAmongOthers(error),
            };
            self.verdicts.push((job, verdict));
        }
        for (job, returned) in self.returns.known(nothing_under_way) {
            let verdict = if returned {
                Verdict::Returned
            } else {
                Verdict::Taken
            };
            self.verdicts.push((job, verdict));
        }
    }

    /// Tells those who wait, in the order in which they came: the client reads the confirms of one frame in any order,
    /// and those who ack in their turn had better do so in the order of their deliveries.
    fn tell(&mut self) {
        self.verdicts.sort_unstable_by_key(|(job, _)| job.number);
        for (job, verdict) in self.verdicts.drain(..) {
            // Who waited may have given up.
            let _ = job.done.send(verdict);
        }
    }
}

fn of_message(message: &Message) -> Identity {
    Identity {
        exchange: message.exchange.clone(),
        routing_key: message.routing_key.clone(),
        message_id: message.properties.message_id().map(ToOwned::to_owned),
    }
}

fn of_returned(returned: &BasicReturnMessage) -> Identity {
    Identity {
        exchange: returned.exchange.to_string(),
        routing_key: returned.routing_key.to_string(),
        message_id: returned.properties.message_id().as_ref().map(ToString::to_string),
    }
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
