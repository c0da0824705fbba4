//! Acks of one channel, few for many: those of one moment go out together, and one frame settles all deliveries up to
//! the first that is still held.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use lapin::Channel;
use lapin::options::BasicAckOptions;
use tokio::task::yield_now;

use super::parting::Parting;

/// The acks of one channel, whose deliveries are numbered from 1 without a gap.
#[derive(Debug)]
pub(super) struct Acks {
    /// It closes when nobody holds it any more, and with it the chance to ack: a delivery outlives its consumer when a
    /// worker drains.
    pub(super) channel: Channel,
    state: Mutex<State>,
    /// What happens before it closes.
    parting: OnceLock<Parting>,
}

#[derive(Debug, Default)]
struct State {
    /// All deliveries up to this one are acked.
    through: u64,
    /// Those after it that are.
    apart: BTreeSet<u64>,
    /// What the next frames are to ack.
    waiting: Vec<u64>,
    /// Somebody sends frames, and will take along what waits.
    sending: bool,
}

/// An ack: a delivery's number, and whether it settles all before it, too.
type Frame = (u64, bool);

impl Acks {
    pub(super) fn new(channel: Channel) -> Self {
        Self {
            channel,
            state: Mutex::default(),
            parting: OnceLock::new(),
        }
    }

    /// Has the channel wait for its queue before it closes. The first time counts.
    pub(super) fn part(&self, parting: Parting) {
        let _ = self.parting.set(parting);
    }

    /// Acks a delivery; returns when that is on its way, or another task has taken it along.
    pub(super) async fn ack(&self, delivery: u64) -> lapin::Result<()> {
        self.lock().waiting.push(delivery);
        // Confirms come in batches, so others are ready to ack at this moment.
        yield_now().await;
        // One at a time: frames that overtake each other name numbers that are acked already.
        let Some(mut sending) = Sending::begin(self) else {
            return Ok(());
        };
        while let Some(frames) = sending.next() {
            for (delivery, multiple) in frames {
                let options = BasicAckOptions { multiple };
                self.channel.basic_ack(delivery, options).await?;
            }
        }
        Ok(())
    }

    /// The lock guards plain data that every holder leaves whole, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Acks {
    fn drop(&mut self) {
        if let Some(parting) = self.parting.take() {
            parting.begin(self.channel.clone());
        }
    }
}

/// The one who sends.
struct Sending<'a> {
    acks: &'a Acks,
    over: bool,
}

impl<'a> Sending<'a> {
    fn begin(acks: &'a Acks) -> Option<Self> {
        let already = std::mem::replace(&mut acks.lock().sending, true);
        (!already).then(|| Self { acks, over: false })
    }

    /// What waits now; `None`, and somebody else may send, when nothing does.
    fn next(&mut self) -> Option<Vec<Frame>> {
        let mut state = self.acks.lock();
        let frames = state.frames();
        if frames.is_empty() {
            state.sending = false;
            self.over = true;
        }
        (!self.over).then_some(frames)
    }
}

impl Drop for Sending<'_> {
    /// Where the sending was given up in between.
    fn drop(&mut self) {
        if !self.over {
            self.acks.lock().sending = false;
        }
    }
}

impl State {
    /// The frames that ack what waits.
    fn frames(&mut self) -> Vec<Frame> {
        self.apart.extend(&self.waiting);
        while self.apart.first().is_some_and(|first| *first == self.through + 1) {
            self.through += 1;
            self.apart.pop_first();
        }
        // RabbitMQ searches for the number that a frame names, and acks on its way: it must be one that was not acked
        // before, or the search acks all that there is (3.10, `rabbit_channel:collect_acks`).
        let together = self
            .waiting
            .iter()
            .copied()
            .filter(|one| *one <= self.through)
            .max();
        let apart = self.waiting.iter().copied().filter(|one| *one > self.through);
        let frames = together.map(|last| (last, true)).into_iter();
        let frames = frames.chain(apart.map(|one| (one, false))).collect();
        self.waiting.clear();
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(state: &mut State, done: &[u64]) -> Vec<Frame> {
        state.waiting.extend_from_slice(done);
        state.frames()
    }

    #[test]
    fn what_ends_in_order_is_acked_by_one_frame() {
        let mut state = State::default();
        assert_eq!(frames(&mut state, &[2, 1, 3]), [(3, true)]);
        assert_eq!(frames(&mut state, &[4]), [(4, true)]);
        assert_eq!(frames(&mut state, &[]), []);
    }

    #[test]
    fn what_waits_for_none_is_acked_apart_and_never_named_again() {
        let mut state = State::default();
        assert_eq!(frames(&mut state, &[3, 1]), [(1, true), (3, false)]);
        // Through 3 now, which was acked before: 2 is named.
        assert_eq!(frames(&mut state, &[2]), [(2, true)]);
        assert_eq!((state.through, state.apart.len()), (3, 0));
        assert_eq!(frames(&mut state, &[5, 6]), [(5, false), (6, false)]);
        assert_eq!(frames(&mut state, &[7, 4]), [(7, true)]);
    }

    #[test]
    fn no_delivery_is_acked_before_it_is_done_and_each_is_in_the_end() {
        // A prime, so that multiples of anything come in every order.
        const COUNT: u64 = 503;
        let order: Vec<u64> = (0..COUNT).map(|number| number * 211 % COUNT + 1).collect();
        let (mut state, mut done, mut acked) = (State::default(), BTreeSet::new(), BTreeSet::new());
        for batch in order.chunks(7) {
            done.extend(batch);
            for (named, multiple) in frames(&mut state, batch) {
                assert!(!acked.contains(&named), "{named} is named again");
                let first = if multiple { 1 } else { named };
                acked.extend(first..=named);
            }
            assert_eq!(acked, done);
        }
        assert_eq!(acked.len() as u64, COUNT);
    }
}
