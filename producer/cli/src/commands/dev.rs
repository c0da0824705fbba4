//! `crewfleet dev`: everything on one machine, in the foreground.

mod session;

use std::path::Path;
use std::time::Instant;

use clap::Args;
use crewfleet::{BrokerConfig, KickoffClient};
use crewfleet_sinks::SinksConfig;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use self::session::{Session, quoted};
use crate::dev::broker::Broker;
use crate::dev::crew::{Crew, OwnCrew};
use crate::dev::folder::Folder;
use crate::dev::workers::{self, Workers};
use crate::exit::Exit;
use crate::inputs::GivenInputs;
use crate::output::{counted, say};
use crate::settings::{BROKER_URL_VARIABLE, Settings};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    own: OwnCrew,
    #[command(flatten)]
    inputs: GivenInputs,
    /// End after the result, with one worker: the reply is the last line of stdout, the exit code is that of `kickoff`
    #[arg(long)]
    once: bool,
    /// Show every event of the kickoff as it comes, and more of what is started
    #[arg(short, long)]
    verbose: bool,
}

pub(crate) async fn run(
    settings: &Settings,
    arguments: Arguments,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let crew = Crew::choose(&arguments.own)?;
    let session = Session {
        inputs: given_inputs(&arguments, &crew)?,
        crew,
        once: arguments.once,
        verbose: arguments.verbose,
        sinks: on_this_machine(settings.sinks()?),
        began: Instant::now(),
    };
    let program = workers::program()?;
    let folder = Folder::open()?;

    let mut broker = Broker::choose(&settings.broker, settings.broker_is_given, &folder)?;
    let ended = serve(&session, &mut broker, &folder, &program, stop).await;
    let exit = ended.unwrap_or_else(|error| {
        let error = settings.explain(error);
        say(&format!("{error:#}"));
        Exit::of(&error)
    });
    let left = broker.left(&session.crew.name).await;
    broker.stop().await;
    if left > 0 {
        say(&format!(
            "{} left in the private broker: the next `crewfleet dev` here runs what is left. To discard it, remove {}",
            counted(left, "kickoff"),
            folder.join("broker").display()
        ));
    }
    say("ended; nothing is left running");
    Ok(exit)
}

/// Everything between the start of the broker and its end.
async fn serve(
    session: &Session,
    broker: &mut Broker,
    folder: &Folder,
    program: &Path,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    if !broker.is_private() {
        // First of all: a broker that was given and is not there is told at once.
        let connecting = KickoffClient::connect(broker.config(), "crewfleet dev");
        match stop.run_until_cancelled(connecting).await {
            Some(client) => {
                let client = client?;
                say(&format!(
                    "using the broker {}, which the configuration names, instead of a private one: kickoffs of others for the \
                     crew {} may come here",
                    client.endpoint(),
                    session.crew.name
                ));
                client.close().await;
            }
            None => return Ok(session.interrupted()),
        }
    }
    let config = session.crew.configure(folder, broker.config())?;
    let count = Workers::wanted(session.once);
    say(&format!(
        "checking the crew and starting {} with {} for {} ...",
        counted(count, "worker"),
        session.crew.python.display(),
        session.crew.target()
    ));
    let workers = Workers::start(
        count,
        folder,
        program,
        &config,
        broker.config(),
        broker.is_private(),
    )?;
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => {
            say("ending ...");
            Ok(session.interrupted())
        }
        refused = workers.refused(session.crew.named_by) => Err(refused),
        ended = with_broker(session, broker, &workers, folder) => ended,
    };
    workers.stop().await;
    ended
}

/// What needs the broker: it is started once the crew can be built.
async fn with_broker(
    session: &Session,
    broker: &mut Broker,
    workers: &Workers,
    folder: &Folder,
) -> anyhow::Result<Exit> {
    let required = workers.usable().await?;
    let missing = session.missing(&required.unwrap_or_default());
    if !missing.is_empty() {
        if session.once {
            return session.lacks(&missing);
        }
        say(&session.needs(&missing));
    }
    broker.start().await?;
    if let Some(url) = broker.metrics_url().filter(|_| session.verbose || !session.once) {
        say(&format!("the broker's metrics: {url}"));
    }
    workers.have_broker();
    let client = KickoffClient::connect(broker.config(), "crewfleet dev").await?;
    let (export, config) = (export_lines(broker), broker.config().clone());
    let ended = tokio::select! {
        biased;
        error = broker.watch() => Err(error.into()),
        ended = session.run(&client, workers, folder, &config, &export, missing) => ended,
    };
    client.close().await;
    ended
}

/// Webhooks may be called on this machine, where whoever tries them out has a receiver.
fn on_this_machine(mut sinks: SinksConfig) -> SinksConfig {
    let here = ["127.0.0.0/8", "::1"].map(str::to_owned);
    sinks.webhooks.allow.extend(here);
    sinks
}

/// `None` when the crew's own names decide.
fn given_inputs(arguments: &Arguments, crew: &Crew) -> anyhow::Result<Option<Box<RawValue>>> {
    let own = crew.own_inputs();
    if arguments.inputs.is_empty() && own.is_empty() {
        return Ok(None);
    }
    arguments.inputs.gather_or(&own).map(Some)
}

/// What another terminal needs to reach the same broker. A given one is known there; its URL may hold a password.
fn export_lines(broker: &Broker) -> String {
    let url = broker
        .private_url()
        .map(|url| format!("  export {BROKER_URL_VARIABLE}={}\n", quoted(&url)));
    let namespace = &broker.config().namespace;
    let usual = *namespace == BrokerConfig::default().namespace;
    let namespace = (!usual).then(|| format!("  export CREWFLEET__BROKER__NAMESPACE={namespace}\n"));
    url.into_iter().chain(namespace).collect()
}
