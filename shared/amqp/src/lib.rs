//! RabbitMQ, as crewfleet uses it. Types of the AMQP client stop at this module's edge.
//!
//! | file | what it holds |
//! |---|---|
//! | `config`, `resolve`, `problem` | the section `[broker]`, and whether it can be used |
//! | [`version`] | which broker it is |
//! | [`uri`] | where the broker is, without ever showing its password |
//! | [`system_roots`] | the system's CAs, parsed when they have changed |
//! | [`pem`] | certificates and keys in PEM files |
//! | [`tls`] | whom we trust and who we are, and why TLS did not come about |
//! | `stream`, `sanitize` | the bytes that come in, sanitized where the client could not bear them |
//! | `attempt` | one attempt to connect |
//! | [`link`], `supervisor` | two connections, and who brings them back |
//! | `linked` | one of the two, and its channels |
//! | `force_close` | the end of sockets that their broker does not close |
//! | [`link_readiness`] | a link that is fit for use, not only connected |
//! | [`declare`] | making the broker hold what the topology says |
//! | [`inspect`] | looking whether it does, without changing anything |
//! | [`streams`] | whether the broker has streams |
//! | [`message`] | a message on its way out |
//! | `pools` | the channels that one link publishes on |
//! | `batch_publisher`, `returns` | many messages under way on one of them, and whose a returned one is |
//! | [`publisher`] | publishing with confirms: single, mandatory, in doubt |
//! | [`delivery`] | consuming: deliveries, and the right to settle them |
//! | [`pull`] | taking one message at a time |
//! | `acks`, `ack_flush` | few acks for many deliveries, and none lost when their channel closes |
//! | [`subscription`] | a queue of one's own, consumed across reconnections |
//! | `ephemeral` | a queue of one link's own, for questions and answers |
//! | [`browse`] | reading a queue without taking anything away |
//! | [`headers`] | message properties and the names of our headers |
//! | [`plain`] | message properties in plain words |
//! | [`metrics`] | what the link counts |
//! | [`traces`] | the trace that messages carry from process to process |
//! | [`retrying`] | what is tried again: its pauses grow, each reason is told once |
//! | `operation` | one operation of the client, with a limit |
//! | [`error`] | what can go wrong, told so that it can be mended |

mod ack_flush;
mod acks;
mod attempt;
mod batch_publisher;
pub mod browse;
mod config;
pub mod declare;
pub mod delivery;
pub mod ephemeral;
pub mod error;
mod force_close;
pub mod headers;
pub mod inspect;
pub mod link;
pub mod link_readiness;
mod linked;
pub mod message;
pub mod metrics;
pub mod operation;
pub mod pem;
pub mod plain;
mod pools;
mod problem;
pub mod publisher;
pub mod pull;
mod resolve;
pub mod retrying;
mod returns;
mod sanitize;
mod stream;
pub mod streams;
pub mod subscription;
mod supervisor;
pub mod system_roots;
pub mod tls;
pub mod traces;
pub mod uri;
pub mod version;

pub use config::BrokerConfig;
pub use delivery::{ConsumeOptions, Consumer, Delivery, Receipt, Received};
pub use error::{BrokerError, ConnectError, PublishError, reply_code};
pub use headers::Properties;
pub use link::{Broker, Link};
pub use link_readiness::LinkReadiness;
pub use message::Message;
pub use problem::Problem;
pub use publisher::Publisher;
pub use subscription::Subscription;
