//! The command line: arguments, and a file a command.
//!
//! stdout has the result and nothing else; whatever is said to people, logs included, goes to stderr.

mod cancel;
mod control;
mod crews;
mod dead_letters;
mod dev;
mod doctor;
mod events;
mod exit;
pub(crate) mod failure;
mod files;
mod for_each;
mod format;
mod gateway;
mod healthcheck;
mod inputs;
mod kickoff;
mod kickoffs;
mod large_blocks;
mod manual;
pub(crate) mod output;
mod settings;
mod status;
mod story;
mod token;
mod topology;
mod wait;
mod workers;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use crewfleet_service::{shutdown, telemetry, traces};
use tokio_util::sync::CancellationToken;

use self::exit::Exit;
use self::output::say;
use self::settings::Settings;

/// Kick off AI crews over RabbitMQ, and await their results.
#[derive(Parser)]
#[command(name = "crewfleet", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes of kickoff and wait: 0 succeeded, 1 failed, 2 usage or configuration, 3 broker unreachable, publish \
refused or no such crew, 4 timed out, 5 cancelled, 6 rejected, 7 expired, 8 gave up waiting (the kickoff goes on).\nOther commands name theirs in their own --help.";

#[derive(Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Configuration file; without it crewfleet.toml in the working directory, where there is one
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Broker, as amqp://USER:PASSWORD@HOST:5672/%2f; other users of this machine can see arguments, so for a
    /// secret rather use CREWFLEET__BROKER__URL
    #[arg(long, global = true, value_name = "URL")]
    broker_url: Option<String>,
    /// What every exchange and queue name starts with
    #[arg(short, long, global = true, value_name = "NAME")]
    namespace: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything on this machine until Ctrl-C: a private broker, two workers, and the example crew or your own
    Dev(dev::Arguments),
    /// Kick off a crew and wait for its result
    Kickoff(kickoff::Arguments),
    /// Kick off a crew once for each line of a file; run it again to resume
    KickoffForEach(for_each::Arguments),
    /// Wait for a kickoff that was sent elsewhere or earlier
    Wait(wait::Arguments),
    /// Show the state of a kickoff, and the worker that has it
    Status(status::Arguments),
    /// List the kickoffs that workers have, and how many wait
    Kickoffs(kickoffs::Arguments),
    /// Show the events of a kickoff, as they happen, until it is finished
    Events(events::Arguments),
    /// List the files that a kickoff left, or fetch them
    Files(files::Arguments),
    /// Cancel a kickoff, queued or running
    Cancel(cancel::Arguments),
    /// Pause a crew: workers start no more of its kickoffs
    Pause(control::OfCrew),
    /// Resume a crew that is paused
    Resume(control::OfCrew),
    /// Drain a worker: it finishes what it runs, hands on the rest, and ends
    Drain(control::OfWorker),
    /// List the running workers
    Workers(workers::Arguments),
    /// List, show, redrive or purge kickoffs that failed for good
    #[command(subcommand)]
    DeadLetters(dead_letters::Action),
    /// Serve the fleet over HTTP, as CrewAI AMP serves a deployment, until SIGTERM or Ctrl-C
    Gateway,
    /// Create, list or revoke the bearer tokens of the gateway's callers
    #[command(subcommand)]
    Token(token::Action),
    /// Check the broker, the queues, the limits and our permissions, with a fix for what is not as it should be
    Doctor(doctor::Arguments),
    /// Declare or show exchanges, queues and bindings
    #[command(subcommand)]
    Topology(topology::Action),
    /// Connect to the broker: exit 0 if that works, 3 if not
    Healthcheck(healthcheck::Arguments),
    /// Print the completions for a shell, as in `source <(crewfleet completions bash)`
    Completions(manual::Completions),
    /// Write the manual pages, one a command
    Man(manual::Pages),
}

/// Parses, runs, and turns what comes of it into an exit code.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::Gateway) {
        large_blocks::unmap_when_freed();
    }
    // What the AMQP client says of itself comes back to us as errors, which we tell; of a returned message it
    // would write the whole body.
    let (level, service) = match cli.command {
        Command::Gateway => ("info,lapin=off", "crewfleet-gateway"),
        _ => ("warn,lapin=off", "crewfleet"),
    };
    let _logging = telemetry::init(level);
    let _traces = traces::start(service);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("cannot start: {error}"));
            return Exit::Usage.into();
        }
    };
    let exit = runtime.block_on(run(cli)).unwrap_or_else(|error| {
        say(&format!("{error:#}"));
        Exit::of(&error)
    });
    // A runtime that waits for its last task would wait for a hung broker.
    runtime.shutdown_background();
    exit.into()
}

async fn run(cli: Cli) -> anyhow::Result<Exit> {
    // They need no configuration, and may be made where there is a wrong one.
    match &cli.command {
        Command::Completions(arguments) => return Ok(manual::completions(arguments, Cli::command())),
        Command::Man(arguments) => return manual::pages(arguments, Cli::command()),
        _ => {}
    }
    let settings = Settings::load(&cli.global)?;
    let stop = stop_token()?;
    let ended = command(cli.command, &settings, &stop).await;
    ended.map_err(|error| settings.explain(error))
}

async fn command(command: Command, settings: &Settings, stop: &CancellationToken) -> anyhow::Result<Exit> {
    match command {
        Command::Dev(arguments) => dev::run(settings, arguments, stop).await,
        Command::Kickoff(arguments) => kickoff::run(settings, arguments, stop).await,
        Command::KickoffForEach(arguments) => for_each::run(settings, arguments, stop).await,
        Command::Wait(arguments) => wait::run(settings, arguments, stop).await,
        Command::Status(arguments) => status::run(settings, arguments, stop).await,
        Command::Kickoffs(arguments) => kickoffs::run(settings, arguments, stop).await,
        Command::Events(arguments) => events::run(settings, arguments, stop).await,
        Command::Files(arguments) => files::run(settings, arguments, stop).await,
        Command::Cancel(arguments) => cancel::run(settings, arguments, stop).await,
        Command::Pause(arguments) => control::pause(settings, arguments, stop).await,
        Command::Resume(arguments) => control::resume(settings, arguments, stop).await,
        Command::Drain(arguments) => control::drain(settings, arguments, stop).await,
        Command::Workers(arguments) => workers::run(settings, arguments, stop).await,
        Command::DeadLetters(action) => dead_letters::run(settings, action, stop).await,
        Command::Doctor(arguments) => doctor::run(settings, arguments, stop).await,
        Command::Topology(action) => topology::run(settings, action).await,
        Command::Gateway => gateway::run(settings, stop).await,
        Command::Token(action) => token::run(settings, action).await,
        Command::Healthcheck(arguments) => healthcheck::run(settings, &arguments).await,
        Command::Completions(_) | Command::Man(_) => Ok(Exit::Succeeded),
    }
}

/// Cancelled by the first Ctrl-C or SIGTERM; a second one ends the process at once.
fn stop_token() -> std::io::Result<CancellationToken> {
    shutdown::token(|| std::process::exit(i32::from(Exit::GaveUp as u8)))
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;

    /// The command of these words.
    fn command(words: &str) -> clap::Command {
        let mut command = Cli::command();
        command.build();
        for word in words.split(' ') {
            let found = command.find_subcommand(word).cloned();
            command = found.unwrap_or_else(|| panic!("there is no {words}"));
        }
        command
    }

    #[test]
    fn all_that_lists_takes_output_json() {
        for words in [
            "workers",
            "kickoffs",
            "status",
            "doctor",
            "topology show",
            "dead-letters list",
            "dead-letters show",
            "token list",
        ] {
            let command = command(words);
            let output = command
                .get_arguments()
                .find(|argument| argument.get_short() == Some('o'));
            let output = output.unwrap_or_else(|| panic!("{words} takes no -o"));
            let values: Vec<_> = output
                .get_possible_values()
                .iter()
                .map(|value| value.get_name().to_owned())
                .collect();
            assert_eq!(output.get_long(), Some("output"), "{words}");
            assert!(values.contains(&"json".to_owned()), "{words}: {values:?}");
        }
    }

    #[test]
    fn what_all_commands_take_stands_apart_in_their_help() {
        let help = command("kickoff").render_help().to_string();
        let (own, of_all) = help.split_once("Global options:").unwrap_or_default();
        assert!(own.contains("--input") && !own.contains("--broker-url"), "{help}");
        assert!(
            of_all.contains("--broker-url") && of_all.contains("--namespace"),
            "{help}"
        );
    }

    #[test]
    fn the_arguments_are_well_defined() {
        Cli::command().debug_assert();
    }
}
