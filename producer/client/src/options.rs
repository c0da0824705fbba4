//! How a client connects.

use std::time::Duration;

/// How long a publish is repeated unless an option says otherwise.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(30);

/// Options of [`KickoffClient::connect_with`](crate::KickoffClient::connect_with).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientOptions {
    /// The client's id, and so the name of its reply queue: a client that comes back within an hour with the same id gets the
    /// replies that came meanwhile. Two clients of one id must not run at the same time. Without one it is a new UUIDv7.
    pub id: Option<String>,
    /// How long a publish is repeated while the broker is away, hangs, or refuses since a queue is full; 30 s by default.
    pub publish_timeout: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            id: None,
            publish_timeout: PUBLISH_TIMEOUT,
        }
    }
}

impl ClientOptions {
    /// With this id.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// With a publish repeated for so long.
    #[must_use]
    pub fn publish_timeout(mut self, timeout: Duration) -> Self {
        self.publish_timeout = timeout;
        self
    }
}
