//! `crewfleet gateway`

use crewfleet_gateway::GatewayError;
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::settings::Settings;

pub(crate) async fn run(settings: &Settings, stop: &CancellationToken) -> anyhow::Result<Exit> {
    let crew = settings.default_crew.clone();
    let sinks = settings.gateway.sinks.then(|| settings.sinks()).transpose()?;
    match crewfleet_gateway::serve(&settings.broker, &settings.gateway, crew, sinks.as_ref(), stop).await {
        Ok(()) => Ok(Exit::Succeeded),
        // Has an exit code of its own.
        Err(GatewayError::Client(error)) => Err(error.into()),
        Err(error) => Err(error.into()),
    }
}
