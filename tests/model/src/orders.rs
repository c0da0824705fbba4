//! What people order: cancel, redrive, put back.

use crate::bug::Bug;
use crate::message::{Key, Letter, Request};
use crate::protocol::{Action, Protocol};
use crate::state::State;
use crate::worker::{Outcome, Phase};

impl Protocol {
    /// What people may order now.
    pub(crate) fn orders(&self, state: &State, actions: &mut Vec<Action>) {
        let left = state.left;
        if left.cancels > 0 {
            actions.push(Action::Cancel);
        }
        for (place, letter) in state.broker.letters.iter().enumerate() {
            if left.redrives > 0 && !letter.redriven {
                actions.push(Action::Redrive(place));
            }
            if left.interrupted > 0 && letter.redriven {
                actions.push(Action::Interrupt(place));
            }
        }
        if left.requeues > 0 {
            for (place, worker) in state.workers.iter().enumerate() {
                let may = |phase| {
                    let asks = matches!(phase, Phase::Ask | Phase::Talked | Phase::Asked | Phase::Waiting);
                    asks || matches!(phase, Phase::Admit | Phase::Running)
                };
                let runs = worker.runs.iter().filter(|run| may(run.phase));
                actions.extend(runs.map(|run| Action::Requeue(place, run.request.key)));
            }
        }
    }

    /// A drain, a pause, no room: the kickoff is put back. One that is being asked for stays undecided:
    /// `ownership::Claim`, `admission::Refused`.
    pub(crate) fn requeue_order(&self, state: &mut State, place: usize, key: Key) {
        state.left.requeues -= 1;
        let Some(run) = state.workers[place].run_mut(key) else {
            return;
        };
        run.undecided |= run.asking;
        run.asking = false;
        self.end(state, place, key, Outcome::Requeued);
    }

    /// Publishes the request of a dead letter as its next redrive: `dead_letters::redrive`.
    pub(crate) fn redrive(&self, state: &mut State, place: usize) {
        state.left.redrives -= 1;
        state.clock += 1;
        let letter = &mut state.broker.letters[place];
        letter.redriven = true;
        if self.has(Bug::RemovesTheLetterFirst) {
            return;
        }
        let request = redriven(letter, state.clock);
        if !state.seen.requested.contains(&request.key) {
            state.seen.requested.push(request.key);
        }
        state.broker.publish(request);
    }

    /// The letter leaves its queue.
    pub(crate) fn redriven(&self, state: &mut State, place: usize) {
        let letter = state.broker.letters.remove(place);
        if self.has(Bug::RemovesTheLetterFirst) {
            let request = redriven(&letter, state.clock);
            state.broker.publish(request);
        }
    }

    /// The redrive ends in between: the letter is still there, and somebody was given it.
    pub(crate) fn interrupt(&self, state: &mut State, place: usize) {
        state.left.interrupted -= 1;
        if self.has(Bug::RemovesTheLetterFirst) {
            state.broker.letters.remove(place);
            return;
        }
        let letter = &mut state.broker.letters[place];
        letter.redriven = false;
        letter.looked_at = true;
        let key = Key {
            redrive: letter.request.key.redrive + 1,
            ..letter.request.key
        };
        state.seen.explained.add(key, 1);
    }
}

/// It is new as of now. One whose letter somebody was given before may be the second: it is marked.
fn redriven(letter: &Letter, now: u8) -> Request {
    let key = Key {
        redrive: letter.request.key.redrive + 1,
        ..letter.request.key
    };
    Request {
        marked: letter.looked_at,
        ..Request::new(key, now)
    }
}
