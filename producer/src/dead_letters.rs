//! Dead letters: what could not be done, kept with the reason, until a person runs it again or throws it away.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use crewfleet_producer::dead_letters::{DeadLetters, RedriveOptions, Selection};
//! use crewfleet_producer::{BrokerConfig, KickoffClient};
//! use tokio_util::sync::CancellationToken;
//!
//! let client = KickoffClient::connect(&BrokerConfig::default(), "repair").await?;
//! let dead_letters = DeadLetters::of(&client);
//! let of_marketing = ["marketing".parse()?];
//! for group in dead_letters.list(&of_marketing, &Selection::default()).await?.groups {
//!     println!("{} of {}: {:?}", group.count, group.crew, group.error);
//! }
//! let plan = dead_letters.plan(&of_marketing, &Selection::default()).await?;
//! let options = RedriveOptions::default();
//! let report = dead_letters.redrive(plan, &options, &CancellationToken::new(), |_, _| {}).await?;
//! println!("{} run again", report.redriven);
//! # Ok(())
//! # }
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`letter`] | one dead letter: what its message says |
//! | [`selection`] | which letters are meant |
//! | [`groups`] | letters that died alike |
//! | [`queues`] | reading the queues, without taking anything away |
//! | [`plan`] | the selected letters, as they were at one moment, and the walk over them |
//! | [`redrive`] | running them again |
//! | [`purge`] | throwing them away |
//!
//! Letters are held while they are looked at, so one looker at a time sees a queue; another one waits a little, and is
//! told ([`DeadLetterError::Busy`]). AMQP cannot list queues: the crews must be named. The queue of letters that no
//! crew's queue takes is always looked at.

pub mod groups;
pub mod letter;
pub mod plan;
pub mod purge;
pub mod queues;
pub mod redrive;
pub mod selection;

use std::collections::BTreeSet;

use crewfleet_amqp::{BrokerError, PublishError};
use crewfleet_protocol::CrewName;

use crate::client::KickoffClient;
use crate::error::ClientError;

pub use self::groups::Group;
pub use self::letter::{Letter, WholeLetter};
pub use self::plan::Plan;
pub use self::purge::PurgeReport;
pub use self::queues::{Listing, QueueLook};
pub use self::redrive::{Forecast, RedriveOptions, RedriveReport, Undone};
pub use self::selection::Selection;

/// The dead letters of a namespace.
#[derive(Clone)]
pub struct DeadLetters {
    client: KickoffClient,
}

/// Why dead letters could not be read or moved. What was not done is in the queues as before.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeadLetterError {
    /// Somebody else looks at the same queue.
    #[error(
        "queue {queue:?}: another `crewfleet dead-letters` command holds its letters. Try again when that has ended; a \
         redrive with --rate may take long"
    )]
    Busy {
        /// The queue.
        queue: String,
    },
    /// A publish stayed without an answer: the request may be in its queue, and its dead letter is kept.
    #[error(
        "kickoff {kickoff_id} is redriven, or not: {cause}. Its dead letter is kept; redrive it again, workers recognise \
         a copy"
    )]
    InDoubt {
        /// The kickoff's id, or `-`.
        kickoff_id: String,
        /// What the broker said, or did not say.
        cause: PublishError,
    },
    /// Nothing is declared, or another error of the client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The broker refused, or is gone.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl DeadLetters {
    /// The dead letters in the namespace of a client.
    pub fn of(client: &KickoffClient) -> Self {
        Self {
            client: client.clone(),
        }
    }

    /// The crews that workers serve at present, by their heartbeats; takes as long as
    /// [`KickoffClient::workers`].
    ///
    /// # Errors
    /// As [`KickoffClient::workers`].
    pub async fn heard_crews(&self) -> Result<Vec<CrewName>, DeadLetterError> {
        let workers = self.client.workers().await?;
        let crews = workers.into_iter().flat_map(|worker| worker.crews);
        let crews: BTreeSet<_> = crews
            .filter_map(|crew| CrewName::parse(&crew.name).ok())
            .collect();
        Ok(crews.into_iter().collect())
    }
}
