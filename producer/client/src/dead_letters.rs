//! Dead letters: what could not be done, kept with the reason, until a person runs it again or throws it away.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use crewfleet::dead_letters::{DeadLetters, RedriveOptions, Selection};
//! use crewfleet::{BrokerConfig, KickoffClient};
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
//! | `access` | [`DeadLetters`]: those of a namespace |
//! | `error` | why they could not be read or moved |
//! | `owner` | whose they are: a crew's, or a sink's |
//! | [`letter`] | one dead letter: what its message says |
//! | [`selection`] | which letters are meant |
//! | [`groups`] | letters that died alike |
//! | `looking` | what a look may take |
//! | [`queues`] | reading the queues, without taking anything away |
//! | [`plan`] | the selected letters, as they were at one moment, and the walk over them |
//! | [`redrive`] | running them again |
//! | [`purge`] | throwing them away |
//!
//! Letters are held while they are looked at, so one looker at a time sees a queue; another one waits a little, and is
//! told ([`DeadLetterError::Busy`]). AMQP cannot list queues: the crews must be named. The queue of letters that no
//! crew's queue takes is always looked at.

mod access;
mod error;
pub mod groups;
pub mod letter;
mod looking;
mod owner;
pub mod plan;
pub mod purge;
pub mod queues;
pub mod redrive;
pub mod selection;

pub use self::access::DeadLetters;
pub use self::error::DeadLetterError;
pub use self::groups::Group;
pub use self::letter::{Letter, WholeLetter};
pub use self::looking::Looking;
pub use self::owner::Owner;
pub use self::plan::Plan;
pub use self::purge::PurgeReport;
pub use self::queues::{BrowsedQueue, Listing};
pub use self::redrive::{Forecast, RedriveOptions, RedriveReport, Undone};
pub use self::selection::{Reach, Selection};
