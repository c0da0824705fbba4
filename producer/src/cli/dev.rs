//! `crewfleet dev`: everything on one machine, in the foreground.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use crewfleet_producer::{BrokerConfig, Event, KickoffClient, Status};
use serde_json::value::RawValue;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::exit::Exit;
use super::output::{counted, gave_up, reply, say};
use super::settings::{BROKER_URL_VARIABLE, Settings};
use super::story::Story;
use super::{events, inputs};
use crate::dev::broker::Broker;
use crate::dev::crew::Crew;
use crate::dev::folder::Folder;
use crate::dev::gateway::Gateway;
use crate::dev::workers::{self, Address, Workers};

/// The workers' own limit of a kickoff is 10 minutes; kickoffs that an earlier run left may come before it.
const REPLY_LIMIT: Duration = Duration::from_secs(15 * 60);

#[derive(Args)]
pub(crate) struct Arguments {
    /// Your own crew: package.module:Name, a Python file, crew.jsonc, flow.yaml or a project's folder [default: the
    /// project in the working directory, if its pyproject.toml has [tool.crewai]; else the example crew]
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// The folder that holds the target's package [default: src if there is one, else the working directory]
    #[arg(long, value_name = "FOLDER", requires = "target")]
    path: Option<PathBuf>,
    /// The Python to run it with [default: CREWFLEET_PYTHON, else the project's .venv, else .crewfleet/python, else
    /// python3]
    #[arg(long, value_name = "PYTHON")]
    python: Option<PathBuf>,
    /// An input: KEY=VALUE (text), KEY=@FILE (a file's text, or an image, PDF or recording) or KEY:=JSON; may be given
    /// several times
    #[arg(short, long = "input", value_name = "KEY=VALUE")]
    input: Vec<String>,
    /// All inputs: a file with a JSON object, - for stdin
    #[arg(long, value_name = "FILE")]
    inputs: Option<String>,
    /// End after the result: the reply is the last line of stdout, the exit code is that of `kickoff`
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
    let crew = Crew::choose(
        arguments.target.as_deref(),
        arguments.path.as_deref(),
        arguments.python.as_deref(),
    )?;
    let session = Session {
        inputs: given_inputs(&arguments, &crew)?,
        crew,
        once: arguments.once,
        verbose: arguments.verbose,
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
    say(&format!(
        "checking the crew and starting the workers with {} for {} ...",
        session.crew.python.display(),
        session.crew.target()
    ));
    let workers = Workers::start(folder, program, &config, broker.config(), broker.is_private())?;
    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => {
            say("ending ...");
            Ok(session.interrupted())
        }
        refused = workers.refused() => Err(refused),
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

/// What was asked for, and since when.
struct Session {
    crew: Crew,
    /// `None` where the crew is to say what it needs.
    inputs: Option<Box<RawValue>>,
    once: bool,
    verbose: bool,
    began: Instant,
}

impl Session {
    async fn run(
        &self,
        client: &KickoffClient,
        workers: &Workers,
        folder: &Folder,
        broker: &BrokerConfig,
        export: &str,
        missing: Vec<String>,
    ) -> anyhow::Result<Exit> {
        let began = Instant::now();
        workers.ready().await?;
        say(&format!(
            "the workers are ready ({:.1} s)",
            began.elapsed().as_secs_f64()
        ));

        let is_told = !missing.is_empty();
        let needed = match is_told {
            true => missing,
            false => self.needed_inputs(client).await?,
        };
        if self.once {
            return match needed.is_empty() {
                true => self.kickoff(client, workers).await,
                false => self.lacks(&needed),
            };
        }

        let mut gateway = Gateway::start(folder, broker, &self.crew.name)?;
        if needed.is_empty() {
            match self.kickoff(client, workers).await {
                Ok(Exit::Succeeded) => {}
                Ok(_) => say("the kickoff did not succeed; everything keeps running, for another try"),
                Err(error) => say(&format!("{error:#}; everything keeps running, for another try")),
            }
        } else if !is_told {
            say(&self.needs(&needed));
        }
        self.tell_how_to_go_on(workers, &gateway, export, &needed);
        let reason = gateway.failed().await;
        say(&format!(
            "there is no gateway: {reason}; everything else keeps running"
        ));
        std::future::pending().await
    }

    /// Those of the inputs that a kickoff must have which are not given.
    fn missing(&self, required: &[String]) -> Vec<String> {
        match &self.inputs {
            None => required.to_owned(),
            Some(inputs) => inputs::missing(required, inputs)
                .into_iter()
                .map(str::to_owned)
                .collect(),
        }
    }

    /// Ends a single kickoff that lacks inputs, before it is sent.
    fn lacks(&self, missing: &[String]) -> anyhow::Result<Exit> {
        let needs = self.needs(missing);
        if self.inputs.is_none() {
            return Err(anyhow!(needs));
        }
        say(&needs);
        Ok(Exit::Rejected)
    }

    /// What the crew needs, and how to give it: the one text for that.
    fn needs(&self, inputs: &[impl AsRef<str>]) -> String {
        let inputs: Vec<&str> = inputs.iter().map(AsRef::as_ref).collect();
        let noun = if inputs.len() == 1 { "input" } else { "inputs" };
        let text = format!(
            "the crew {} needs the {noun} {}",
            self.crew.name,
            inputs.join(", ")
        );
        if !self.once {
            // It goes on, and says what to run in another terminal.
            return text;
        }
        let again = std::env::args().map(|argument| quoted(&argument));
        let again = again.collect::<Vec<_>>().join(" ");
        format!("{text}. Run: {again}{}", placeholders(&inputs))
    }

    /// The names of the inputs that the crew asks for, where none were given.
    async fn needed_inputs(&self, client: &KickoffClient) -> anyhow::Result<Vec<String>> {
        if self.inputs.is_some() {
            return Ok(Vec::new());
        }
        say("asking the workers which inputs the crew needs ...");
        let status = client.crew_status(self.crew.name.as_str()).await?;
        let needed = status.and_then(|status| status.required_inputs.or(status.inputs));
        Ok(needed.unwrap_or_default())
    }

    async fn kickoff(&self, client: &KickoffClient, workers: &Workers) -> anyhow::Result<Exit> {
        let nothing = inputs::gather(None, &[])?;
        let inputs = self.inputs.as_deref().unwrap_or(&nothing);
        if self.crew.is_example() && std::env::var_os("OPENAI_API_KEY").is_none() {
            say("there is no OPENAI_API_KEY: the example crew uses its offline model, which says so");
        }
        let required = client.required_inputs(self.crew.name.as_str()).await;
        let required = required.unwrap_or_default();
        let missing = inputs::missing(&required, inputs);
        if !missing.is_empty() {
            say(&self.needs(&missing));
            return Ok(Exit::Rejected);
        }
        let mut handle = client
            .kickoff(self.crew.name.as_str(), inputs)
            .with_events()
            .await?;
        let id = handle.id().clone();
        workers.are_asked_for(id.as_str());
        say(&format!(
            "kickoff {id} sent to the crew {} with the inputs {inputs}",
            self.crew.name
        ));
        let stream = handle.events().await?;
        let mut story = Story::on_stderr();
        let mut show = |event: &Event| match self.verbose {
            true => events::to_stderr(event),
            false => {
                story.tell(event);
                Ok(())
            }
        };
        let answered = async { Ok(handle.reply().await?) };
        let answered = events::until_reply(stream, answered, &mut show);
        let Ok(answered) = timeout(REPLY_LIMIT, answered).await else {
            return Ok(gave_up(
                &id,
                format!("no reply within {} s", REPLY_LIMIT.as_secs()),
            ));
        };
        let answered = answered?;
        // Why another one did not succeed is told below.
        if answered.status == Status::Succeeded {
            say(&format!(
                "kickoff {id} succeeded ({:.1} s after the start)",
                self.began.elapsed().as_secs_f64()
            ));
        }
        reply(&answered, self.once)
    }

    fn tell_how_to_go_on(&self, workers: &Workers, gateway: &Gateway, export: &str, needed: &[String]) {
        for Address {
            name,
            admin_addr,
            log,
        } in workers.addresses()
        {
            say(&format!(
                "{name}: http://{admin_addr}/metrics, /healthz, /readyz; log {}",
                log.display()
            ));
        }
        say(&format!(
            "the gateway, with CrewAI AMP's API: http://{} (its token is good for this run){}",
            gateway.addr,
            other_port(&gateway.addr)
        ));
        let this = std::env::current_exe().unwrap_or_else(|_| "crewfleet".into());
        let this = quoted(&this.to_string_lossy());
        // A pipe, since the inputs may be many and of any size.
        let (before, after) = match &self.inputs {
            Some(inputs) => (
                format!("printf %s {} | ", quoted(inputs.get())),
                format!(" --inputs -{}", placeholders(needed)),
            ),
            None => (String::new(), placeholders(needed)),
        };
        say("after an edit of your code: Ctrl-C and start again");
        say(&format!(
            "running until Ctrl-C. In another terminal:\n{export}  {before}{this} kickoff {} --follow{after}\n  {this} workers\n  {}\n  {}",
            self.crew.name,
            gateway.example(),
            gateway.kickoff_example(&self.example_inputs(needed))
        ));
    }

    /// Those that were given, else each that is needed.
    fn example_inputs(&self, needed: &[String]) -> String {
        match &self.inputs {
            Some(inputs) if needed.is_empty() => inputs.get().to_owned(),
            _ => {
                let inputs: BTreeMap<_, _> = needed.iter().map(|name| (name, "...")).collect();
                serde_json::json!(inputs).to_string()
            }
        }
    }

    fn interrupted(&self) -> Exit {
        if self.once {
            say("interrupted before the result");
            Exit::GaveUp
        } else {
            Exit::Succeeded
        }
    }
}

/// `None` when the crew's own names decide.
fn given_inputs(arguments: &Arguments, crew: &Crew) -> anyhow::Result<Option<Box<RawValue>>> {
    if arguments.inputs.is_some() || !arguments.input.is_empty() {
        return inputs::gather(arguments.inputs.as_deref(), &arguments.input).map(Some);
    }
    let own = crew.own_inputs();
    if own.is_empty() {
        return Ok(None);
    }
    inputs::gather(None, &own).map(Some)
}

/// That it is not where everybody looks for a gateway.
fn other_port(addr: &str) -> &'static str {
    match addr.ends_with(":8080") {
        true => "",
        false => "; port 8080 was not free, so it took another one",
    }
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

fn placeholders(names: &[impl AsRef<str>]) -> String {
    let placeholder = |name: &_| format!(" --input {}=...", AsRef::<str>::as_ref(name));
    names.iter().map(placeholder).collect()
}

/// As a word of a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_port_than_the_usual_one_is_told() {
        assert_eq!(other_port("127.0.0.1:8080"), "");
        assert!(other_port("127.0.0.1:18080").contains("port 8080 was not free"));
    }
}
