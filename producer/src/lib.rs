//! Kick off AI crews over RabbitMQ and await their replies.
//!
//! ```no_run
//! # async fn example() -> Result<(), crewfleet_producer::ClientError> {
//! use crewfleet_producer::{BrokerConfig, KickoffClient};
//!
//! let client = KickoffClient::connect(&BrokerConfig::default(), "orders").await?;
//! let inputs = serde_json::json!({"BUSINESS_DETAILS": "a bakery", "PRODUCT_DESCRIPTION": "rye bread"});
//! let reply = client.kickoff("marketing", &inputs).await?.reply().await?;
//! println!("{}: {:?}", reply.status, reply.result.map(|result| result.raw));
//! client.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`client`] | [`KickoffClient`]: connect, kick off, attach |
//! | [`request`] | [`Kickoff`]: one kickoff before it is sent, and the message it becomes |
//! | [`handle`] | [`KickoffHandle`]: one kickoff after it was sent; await its reply, stream its events |
//! | `replies` | kickoff_id → waiter: the one reply queue of a client, thousands of waiters |
//! | `reading` | reading a stream to its end and beyond |
//! | `results` | looking for replies that came before anybody waited, in the results stream |
//! | [`control`] | commands to the workers: cancel, pause, resume, drain |
//! | [`events`] | [`EventStream`]: live events |
//! | [`files`] | what kickoffs wrote: from the reply, or from the worker that keeps it |
//! | [`inputs`] | which inputs a crew asks for, and which a kickoff lacks |
//! | [`status`] | what is known of a kickoff; which kickoffs run and wait |
//! | `questions` | questions to the workers, and their answers |
//! | `listening` | a queue of each link's own, for answers and heartbeats |
//! | [`fleet`] | which workers live, by their heartbeats |
//! | [`dead_letters`] | what could not be done: list, show, redrive, purge |
//! | [`error`] | what can go wrong |
//! | `batch` | many kickoffs from a file, resumable (feature `cli`) |
//! | `gateway` | the fleet over HTTP (feature `cli`) |
//! | `doctor` | whether the broker is as crewfleet needs it (feature `cli`) |
//! | `progress` | how far a batch is, for people (feature `cli`) |

#[cfg(feature = "cli")]
pub mod batch;
pub mod client;
pub mod control;
pub mod dead_letters;
#[cfg(feature = "cli")]
pub mod doctor;
pub mod error;
pub mod events;
pub mod files;
pub mod fleet;
#[cfg(feature = "cli")]
pub mod gateway;
pub mod handle;
mod history;
pub mod inputs;
mod listening;
mod looking_back;
#[cfg(feature = "cli")]
pub mod progress;
mod questions;
mod reading;
mod replies;
pub mod request;
mod results;
pub mod status;

pub use client::KickoffClient;
pub use control::{Cancel, Cancellation};
pub use crewfleet_amqp::BrokerConfig;
pub use crewfleet_protocol::{Event, Heartbeat, KickoffId, KickoffResult, Reply, Status};
pub use error::ClientError;
pub use events::EventStream;
pub use files::FileError;
pub use handle::KickoffHandle;
pub use request::Kickoff;
pub use status::{KickoffStatus, Kickoffs};
