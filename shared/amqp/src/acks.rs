//! Acks of one channel, few for many: those of one moment go out together, and one frame settles all deliveries up to
//! the first that is still held.

use std::collections::BTreeSet;
use std::future::ready;
use std::mem::take;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use lapin::Channel;
use lapin::options::BasicAckOptions;
use rangemap::RangeInclusiveSet;
use tokio::task::yield_now;
use tokio::time::sleep_until;

use super::ack_flush::{self, AckFlush};

/// The acks of one channel, whose deliveries are numbered from 1 without a gap.
#[derive(Debug)]
pub(super) struct Acks {
    /// It closes when nobody holds it any more, and with it the chance to ack: a delivery outlives its consumer when a
    /// worker drains.
    pub(super) channel: Channel,
    state: Mutex<State>,
    /// What happens before it closes.
    ack_flush: OnceLock<AckFlush>,
}

/// How many frames of their own may go out within [`WINDOW`]. What ends out of order waits for the rest of it then: at
/// such a pace most of those in between end meanwhile, and a frame each would cost the broker a quarter of its
/// throughput.
const OUT_OF_ORDER: usize = 8;
const WINDOW: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
struct State {
    /// All deliveries up to this one are acked.
    watermark: u64,
    /// Those after it that are: a few ranges, however long the first one is held.
    out_of_order: RangeInclusiveSet<u64>,
    /// What the next frames are to ack.
    waiting: BTreeSet<u64>,
    /// When the present window began, and how many went out apart since.
    window: Option<(Instant, usize)>,
    /// A task waits for the end of the window.
    attended: bool,
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
            ack_flush: OnceLock::new(),
        }
    }

    /// Has the channel wait for its queue before it closes. The first time counts.
    pub(super) fn flush_before_close(&self, ack_flush: AckFlush) {
        let _ = self.ack_flush.set(ack_flush);
    }

    /// Acks a delivery; returns when that is on its way, or another task sees to it. Each delivery once.
    pub(super) async fn ack(&self, delivery: u64) -> lapin::Result<()> {
        self.lock().waiting.insert(delivery);
        // Confirms come in batches, so others are ready to ack at this moment.
        yield_now().await;
        loop {
            for sent in self.send(Instant::now()) {
                sent.await?;
            }
            // Once more after a window: a task that came first may have begun another.
            let Some(attendance) = self.attend() else {
                return Ok(());
            };
            sleep_until(attendance.until.into()).await;
        }
    }

    /// Has the caller see to what waits, unless nothing does or another task sees to it.
    fn attend(&self) -> Option<Attendance<'_>> {
        let mut state = self.lock();
        let (began, _) = state.window?;
        if state.attended || state.waiting.is_empty() {
            return None;
        }
        state.attended = true;
        let until = began + WINDOW;
        Some(Attendance { acks: self, until })
    }

    /// Hands frames for all that waits to the client, and returns those that are not on the wire yet. The client takes
    /// a frame at the first poll, so nothing can be given up in between, and the lock keeps the order: frames that
    /// overtake each other would name deliveries that are acked already.
    fn send(&self, now: Instant) -> Vec<Sent<'_>> {
        let mut state = self.lock();
        let mut under_way: Vec<Sent<'_>> = Vec::new();
        for (delivery, multiple) in state.frames(now) {
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
        // What a task that was given up would have seen to.
        self.lock().window = None;
        drop(self.send(Instant::now()));
        let latest = self.lock().latest;
        let lately = latest.is_some_and(|latest| latest.elapsed() < ack_flush::LATELY);
        if let Some(ack_flush) = self.ack_flush.take().filter(|_| lately) {
            ack_flush.begin(self.channel.clone());
        }
    }
}

/// One task that waits for the end of a window, whatever becomes of the task.
struct Attendance<'a> {
    acks: &'a Acks,
    until: Instant,
}

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        self.acks.lock().attended = false;
    }
}

impl State {
    /// The frames that ack what waits, but for what waits on.
    fn frames(&mut self, now: Instant) -> Vec<Frame> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        self.latest = Some(now);
        let mut together = None;
        loop {
            let next = self.watermark + 1;
            if self.waiting.remove(&next) {
                // RabbitMQ searches for the number that a frame names, and acks on its way: it must be one that was not
                // acked before, or the search acks all that there is (3.10, `rabbit_channel:collect_acks`).
                together = Some((next, true));
                self.watermark = next;
            } else if let Some(acked) = self.out_of_order.get(&next).cloned() {
                self.watermark = *acked.end();
                self.out_of_order.remove(acked);
            } else {
                break;
            }
        }
        let out_of_order = self.room_out_of_order(now);
        together.into_iter().chain(out_of_order).collect()
    }

    /// Those that go out of order now: few at once, or all that have waited for the end of a window.
    fn room_out_of_order(&mut self, now: Instant) -> Vec<Frame> {
        let (began, sent) = match self.window {
            Some((began, sent)) if now < began + WINDOW => (began, sent),
            _ => (now, 0),
        };
        if began < now && sent + self.waiting.len() > OUT_OF_ORDER {
            return Vec::new();
        }
        self.window = Some((began, sent + self.waiting.len()));
        let out_of_order = take(&mut self.waiting);
        for one in &out_of_order {
            self.out_of_order.insert(*one..=*one);
        }
        out_of_order.into_iter().map(|one| (one, false)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frames for these, each time long after the last.
    fn frames(state: &mut State, done: &[u64]) -> Vec<Frame> {
        state.window = None;
        state.waiting.extend(done);
        state.frames(Instant::now())
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
        assert_eq!((state.watermark, state.out_of_order.len()), (3, 0));
        assert_eq!(frames(&mut state, &[5, 6]), [(5, false), (6, false)]);
        assert_eq!(frames(&mut state, &[7, 4]), [(7, true)]);
        assert_eq!((state.watermark, state.out_of_order.len()), (7, 0));
    }

    #[test]
    fn what_is_acked_beside_one_that_is_held_for_long_takes_no_memory() {
        let mut state = State::default();
        for delivery in 2..10_000 {
            frames(&mut state, &[delivery]);
        }
        assert_eq!(state.out_of_order.iter().collect::<Vec<_>>(), [&(2..=9_999)]);
        assert_eq!(frames(&mut state, &[1]), [(1, true)]);
        assert_eq!((state.watermark, state.out_of_order.len()), (9_999, 0));
    }

    #[test]
    fn many_that_end_out_of_order_wait_for_those_in_between() {
        let (mut state, begin) = (State::default(), Instant::now());
        let mut frames = |done: &[u64], at: Instant| {
            state.waiting.extend(done);
            state.frames(at)
        };
        let (few, many): (Vec<u64>, Vec<u64>) = ((2..=5).collect(), (7..=20).collect());
        let soon = begin + WINDOW / 2;
        assert_eq!(
            frames(&few, begin),
            few.iter().map(|one| (*one, false)).collect::<Vec<_>>()
        );
        assert_eq!(frames(&many, soon), []);
        // In order: at once, with those that waited for it.
        assert_eq!(frames(&[1, 6], soon), [(20, true)]);
        assert_eq!(frames(&[23], soon), [(23, false)]);
        let more: Vec<u64> = (30..=50).collect();
        assert_eq!(frames(&more, soon), []);
        assert_eq!(
            frames(&[], begin + WINDOW),
            more.iter().map(|one| (*one, false)).collect::<Vec<_>>()
        );
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
