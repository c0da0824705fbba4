//! Bodies on their way in: as long as a request may be, and not too many at once. Each takes room as its bytes come, so
//! that whoever sends nothing holds nothing. What the callers of one token hold leaves as much for others, and whoever
//! sends too slowly is cut. The limits of `tower-http` are for one body alone: neither its share nor its rate is counted,
//! and a body that is too long is answered while it is still being sent.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use futures_util::StreamExt;
use tokio::time::{Instant, timeout, timeout_at};

use crate::http::api_error::ApiError;
use crate::http::shares::{Share, Shares};

/// What a body may have around its inputs.
const MARGIN: usize = 64 * 1024;
/// How much of a body that is too large is read before the connection is cut.
const FLOOD: usize = 64 * 1024 * 1024;
/// How long a body may take.
const LIMIT: Duration = Duration::from_secs(30);
/// So long a body may come as slowly as it likes …
const GRACE: Duration = Duration::from_secs(10);
/// … and then it must have come at this rate, in bytes a second, in all the time behind it.
const RATE: u32 = 1024;
/// Room for all bodies together, in bytes. A kickoff that is published takes as much again, and once more for a moment.
const ROOM: usize = 32 * 1024 * 1024;
/// What one permit is good for, in bytes.
const PERMIT: usize = 64 * 1024;

/// Room for bodies.
pub(crate) struct RequestLimits {
    /// In bytes, of one.
    limit: usize,
    max_request_bytes: usize,
    /// In permits.
    room: Arc<Shares>,
    /// In bodies.
    at_once: Arc<Shares>,
    /// How long a body may pause.
    pause: Duration,
    /// How long one waits for room.
    patience: Duration,
}

/// Room that a body holds.
pub(crate) struct Room {
    bytes: Share,
    _one: Share,
}

impl RequestLimits {
    /// For requests of so many bytes: 32 MiB together, or four of the largest, so that one fits beside all that one
    /// other token holds; and for so many connections.
    pub(crate) fn new(max_request_bytes: usize, connections: usize) -> Self {
        let limit = max_request_bytes + MARGIN;
        // Rounded up for each of the four.
        let largest = limit.max(ROOM / 4).div_ceil(PERMIT);
        Self {
            limit,
            max_request_bytes,
            room: Shares::new(4 * largest),
            // One of them there must be.
            at_once: Shares::new(connections.max(2)),
            pause: Duration::from_secs(10),
            patience: Duration::from_secs(5),
        }
    }

    /// The body of a request that was sent with this token; there is room for it until the second is dropped. One that
    /// is too long is read all the same, as long as it is no flood: a client that is answered while it sends sees a
    /// connection that breaks, and no answer.
    pub(crate) async fn read(&self, request: Request, token: &str) -> Result<(Vec<u8>, Room), ApiError> {
        let (mut whole, mut length, mut room) = (Vec::new(), 0, self.room(token)?);
        let mut chunks = request.into_body().into_data_stream();
        let mut start = Instant::now();
        loop {
            let next = timeout_at(start + time_for(length), timeout(self.pause, chunks.next())).await;
            let Some(chunk) = next.ok().and_then(Result::ok).ok_or(ApiError::TooSlow)? else {
                break;
            };
            let chunk = chunk.map_err(|e| ApiError::validation(format!("The body breaks off: {e}")))?;
            length += chunk.len();
            if length <= self.limit {
                let waiting = Instant::now();
                let grown = room.bytes.grow(length.div_ceil(PERMIT));
                timeout(self.patience, grown).await.map_err(|_| {
                    ApiError::unavailable("The gateway has no room for this body at present; try again")
                })?;
                // That was not the sender's time.
                start += waiting.elapsed();
                whole.extend_from_slice(&chunk);
            } else if length > self.limit + FLOOD {
                break;
            }
        }
        match length <= self.limit {
            true => Ok((whole, room)),
            false => Err(ApiError::TooLarge {
                limit: self.max_request_bytes,
            }),
        }
    }

    /// Of a token, and none of it taken yet.
    fn room(&self, token: &str) -> Result<Room, ApiError> {
        let mut one = self.at_once.share(token);
        match one.try_grow(1) {
            true => Ok(Room {
                bytes: self.room.share(token),
                _one: one,
            }),
            false => Err(ApiError::TooMany(
                "This token has too many calls with a body under way; try again when some have ended".into(),
            )),
        }
    }
}

/// How long a body may have taken, of which so much has come.
fn time_for(length: usize) -> Duration {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    LIMIT.min(GRACE + Duration::from_secs(1) * length / RATE)
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
    async fn who_sends_nothing_holds_nothing_and_the_greedy_hold_no_other_up() {
        let bodies = RequestLimits {
            pause: Duration::from_millis(200),
            patience: Duration::from_millis(100),
            ..RequestLimits::new(16 * MIB, 1024)
        };
        let free = || bodies.room.free() * PERMIT / MIB;
        assert_eq!(free(), 64);
        let mut held: Vec<_> = (0..100)
            .map(|_| Box::pin(bodies.read(hanging(0), "greedy")))
            .collect();
        held.extend((0..4).map(|_| Box::pin(bodies.read(hanging(12), "greedy"))));
        for reading in &mut held {
            assert!(reading.as_mut().now_or_never().is_none());
        }
        // Beside one there is room for one of the largest.
        assert_eq!(free(), 32);
        let (body, room) = bodies.read(whole(16), "modest").await.unwrap();
        assert_eq!(body.len(), 16 * MIB);
        drop(room);
        // Beside two there is some for each other.
        held.extend((0..4).map(|_| Box::pin(bodies.read(hanging(12), "greedy, too"))));
        for reading in &mut held[104..] {
            assert!(reading.as_mut().now_or_never().is_none());
        }
        assert_eq!(free(), 16);
        assert_eq!(bodies.read(whole(8), "modest").await.unwrap().0.len(), 8 * MIB);
        // Whoever finds no room is told soon, and whoever sends nothing, too.
        assert!(matches!(
            held.pop().unwrap().await,
            Err(ApiError::Unavailable { .. })
        ));
        assert_eq!(held.swap_remove(0).await.err(), Some(ApiError::TooSlow));
        drop(held);
        assert_eq!(free(), 64);
    }

    #[test]
    fn a_body_must_come_at_some_rate() {
        assert_eq!(time_for(0), GRACE);
        assert_eq!(time_for(5 * 1024), GRACE + Duration::from_secs(5));
        assert_eq!(time_for(16 * MIB), LIMIT);
    }

    #[tokio::test]
    async fn the_bodies_of_one_token_are_no_more_than_its_share() {
        let bodies = RequestLimits::new(MIB, 4);
        let mut first = Box::pin(bodies.read(hanging(0), "greedy"));
        let mut second = Box::pin(bodies.read(hanging(0), "greedy"));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        assert!(matches!(
            bodies.read(whole(0), "greedy").await,
            Err(ApiError::TooMany(_))
        ));
        assert!(bodies.read(whole(0), "modest").await.is_ok());
        drop(first);
        assert!(bodies.read(whole(0), "greedy").await.is_ok());
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_is_refused_and_takes_no_more_than_its_room() {
        let bodies = RequestLimits::new(MIB, 1024);
        let refused = bodies.read(whole(3), "t").await.err();
        assert_eq!(refused, Some(ApiError::TooLarge { limit: MIB }));
        assert_eq!(bodies.room.free() * PERMIT, 32 * MIB);
    }
}
