//! `crewfleet kickoff CREW`

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use crewfleet::{ClientError, Kickoff, KickoffClient, KickoffHandle, KickoffId, Reply, Step};
use crewfleet_protocol::CrewName;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{chains, crews, events, files, steps, wait};
use crate::exit::Exit;
use crate::format::ReplyFormat;
use crate::inputs::{self, GivenInputs};
use crate::output::{gave_up, print, reply, say};
use crate::settings::Settings;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The crew to kick off
    crew: CrewName,
    #[command(flatten)]
    inputs: GivenInputs,
    /// What is to follow, as in `review:draft=$.result.raw`: CREW[@WHEN][:NAME=VALUE,…]. WHEN is `succeeded` (the default),
    /// `failed` or `ended`. A VALUE that begins with `$` is a JSONPath into the reply of the kickoff before, to which its
    /// `inputs` are added; NAME:=JSON is any JSON. Instead of all this, a step as a JSON object. May be given several times,
    /// in order. The last reply is printed
    #[arg(long, value_name = "STEP", value_parser = steps::parse)]
    then: Vec<Step>,
    /// Don't wait: print the kickoff's id and end
    #[arg(short, long, conflicts_with_all = ["follow", "timeout", "output", "json"])]
    detach: bool,
    /// Show live events on stderr while waiting
    #[arg(short, long)]
    follow: bool,
    /// Give up waiting after so many seconds (exit 8); the kickoff goes on
    #[arg(short, long, value_name = "SECONDS", value_parser = wait::seconds)]
    timeout: Option<Duration>,
    /// After it has succeeded, fetch the files that it left into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "detach")]
    files: Option<PathBuf>,
    #[command(flatten)]
    format: ReplyFormat,
    /// The kickoff's id, instead of a new one: 1 to 128 characters of A-Z, a-z, 0-9, _ and -. Where a kickoff with this id
    /// and this very request is known already, it is waited for, and not sent again; where it is known with another request,
    /// that is an error. One that still waits in its crew's queue is not known: it is queued twice, and may run twice. To run
    /// a known one again: a new id, or `crewfleet dead-letters redrive ID` for one that failed
    #[arg(long, value_name = "ID", value_parser = KickoffId::chosen)]
    id: Option<KickoffId>,
    /// A key of your own for what is to be done once, instead of an id: the id is made of it and the crew's name, as over HTTP.
    /// Then as with `--id`
    #[arg(long, value_name = "KEY", conflicts_with = "id")]
    idempotency_key: Option<String>,
    /// JSON that comes back in the reply and in every event
    #[arg(long, value_name = "JSON")]
    meta: Option<String>,
    /// Time limit of the kickoff, in seconds, below the crew's own
    #[arg(long, value_name = "SECONDS", value_parser = wait::seconds)]
    time_limit: Option<Duration>,
    /// Don't start it after this moment, as in 2026-11-22T10:00:00Z
    #[arg(long, value_name = "TIME")]
    deadline: Option<DateTime<Utc>>,
}

impl Arguments {
    /// The id that the user has chosen.
    fn own_id(&self) -> Option<KickoffId> {
        let key = self.idempotency_key.as_deref();
        self.id
            .clone()
            .or_else(|| Some(KickoffId::of_key(&self.crew, key?)))
    }
}

pub(crate) async fn run(
    settings: &Settings,
    arguments: Arguments,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let inputs = arguments.inputs.gather_or(&[])?;
    let meta = inputs::meta(arguments.meta.as_deref())?;
    let id = arguments.own_id().unwrap_or_else(KickoffId::generate);

    let sending = async {
        let client = KickoffClient::connect(&settings.broker, "crewfleet kickoff").await?;
        let kickoff = client.kickoff(arguments.crew.as_str(), &inputs).id(id.clone());
        let kickoff = with_options(kickoff, &arguments, meta);
        let sent = send(&client, kickoff, &arguments, &inputs).await;
        anyhow::Ok((client, sent))
    };
    let Some(sent) = stop.run_until_cancelled(sending).await else {
        return Ok(gave_up(&id, "interrupted while sending; if it was sent, it runs"));
    };
    let (client, sent) = sent?;
    let exit = match sent {
        Ok(Sent::Not(exit)) => Ok(exit),
        Ok(Sent::Detached) => print(id.as_str()).map(|()| Exit::Succeeded),
        Ok(Sent::Awaited(handle)) => await_reply(&client, *handle, &arguments, stop).await,
        Err(error) => Err(error.into()),
    };
    client.close().await;
    exit
}

/// What became of what was to be sent.
enum Sent {
    /// It was not, which has been told.
    Not(Exit),
    Detached,
    Awaited(Box<KickoffHandle>),
}

/// Sends it, unless it lacks an input, or is known already.
async fn send(
    client: &KickoffClient,
    kickoff: Kickoff,
    arguments: &Arguments,
    inputs: &RawValue,
) -> Result<Sent, ClientError> {
    let crew = arguments.crew.as_str();
    let heard = crews::heard(client, crew, crews::GLANCE);
    let known = async {
        match arguments.own_id() {
            Some(_) => kickoff.known().await,
            None => Ok(None),
        }
    };
    let (heard, known) = tokio::join!(heard, known);
    let mut statuses = heard.iter().flat_map(|worker| &worker.crews);
    let status = statuses.find(|status| status.name == crew);
    if let Some(handle) = known? {
        say(&format!(
            "kickoff {} is known already with the same request: it is not sent again",
            handle.id()
        ));
        return Ok(match arguments.detach {
            true => Sent::Detached,
            false => Sent::Awaited(Box::new(handle)),
        });
    }
    let required = status.and_then(|status| status.required_inputs.as_deref());
    let missing = inputs::missing(required.unwrap_or_default(), inputs);
    if !missing.is_empty() {
        say(&format!(
            "not sent: the crew {crew} needs {} as well: {}",
            match missing.len() {
                1 => "this input",
                _ => "these inputs",
            },
            inputs::placeholders(&missing)
        ));
        return Ok(Sent::Not(Exit::Rejected));
    }
    if let Some(unasked) = status.and_then(|status| inputs::unasked(crew, status.inputs.as_deref()?, inputs))
    {
        say(&unasked);
    }
    if let Some(limit) = longer_than(arguments.time_limit, status.map(|status| status.timeout_s)) {
        say(&format!(
            "note: the crew {crew} has a time limit of its own, which is shorter: {limit} s"
        ));
    }
    let sent = match arguments.detach {
        true => kickoff.detach().await.map(|_| Sent::Detached),
        false => kickoff.await.map(|handle| Sent::Awaited(Box::new(handle))),
    };
    match &sent {
        Err(ClientError::NoSuchCrew { .. }) => {
            let heard = match heard.is_empty() {
                true => crews::heard(client, crew, crews::PATIENCE).await,
                false => heard,
            };
            say(&crews::no_such(crew, &heard));
            return Ok(Sent::Not(Exit::Broker));
        }
        Ok(Sent::Awaited(handle)) => say(&format!("kickoff {} sent to the crew {crew}", handle.id())),
        _ => {}
    }
    if sent.is_ok() && status.is_some_and(|status| status.paused) {
        say(&crews::paused(crew));
    }
    sent
}

/// The crew's own limit, in seconds, where less is asked for by it than by `--time-limit`.
fn longer_than(asked: Option<Duration>, own_s: Option<f64>) -> Option<f64> {
    own_s.filter(|own| asked.is_some_and(|asked| asked.as_secs_f64() > *own))
}

fn with_options(mut kickoff: Kickoff, arguments: &Arguments, meta: Option<&RawValue>) -> Kickoff {
    if let Some(meta) = meta {
        kickoff = kickoff.meta(meta);
    }
    if let Some(limit) = arguments.time_limit {
        kickoff = kickoff.timeout_s(limit.as_secs_f64());
    }
    if let Some(deadline) = arguments.deadline {
        kickoff = kickoff.deadline(deadline);
    }
    for step in &arguments.then {
        kickoff = kickoff.then(step.clone());
    }
    if arguments.follow {
        kickoff = kickoff.with_events();
    }
    kickoff
}

/// Waits for the end of the kickoff, and of what follows it. Each that is followed by another is told at stderr.
async fn await_reply(
    client: &KickoffClient,
    mut first: KickoffHandle,
    arguments: &Arguments,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let until = arguments.timeout.map(|timeout| Instant::now() + timeout);
    let mut following = None;
    loop {
        let handle = following.as_mut().unwrap_or(&mut first);
        let answered = match await_one(client, handle, arguments, until, stop).await {
            Ok(answered) => answered?,
            Err(why) => return Ok(gave_up(handle.id(), why)),
        };
        match client.next_of(&answered).await? {
            None => return ended(client, &answered, arguments, stop).await,
            Some(next) => {
                say(&chains::went_on(&answered));
                following = Some(next);
            }
        }
    }
}

/// Prints the last reply.
async fn ended(
    client: &KickoffClient,
    answered: &Reply,
    arguments: &Arguments,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    if let Some(end) = chains::end(answered) {
        say(&end);
    }
    let exit = reply(answered, arguments.format.is_json())?;
    match &arguments.files {
        Some(dir) if exit == Exit::Succeeded => fetch(client, answered, dir, stop).await,
        _ => Ok(exit),
    }
}

async fn await_one(
    client: &KickoffClient,
    handle: &mut KickoffHandle,
    arguments: &Arguments,
    until: Option<Instant>,
    stop: &CancellationToken,
) -> Result<anyhow::Result<Reply>, String> {
    let id = handle.id().clone();
    let answered = async {
        match arguments.follow {
            true => {
                let stream = handle.events().await?;
                let reply = async { Ok(handle.reply().await?) };
                events::until_reply(stream, reply, &mut events::to_stderr).await
            }
            false => Ok(handle.reply().await?),
        }
    };
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    let waited = wait::patiently(client, &id, answered, left, stop).await;
    // What is said is what was asked for.
    waited.map_err(|why| match arguments.timeout {
        Some(timeout) if !stop.is_cancelled() => format!("no reply within {} s", timeout.as_secs_f64()),
        _ => why,
    })
}

/// The result is told by now; what is left undone here can be done later.
async fn fetch(
    client: &KickoffClient,
    reply: &Reply,
    dir: &Path,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let later = format!(
        "to fetch the files again: crewfleet files {} --output {}",
        reply.kickoff_id,
        dir.display()
    );
    match stop
        .run_until_cancelled(files::all(client, reply, dir, false))
        .await
    {
        Some(Ok(exit)) => Ok(exit),
        // The kickoff has succeeded: it is not what was asked that makes no sense.
        Some(Err(error)) => {
            say(&format!(
                "the kickoff succeeded, but not all of its files were fetched: {error:#}; {later} --force"
            ));
            Ok(Exit::Failed)
        }
        None => {
            say(&format!("interrupted; {later}"));
            Ok(Exit::GaveUp)
        }
    }
}
