//! `crewfleet healthcheck`

use std::time::Duration;

use clap::Args;
use crewfleet_amqp::Broker;
use crewfleet_service::admin;

use crate::exit::Exit;
use crate::output::say;
use crate::settings::Settings;

/// How long a gateway may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(crate) struct Arguments {
    /// Ask the gateway, at gateway.admin_addr, whether it lives instead: exit 0 if so, 1 if not
    #[arg(long)]
    gateway: bool,
}

pub(crate) async fn run(settings: &Settings, arguments: &Arguments) -> anyhow::Result<Exit> {
    if arguments.gateway {
        return Ok(
            match admin::check(&settings.gateway.admin_addr, "/healthz", LIMIT).await {
                Ok(()) => Exit::Succeeded,
                Err(error) => {
                    say(&error);
                    Exit::Failed
                }
            },
        );
    }
    let broker = Broker::connect(&settings.broker, "crewfleet healthcheck").await?;
    say(&format!("connected to {}", broker.endpoint()));
    broker.close().await;
    Ok(Exit::Succeeded)
}
