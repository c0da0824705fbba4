//! What the fleet costs beside what it stands on: RabbitMQ, a bare client, a bare CrewAI. Each figure is measured side
//! by side with its yardstick, in turns, in one run on one machine, so that the ratio means something where the numbers
//! depend on the machine. `tests/bench.sh` runs it.

mod calls;
mod collect;
mod crewai;
mod cycle;
mod figures;
mod for_each;
mod gateway;
mod gateway_store;
mod idle;
mod in_flight;
mod latency;
mod load;
mod model;
mod readers;
mod relay;
mod scale;
mod shapes;
mod sinks;
mod site;
mod stored;
mod usage;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use crewfleet_tests::crews::checkout;

use figures::Report;
use site::Site;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Throughput and CPU of request, reply, ack against bare relays.
    Cycle,
    /// What a requester waits at an open load, against a bare relay.
    Latency,
    /// What callers over HTTP wait beside 1,000 who follow events, against AMQP.
    Gateway,
    /// A gateway that knows a million kickoffs: its start, its lists and filters, its memory.
    GatewayStore,
    /// Throughput beside a webhook sink and one of PostgreSQL, against none.
    Sinks,
    /// `kickoff-for-each` against a bare publisher and collector.
    ForEach,
    /// One worker that holds 10,000 and 50,000 sleeping kickoffs.
    InFlight,
    /// CrewAI crews against CrewAI alone.
    #[value(name = "crewai")]
    CrewAi,
    /// CrewAI crews that import or build much, from the start of a kickoff to the crew's first event.
    Shapes,
    /// Throughput of 1, 2, 4 and 8 workers of a crew that takes 100 ms.
    Scale,
    /// Start to ready, and the cost of idling.
    Idle,
}

#[derive(Debug, Parser)]
#[command(about, after_help = "Without a subject: all of them.")]
struct Arguments {
    /// What to measure.
    subjects: Vec<Subject>,
    /// How often each figure is measured against its yardstick.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// How many kickoffs the store of `gateway-store` holds.
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    stored: u32,
    /// Where the figures go as JSON, from the root of the checkout.
    #[arg(long, value_name = "FILE", default_value = ".crewfleet/bench.json")]
    json: PathBuf,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let rest = std::env::args().skip(2);
    match std::env::args().nth(1).as_deref() {
        Some(relay::ARGUMENT) => runtime.block_on(relay::run(rest)),
        Some(collect::ARGUMENT) => runtime.block_on(collect::run(rest)),
        _ => runtime.block_on(measure(Arguments::parse())),
    }
}

async fn measure(arguments: Arguments) -> anyhow::Result<()> {
    let subjects = match arguments.subjects.as_slice() {
        [] => Subject::value_variants(),
        some => some,
    };
    // Cargo starts benchmarks in the folder of their package.
    let json = checkout().join(arguments.json);
    if let Some(folder) = json.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let site = Site::start().await?;
    let mut report = Report::default();
    for subject in subjects {
        eprintln!("bench: {subject:?}");
        match subject {
            Subject::Cycle => cycle::measure(&site, arguments.pairs, &mut report).await?,
            Subject::Latency => latency::measure(&site, arguments.pairs, &mut report).await?,
            Subject::Gateway => gateway::measure(&site, arguments.pairs, &mut report).await?,
            Subject::GatewayStore => {
                gateway_store::measure(&site, arguments.stored, arguments.pairs, &mut report).await?;
            }
            Subject::Sinks => sinks::measure(&site, arguments.pairs, &mut report).await?,
            Subject::ForEach => for_each::measure(&site, arguments.pairs, &mut report).await?,
            Subject::InFlight => in_flight::measure(&site, arguments.pairs, &mut report).await?,
            Subject::CrewAi => crewai::measure(&site, arguments.pairs, &mut report).await?,
            Subject::Shapes => shapes::measure(&site, arguments.pairs, &mut report).await?,
            Subject::Scale => scale::measure(&site, arguments.pairs, &mut report).await?,
            Subject::Idle => idle::measure(&site, arguments.pairs, &mut report).await?,
        }
        std::fs::write(&json, report.to_json())
            .with_context(|| format!("the figures cannot be written to {}", json.display()))?;
    }
    eprintln!("bench: the figures are in {}", json.display());
    Ok(())
}
