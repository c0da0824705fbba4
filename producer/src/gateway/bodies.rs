//! Bodies on their way in: as long as a request may be, and not too many at once. Each takes room as its bytes come, so
//! that whoever sends nothing holds nothing; and what the callers of one token send has its share of the room, and no
//! more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::extract::Request;
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::problem::Problem;

/// What a body may have around its inputs.
const MARGIN: usize = 64 * 1024;
/// How much of a body that is too large is read before the connection is cut.
const FLOOD: usize = 64 * 1024 * 1024;
/// How long a body may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Room for all bodies together, in bytes. A kickoff that is published takes as much again, and once more for a moment.
const ROOM: usize = 32 * 1024 * 1024;
/// What one permit is good for, in bytes.
const PERMIT: usize = 64 * 1024;

/// Room for bodies.
pub(super) struct Bodies {
    /// In bytes, of one.
    limit: usize,
    max_request_bytes: usize,
    all: Arc<Semaphore>,
    /// Of a token, in permits.
    share: usize,
    /// Likewise, in bodies.
    at_once: usize,
    of_tokens: Mutex<HashMap<String, Weak<OfToken>>>,
    /// How long a body may pause.
    pause: Duration,
    /// How long one waits for room.
    patience: Duration,
}

/// What the callers of one token may take.
struct OfToken {
    room: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
}

/// Room that a body holds.
pub(super) struct Room {
    held: Option<[OwnedSemaphorePermit; 2]>,
    permits: usize,
    of_token: Arc<OfToken>,
    _one_of_its_bodies: OwnedSemaphorePermit,
}

impl Bodies {
    /// For requests of so many bytes: 32 MiB together, or two of the largest; half of that for the callers of one
    /// token, and half of the connections.
    pub(super) fn new(max_request_bytes: usize, connections: usize) -> Self {
        let limit = max_request_bytes + MARGIN;
        let share = (ROOM / 2).max(limit).div_ceil(PERMIT);
        Self {
            limit,
            max_request_bytes,
            all: Arc::new(Semaphore::new(2 * share)),
            share,
            at_once: connections.div_ceil(2),
            of_tokens: Mutex::default(),
            pause: Duration::from_secs(10),
            patience: Duration::from_secs(5),
        }
    }

    /// The body of a request that was sent with this token; there is room for it until the second is dropped. One that
    /// is too long is read all the same, as long as it is no flood: a client that is answered while it sends sees a
    /// connection that breaks, and no answer.
    pub(super) async fn read(&self, request: Request, token: &str) -> Result<(Vec<u8>, Room), Problem> {
        let (mut whole, mut length, mut room) = (Vec::new(), 0, self.room(token)?);
        let mut chunks = request.into_body().into_data_stream();
        let end = Instant::now() + LIMIT;
        loop {
            let next = timeout_at(end, timeout(self.pause, chunks.next())).await;
            let Some(chunk) = next.ok().and_then(Result::ok).ok_or(Problem::TooSlow)? else {
                break;
            };
            let chunk = chunk.map_err(|e| Problem::validation(format!("The body breaks off: {e}")))?;
            length += chunk.len();
            if length <= self.limit {
                let grown = room.grow(length.div_ceil(PERMIT), &self.all);
                timeout(self.patience, grown).await.map_err(|_| {
                    Problem::unavailable("The gateway has no room for this body at present; try again")
                })?;
                whole.extend_from_slice(&chunk);
            } else if length > self.limit + FLOOD {
                break;
            }
        }
        match length <= self.limit {
            true => Ok((whole, room)),
            false => Err(Problem::TooLarge {
                limit: self.max_request_bytes,
            }),
        }
    }

    /// Of a token, and none of it taken yet.
    fn room(&self, token: &str) -> Result<Room, Problem> {
        let of_token = self.of_token(token);
        match Arc::clone(&of_token.bodies).try_acquire_owned() {
            Ok(one) => Ok(Room {
                held: None,
                permits: 0,
                of_token,
                _one_of_its_bodies: one,
            }),
            Err(_) => Err(Problem::TooMany(format!(
                "This token has {} calls with a body under way; try again when some have ended",
                self.at_once
            ))),
        }
    }

    /// The share of a token, for as long as one of its bodies needs it.
    fn of_token(&self, token: &str) -> Arc<OfToken> {
        let mut shares = self.of_tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(token).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(OfToken {
            room: Arc::new(Semaphore::new(self.share)),
            bodies: Arc::new(Semaphore::new(self.at_once)),
        });
        shares.insert(token.to_owned(), Arc::downgrade(&share));
        share
    }
}

impl Room {
    /// Waits for room for so many permits in all.
    async fn grow(&mut self, permits: usize, all: &Arc<Semaphore>) {
        let more = u32::try_from(permits.saturating_sub(self.permits)).unwrap_or(u32::MAX);
        if more == 0 {
            return;
        }
        // Nobody closes a semaphore. The token's own first: who waits for that must not hold what others need.
        let own = Arc::clone(&self.of_token.room).acquire_many_owned(more).await;
        let common = Arc::clone(all).acquire_many_owned(more).await;
        let (Ok(own), Ok(common)) = (own, common) else {
            return;
        };
        match &mut self.held {
            Some([of_token, of_all]) => {
                of_token.merge(own);
                of_all.merge(common);
            }
            None => self.held = Some([own, common]),
        }
        self.permits = permits;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::body::{Body, Bytes};
    use futures_util::{FutureExt, stream};

    use super::*;

    const MIB: usize = 1024 * 1024;

    fn chunk() -> Result<Bytes, std::io::Error> {
        Ok(Bytes::from(vec![b' '; MIB]))
    }

    /// A body of so many MiB that goes on then, without ever sending more.
    fn hanging(mib: usize) -> Request {
        let chunks = stream::iter((0..mib).map(|_| chunk())).chain(stream::pending());
        Request::new(Body::from_stream(chunks))
    }

    fn whole(mib: usize) -> Request {
        Request::new(Body::from_stream(stream::iter((0..mib).map(|_| chunk()))))
    }

    #[tokio::test]
    async fn who_sends_nothing_holds_nothing_and_one_token_holds_no_other_up() {
        let bodies = Bodies {
            pause: Duration::from_millis(200),
            patience: Duration::from_millis(100),
            ..Bodies::new(16 * MIB, 1024)
        };
        let mut held: Vec<_> = (0..100)
            .map(|_| Box::pin(bodies.read(hanging(0), "greedy")))
            .collect();
        held.extend((0..4).map(|_| Box::pin(bodies.read(hanging(12), "greedy"))));
        for reading in &mut held {
            assert!(reading.as_mut().now_or_never().is_none());
        }
        // Its share is used up: half of the room, or one of the largest.
        assert_eq!(bodies.share * PERMIT, 16 * MIB + MARGIN);
        assert_eq!(
            bodies.all.available_permits(),
            2 * bodies.share - 16 * MIB / PERMIT
        );
        let (body, room) = bodies.read(whole(16), "modest").await.unwrap();
        assert_eq!(body.len(), 16 * MIB);
        drop(room);
        // Whoever finds no room is told soon, and whoever sends nothing, too.
        for _ in 0..2 {
            assert!(matches!(
                held.pop().unwrap().await,
                Err(Problem::Unavailable { .. })
            ));
        }
        assert_eq!(held.swap_remove(0).await.err(), Some(Problem::TooSlow));
        drop(held);
        assert_eq!(bodies.all.available_permits(), 2 * bodies.share);
    }

    #[tokio::test]
    async fn the_bodies_of_one_token_are_no_more_than_its_share() {
        let bodies = Bodies::new(MIB, 3);
        let mut first = Box::pin(bodies.read(hanging(0), "greedy"));
        let mut second = Box::pin(bodies.read(hanging(0), "greedy"));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        assert!(matches!(
            bodies.read(whole(0), "greedy").await,
            Err(Problem::TooMany(_))
        ));
        assert!(bodies.read(whole(0), "modest").await.is_ok());
        drop(first);
        assert!(bodies.read(whole(0), "greedy").await.is_ok());
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_is_refused_and_takes_no_more_than_its_room() {
        let bodies = Bodies::new(MIB, 1024);
        let refused = bodies.read(whole(3), "t").await.err();
        assert_eq!(refused, Some(Problem::TooLarge { limit: MIB }));
        assert_eq!(bodies.all.available_permits() * PERMIT, 32 * MIB);
    }
}
