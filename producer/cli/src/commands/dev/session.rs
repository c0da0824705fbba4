//! One session of `crewfleet dev`: the kickoff that it sends, and what it says of the rest.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use crewfleet::inputs::unasked;
use crewfleet::{BrokerConfig, Event, KickoffClient, Status};
use crewfleet_sinks::SinksConfig;
use serde_json::value::RawValue;
use tokio::time::timeout;

use crate::commands::events;
use crate::dev::crew::Crew;
use crate::dev::folder::Folder;
use crate::dev::gateway::Gateway;
use crate::dev::workers::{Address, Workers};
use crate::exit::Exit;
use crate::inputs;
use crate::output::{gave_up, reply, say};
use crate::story::Story;

/// The workers' own limit of a kickoff is 10 minutes; kickoffs that an earlier run left may come before it.
const REPLY_LIMIT: Duration = Duration::from_secs(15 * 60);
/// What was asked for, and since when.
pub(super) struct Session {
    pub(super) crew: Crew,
    /// `None` where the crew is to say what it needs.
    pub(super) inputs: Option<Box<RawValue>>,
    pub(super) once: bool,
    pub(super) verbose: bool,
    /// What its gateway hands replies and events on to.
    pub(super) sinks: SinksConfig,
    pub(super) began: Instant,
}

impl Session {
    pub(super) async fn run(
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
            "{} ready ({:.1} s)",
            if self.once {
                "the worker is"
            } else {
                "the workers are"
            },
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

        let mut gateway = Gateway::start(folder, broker, &self.crew.name, self.sinks.clone())?;
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
    pub(super) fn missing(&self, required: &[String]) -> Vec<String> {
        match &self.inputs {
            None => required.to_owned(),
            Some(inputs) => inputs::missing(required, inputs)
                .into_iter()
                .map(str::to_owned)
                .collect(),
        }
    }

    /// Ends a single kickoff that lacks inputs, before it is sent.
    pub(super) fn lacks(&self, missing: &[String]) -> anyhow::Result<Exit> {
        let needs = self.needs(missing);
        if self.inputs.is_none() {
            return Err(anyhow!(needs));
        }
        say(&needs);
        Ok(Exit::Rejected)
    }

    /// What the crew needs, and how to give it: the one text for that.
    pub(super) fn needs(&self, inputs: &[impl AsRef<str>]) -> String {
        let inputs: Vec<&str> = inputs.iter().map(AsRef::as_ref).collect();
        let noun = if inputs.len() == 1 { "input" } else { "inputs" };
        let text = format!(
            "the crew {} needs the {noun} {}{}",
            self.crew.name,
            inputs.join(", "),
            self.meant(&inputs)
        );
        if !self.once {
            // It goes on, and says what to run in another terminal.
            return text;
        }
        let again = std::env::args().map(|argument| quoted(&argument));
        let again = again.collect::<Vec<_>>().join(" ");
        let end = if text.ends_with('?') { "" } else { "." };
        format!("{text}{end} Run: {again}{}", placeholders(&inputs))
    }

    /// Those that were given by names which differ from those that are needed in upper and lower case only.
    fn meant(&self, needed: &[&str]) -> String {
        let given = self.inputs.as_deref().map(|inputs| unasked(&[], inputs));
        let meant = given.unwrap_or_default().into_iter().filter_map(|given| {
            let meant = needed.iter().find(|needed| needed.eq_ignore_ascii_case(&given))?;
            Some(format!("; {given} was given: did you mean {meant}?"))
        });
        meant.collect()
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
            "the gateway, with CrewAI AMP's API and its own below /v1: http://{} (its token is good for this run){}",
            gateway.addr,
            other_port(&gateway.addr)
        ));
        if let Some(file) = &gateway.webhook_secret {
            say(&format!(
                "webhooks are signed with the secret in {}",
                file.display()
            ));
        }
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
        say(&gateway.dashboard());
        say(&format!(
            "running until Ctrl-C. In another terminal:\n{export}  {before}{this} kickoff {} --follow{after}\n  {this} workers\n  {}\n  {}",
            self.crew.name,
            gateway.example(),
            gateway.kickoff_example(&quoted(&self.example_body(needed)))
        ));
    }

    /// A body of the gateway's, with the inputs that were given, else with each that is needed.
    fn example_body(&self, needed: &[String]) -> String {
        let inputs = match &self.inputs {
            Some(inputs) if needed.is_empty() => inputs.get().to_owned(),
            _ => {
                let inputs: BTreeMap<_, _> = needed.iter().map(|name| (name, "...")).collect();
                serde_json::json!(inputs).to_string()
            }
        };
        format!("{{\"inputs\": {inputs}}}")
    }

    pub(super) fn interrupted(&self) -> Exit {
        if self.once {
            say("interrupted before the result");
            Exit::GaveUp
        } else {
            Exit::Succeeded
        }
    }
}

/// That it is not where everybody looks for a gateway.
fn other_port(addr: &str) -> &'static str {
    match addr.ends_with(":8080") {
        true => "",
        false => "; port 8080 was not free, so it took another one",
    }
}

fn placeholders(names: &[impl AsRef<str>]) -> String {
    let placeholder = |name: &_| format!(" --input {}=...", AsRef::<str>::as_ref(name));
    names.iter().map(placeholder).collect()
}

/// As a word of a shell.
pub(super) fn quoted(word: &str) -> String {
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
