//! Why a worker does not start.

use crewfleet_amqp::ConnectError;
use crewfleet_protocol::InvalidName;
use crewfleet_service::admin;
use crewfleet_service::config::ConfigError;

/// Why a worker does not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The broker's URL is none.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The admin address cannot be used.
    #[error(transparent)]
    Admin(#[from] admin::BindError),
    /// A crew's name cannot be a routing key.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The folder for the kickoffs cannot be used.
    #[error("the folder for kickoffs cannot be used: {0}; set [worker] data_dir")]
    DataDir(std::io::Error),
    /// The configuration has no such crew.
    #[error("the configuration has no crew {crew:?}; it has {}", in_words(.known))]
    NoSuchCrew {
        /// The one that was asked for.
        crew: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A metric cannot be registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

fn in_words(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}
