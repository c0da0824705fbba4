//! `crewfleet run`

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use crewfleet_service::told::Told;
use serde::Serialize;
use serde_json::value::RawValue;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio_util::sync::CancellationToken;

use super::{events, wait};
use crate::dev::crew::{CONFIG, Crew, NamedBy, OwnCrew};
use crate::dev::folder::Folder;
use crate::dev::worker::REFUSED;
use crate::dev::workers::{self, explained, is_setting};
use crate::exit::Exit;
use crate::format::ReplyFormat;
use crate::global::Global;
use crate::inputs::{self, GivenInputs};
use crate::output::{More, one_line, reply_with, say};
use crate::settings::Settings;
use crate::story::Story;

/// How much of what a worker says is kept, in bytes.
const MOST_SAID: u64 = 1 << 20;

#[derive(Args)]
pub(crate) struct Arguments {
    /// A crew of the configuration [default: --target]
    #[arg(conflicts_with_all = ["target", "path", "python"])]
    crew: Option<String>,
    #[command(flatten)]
    own: OwnCrew,
    #[command(flatten)]
    inputs: GivenInputs,
    /// JSON that comes back in the reply and in every event
    #[arg(long, value_name = "JSON")]
    meta: Option<String>,
    /// Time limit of the kickoff, in seconds, below the crew's own
    #[arg(long, value_name = "SECONDS", value_parser = wait::seconds)]
    time_limit: Option<Duration>,
    /// After it has succeeded, copy the files that it left into this folder
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// Show every event as it comes, instead of a summary
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    format: ReplyFormat,
}

/// The worker runs it: it is what runs crews. What it tells is shown here.
pub(crate) async fn run(
    global: &Global,
    settings: &Settings,
    arguments: &Arguments,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let kickoff = Kickoff::chosen(global, settings, arguments)?;
    let request = kickoff.request(arguments)?;
    let mut worker = kickoff.start(arguments.files.as_deref())?;
    let said = tokio::spawn(said(worker.stderr.take()));
    let ended = follow(&mut worker, &request, arguments, stop).await;
    let status = worker
        .wait()
        .await
        .context("the end of the worker cannot be awaited")?;
    let said = said.await.unwrap_or_default();
    let is_refused = status.code() == Some(REFUSED);
    match &kickoff.named_by {
        Some(named_by) if is_refused => say(explained(&said, *named_by, "").trim_end()),
        _ => eprint!("{said}"),
    }
    match ended? {
        Some(exit) => Ok(exit),
        None if is_refused => Ok(Exit::Usage),
        None => {
            say(&format!("the worker ended before the kickoff did ({status})"));
            Ok(Exit::Failed)
        }
    }
}

/// What the worker says to people, where it is read: the options that were given explain it better than it can.
async fn said(stderr: Option<ChildStderr>) -> String {
    let mut said = String::new();
    if let Some(stderr) = stderr {
        // What it said until then is what there is.
        let _ = stderr.take(MOST_SAID).read_to_string(&mut said).await;
    }
    said
}

/// Which crew is run, and by which configuration.
struct Kickoff {
    crew: String,
    config: Option<PathBuf>,
    /// As arguments of `--input`: what it is kicked off with when nothing is given.
    own_inputs: Vec<String>,
    /// What names the crew, where the configuration is written here.
    named_by: Option<NamedBy>,
    _written: Option<TempDir>,
}

/// A request of the wire contract.
#[derive(Serialize)]
struct Request<'a> {
    inputs: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_s: Option<f64>,
}

impl Kickoff {
    fn chosen(global: &Global, settings: &Settings, arguments: &Arguments) -> anyhow::Result<Self> {
        if let Some(crew) = &arguments.crew {
            return Ok(Self {
                crew: crew.clone(),
                config: global.config.clone(),
                own_inputs: Vec::new(),
                named_by: None,
                _written: None,
            });
        }
        let crew = Crew::choose(&arguments.own)?;
        let folder = Folder::shared()?;
        let written = tempfile::Builder::new().prefix("run-").tempdir_in(folder.path());
        let written = written.context("there is no place for the crew's configuration")?;
        let config = written.path().join(CONFIG);
        fs::write(&config, crew.configuration(&folder, &settings.broker)?)
            .with_context(|| format!("cannot write {}", config.display()))?;
        Ok(Self {
            crew: crew.name.to_string(),
            config: Some(config),
            own_inputs: crew.own_inputs(),
            named_by: Some(crew.named_by),
            _written: Some(written),
        })
    }

    /// In one line.
    fn request(&self, arguments: &Arguments) -> anyhow::Result<String> {
        let inputs = arguments.inputs.gather_or(&self.own_inputs)?;
        one_line(&Request {
            inputs: &inputs,
            meta: inputs::meta(arguments.meta.as_deref())?,
            timeout_s: arguments.time_limit.map(|limit| limit.as_secs_f64()),
        })
    }

    fn start(&self, files: Option<&Path>) -> anyhow::Result<Child> {
        let program = workers::program()?;
        let mut command = Command::new(&program);
        command
            .arg("run")
            .arg(&self.crew)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        if let Some(files) = files {
            command.arg("--files").arg(files);
        }
        if self.named_by.is_some() {
            command.stderr(Stdio::piped());
            // The configuration that was written says it all; its URL is none of a broker's.
            for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(name)) {
                command.env_remove(name);
            }
        }
        command
            .spawn()
            .with_context(|| format!("{} does not start", program.display()))
    }
}

/// Gives the worker the request, shows what it tells, and returns how the kickoff ended; `None` where it has not said.
/// When `stop` is cancelled, the worker is told, and says how that ended.
async fn follow(
    worker: &mut Child,
    request: &str,
    arguments: &Arguments,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Exit>> {
    let mut stdin = worker.stdin.take().context("the worker has no stdin")?;
    let stdout = worker.stdout.take().context("the worker has no stdout")?;
    // A worker that has ended says below why it does not read.
    let _ = stdin.write_all(format!("{request}\n").as_bytes()).await;
    let mut stdin = Some(stdin);
    let mut lines = BufReader::new(stdout).lines();
    let mut story = Story::on_stderr();
    let mut ended = None;
    loop {
        tokio::select! {
            line = lines.next_line() => match line.context("the worker cannot be read")? {
                // The first thing that went wrong counts.
                Some(line) => ended = show(&line, arguments, &mut story)?.max(ended),
                None => return Ok(ended),
            },
            () = stop.cancelled(), if stdin.is_some() => {
                say("cancelling the kickoff ...");
                stdin = None;
            }
        }
    }
}

fn show(line: &str, arguments: &Arguments, story: &mut Story) -> anyhow::Result<Option<Exit>> {
    let told = serde_json::from_str(line)
        .context("the worker is of another version: it tells what is not understood")?;
    match told {
        Told::Note(note) => say(&format!("note: {note}")),
        Told::Trouble(trouble) => {
            say(&trouble);
            return Ok(Some(Exit::Failed));
        }
        Told::Event(event) if arguments.verbose => events::to_stderr(&event)?,
        Told::Event(event) => story.tell(&event),
        Told::Unfinished(reason) => {
            say(&format!(
                "the kickoff has not ended: a worker would put it back, and run it again ({reason})"
            ));
            return Ok(Some(Exit::Failed));
        }
        Told::Reply(reply) => {
            let more = More {
                traceback: "-o json".to_owned(),
                files: arguments
                    .files
                    .is_none()
                    .then(|| "--files DIR copies them".to_owned()),
            };
            return reply_with(&reply, arguments.format.is_json(), &more).map(Some);
        }
    }
    Ok(None)
}
