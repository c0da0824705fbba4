//! `crewfleet topology declare|show`

use clap::{Args, Subcommand};
use crewfleet_amqp::Broker;
use crewfleet_protocol::topology::{Argument, Topology};
use crewfleet_protocol::{CrewName, Names};
use crewfleet_sinks::SinksError;
use crewfleet_sinks::running::topology_of_all;

use crate::exit::Exit;
use crate::format::Format;
use crate::output::say;
use crate::settings::Settings;

#[derive(Subcommand)]
pub(crate) enum Action {
    /// Declare all of it on the broker; what is there already is left as it is
    Declare(Crews),
    /// Print all of it; the broker is not asked
    Show {
        #[command(flatten)]
        crews: Crews,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Args)]
pub(crate) struct Crews {
    /// The crews; without any, those of the configuration
    #[arg(value_name = "CREW")]
    crews: Vec<CrewName>,
}

pub(crate) async fn run(settings: &Settings, action: Action) -> anyhow::Result<Exit> {
    match action {
        Action::Declare(crews) => {
            let (topology, crews) = topology(settings, crews)?;
            let broker = Broker::connect(&settings.broker, "crewfleet topology declare").await?;
            broker.connected().await.declare(&topology).await?;
            say(&format!(
                "declared {} exchanges, {} queues and {} bindings on {}",
                topology.exchanges.len(),
                topology.queues.len(),
                topology.bindings.len(),
                broker.endpoint()
            ));
            say(&match crews.as_slice() {
                [] => "no crew among them: name crews as arguments, or in the configuration".to_owned(),
                crews => format!("crews: {}", joined(crews)),
            });
            broker.close().await;
        }
        Action::Show { crews, format } => {
            let (topology, _) = topology(settings, crews)?;
            format.print(&topology, || Some(listing(&topology)))?;
        }
    }
    Ok(Exit::Succeeded)
}

fn topology(settings: &Settings, given: Crews) -> anyhow::Result<(Topology, Vec<CrewName>)> {
    let crews = if given.crews.is_empty() {
        settings.crews()?
    } else {
        given.crews
    };
    let names = Names::new(&settings.broker.namespace);
    let mut topology = Topology::of(&names, &crews, settings.broker.results());
    topology.add(topology_of_all(&settings.sinks()?, &names).map_err(SinksError::from)?);
    Ok((topology.with_streams(settings.broker.streams), crews))
}

fn joined(crews: &[CrewName]) -> String {
    crews.iter().map(CrewName::as_str).collect::<Vec<_>>().join(", ")
}

fn listing(topology: &Topology) -> String {
    let mut lines = Vec::new();
    for exchange in &topology.exchanges {
        lines.push(format!(
            "exchange {} ({}){}",
            exchange.name,
            exchange.kind,
            arguments(&exchange.arguments)
        ));
    }
    for queue in &topology.queues {
        lines.push(format!("queue {}{}", queue.name, arguments(&queue.arguments)));
    }
    for binding in &topology.bindings {
        lines.push(format!(
            "binding {} -> {} key={:?}",
            binding.exchange, binding.queue, binding.key
        ));
    }
    lines.join("\n")
}

fn arguments(arguments: &[(&'static str, Argument)]) -> String {
    arguments
        .iter()
        .map(|(name, value)| format!(" {name}={value}"))
        .collect()
}
