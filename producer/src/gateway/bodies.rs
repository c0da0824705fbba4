//! Bodies on their way in: as long as a request may be, and not too many at once.

use std::time::Duration;

use axum::extract::Request;
use axum::http::header;
use futures_util::StreamExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::problem::Problem;

/// What a body may have around its inputs.
const MARGIN: usize = 64 * 1024;
/// How much of a body that is too large is read before the connection is cut.
const FLOOD: usize = 64 * 1024 * 1024;
/// How long a body may take.
const LIMIT: Duration = Duration::from_secs(30);
/// What one permit is good for.
const PERMIT: usize = 64 * 1024;

/// Room for bodies of 64 MiB together, or for one of the largest.
pub(super) fn room(max_request_bytes: usize) -> Semaphore {
    let bytes = (64 * 1024 * 1024).max(max_request_bytes + MARGIN);
    Semaphore::new(bytes.div_ceil(PERMIT))
}

/// The body of a request that may have so many bytes; there is room for it until the permit is dropped. One that has more is
/// read all the same, as long as it is no flood: a client that is answered while it sends sees a connection that breaks, and no
/// answer.
pub(super) async fn read<'a>(
    request: Request,
    room: &'a Semaphore,
    max_request_bytes: usize,
) -> Result<(Vec<u8>, SemaphorePermit<'a>), Problem> {
    let limit = max_request_bytes + MARGIN;
    let length = request.headers().get(header::CONTENT_LENGTH);
    let told = length.and_then(|length| length.to_str().ok()?.parse().ok());
    let permits = told.unwrap_or(limit).clamp(1, limit).div_ceil(PERMIT);
    let closed = |_| Problem::Unavailable("The gateway ends".into());
    let mut permit = room
        .acquire_many(u32::try_from(permits).unwrap_or(u32::MAX))
        .await
        .map_err(closed)?;
    let (mut whole, mut length) = (Vec::new(), 0);
    let mut chunks = request.into_body().into_data_stream();
    let reading = async {
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|e| Problem::validation(format!("The body breaks off: {e}")))?;
            length += chunk.len();
            if length <= limit {
                whole.extend_from_slice(&chunk);
            } else if length > limit + FLOOD {
                break;
            }
        }
        Ok(())
    };
    timeout(LIMIT, reading).await.unwrap_or(Err(Problem::TooSlow))?;
    // One that did not say how long it is had room for the longest.
    drop(permit.split(permits - whole.len().clamp(1, limit).div_ceil(PERMIT)));
    match length <= limit {
        true => Ok((whole, permit)),
        false => Err(Problem::TooLarge {
            limit: max_request_bytes,
        }),
    }
}
