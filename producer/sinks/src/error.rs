//! Why sinks do not start.

use crewfleet_amqp::{ConnectError, Problem};
use crewfleet_service::admin::BindError;

/// Why sinks do not start.
#[derive(Debug, thiserror::Error)]
pub enum SinksError {
    /// A value of the configuration cannot be.
    #[error("configuration: {} = {}: {}", .0.key, .0.value, .0.problem)]
    Config(Problem),
    /// The URL of a broker is none.
    #[error(transparent)]
    Broker(#[from] ConnectError),
    /// Nothing can be called.
    #[error("webhooks cannot be called: {0}")]
    Http(String),
    /// There is no sample.
    #[error("the sample cannot be made: {0}")]
    Sample(String),
    /// The address of the admin endpoint cannot be used.
    #[error(transparent)]
    Admin(#[from] BindError),
    /// A metric was defined twice.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
    /// A sink that the configuration does not have.
    #[error("there is no sink {name}{meant} [sinks.<name>] sections are: {known}")]
    NoSuchSink {
        /// Its name.
        name: String,
        /// Which one may be meant.
        meant: String,
        /// Those that there are.
        known: String,
    },
}

impl From<Problem> for SinksError {
    fn from(problem: Problem) -> Self {
        Self::Config(problem)
    }
}
