//! What the end-to-end tests of crewfleet share. The broker is a real RabbitMQ node (a scripted one stands in only for
//! faults that RabbitMQ does not produce on demand), the workers and the command are the real binaries, the crews are
//! real crews.
//!
//! | module | what it holds |
//! |---|---|
//! | [`broker`] | the RabbitMQ node that the tests of one binary share, and the namespace that each has for itself |
//! | [`certificates`] | a CA of a test's own, and what it issues |
//! | [`cluster`] | three RabbitMQ nodes that make one broker, and the faults of nodes and of the network between them |
//! | [`proxy`] | a TCP proxy for the faults of the network between a client and a broker |
//! | [`process`] | a process under watch: its output line by line, its end, all that descends from it |
//! | [`shipped_rabbitmq`] | nodes of the configuration that `deploy/rabbitmq/` ships, and clients of its users |
//! | [`worker`] | a `crewfleet-worker` process: configuration, logs, admin address, metrics |
//! | [`cli`] | the `crewfleet` command |
//! | [`terminal`] | a program in a terminal of its own, and what its screen shows |
//! | [`client`] | a plain AMQP client, as a publisher in another language would be |
//! | [`clock`] | processes whose clock is wrong |
//! | [`collector`] | an OpenTelemetry collector, and the spans that come out of it |
//! | [`fault_broker`] | a scripted broker, for faults that RabbitMQ does not produce on demand |
//! | [`gateway`] | a `crewfleet gateway` process, and a caller of it |
//! | [`http`] | what an HTTP server answers |
//! | [`crews`] | configuration of the example crews |
//! | [`prometheus`] | a Prometheus with what is shipped for one in `deploy/monitoring` |
//! | [`ports`] | ports for programs that must be told one |
//! | [`postgres`] | a PostgreSQL server of a test's own |
//! | [`receiver`] | a receiver of webhooks |
//! | [`openai`] | the model server of `tests/openai`: OpenAI's API, answers that repeat, failures on demand |
//! | [`journal`] | a crew that writes down what it does, and ends when the test says so |
//!
//! A test awaits moments: a log line, a delivery, the end of a process. Each wait has a limit far above what it takes,
//! and panics with what was seen when it is over.

use std::time::Duration;

pub mod broker;
pub mod certificates;
pub mod cli;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod collector;
pub mod crews;
pub mod fault_broker;
pub mod gateway;
pub mod http;
pub mod journal;
pub mod openai;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod receiver;
pub mod shipped_rabbitmq;
pub mod terminal;
pub mod worker;

/// How long a test waits for a moment before it says that the moment does not come. Not a measure: a machine that is
/// busy with other builds may need most of it.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How many a test of many takes: all of them where `CREWFLEET_TEST_FULL` is set, as the check `e2e_full` of
/// `tests/run.sh` does, and otherwise so few that what is asserted still shows.
pub fn many(all: usize, few: usize) -> usize {
    match std::env::var_os("CREWFLEET_TEST_FULL") {
        Some(_) => all,
        None => few,
    }
}
