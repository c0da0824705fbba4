//! Acks of one channel, few for many: those of one moment go out together, and one frame settles all deliveries up to
//! the first that is still held.

use std::collections::BTreeSet;
use std::future::ready;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use futures_util::FutureExt;
use lapin::Channel;
use lapin::options::BasicAckOptions;
use tokio::task::yield_now;

use super::parting::{self, Parting};

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
    /// When something was acked last.
    latest: Option<Instant>,
}

/// An ack: a delivery's number, and whether it settles all before it, too.
type Frame = (u64, bool);

/// A frame that the client has.
type Sent<'a> = Pin<Box<dyn Future<Output = lapin::Result<()>> + Send + 'a>>;

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

    /// Acks a delivery; returns when that is on its way, or another task has taken it along. Each delivery once.
    pub(super) async fn ack(&self, delivery: u64) -> lapin::Result<()> {
        self.lock().waiting.push(delivery);
        // Confirms come in batches, so others are ready to ack at this moment.
        yield_now().await;
        for sent in self.send() {
            sent.await?;
        }
        Ok(())
    }

    /// Hands frames for all that waits to the client, and returns those that are not on the wire yet. The client takes a
    /// frame at the first poll, so nothing can be given up in between, and the lock keeps the order: frames that
    /// overtake each other would name deliveries that are acked already.
    fn send(&self) -> Vec<Sent<'_>> {
        let mut state = self.lock();
        let mut under_way: Vec<Sent<'_>> = Vec::new();
        for (delivery, multiple) in state.frames() {
            let mut sent: Sent<'_> = Box::pin(self.channel.basic_ack(delivery, BasicAckOptions { multiple }));
            match sent.as_mut().now_or_never() {
                Some(Ok(())) => {}
                Some(Err(error)) => under_way.push(Box::pin(ready(Err(error)))),
                None => under_way.push(sent),
            }
        }
        under_way
    }

    /// The lock guards plain data that every holder leaves whole, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Acks {
    fn drop(&mut self) {
        let latest = self.lock().latest;
        let lately = latest.is_some_and(|latest| latest.elapsed() < parting::LATELY);
        if let Some(parting) = self.parting.take().filter(|_| lately) {
            parting.begin(self.channel.clone());
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
        if !self.waiting.is_empty() {
            self.latest = Some(Instant::now());
            self.waiting.clear();
        }
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
