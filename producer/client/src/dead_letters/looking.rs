//! What a look at dead letters may take.

use std::time::Duration;

/// How many messages are on their way to a look that reads on at once. Fewer cost time (20,000 letters take 2.5 s with
/// 2,000, 3.5 s with 200), more cost memory: a body may have megabytes.
const READING: u16 = 1000;

/// How long we wait for another command that looks at the same queue, and for a broker that is just away.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a look at dead letters may take. A command looks at all there is; a service that many call must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looking {
    /// How many messages are on their way at once.
    pub window: u16,
    /// How many letters are looked at, of all queues together; the rest is
    /// [`BrowsedQueue::unseen`](super::BrowsedQueue::unseen).
    pub letters: u64,
    /// How long it takes, of all queues together; the rest is unseen.
    pub time: Duration,
    /// How long it waits for somebody else who looks at the same queue, and for a broker that is away.
    pub patience: Duration,
}

impl Default for Looking {
    fn default() -> Self {
        Self {
            window: READING,
            letters: u64::MAX,
            // For ever, as far as a clock goes.
            time: Duration::from_secs(60 * 60 * 24 * 365),
            patience: PATIENCE,
        }
    }
}
