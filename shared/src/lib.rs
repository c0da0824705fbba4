//! What the producer and the worker of crewfleet share.
//!
//! | module | what it holds |
//! |---|---|
//! | [`kickoff`] | the wire contract: ids, requests, replies, events, control commands, heartbeats |
//! | [`amqp`] | RabbitMQ: the supervised link, the topology as data, the publisher, deliveries |
//! | [`config`] | the layered configuration loader and the `[broker]` section |
//! | [`harmless`] | text of others, for a terminal |
//! | [`telemetry`] | structured logs, and traces (feature `otel`) |
//! | [`metrics`] | the Prometheus registry and how metrics are defined |
//! | `admin` | of a service: `/metrics`, `/healthz` and `/readyz` over HTTP (feature `admin`) |
//! | `http` | of a service: HTTP with limits for connections (feature `admin`) |
//! | `systemd` | of a service: what systemd is told (feature `admin`) |
//! | [`retrying`] | what is tried again: its pauses grow, each reason is told once |
//! | [`spelling`] | names that are misspelt: which known one may be meant |
//! | [`shutdown`] | SIGTERM and SIGINT as one token |
//! | `node` | a private RabbitMQ node for `crewfleet dev` and the tests (feature `node`) |

#[cfg(feature = "admin")]
pub mod admin;
pub mod amqp;
pub mod config;
pub mod harmless;
#[cfg(feature = "admin")]
pub mod http;
pub mod kickoff;
pub mod metrics;
#[cfg(feature = "node")]
pub mod node;
pub mod retrying;
pub mod shutdown;
pub mod spelling;
#[cfg(feature = "admin")]
pub mod systemd;
pub mod telemetry;
