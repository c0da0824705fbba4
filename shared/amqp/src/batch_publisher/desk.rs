//! What the publishing task knows beside what is under way: its channel, what may have been returned, what is to be told.

use super::edge::{Confirmed, Edge};
use super::job::{Job, Sent, Verdict};
use crate::error::BrokerError;
use crate::message::Publishing;
use crate::returns::{Identity, Returns};

/// A channel, under a number that none before it had.
#[derive(Clone)]
pub(super) struct Lane<C> {
    pub(super) channel: C,
    pub(super) number: u64,
}

/// What the task knows beside what is under way.
pub(super) struct Desk<E: Edge> {
    lane: Option<Lane<E::Channel>>,
    /// How many there have been.
    lanes: u64,
    /// Mandatory messages that are confirmed on the present lane, and may have been returned.
    returns: Returns<Job>,
    /// What failed in this round.
    failed: Vec<Failed>,
    /// What is known, and not told yet.
    verdicts: Vec<(Job, Verdict)>,
}

impl<E: Edge> Default for Desk<E> {
    fn default() -> Self {
        Self {
            lane: None,
            lanes: 0,
            returns: Returns::default(),
            failed: Vec::new(),
            verdicts: Vec::new(),
        }
    }
}

struct Failed {
    job: Job,
    error: BrokerError,
    /// Its lane was thought to be fine until then.
    first: bool,
}

impl<E: Edge> Desk<E> {
    /// The lane to publish on; where there is none to be had, the jobs hear why.
    pub(super) async fn lane(&mut self, edge: &E, jobs: &mut Vec<Job>) -> Option<Lane<E::Channel>> {
        if self.lane.as_ref().is_none_or(|lane| !E::is_open(&lane.channel)) {
            self.give_up();
            match edge.open_channel().await {
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

    pub(super) fn note(&mut self, sent: Sent) {
        let Sent { job, lane, result } = sent;
        let present = self.lane.as_ref().is_some_and(|present| present.number == lane);
        let Confirmed { taken, returned } = match result {
            Ok(confirmed) => confirmed,
            Err(error) => {
                if present {
                    self.give_up();
                }
                let first = present;
                return self.failed.push(Failed { job, error, first });
            }
        };
        if taken && job.message.mandatory {
            let message = Identity::of(&job.message);
            if present {
                self.returns.confirm(returned, message, job);
            } else if returned.as_ref() == Some(&message) {
                self.verdicts.push((job, Verdict::Returned));
            } else {
                self.never_known(job);
            }
            return;
        }
        if present {
            self.returns.note(returned);
        }
        let verdict = match taken {
            true => Verdict::Taken,
            false => Verdict::Refused,
        };
        self.verdicts.push((job, verdict));
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
    pub(super) fn decide(&mut self, nothing_under_way: bool) {
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
    pub(super) fn tell(&mut self) {
        self.verdicts.sort_unstable_by_key(|(job, _)| job.number);
        for (job, verdict) in self.verdicts.drain(..) {
            // Who waited may have given up.
            let _ = job.done.send(verdict);
        }
    }
}
