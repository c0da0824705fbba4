//! The command line.

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::commands::{
    batches, cancel, check, control, dead_letters, dev, doctor, events, files, for_each, gateway,
    healthcheck, kickoff, kickoffs, manual, run, sinks, status, token, top, topology, wait, workers,
};
use crate::exit::Exit;
use crate::global::Global;
use crate::settings::Settings;

/// Kick off AI crews over RabbitMQ, and await their results.
#[derive(Parser)]
#[command(name = "crewfleet", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes of kickoff, wait and run: 0 succeeded, 1 failed, 2 usage or configuration, 3 broker unreachable, publish \
refused or no such crew, 4 timed out, 5 cancelled, 6 rejected, 7 expired, 8 gave up waiting (the kickoff goes on).\nOther commands name theirs in their own --help.";

/// A command.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run everything on this machine until Ctrl-C: a private broker, two workers, and the example crew or your own
    Dev(dev::Arguments),
    /// Build every crew of a worker's configuration without a broker, and show what a worker would make of it: exit 1
    /// if one cannot be built
    Check(check::Arguments),
    /// Run one kickoff of a crew on this machine as a worker would, without a broker
    Run(run::Arguments),
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
    /// List or show batches with an end
    #[command(subcommand)]
    Batches(batches::Action),
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
    /// Show workers, crews and kickoffs in the terminal, live, and pause, drain and cancel from there
    Top(top::Arguments),
    /// List, show, redrive or purge kickoffs that failed for good
    #[command(subcommand)]
    DeadLetters(dead_letters::Action),
    /// Serve the fleet over HTTP, as CrewAI AMP serves a deployment, until SIGTERM or Ctrl-C
    Gateway,
    /// Call webhooks, and hand replies and events on to the sinks of the configuration, until SIGTERM or Ctrl-C
    Sinks(sinks::Arguments),
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

/// Runs a command.
pub(crate) async fn run(
    command: Command,
    global: &Global,
    settings: &Settings,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    match command {
        Command::Dev(arguments) => dev::run(settings, arguments, stop).await,
        Command::Kickoff(arguments) => kickoff::run(settings, arguments, stop).await,
        Command::KickoffForEach(arguments) => for_each::run(settings, arguments, stop).await,
        Command::Wait(arguments) => wait::run(settings, arguments, stop).await,
        Command::Status(arguments) => status::run(settings, arguments, stop).await,
        Command::Kickoffs(arguments) => kickoffs::run(settings, arguments, stop).await,
        Command::Batches(action) => batches::run(settings, action, stop).await,
        Command::Events(arguments) => events::run(settings, arguments, stop).await,
        Command::Files(arguments) => files::run(settings, arguments, stop).await,
        Command::Cancel(arguments) => cancel::run(settings, arguments, stop).await,
        Command::Pause(arguments) => control::pause(settings, arguments, stop).await,
        Command::Resume(arguments) => control::resume(settings, arguments, stop).await,
        Command::Drain(arguments) => control::drain(settings, arguments, stop).await,
        Command::Workers(arguments) => workers::run(settings, arguments, stop).await,
        Command::Top(arguments) => top::run(settings, arguments, stop).await,
        Command::DeadLetters(action) => dead_letters::run(settings, action, stop).await,
        Command::Doctor(arguments) => doctor::run(settings, arguments, stop).await,
        Command::Topology(action) => topology::run(settings, action).await,
        Command::Gateway => gateway::run(settings, stop).await,
        Command::Sinks(arguments) => sinks::run(settings, arguments, stop).await,
        Command::Token(action) => token::run(settings, action).await,
        Command::Healthcheck(arguments) => healthcheck::run(settings, &arguments).await,
        Command::Run(arguments) => run::run(global, settings, &arguments, stop).await,
        Command::Check(_) | Command::Completions(_) | Command::Man(_) => Ok(Exit::Succeeded),
    }
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use clap::CommandFactory;

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
            "sinks list",
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
