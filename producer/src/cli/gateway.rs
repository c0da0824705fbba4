//! `crewfleet gateway`

use crewfleet_producer::gateway::{self, GatewayError};
use tokio_util::sync::CancellationToken;

use super::exit::Exit;
use super::settings::Settings;

pub(crate) async fn run(settings: &Settings, stop: &CancellationToken) -> anyhow::Result<Exit> {
    let crew = settings.default_crew.clone();
    match gateway::serve(&settings.broker, &settings.gateway, crew, stop).await {
        Ok(()) => Ok(Exit::Succeeded),
        // Has an exit code of its own.
        Err(GatewayError::Client(error)) => Err(error.into()),
        Err(error) => Err(error.into()),
    }
}
