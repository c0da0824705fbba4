//! Whose is a redelivered kickoff: ask, be answered, wait for the owner.

use crate::bug::Bug;
use crate::message::{About, Key, Word};
use crate::protocol::Protocol;
use crate::state::State;
use crate::worker::{Phase, Run, Said, Told};

impl Protocol {
    /// Asks the workers that live, and then in the stream: `ownership::inquire`.
    pub(crate) fn ask(&self, state: &mut State, place: usize, key: Key) {
        let worker = &mut state.workers[place];
        let id = worker.id(place);
        let next_question = worker.questions;
        let Some(run) = worker.run_mut(key) else { return };
        let by_talk = self.scenario.talk && run.phase == Phase::Ask;
        if run.phase == Phase::Ask {
            run.news = false;
            if run.told == Some(Told::Settled) {
                run.phase = Phase::Elsewhere;
                return;
            }
        }
        let mut is_first = false;
        if run.question.is_none() && self.scenario.has_questions() {
            run.question = Some(16 * id + next_question);
            is_first = true;
        }
        let question = Word::Whose(About {
            question: run.question,
            ..crate::intake::about(run.request, id)
        });
        run.phase = match by_talk {
            true => Phase::Talked,
            false => Phase::Asked,
        };
        worker.questions += u8::from(is_first);
        if by_talk {
            talk(state, place, question, Said::At(u8::MAX));
        } else if !self.has(Bug::AsksInTalkAlone) {
            state.broker.control.push(question);
        }
    }

    /// What was told: `ownership::asking`.
    pub(crate) fn news(&self, state: &mut State, place: usize, key: Key) {
        let marks = &mut state.seen.marks;
        let Some(run) = state.workers[place].run_mut(key) else {
            return;
        };
        run.news = false;
        match (run.phase, run.told) {
            (Phase::Waiting, Some(Told::Mine(id))) if run.owner == Some(id) => {}
            (_, Some(Told::Settled)) => {
                run.phase = Phase::Elsewhere;
                marks.claim_settled = true;
            }
            (_, Some(Told::Released)) => {
                run.owner = None;
                run.phase = Phase::Ask;
            }
            (Phase::Waiting, _) => run.phase = Phase::Ask,
            (_, Some(Told::Mine(id))) => {
                marks.claim_refused = true;
                if self.has(Bug::OverhearsMine) {
                    run.asking = false;
                    run.phase = Phase::Admit;
                    return;
                }
                // It may have ended between its answer and our listening.
                run.phase = match run.owner == Some(id) {
                    true => Phase::Waiting,
                    false => Phase::Ask,
                };
                run.owner = Some(id);
            }
            (_, None) => {}
        }
    }

    /// Whether the hold of a question can be over with nothing told: all that could be told is, another worker is away
    /// for longer than that, or one is slow.
    pub(crate) fn hold_may_end(&self, state: &State, place: usize, key: Key) -> bool {
        let worker = &state.workers[place];
        let quiet = worker.run(key).is_some_and(|run| !run.news);
        quiet
            && worker.is_synced()
            && (all_is_told(state) || others_stay_away(state, place, key) || state.left.late > 0)
    }

    /// Nobody has answered: it is the asker's.
    pub(crate) fn hold_over(&self, state: &mut State, place: usize, key: Key) {
        let attempt = state.workers[place].run(key).map_or(1, |run| run.request.attempt);
        if !all_is_told(state) {
            if !others_stay_away(state, place, key) {
                state.left.late -= 1;
            }
            let mut others = state.workers.iter().enumerate();
            if others.any(|(other, worker)| other != place && worker.knows(key, attempt)) {
                state.seen.explained.add(key, attempt);
                state.seen.taken_over += 1;
            } else {
                // What one that is away has to say would explain what came back.
                let unsaid = state.workers.iter().any(|worker| !worker.unsaid.is_empty());
                state.seen.taken_over += u8::from(unsaid);
            }
        }
        if let Some(run) = state.workers[place].run_mut(key) {
            run.asking = false;
            run.owner = None;
            run.told = None;
            run.phase = Phase::Admit;
            state.seen.marks.claim_granted = true;
        }
        if !self.scenario.waits {
            self.admit(state, place, key);
        }
    }

    /// What a worker says itself is no news to it, but for what is counted: it reads on at once.
    pub(crate) fn skip_own_words(&self, state: &mut State) {
        let counts = self.scenario.counts();
        for (place, worker) in state.workers.iter_mut().enumerate() {
            let id = worker.id(place);
            let own = |word: &Word| match word {
                Word::Whose(about) | Word::Settled(about) => about.by == id,
                Word::Mine(about) | Word::Adopted(about) | Word::Released(about) => about.by == id && !counts,
                Word::Cancel { .. } | Word::Started(_) => false,
            };
            let unread = state.broker.control.iter().skip(worker.read.into());
            let skipped = unread.take_while(|word| worker.up && own(word)).count();
            worker.read += u8::try_from(skipped).unwrap_or_default();
        }
    }

    /// Reads the next message of the control stream: `control::tail`, `control::apply`.
    pub(crate) fn read(&self, state: &mut State, place: usize) {
        let at = state.workers[place].read;
        state.workers[place].read += 1;
        let word = state.broker.control[usize::from(at)];
        let id = state.workers[place].id(place);
        match word {
            Word::Cancel { at } => self.cancel(state, place, at),
            Word::Whose(about) if about.by != id => self.answer(state, place, about, true),
            Word::Started(about) if self.scenario.crash_limit.is_some() => {
                state.workers[place].started.push(about.key.redrive);
            }
            Word::Mine(_) | Word::Adopted(_) | Word::Settled(_) | Word::Released(_) => {
                self.hear(state, place, word, Said::At(at));
            }
            Word::Whose(_) | Word::Started(_) => {}
        }
    }

    /// Hears what others say: `control::apply_talk`.
    pub(crate) fn hear_talk(&self, state: &mut State, place: usize) {
        let (word, said) = state.workers[place].talk.remove(0);
        if let Word::Whose(about) = word {
            let question = about.question.unwrap_or_default();
            let answered = &mut state.workers[place].answered;
            let first = !answered.contains(&question);
            if first {
                answered.push(question);
            }
            self.answer(state, place, about, first);
        } else {
            self.hear(state, place, word, said);
        }
    }

    /// Remembers a cancel, and stops what runs: `control::cancel`, `Commands::cancel`, `RunRegistry::stop`.
    fn cancel(&self, state: &mut State, place: usize, at: u8) {
        let worker = &mut state.workers[place];
        if !self.has(Bug::ForgetsACancel) {
            worker.cancelled.push(at);
        }
        for run in &mut worker.runs {
            // What runs when the command comes is meant, whatever the clocks say.
            run.stop = true;
            state.seen.met_by_cancel |= run.request.requested > at;
        }
    }

    /// Answers a question: `control::answer`, `RunRegistry::answer_claim`. `keeps`: the answer goes to the stream, too.
    fn answer(&self, state: &mut State, place: usize, about: About, keeps: bool) {
        let worker = &mut state.workers[place];
        let me = worker.id(place);
        let asked = about.attempt.unwrap_or(1);
        let memory = worker.ended(about.key).is_some_and(|e| e.settles(about.attempt));
        let own = About { by: me, ..about };
        let yields = |asking: bool| asking && me > about.by && !self.has(Bug::BothClaim);
        let same = |run: &Run| Some(run.request.attempt) == about.attempt;
        if worker
            .run(about.key)
            .is_some_and(|run| yields(run.asking) && same(run))
            && !self.has(Bug::YieldsSilently)
        {
            // It may have read our question before it had the kickoff: so we ask again.
            self.told(state, place, about, Told::Released);
            return;
        }
        let run = worker.run_mut(about.key).filter(|run| !yields(run.asking));
        let answer = match run {
            Some(run) if asked < run.request.attempt => Word::Settled(own),
            Some(run) if asked == run.request.attempt => {
                run.asked |= !self.has(Bug::ForgetsThatItWasAsked);
                run.asker = about.question;
                if run.ended {
                    return;
                }
                Word::Mine(own)
            }
            _ if memory => Word::Settled(own),
            _ => return,
        };
        match keeps {
            true => self.say(state, place, answer),
            false => talk(state, place, answer, Said::At(u8::MAX)),
        }
    }

    /// Hears what another says of a kickoff: `control::peer_stated`, `control::excuse`, `RunRegistry::peer_stated`.
    fn hear(&self, state: &mut State, place: usize, word: Word, said: Said) {
        let (about, told) = match word {
            Word::Mine(about) | Word::Adopted(about) => (about, Told::Mine(about.by)),
            Word::Settled(about) => (about, Told::Settled),
            Word::Released(about) => (about, Told::Released),
            _ => return,
        };
        let worker = &mut state.workers[place];
        if about.by != worker.id(place) {
            let taken = matches!(word, Word::Adopted(_)) && !self.has(Bug::OverlooksAnAdoption);
            let run = worker
                .run_mut(about.key)
                .filter(|run| Some(run.request.attempt) == about.attempt);
            if let Some(run) = run.filter(|run| taken && !run.asking) {
                // The other has the delivery that was lost here.
                run.asked = true;
            }
            self.told(state, place, about, told);
        }
        if told != Told::Settled && self.scenario.crash_limit.is_some() {
            let said = (about.key.redrive, about.question.map_or(said, Said::To));
            let forgiven = &mut state.workers[place].forgiven;
            if !forgiven.contains(&said) {
                forgiven.push(said);
                forgiven.sort_unstable();
            }
        }
    }

    /// `RunRegistry::peer_stated`, `ActiveRun::hear`.
    fn told(&self, state: &mut State, place: usize, about: About, told: Told) {
        for run in &mut state.workers[place].runs {
            let of_body = run.request.key == about.key
                || (about.by == NOBODY && self.has(Bug::HearsOfAnyBody))
                    && run.request.key.redrive == about.key.redrive;
            let attempt = match (about.attempt, told) {
                (None, _) => true,
                _ if self.has(Bug::HearsOfAnyAttempt) => true,
                (Some(attempt), Told::Settled) => attempt >= run.request.attempt,
                (Some(attempt), _) => attempt == run.request.attempt,
            };
            if of_body && attempt && run.asking && run.told != Some(Told::Settled) {
                run.told = Some(told);
                run.news = true;
            }
        }
    }

    /// A reply ends the waiting for it: `peers::PeerListener`.
    pub(crate) fn hear_reply(&self, state: &mut State, place: usize) {
        let key = state.workers[place].heard.remove(0);
        let about = About {
            key,
            attempt: None,
            by: NOBODY,
            question: None,
        };
        self.told(state, place, about, Told::Settled);
    }

    /// Says it to the workers that live, and keeps it in the stream: `broadcast::Broadcast::announce`.
    pub(crate) fn say(&self, state: &mut State, place: usize, word: Word) {
        if !state.workers[place].up {
            state.workers[place].unsaid.push(word);
            return;
        }
        let at = state.stream_end();
        state.broker.control.push(word);
        if self.scenario.talk {
            talk(state, place, word, Said::At(at));
        }
    }
}

/// A reply names no worker.
const NOBODY: u8 = u8::MAX;

/// Says it to the workers that live: `broadcast::Broadcast::notify`.
fn talk(state: &mut State, place: usize, word: Word, said: Said) {
    for (other, worker) in state.workers.iter_mut().enumerate() {
        if other != place && worker.up {
            worker.talk.push((word, said));
        }
    }
}

/// The workers that wait for this kickoff are sent its reply: `peers::Peers::listen`.
pub(crate) fn send_reply(state: &mut State, key: Key) {
    for worker in &mut state.workers {
        if worker.runs.iter().any(|run| run.owner.is_some()) && !worker.heard.contains(&key) {
            worker.heard.push(key);
        }
    }
}

/// Whether everything that was said is heard, nobody is away, and nobody is just about to say more.
fn all_is_told(state: &State) -> bool {
    let end = state.stream_end();
    state.workers.iter().all(|worker| {
        let hears = worker.up && worker.read == end && worker.talk.is_empty() && worker.heard.is_empty();
        let releases = |run: &Run| matches!(run.phase, Phase::Ended(_) | Phase::Releasing);
        worker.dead || (hears && !worker.runs.iter().any(releases))
    })
}

/// Whether a run has heard all that was said, and another worker is away for longer than the hold.
fn others_stay_away(state: &State, place: usize, key: Key) -> bool {
    let worker = &state.workers[place];
    let hears = worker.read == state.stream_end() && worker.talk.is_empty() && worker.heard.is_empty();
    hears && somebody_is_away(state, place, key)
}

/// Whether another worker is away: it has no link, or will read our question before it is ready.
fn somebody_is_away(state: &State, place: usize, key: Key) -> bool {
    let id = state.workers[place].id(place);
    let asks = |word: &Word| matches!(word, Word::Whose(about) if about.by == id && about.key == key);
    let question = state.broker.control.iter().rposition(asks);
    let mut others = state.workers.iter().enumerate();
    others.any(|(other, worker)| {
        let returns = question.is_some_and(|at| !worker.is_synced() && at < usize::from(worker.marker));
        other != place && !worker.dead && (!worker.up || returns)
    })
}

/// Whether the owner that a run waits for is not heard, or answers nothing: `ownership::silent`.
pub(crate) fn owner_is_silent(state: &State, place: usize, key: Key) -> bool {
    let run = state.workers[place].run(key);
    let Some(owner) = run.and_then(|run| run.owner) else {
        return false;
    };
    let mut others = state.workers.iter().enumerate();
    let owner = others.find(|(other, worker)| !worker.dead && worker.id(*other) == owner);
    match owner {
        None => true,
        Some((_, owner)) => {
            let is_copied = owner.copies.iter().any(|copying| copying.copy.key == key);
            !owner.up || (owner.run(key).is_none() && !is_copied && all_is_told(state))
        }
    }
}

/// Asks anew: the owner may be gone, or have ended without a word.
pub(crate) fn ask_anew(state: &mut State, place: usize, key: Key) {
    let owner = state.workers[place].run(key).and_then(|run| run.owner);
    let mut others = state.workers.iter().enumerate();
    let lives = others.any(|(other, worker)| !worker.dead && worker.up && Some(worker.id(other)) == owner);
    state.seen.wrongs.waited_in_vain |= lives && !state.seen.given_up;
    if let Some(run) = state.workers[place].run_mut(key) {
        run.owner = None;
        run.phase = Phase::Ask;
    }
}
