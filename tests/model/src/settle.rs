//! What follows from an outcome: reply, dead letter, another attempt or the same one, and then the acks.

use crate::bug::Bug;
use crate::claim::send_reply;
use crate::intake::about;
use crate::message::{About, Key, Letter, Reply, Request, Status, Word};
use crate::protocol::Protocol;
use crate::state::State;
use crate::worker::{Copying, Ended, Outcome, Phase, Run, Worker};

impl Protocol {
    /// Whether a run can take its next step of settling. What is published for it waits for a link that has read the
    /// commands (`state::BrokerSide::settling`).
    pub(crate) fn may_settle(&self, worker: &Worker, run: &Run, phase: Phase) -> bool {
        let publishes = worker.is_synced() || (worker.up && self.has(Bug::SettlesBeforeItIsSynced));
        match phase {
            Phase::Ended(Outcome::Succeeded | Outcome::Requeued) => true,
            // What others have asked meanwhile has to be read first.
            Phase::Ended(_) => run.is_live() || !run.ended || publishes,
            Phase::Replying(_) | Phase::Burying(_) | Phase::HandingOn => publishes,
            Phase::Releasing | Phase::Finishing(_) | Phase::Elsewhere => true,
            _ => false,
        }
    }

    /// The next step of settling.
    pub(crate) fn settle(&self, state: &mut State, place: usize, key: Key) {
        let Some(run) = state.workers[place].run(key) else {
            return;
        };
        match run.phase {
            Phase::Ended(Outcome::Requeued) => self.requeue(state, place, key),
            Phase::Ended(outcome) => self.decide(state, place, key, outcome),
            Phase::Replying(status) => self.reply(state, place, key, status, true),
            Phase::Burying(status) => self.bury(state, place, key, status),
            Phase::HandingOn => self.hand_on(state, place, key, true),
            Phase::Releasing => self.release(state, place, key),
            Phase::Finishing(ended) => self.finish(state, place, key, Some(ended)),
            Phase::Elsewhere => self.finish(state, place, key, None),
            _ => {}
        }
    }

    /// An attempt has an outcome. What follows is decided at once: a link that is lost in between is as good as one
    /// that was lost before.
    pub(crate) fn end(&self, state: &mut State, place: usize, key: Key, outcome: Outcome) {
        if let Some(run) = state.workers[place].run_mut(key) {
            run.phase = Phase::Ended(outcome);
            self.settle(state, place, key);
        }
    }

    /// What follows, by how the run stands: `EndedAttempt::settle_what_failed`, `ended::ownership`, `RunHandle::decide`.
    fn decide(&self, state: &mut State, place: usize, key: Key, outcome: Outcome) {
        let attempts = self.scenario.attempts;
        let Some(run) = state.workers[place].run_mut(key) else {
            return;
        };
        let next = outcome == Outcome::Failed && run.request.attempt < attempts;
        let status = match outcome {
            Outcome::Succeeded => Status::Succeeded,
            Outcome::Cancelled => Status::Cancelled,
            Outcome::CrashedWorkers => Status::CrashedWorkers,
            Outcome::Failed | Outcome::Requeued => Status::Failed,
        };
        let held = outcome == Outcome::Succeeded || run.is_live();
        if !held && !run.ended {
            // Who asks meanwhile gets no `mine` for what has ended.
            run.ended = true;
            return;
        }
        let taken = !held && run.asked && !self.has(Bug::TellsWhenTaken);
        run.phase = match (taken, held, next) {
            (true, _, _) | (_, false, true) => Phase::Releasing,
            (_, _, true) => Phase::HandingOn,
            (_, _, false) => Phase::Replying(status),
        };
        // Whoever asks from now on has to wait for what is told.
        run.ended &= run.phase == Phase::Releasing || self.has(Bug::StaysSilentWhileItTells);
        let early = match run.phase {
            Phase::Replying(_) => self.has(Bug::AcksBeforeTheReply),
            Phase::HandingOn => self.has(Bug::AcksBeforeTheNextAttempt),
            _ => false,
        };
        if early {
            ack_all(&mut state.workers[place], key);
        }
    }

    /// Publishes the reply: `reply::publish_reply`. What was decided before a link was lost is decided anew.
    pub(crate) fn reply(&self, state: &mut State, place: usize, key: Key, status: Status, confirmed: bool) {
        if status != Status::Succeeded && !self.still_tells(state, place, key) {
            return;
        }
        let overtaken = status != Status::Succeeded && is_overtaken(state, place, key);
        let Some(run) = state.workers[place].run_mut(key) else {
            return;
        };
        let attempt = run.request.attempt;
        if confirmed {
            run.phase = match status.leaves_a_letter() {
                true => Phase::Burying(status),
                false => Phase::Finishing(Ended::Answered(status)),
            };
        }
        state.seen.wrongs.overtaken_told |= overtaken;
        state.reply(Reply { key, attempt, status });
        if !status.leaves_a_letter() || self.has(Bug::HearsOfAFailureTooSoon) {
            send_reply(state, key);
        }
        if self.has(Bug::AcksBeforeTheLetter) {
            ack_all(&mut state.workers[place], key);
        }
    }

    /// Publishes the dead letter: `settle::conclude`.
    fn bury(&self, state: &mut State, place: usize, key: Key, status: Status) {
        let Some(run) = state.workers[place].run_mut(key) else {
            return;
        };
        run.phase = Phase::Finishing(Ended::Answered(status));
        let request = run.request.copy(run.request.attempt, 0, false);
        state.broker.letters.push(Letter {
            request,
            redriven: false,
            looked_at: false,
        });
    }

    /// Publishes the next attempt: `settle::schedule_retry`.
    pub(crate) fn hand_on(&self, state: &mut State, place: usize, key: Key, confirmed: bool) {
        if !self.still_tells(state, place, key) {
            return;
        }
        let overtaken = is_overtaken(state, place, key);
        let Some(run) = state.workers[place].run_mut(key) else {
            return;
        };
        let attempt = run.request.attempt;
        let next = run.request.copy(attempt + 1, run.returned, run.undecided);
        match confirmed {
            true => run.phase = Phase::Finishing(Ended::HandedOn(attempt)),
            false => run.undecided = true,
        }
        state.seen.wrongs.overtaken_told |= overtaken;
        state.broker.publish(next);
    }

    /// Whether a run that has decided to tell something else than success may still do it, after a link was lost since.
    fn still_tells(&self, state: &mut State, place: usize, key: Key) -> bool {
        let Some(run) = state.workers[place].run_mut(key) else {
            return false;
        };
        let next = run.phase == Phase::HandingOn;
        let dropped = !run.is_live() && (run.asked || next);
        if dropped && !self.has(Bug::DecidesOnce) && !self.has(Bug::TellsWhenTaken) {
            run.ended = true;
            run.phase = Phase::Releasing;
            return false;
        }
        true
    }

    /// Drops the outcome: `EndedAttempt::release`. What was adopted since then goes back to the queue.
    fn release(&self, state: &mut State, place: usize, key: Key) {
        state.seen.marks.outcome_dropped = true;
        let Some(run) = state.workers[place].run_mut(key) else {
            return;
        };
        if run.is_live() && !self.has(Bug::ReleasesWhatItHolds) {
            run.undecided = true;
            return self.requeue(state, place, key);
        }
        let Some(run) = self.leave(state, place, key) else {
            return;
        };
        if run.started {
            state.seen.explained.add(key, run.request.attempt);
        }
        self.released(state, place, run.request, run.asked, run.asker);
    }

    /// Puts the kickoff back as the same attempt: `EndedAttempt::requeue`. The copy may come back to this very worker at
    /// once, so the run ends first.
    fn requeue(&self, state: &mut State, place: usize, key: Key) {
        let Some(run) = (match self.has(Bug::RequeuesBeforeItFinishes) {
            true => state.workers[place].run(key).cloned(),
            false => self.leave(state, place, key),
        }) else {
            return;
        };
        if run.started {
            state.seen.explained.add(key, run.request.attempt);
            state.seen.marks.put_back = true;
        }
        if !run.is_live() {
            self.released(state, place, run.request, run.asked, run.asker);
            if self.has(Bug::RequeuesBeforeItFinishes) {
                self.leave(state, place, key);
            }
            return;
        }
        let marked = (run.undecided || run.asked) && !self.has(Bug::RequeuesUnmarked);
        let copy = run.request.copy(run.request.attempt, run.returned, marked);
        if self.has(Bug::RequeuesBeforeItFinishes) {
            // It is published at once, and what it meets is this run.
            state.broker.publish(copy);
            if let Some(run) = state.workers[place].run_mut(key) {
                run.phase = Phase::Elsewhere;
            }
            return;
        }
        state.workers[place].copies.push(Copying {
            copy,
            published: false,
            held: run.held,
            asked: run.asked,
            asker: run.asker,
        });
    }

    /// Publishes the copy, and acks then: `settle::requeue`. A copy whose own delivery was lost meanwhile is marked:
    /// both are about.
    pub(crate) fn put_back(&self, state: &mut State, place: usize, index: usize) {
        let worker = &mut state.workers[place];
        let copying = &mut worker.copies[index];
        if !copying.published {
            copying.published = true;
            let lost = copying.held.is_empty() && !self.has(Bug::RequeuesUnmarkedAfterALoss);
            copying.copy.marked |= lost;
            let copy = copying.copy;
            return state.broker.publish(copy);
        }
        let copying = worker.copies.remove(index);
        for tag in copying.held {
            worker.ack(tag);
        }
        if copying.asked {
            self.released(state, place, copying.copy, true, copying.asker);
        }
    }

    /// Says that it had it, and has nothing to tell. A lost delivery that is forgiven by `mine` already is named by the
    /// same question, and so is not forgiven twice.
    fn released(&self, state: &mut State, place: usize, request: Request, asked: bool, asker: Option<u8>) {
        let own = about(request, state.workers[place].id(place));
        let question = asker.filter(|_| asked && !self.has(Bug::ForgivesTwice));
        if !self.has(Bug::ReleasesSilently) {
            self.say(state, place, Word::Released(About { question, ..own }));
        }
    }

    /// Remembers how the run ended, acks its deliveries, and tells who asked: `ended::settled`, `Run::finish`,
    /// `unacked::ack_run`.
    fn finish(&self, state: &mut State, place: usize, key: Key, ended: Option<Ended>) {
        let forgets = match ended {
            Some(Ended::Answered(_)) => self.has(Bug::ForgetsReplies),
            Some(Ended::HandedOn(_)) => self.has(Bug::ForgetsHandingOn),
            None => true,
        };
        let worker = &mut state.workers[place];
        if let Some(ended) = ended.filter(|_| !forgets) {
            worker.remember(key, ended);
        }
        ack_all(worker, key);
        let Some(run) = self.leave(state, place, key) else {
            return;
        };
        if run.asked && !self.has(Bug::SettlesSilently) {
            let own = about(run.request, state.workers[place].id(place));
            let attempt = match ended {
                Some(Ended::Answered(_)) => None,
                Some(Ended::HandedOn(_)) | None => Some(run.request.attempt),
            };
            self.say(state, place, Word::Settled(About { attempt, ..own }));
        }
    }

    /// Takes a run out of the registry; what waited for its end enters again.
    fn leave(&self, state: &mut State, place: usize, key: Key) -> Option<Run> {
        let run = state.workers[place].take_run(key)?;
        for tag in &run.later {
            if let Some(request) = state.workers[place].delivery(*tag) {
                self.enter(state, place, *tag, request);
            }
        }
        Some(run)
    }
}

fn ack_all(worker: &mut Worker, key: Key) {
    let held = worker.run_mut(key).map(|run| std::mem::take(&mut run.held));
    for tag in held.unwrap_or_default() {
        worker.ack(tag);
    }
}

/// Whether another worker goes on with what a run has lost, and the run could know. Where a copy is in the queue,
/// nobody has it; where one is here, it will join the run. An adoption is said as it comes, without a hold: who has
/// not read of it yet cannot know.
fn is_overtaken(state: &State, place: usize, key: Key) -> bool {
    let worker = &state.workers[place];
    let Some(own) = worker.run(key) else {
        return false;
    };
    let same = |request: &Request| request.key == key && request.attempt <= own.request.attempt;
    let goes_on = |run: &Run| {
        let later = run.request.attempt >= own.request.attempt && run.phase != Phase::Releasing;
        later && run.started && !run.asking && run.is_live()
    };
    let mut others = state
        .workers
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != place);
    let goes_on = others.any(|(_, worker)| worker.run(key).is_some_and(goes_on));
    let here = worker.unacked.iter().any(|(_, request)| same(request));
    let mut unread = state.broker.control.iter().skip(worker.read.into());
    let knows = !unread.any(|word| matches!(word, Word::Adopted(about) if about.key == key));
    let queued = state.broker.requests.iter().any(same);
    !own.is_live() && goes_on && knows && !queued && !here
}
