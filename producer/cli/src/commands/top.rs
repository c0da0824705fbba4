//! `crewfleet top`

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use crewfleet::{ClientError, ClientOptions, KickoffClient};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::output::say;
use crate::settings::Settings;
use crate::top;

/// As the broker lists our connections.
const NAME: &str = "crewfleet top";

/// How long a broker has to delete our queues: one that hangs must not keep the terminal.
const CLOSING: Duration = Duration::from_secs(2);

#[derive(Args)]
#[command(
    after_help = "It reads RabbitMQ only; no gateway is needed. Exit codes: 0 you quit; 2 usage or configuration, or there is no \
terminal; 3 the broker refuses the connection; 8 interrupted before that."
)]
pub(crate) struct Arguments {}

pub(crate) async fn run(settings: &Settings, _: Arguments, stop: &CancellationToken) -> anyhow::Result<Exit> {
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        say(
            "`crewfleet top` needs a terminal; for programs there are `crewfleet workers` and `crewfleet kickoffs`, with -o json",
        );
        return Ok(Exit::Usage);
    }
    let crews = settings.crews()?;
    let connecting = KickoffClient::connect(&settings.broker, NAME);
    let Some(connected) = stop.run_until_cancelled(connecting).await else {
        return Ok(Exit::GaveUp);
    };
    let (client, why_away) = match connected {
        // It is away, and may come.
        Err(ClientError::Connect(error)) if !error.is_refusal() => {
            let client = KickoffClient::start(&settings.broker, NAME, ClientOptions::default())?;
            (client, Some(error.to_string()))
        }
        connected => (connected?, None),
    };
    let shown = top::show(&client, crews, why_away, stop).await;
    let _ = timeout(CLOSING, client.close()).await;
    shown.map(|()| Exit::Succeeded)
}
