//! The model: which steps there are, and what follows from each.

use stateright::{Model, Property};

use crate::bug::Bug;
use crate::message::{Key, Request, Word};
use crate::properties;
use crate::scenario::Scenario;
use crate::state::{Broker, Seen, State};
use crate::worker::{Outcome, Phase, Worker};

/// How many deliveries a worker has at a time.
const PREFETCH: usize = 2;

/// The protocol in one scenario, as it is or with a deliberate bug.
#[derive(Debug, Clone)]
pub struct Protocol {
    /// The world.
    pub scenario: Scenario,
    /// What is broken.
    pub bug: Option<Bug>,
}

/// One step of somebody. The number is the worker's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The broker delivers a request.
    Deliver(usize, Request),
    /// A worker gets a link; `late`: what it had to say is given up.
    Connect {
        /// Which worker.
        worker: usize,
        /// What it had to say has waited for too long.
        late: bool,
    },
    /// A worker reads the next message of the control stream.
    Read(usize),
    /// A worker hears what another says.
    Hear(usize),
    /// A worker that waits hears a reply.
    HearReply(usize),
    /// A run asks the others.
    Ask(usize, Key),
    /// A run looks at what it was told.
    News(usize, Key),
    /// Nobody has answered a run.
    HoldOver(usize, Key),
    /// The owner that a run waits for is not heard any more.
    OwnerSilent(usize, Key),
    /// A run may start, or not.
    Admit(usize, Key),
    /// A crew ends.
    End(usize, Key, Outcome),
    /// The next step of settling.
    Settle(usize, Key),
    /// The next step of putting a kickoff back.
    PutBack(usize, usize),
    /// Somebody cancels the kickoff.
    Cancel,
    /// Somebody redrives a dead letter.
    Redrive(usize),
    /// The letter of a redrive leaves its queue.
    Redriven(usize),
    /// The redrive ends between its two steps.
    Interrupt(usize),
    /// A worker is to put a run back.
    Requeue(usize, Key),
    /// A worker loses its link; with a delivery on its way, where one is named.
    Lose(usize, Option<Request>),
    /// A worker dies.
    Kill(usize),
    /// A worker is started again.
    Restart(usize),
    /// A publish of a run is taken, and its confirm is lost.
    Unconfirmed(usize, Key),
    /// The same, of a request that is put back.
    UnconfirmedCopy(usize, usize),
    /// The task of a run panics.
    Panic(usize, Key),
}

impl Action {
    /// Whether the protocol takes this step by itself: it is no fault, and nobody orders it.
    pub fn is_own(&self) -> bool {
        !matches!(
            self,
            Self::Cancel
                | Self::Redrive(_)
                | Self::Interrupt(_)
                | Self::Requeue(..)
                | Self::Lose(..)
                | Self::Kill(_)
                | Self::Unconfirmed(..)
                | Self::UnconfirmedCopy(..)
                | Self::Panic(..)
        )
    }
}

impl Protocol {
    /// The protocol as it is.
    pub fn new(scenario: Scenario) -> Self {
        Self { scenario, bug: None }
    }

    /// The protocol with a bug.
    pub fn with(scenario: Scenario, bug: Bug) -> Self {
        let bug = Some(bug);
        Self { scenario, bug }
    }

    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// The steps that the protocol takes by itself.
    pub fn own_actions(&self, state: &State) -> Vec<Action> {
        let mut actions = Vec::new();
        self.broker_actions(state, &mut actions);
        for place in 0..state.workers.len() {
            self.worker_actions(state, place, &mut actions);
        }
        actions
    }

    fn broker_actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (place, worker) in state.workers.iter().enumerate() {
            let takes = worker.is_synced() || (worker.up && self.has(Bug::TakesBeforeItIsSynced));
            if takes && worker.unacked.len() < PREFETCH {
                let requests = distinct(&state.broker.requests);
                actions.extend(requests.map(|request| Action::Deliver(place, request)));
            }
        }
        let letters = state.broker.letters.iter().enumerate();
        let redriven = letters.filter(|(_, letter)| letter.redriven);
        actions.extend(redriven.map(|(place, _)| Action::Redriven(place)));
    }

    fn worker_actions(&self, state: &State, place: usize, actions: &mut Vec<Action>) {
        let worker = &state.workers[place];
        if worker.dead {
            if self.scenario.restarts {
                actions.push(Action::Restart(place));
            }
            return;
        }
        if !worker.up {
            actions.push(Action::Connect {
                worker: place,
                late: false,
            });
            if !worker.unsaid.is_empty() {
                actions.push(Action::Connect {
                    worker: place,
                    late: true,
                });
            }
        }
        if worker.up && worker.read < state.stream_end() {
            actions.push(Action::Read(place));
        }
        if worker.up && !worker.talk.is_empty() {
            actions.push(Action::Hear(place));
        }
        if worker.up && !worker.heard.is_empty() {
            actions.push(Action::HearReply(place));
        }
        for run in &worker.runs {
            let key = run.request.key;
            match run.phase {
                Phase::Ask if worker.is_synced() => actions.push(Action::Ask(place, key)),
                Phase::Talked | Phase::Asked | Phase::Waiting if run.news => {
                    actions.push(Action::News(place, key));
                }
                Phase::Talked if worker.is_synced() => actions.push(Action::Ask(place, key)),
                Phase::Asked if self.hold_may_end(state, place, key) => {
                    actions.push(Action::HoldOver(place, key));
                }
                Phase::Waiting if crate::claim::owner_is_silent(state, place, key) => {
                    actions.push(Action::OwnerSilent(place, key));
                }
                Phase::Admit => actions.push(Action::Admit(place, key)),
                Phase::Running => {
                    actions.push(Action::End(place, key, Outcome::Succeeded));
                    if self.scenario.may_fail {
                        actions.push(Action::End(place, key, Outcome::Failed));
                    }
                    if run.stop {
                        actions.push(Action::End(place, key, Outcome::Cancelled));
                    }
                }
                phase if self.may_settle(worker, run, phase) => actions.push(Action::Settle(place, key)),
                _ => {}
            }
        }
        for (index, copying) in worker.copies.iter().enumerate() {
            if copying.published || worker.is_synced() {
                actions.push(Action::PutBack(place, index));
            }
        }
    }
}

fn distinct(requests: &[Request]) -> impl Iterator<Item = Request> + '_ {
    let mut last = None;
    let is_new = move |request: &Request| last.replace(*request) != Some(*request);
    requests.iter().copied().filter(is_new)
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let scenario = &self.scenario;
        let first = Key { body: 0, redrive: 0 };
        let worker = Worker {
            up: true,
            ..Worker::default()
        };
        vec![State {
            broker: Broker {
                requests: vec![Request::new(first, 0)],
                letters: Vec::new(),
                control: Vec::new(),
            },
            workers: vec![worker; scenario.workers.into()],
            replies: Vec::new(),
            left: scenario.bounds,
            clock: 0,
            seen: Seen {
                requested: vec![first],
                ..Seen::default()
            },
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend(self.own_actions(state));
        self.orders(state, actions);
        self.faults(state, actions);
    }

    fn next_state(&self, last_state: &State, action: Action) -> Option<State> {
        let mut state = last_state.clone();
        match action {
            Action::Deliver(place, request) => self.deliver(&mut state, place, request),
            Action::Connect { worker, late } => self.connect(&mut state, worker, late),
            Action::Read(place) => self.read(&mut state, place),
            Action::Hear(place) => self.hear_talk(&mut state, place),
            Action::HearReply(place) => self.hear_reply(&mut state, place),
            Action::Ask(place, key) => self.ask(&mut state, place, key),
            Action::News(place, key) => self.news(&mut state, place, key),
            Action::HoldOver(place, key) => self.hold_over(&mut state, place, key),
            Action::OwnerSilent(place, key) => crate::claim::ask_anew(&mut state, place, key),
            Action::Admit(place, key) => self.admit(&mut state, place, key),
            Action::End(place, key, outcome) => {
                self.end(&mut state, place, key, outcome);
            }
            Action::Settle(place, key) => self.settle(&mut state, place, key),
            Action::PutBack(place, index) => self.put_back(&mut state, place, index),
            Action::Cancel => {
                state.left.cancels -= 1;
                let at = state.clock;
                state.broker.control.push(Word::Cancel { at });
                state.seen.cancels.push(at);
            }
            Action::Redrive(letter) => self.redrive(&mut state, letter),
            Action::Redriven(letter) => self.redriven(&mut state, letter),
            Action::Interrupt(letter) => self.interrupt(&mut state, letter),
            Action::Requeue(place, key) => self.requeue_order(&mut state, place, key),
            Action::Lose(place, under_way) => self.lose(&mut state, place, under_way),
            Action::Kill(place) => self.kill(&mut state, place),
            Action::Restart(place) => self.restart(&mut state, place),
            Action::Unconfirmed(place, key) => self.unconfirmed(&mut state, place, key),
            Action::UnconfirmedCopy(place, index) => self.unconfirmed_copy(&mut state, place, index),
            Action::Panic(place, key) => self.panic(&mut state, place, key),
        }
        self.skip_own_words(&mut state);
        state.tidy(self.scenario.restarts);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(&self.scenario)
    }
}
