//! What crewfleet's services have in common.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | the layered configuration |
//! | [`telemetry`] | structured logs |
//! | [`traces`] | the way of traces to a collector (feature `otel`) |
//! | [`metrics`] | the Prometheus registry |
//! | `admin` | `/metrics`, `/healthz` and `/readyz` over HTTP |
//! | `http` | HTTP with limits for connections |
//! | `systemd` | what systemd is told |
//! | [`shutdown`] | SIGTERM and SIGINT as one token |
//! | [`harmless`] | text of others, for a terminal |
//! | [`interpreter`] | the Python that runs crews where none is named |
//! | [`spelling`] | names that are misspelt: which known one may be meant |
//! | [`told`] | what a kickoff without a broker tells the command that runs it |

pub mod admin;
pub mod config;
pub mod harmless;
pub mod http;
pub mod interpreter;
pub mod metrics;
pub mod shutdown;
pub mod spelling;
pub mod systemd;
pub mod telemetry;
pub mod told;
pub mod traces;
