//! `crewfleet healthcheck`

use std::time::Duration;

use clap::Args;
use crewfleet_amqp::Broker;
use crewfleet_service::admin;

use crate::exit::Exit;
use crate::output::say;
use crate::settings::Settings;

/// How long a gateway, or a process of sinks, may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(crate) struct Arguments {
    /// Ask the gateway, at gateway.admin_addr, whether it lives instead: exit 0 if so, 1 if not
    #[arg(long)]
    gateway: bool,
    /// The same of a process of sinks, at webhooks.admin_addr
    #[arg(long, conflicts_with = "gateway")]
    sinks: bool,
}

pub(crate) async fn run(settings: &Settings, arguments: &Arguments) -> anyhow::Result<Exit> {
    let asked = match (arguments.gateway, arguments.sinks) {
        (true, _) => Some(settings.gateway.admin_addr.clone()),
        (_, true) => Some(settings.sinks()?.webhooks.admin_addr),
        _ => None,
    };
    if let Some(admin_addr) = asked {
        return Ok(match admin::check(&admin_addr, "/healthz", LIMIT).await {
            Ok(()) => Exit::Succeeded,
            Err(error) => {
                say(&error);
                Exit::Failed
            }
        });
    }
    let broker = Broker::connect(&settings.broker, "crewfleet healthcheck").await?;
    say(&format!("connected to {}", broker.endpoint()));
    broker.close().await;
    Ok(Exit::Succeeded)
}
