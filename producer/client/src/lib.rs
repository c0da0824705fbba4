//! Kick off AI crews over RabbitMQ and await their replies.
//!
//! ```no_run
//! # async fn example() -> Result<(), crewfleet::ClientError> {
//! use crewfleet::{BrokerConfig, KickoffClient};
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
//! | file | what it holds |
//! |---|---|
//! | `client`, `options` | [`KickoffClient`]: connect, kick off, attach |
//! | `request`, `parts`, `known` | [`Kickoff`]: one kickoff before it is sent; the message it becomes; whether it is known already |
//! | `handle` | [`KickoffHandle`]: one kickoff after it was sent; await its reply, stream its events |
//! | `chain` | from a kickoff to what follows it, to the end of its chain |
//! | `connection` | what these share: the link to the broker, and the client's own queues |
//! | `replies` | kickoff_id → waiter: the one reply queue of a client, thousands of waiters |
//! | [`received_reply`] | a reply as it came, and which of two is the better one |
//! | [`stream_reader`] | reading a stream to its end and beyond |
//! | `reply_history`, `looking_back` | replies that came before anybody waited, read from the results stream |
//! | `event_history` | events from before, where a gateway keeps them |
//! | [`events`], `following` | [`EventStream`]: live events; the fleet is told who follows what |
//! | [`control`] | commands to the workers: cancel, pause, resume, drain |
//! | [`status`], `whereabouts` | what is known of a kickoff; which kickoffs run and wait |
//! | `batches` | what gateways are told of batches |
//! | `questions`, `survey` | questions to the workers, and their answers |
//! | [`fleet`], `listening` | which workers live, by their heartbeats |
//! | [`files`] | what kickoffs wrote: from the reply, or from the worker that keeps it |
//! | [`inputs`] | which inputs a crew asks for, their JSON Schema, and which a kickoff lacks |
//! | [`dead_letters`] | what could not be done: list, show, redrive, purge |
//! | `error` | [`ClientError`]: what can go wrong |

pub mod batches;
mod chain;
mod client;
mod connection;
pub mod control;
pub mod dead_letters;
mod error;
mod event_history;
pub mod events;
pub mod files;
pub mod fleet;
mod following;
mod handle;
pub mod inputs;
mod known;
mod listening;
mod looking_back;
mod options;
mod parts;
mod questions;
pub mod received_reply;
mod replies;
mod reply_history;
mod request;
pub mod status;
pub mod stream_reader;
mod survey;
mod whereabouts;

pub use client::KickoffClient;
pub use control::{Cancel, Cancellation};
pub use crewfleet_amqp::BrokerConfig;
pub use crewfleet_protocol::webhooks::{self, Webhooks};
pub use crewfleet_protocol::{
    Event, Heartbeat, InputsSchema, KickoffId, KickoffResult, Reply, Status, Step, When,
};
pub use error::ClientError;
pub use events::EventStream;
pub use files::FileError;
pub use following::Follow;
pub use handle::KickoffHandle;
pub use listening::Listening;
pub use options::ClientOptions;
pub use parts::check;
pub use request::Kickoff;
pub use status::{KickoffStatus, Kickoffs};
pub use stream_reader::StreamReader;
