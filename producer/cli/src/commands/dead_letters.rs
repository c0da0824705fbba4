//! `crewfleet dead-letters list|show|redrive|purge`

mod ask;
mod print;
mod purge;
mod redrive;

use anyhow::bail;
use clap::{Args, Subcommand};
use crewfleet::dead_letters::{BrowsedQueue, DeadLetterError, DeadLetters, Owner, Selection};
use crewfleet::{ClientError, KickoffClient, KickoffId};
use crewfleet_protocol::topology::Reason;
use crewfleet_service::spelling;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::crews;
use crate::exit::Exit;
use crate::format::Format;
use crate::output::{counted, say};
use crate::settings::Settings;

#[derive(Subcommand)]
pub(crate) enum Action {
    /// Count them by crew, reason and error fingerprint. Nothing is taken away; RabbitMQ counts each look as a delivery in
    /// x-delivery-count, which ends nothing
    List {
        #[command(flatten)]
        crews: Crews,
        #[command(flatten)]
        format: Format,
    },
    /// Show one: the request as it came, its headers, and why it died
    Show {
        /// The kickoff's id
        id: KickoffId,
        #[command(flatten)]
        crews: Crews,
        /// Where the kickoff has several, each is printed
        #[command(flatten)]
        format: Format,
    },
    /// Run them again, under their ids; asks first, unless one is named
    Redrive(redrive::Arguments),
    /// Throw them away; asks first
    Purge(purge::Arguments),
}

/// Where to look. AMQP cannot list queues.
#[derive(Args)]
pub(crate) struct Crews {
    /// Only of this crew; may be given several times. Without it: of the crews of the configuration, else of those that
    /// workers serve at present; and what no crew's queue takes. Of a sink: sinks.NAME, and of the webhooks that kickoffs ask
    /// for sinks.webhooks
    #[arg(long = "crew", value_name = "CREW")]
    crews: Vec<Owner>,
}

/// Which ones.
#[derive(Args)]
#[group(skip)]
pub(crate) struct Selectors {
    /// The kickoff's id
    #[arg(conflicts_with_all = ["all", "reason", "fingerprint"])]
    id: Option<KickoffId>,
    #[command(flatten)]
    crews: Crews,
    /// Only with this reason, as `list` shows it
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Only with this error fingerprint, as `list` shows it
    #[arg(long, value_name = "FINGERPRINT")]
    fingerprint: Option<String>,
    /// All of them
    #[arg(long, conflicts_with_all = ["reason", "fingerprint"])]
    all: bool,
}

impl Selectors {
    fn selection(&self) -> anyhow::Result<Selection> {
        let of_group = !self.crews.crews.is_empty() || self.reason.is_some() || self.fingerprint.is_some();
        if self.id.is_none() && !self.all && !of_group {
            bail!("say which dead letters: an ID, or --crew, --reason, --fingerprint, or --all");
        }
        Ok(Selection {
            kickoff_id: self.id.clone(),
            crews: self.crews.crews.clone(),
            reason: self.reason.clone(),
            fingerprint: self.fingerprint.clone(),
            ..Selection::default()
        })
    }
}

/// What RabbitMQ itself says, where it dead-letters a message, and what stands for no reason at all.
const OTHER_REASONS: [&str; 4] = ["expired", "maxlen", "delivery_limit", "unknown"];

/// For a selection that selects nothing: whether its reason is one at all. A newer worker may have others, so those that are
/// found are not asked.
fn check_reason(selection: &Selection) -> anyhow::Result<()> {
    let reasons = Reason::ALL.map(Reason::as_str).into_iter().chain(OTHER_REASONS);
    let reasons = Vec::from_iter(reasons);
    match &selection.reason {
        Some(reason) if !reasons.contains(&reason.as_str()) => bail!(
            "no dead letter has the reason \"{reason}\"{} Reasons: {}",
            match spelling::did_you_mean(reason, reasons.iter().copied()).as_str() {
                "" => ".",
                meant => meant,
            },
            reasons.join(", ")
        ),
        _ => Ok(()),
    }
}

pub(crate) async fn run(
    settings: &Settings,
    action: Action,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    match action {
        Action::List { crews, format } => {
            interruptible(
                stop,
                with(settings, async |client| {
                    list(client, settings, &crews, &format).await
                }),
            )
            .await
        }
        Action::Show { id, crews, format } => {
            interruptible(
                stop,
                with(settings, async |client| {
                    show(client, settings, &id, &crews, &format).await
                }),
            )
            .await
        }
        Action::Redrive(arguments) => redrive::run(settings, &arguments, stop).await,
        Action::Purge(arguments) => purge::run(settings, &arguments, stop).await,
    }
}

/// For what leaves everything as it was, wherever it ends.
async fn interruptible(
    stop: &CancellationToken,
    command: impl Future<Output = anyhow::Result<Exit>>,
) -> anyhow::Result<Exit> {
    stop.run_until_cancelled(command).await.unwrap_or_else(|| {
        say("interrupted; the dead letters are as before");
        Ok(Exit::Failed)
    })
}

/// Connects, and turns what only dead letters know into an exit code.
async fn with(
    settings: &Settings,
    command: impl AsyncFnOnce(&KickoffClient) -> anyhow::Result<Exit>,
) -> anyhow::Result<Exit> {
    let client = KickoffClient::connect(&settings.broker, "crewfleet dead-letters").await?;
    let ended = command(&client).await;
    if let Err(error) = &ended
        && let Some(DeadLetterError::Client(ClientError::NoSuchCrew { crew, .. })) = error.downcast_ref()
    {
        if let Some(sink) = crew.strip_prefix("sinks.") {
            say(&no_such_sink(sink));
            client.close().await;
            return Ok(Exit::Broker);
        }
        say(&crews::no_such(
            crew,
            &crews::heard(&client, crew, crews::PATIENCE).await,
        ));
        client.close().await;
        return Ok(Exit::Broker);
    }
    client.close().await;
    match ended.map_err(|error| error.downcast::<DeadLetterError>()) {
        Ok(exit) => Ok(exit),
        Err(Ok(DeadLetterError::Client(error))) => Err(error.into()),
        Err(Ok(DeadLetterError::Broker(error))) => Err(error.into()),
        Err(Ok(error @ DeadLetterError::InDoubt { .. })) => {
            say(&error.to_string());
            Ok(Exit::Broker)
        }
        Err(Ok(error @ DeadLetterError::Busy { .. })) => {
            say(&error.to_string());
            Ok(Exit::Failed)
        }
        Err(Err(error)) => Err(error),
    }
}

async fn list(
    client: &KickoffClient,
    settings: &Settings,
    crews: &Crews,
    format: &Format,
) -> anyhow::Result<Exit> {
    let letters = DeadLetters::of(client);
    let where_to_look = where_to_look(&letters, settings, crews).await?;
    let selection = Selection {
        crews: crews.crews.clone(),
        ..Selection::default()
    };
    let listing = letters.list(&where_to_look, &selection).await?;
    say_where(&listing.queues);
    if listing.groups.is_empty() && !format.is_json() {
        say("no dead letters");
    }
    let groups = &listing.groups;
    format.print(groups, || {
        (!groups.is_empty()).then(|| print::listing(groups, chrono::Utc::now()))
    })?;
    Ok(Exit::Succeeded)
}

async fn show(
    client: &KickoffClient,
    settings: &Settings,
    id: &KickoffId,
    crews: &Crews,
    format: &Format,
) -> anyhow::Result<Exit> {
    let letters = DeadLetters::of(client);
    let where_to_look = where_to_look(&letters, settings, crews).await?;
    let (found, queues) = letters.show(&where_to_look, id).await?;
    say_where(&queues);
    if found.is_empty() {
        return Ok(not_there(id));
    }
    for letter in found {
        format.print(&letter, || Some(print::whole(&letter)))?;
    }
    Ok(Exit::Succeeded)
}

fn not_there(id: &KickoffId) -> Exit {
    say(&format!(
        "there is no dead letter for kickoff {id}; --crew names other crews to look at, and crewfleet wait {id} shows what became of it"
    ));
    Exit::Failed
}

fn no_such_sink(sink: &str) -> String {
    format!(
        "there is no sink {sink}: it has no queue. crewfleet sinks list shows those there are; crewfleet sinks makes their queues"
    )
}

/// The crews and sinks whose queues are looked at.
async fn where_to_look(
    letters: &DeadLetters,
    settings: &Settings,
    crews: &Crews,
) -> anyhow::Result<Vec<Owner>> {
    let configured = settings.crews()?;
    if !crews.crews.is_empty() {
        return Ok(crews.crews.clone());
    }
    if !configured.is_empty() {
        return Ok(configured.into_iter().map(Owner::from).collect());
    }
    debug!("neither --crew nor the configuration names a crew: listening for workers");
    let heard = letters.heard_crews().await?;
    Ok(heard.into_iter().map(Owner::from).collect())
}

/// Nobody shall believe that all is well in a queue that nobody looked at.
fn say_where(queues: &[BrowsedQueue]) {
    let there = queues.iter().filter(|look| look.letters.is_some());
    let there: Vec<_> = there.map(|look| look.queue.as_str()).collect();
    say(&format!("looked at {}", there.join(", ")));
    for look in queues {
        let queue = &look.queue;
        if look.letters.is_none() {
            let who = match look.crew {
                Some(Owner::Sink(_)) => "nobody has run that sink here",
                _ => "no worker of that crew has run here",
            };
            say(&format!("there is no queue {queue}: {who}"));
        }
        if look.others > 0 {
            say(&format!(
                "somebody else reads {queue} ({}): what they hold at the moment is not among these",
                counted(look.others.into(), "consumer")
            ));
        } else if look.missed > 0 {
            say(&format!(
                "not among these, since somebody else took it meanwhile: {} of {queue}",
                counted(look.missed.into(), "letter")
            ));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_there_is_not_is_refused_with_those_that_there_are() {
        let because = |reason: Option<&str>| Selection {
            reason: reason.map(Into::into),
            ..Selection::default()
        };
        let error = check_reason(&because(Some("faild"))).unwrap_err().to_string();
        assert_eq!(
            error,
            "no dead letter has the reason \"faild\"; did you mean failed? Reasons: rejected, failed, crashed, timed_out, \
             crashed_workers, chain_broken, expired, maxlen, delivery_limit, unknown"
        );
        assert!(check_reason(&because(Some("expired"))).is_ok() && check_reason(&because(None)).is_ok());
    }
}
