//! What goes wrong: links, processes, confirms, our own code.

use crate::bug::Bug;
use crate::message::{Key, Request};
use crate::protocol::{Action, Protocol};
use crate::state::State;
use crate::worker::{Ended, Outcome, Phase, Worker};

impl Protocol {
    /// What may go wrong now.
    pub(crate) fn faults(&self, state: &State, actions: &mut Vec<Action>) {
        let left = state.left;
        let living = state.workers.iter().filter(|worker| !worker.dead).count();
        for (place, worker) in state
            .workers
            .iter()
            .enumerate()
            .filter(|(_, worker)| !worker.dead)
        {
            if left.kills > 0 && (living > 1 || self.scenario.restarts) {
                actions.push(Action::Kill(place));
            }
            if left.losses > 0 && worker.up {
                actions.push(Action::Lose(place, None));
            }
            if left.lost_under_way > 0 && worker.is_synced() {
                let requests = state.broker.requests.iter();
                actions.extend(requests.map(|request| Action::Lose(place, Some(*request))));
            }
            for run in &worker.runs {
                let key = run.request.key;
                let publishes =
                    worker.is_synced() && matches!(run.phase, Phase::Replying(_) | Phase::HandingOn);
                if left.unconfirmed > 0 && publishes {
                    actions.push(Action::Unconfirmed(place, key));
                }
                if left.panics > 0 && run.phase != Phase::Ended(Outcome::Requeued) {
                    actions.push(Action::Panic(place, key));
                }
            }
            for (index, copying) in worker.copies.iter().enumerate() {
                if left.unconfirmed > 0 && worker.is_synced() && !copying.published {
                    actions.push(Action::UnconfirmedCopy(place, index));
                }
            }
        }
    }

    /// A worker gets a link. It knows all commands that are there when it has read the stream up to its marker:
    /// `control::tail`.
    pub(crate) fn connect(&self, state: &mut State, place: usize, late: bool) {
        state.workers[place].up = true;
        let unsaid = std::mem::take(&mut state.workers[place].unsaid);
        if late {
            state.seen.given_up = true;
            state.seen.taken_over += 1;
        }
        for word in unsaid.into_iter().filter(|_| !late) {
            self.say(state, place, word);
        }
        let end = state.stream_end();
        let worker = &mut state.workers[place];
        if self.has(Bug::MissesCommands) {
            worker.read = end;
        }
        worker.marker = end;
    }

    /// A worker's link is lost, and what is unacked on it goes back; with a delivery that was under way, where one is
    /// named.
    pub(crate) fn lose(&self, state: &mut State, place: usize, under_way: Option<Request>) {
        match under_way {
            Some(_) => state.left.lost_under_way -= 1,
            None => state.left.losses -= 1,
        }
        if self.scenario.two_bodies && under_way.is_none() {
            // Meanwhile somebody else uses the same id.
            let second = Key { body: 1, redrive: 0 };
            state.seen.requested.push(second);
            state.broker.publish(Request::new(second, 0));
        }
        for copying in state.workers[place]
            .copies
            .iter()
            .filter(|copying| copying.published)
        {
            // Its delivery comes back, and its copy is there.
            state.seen.explained.add(copying.copy.key, copying.copy.attempt);
        }
        // Who asks says only at the end that its delivery came back without a death.
        let asking = state.workers[place]
            .runs
            .iter()
            .filter(|run| run.asking && run.is_live());
        state.seen.taken_over += u8::try_from(asking.count()).unwrap_or_default();
        for request in state.workers[place].lose_link(self.scenario.counts()) {
            state.broker.publish(request);
        }
        if let Some(request) = under_way {
            // Nobody knows that it came back without a death.
            state.seen.taken_over += 1;
            remove(&mut state.broker.requests, &request);
            state
                .broker
                .publish(request.returned_to_queue(self.scenario.counts()));
        }
    }

    /// A worker's process dies.
    pub(crate) fn kill(&self, state: &mut State, place: usize) {
        state.left.kills -= 1;
        let worker = &state.workers[place];
        let known = state.seen.executions.iter().filter(|(key, attempt, _)| {
            let ran = worker
                .run(*key)
                .is_some_and(|run| run.started && run.request.attempt == *attempt);
            let ended = worker
                .ended(*key)
                .is_some_and(|ended| ended.settles(Some(*attempt)));
            let copied = worker.copies.iter().any(|copying| copying.copy.key == *key);
            ran || ended || copied
        });
        let known: Vec<_> = known.collect();
        for (key, attempt, _) in &known {
            state.seen.explained.add(*key, *attempt);
        }
        // A reply that is not acked may be followed by another, also where nothing was executed.
        let replied = |phase| matches!(phase, Phase::Burying(_) | Phase::Finishing(_));
        let runs = state.workers[place].runs.iter();
        for run in runs.filter(|run| replied(run.phase) && !run.started) {
            state.seen.explained.add(run.request.key, run.request.attempt);
        }
        let started = state.workers[place]
            .runs
            .iter()
            .any(|run| run.started && run.is_live());
        state.seen.deaths += u8::from(started);
        // Whoever dies before the start, or after the end, has died with it, too.
        let worker = &state.workers[place];
        let had_it = !known.is_empty() || !worker.runs.is_empty() || !worker.unsaid.is_empty();
        state.seen.taken_over += u8::from(had_it && !started);
        let life = state.workers[place].life;
        for request in state.workers[place].lose_link(self.scenario.counts()) {
            state.broker.publish(request);
        }
        state.workers[place] = Worker {
            dead: true,
            life,
            ..Worker::default()
        };
    }

    /// A worker is started again, under another id.
    pub(crate) fn restart(&self, state: &mut State, place: usize) {
        let life = state.workers[place].life + 1;
        state.workers[place] = Worker {
            life,
            ..Worker::default()
        };
    }

    /// A publish of a run is taken, and its confirm is lost: it goes out again, with a mark where it is a request
    /// (`until_confirmed::publish_until_confirmed`).
    pub(crate) fn unconfirmed(&self, state: &mut State, place: usize, key: Key) {
        state.left.unconfirmed -= 1;
        let Some(run) = state.workers[place].run_mut(key) else {
            return;
        };
        if self.has(Bug::AcksWithoutConfirm) {
            // It was not taken, either.
            run.phase = Phase::Finishing(match run.phase {
                Phase::Replying(status) => Ended::Answered(status),
                _ => Ended::HandedOn(run.request.attempt),
            });
            return;
        }
        let next = run.request.attempt + 1;
        match run.phase {
            Phase::Replying(status) => self.reply(state, place, key, status, false),
            _ => {
                state.seen.explained.add(key, next);
                self.hand_on(state, place, key, false);
            }
        }
    }

    /// The same, of a request that is put back.
    pub(crate) fn unconfirmed_copy(&self, state: &mut State, place: usize, index: usize) {
        state.left.unconfirmed -= 1;
        let copying = &mut state.workers[place].copies[index];
        let copy = copying.copy;
        copying.copy.marked = true;
        state.seen.explained.add(copy.key, copy.attempt);
        state.broker.publish(copy);
    }

    /// The task of a run panics: `faults::settle` puts the kickoff back.
    pub(crate) fn panic(&self, state: &mut State, place: usize, key: Key) {
        state.left.panics -= 1;
        if self.has(Bug::PanicsForGood) {
            state.workers[place].take_run(key);
            return;
        }
        if let Some(run) = state.workers[place].run_mut(key) {
            run.asking = false;
            self.end(state, place, key, Outcome::Requeued);
        }
    }
}

/// Takes one out of a queue.
pub(crate) fn remove(queue: &mut Vec<Request>, request: &Request) {
    if let Some(place) = queue.iter().position(|queued| queued == request) {
        queue.remove(place);
    }
}
