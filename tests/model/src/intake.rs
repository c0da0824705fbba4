//! From a delivery to a crew that runs: enter the run registry, and be admitted.

use crate::bug::Bug;
use crate::message::{About, Key, Request, Word};
use crate::protocol::Protocol;
use crate::state::State;
use crate::worker::{Ended, Outcome, Phase, Run, Tag};

impl Protocol {
    /// The broker delivers a request, and the worker takes it on its way.
    pub(crate) fn deliver(&self, state: &mut State, place: usize, request: Request) {
        crate::faults::remove(&mut state.broker.requests, &request);
        let tag = state.workers[place].take(request);
        self.enter(state, place, tag, request);
    }

    /// What a delivery meets: `pipeline::kickoff`, `InFlight::enter`.
    pub(crate) fn enter(&self, state: &mut State, place: usize, tag: Tag, request: Request) {
        let worker = &mut state.workers[place];
        if let Some(run) = worker.run_mut(request.key) {
            if request.attempt > run.request.attempt && !self.has(Bug::AdoptsALaterAttempt) {
                run.later.push(tag);
                state.seen.marks.waited_for_earlier = true;
                return;
            }
            if !self.has(Bug::AdoptsWithoutReceipt) && !self.has(Bug::AcksWhatItAdopts) {
                run.held.push(tag);
            }
            if self.has(Bug::AcksWhatItAdopts) {
                worker.ack(tag);
            }
            state.seen.marks.adopted = true;
            if request.redelivered && !self.has(Bug::AdoptsSilently) {
                let about = about(request, worker.id(place));
                self.say(state, place, Word::Adopted(about));
            }
            return;
        }
        let known = match self.has(Bug::AnswersRedrivesFromMemory) {
            true => worker.ended(Key {
                redrive: 0,
                ..request.key
            }),
            false => worker.ended(request.key),
        };
        match known {
            Some(Ended::Answered(_)) => {
                // The same reply again, and the ack.
                state.seen.marks.answered_again = true;
                worker.ack(tag);
            }
            Some(ended) if ended.settles(Some(request.attempt)) => worker.ack(tag),
            _ => {
                let marked = request.marked && !self.has(Bug::OverlooksTheMark);
                let asks = request.redelivered || marked;
                let phase = match asks && !self.has(Bug::StartsWithoutAsking) {
                    true => Phase::Ask,
                    false => Phase::Admit,
                };
                let mut run = Run::new(request, tag, phase);
                run.asking = phase == Phase::Ask;
                worker.runs.push(run);
                worker.runs.sort_by_key(|run| run.request.key);
                if phase == Phase::Admit && !self.scenario.waits {
                    self.admit(state, place, request.key);
                }
            }
        }
    }

    /// Whether a kickoff may start, and its start: `admission::admit`, `execution::execute`.
    pub(crate) fn admit(&self, state: &mut State, place: usize, key: Key) {
        let end = state.stream_end();
        let worker = &mut state.workers[place];
        let (id, marker, read) = (worker.id(place), worker.marker, worker.read);
        let cancelled = worker.cancelled.clone();
        let lost = match (self.scenario.crash_limit, worker.run(key)) {
            (Some(_), Some(run)) => self.lost(worker, key, run.returned),
            _ => Lost {
                workers: 0,
                returned: 0,
            },
        };
        let Some(run) = worker.run_mut(key) else { return };
        let request = run.request;
        let is_cancelled = cancelled.iter().any(|at| {
            let in_time = request.requested <= *at || self.has(Bug::CancelsRedrives);
            in_time && (request.attempt == 1 || !self.has(Bug::ForgetsACancelAtRetry))
        });
        let refused = if is_cancelled {
            Some(Outcome::Cancelled)
        } else if self
            .scenario
            .crash_limit
            .is_some_and(|limit| lost.workers >= limit)
        {
            Some(Outcome::CrashedWorkers)
        } else if run.stop {
            // `admission::room`: it was asked to stop while it waited.
            Some(Outcome::Cancelled)
        } else if !run.is_live() {
            Some(Outcome::Requeued)
        } else {
            None
        };
        if let Some(outcome) = refused {
            return self.end(state, place, key, outcome);
        }
        run.phase = Phase::Running;
        run.started = true;
        if self.scenario.crash_limit.is_some() {
            run.returned = lost.returned;
        }
        // What an observer sees.
        let had_to_know = usize::from(marker.max(read).min(end));
        let may_come = state.broker.control.iter().skip(had_to_know);
        let meant = |at: &u8| request.requested <= *at;
        let may_come = may_come.filter(|word| matches!(word, Word::Cancel { at } if meant(at)));
        let given = state.seen.cancels.iter().filter(|at| meant(at));
        state.seen.wrongs.cancelled_started |= given.count() > may_come.count();
        if let Some(limit) = self.scenario.crash_limit {
            // An adoption is no exact count: see the crate's page.
            state.seen.wrongs.started_over_limit |= state.seen.deaths >= limit && !state.seen.marks.adopted;
        }
        state.seen.executions.add(key, request.attempt);
        let announces = request.may_run_elsewhere() && self.scenario.crash_limit.is_some();
        if announces && !self.has(Bug::StartsSilently) {
            state.broker.control.push(Word::Started(about(request, id)));
        }
    }

    /// How many workers died with it: `commands::Commands::lost`.
    fn lost(&self, worker: &crate::worker::Worker, key: Key, returned: u8) -> Lost {
        if self.has(Bug::CountsEveryReturn) {
            return Lost {
                workers: returned,
                returned,
            };
        }
        let count = |redrive: u8| u8::try_from(worker.forgiven.iter().filter(|(r, _)| *r == redrive).count());
        let forgiven = count(key.redrive).unwrap_or(u8::MAX);
        let started = worker.started.iter().filter(|redrive| **redrive == key.redrive);
        let started = u8::try_from(started.count()).unwrap_or(u8::MAX);
        let workers = returned.saturating_sub(forgiven).min(started.saturating_add(1));
        Lost {
            workers,
            returned: workers.saturating_add(forgiven),
        }
    }
}

/// `commands::Lost`.
struct Lost {
    workers: u8,
    returned: u8,
}

/// What a worker says of the attempt that it has: `run_key::RunKey::about`.
pub(crate) fn about(request: Request, by: u8) -> About {
    About {
        key: request.key,
        attempt: Some(request.attempt),
        by,
        question: None,
    }
}
