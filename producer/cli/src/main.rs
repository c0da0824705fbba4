//! The `crewfleet` command.
//!
//! stdout has the result and nothing else; whatever is said to people, logs included, goes to stderr.
//!
//! | file | what it holds |
//! |---|---|
//! | `arguments`, `global` | the command line |
//! | `commands` | a file a command |
//! | `dev` | the parts of `crewfleet dev`: everything on one machine |
//! | `doctor` | whether the broker is as crewfleet needs it |
//! | `top` | the fleet in a terminal, live |
//! | `batch` | many kickoffs from a file, resumable |
//! | `settings` | the configuration |
//! | `inputs` | the inputs of a kickoff, from arguments and files |
//! | `output`, `format`, `failure`, `story` | what is written where, and how it reads |
//! | `exit` | exit codes |
//! | `large_blocks` | the gateway's memory goes back to the system |

mod arguments;
mod batch;
mod commands;
mod dev;
mod doctor;
mod exit;
mod failure;
mod format;
mod global;
mod inputs;
mod large_blocks;
mod output;
mod settings;
mod story;
mod top;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use crewfleet_service::{shutdown, telemetry, traces};
use tokio_util::sync::CancellationToken;

use crate::arguments::{Cli, Command};
use crate::commands::{check, manual};
use crate::exit::Exit;
use crate::output::say;
use crate::settings::Settings;

/// Parses, runs, and turns what comes of it into an exit code.
fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::Gateway) {
        large_blocks::unmap_when_freed();
    }
    // What the AMQP client says of itself comes back to us as errors, which we tell; of a returned message it
    // would write the whole body.
    let (level, service) = match &cli.command {
        Command::Gateway => ("info,lapin=off,rusqlite_migration=warn", "crewfleet-gateway"),
        Command::Sinks(arguments) if arguments.serves() => ("info,lapin=off", "crewfleet-sinks"),
        // It has the whole terminal, stderr as well, and tells by itself what is wrong. A panic gives the terminal back first.
        Command::Top(_) => ("off,crewfleet_service::telemetry::panics=error", "crewfleet"),
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
    // They need no configuration of ours, and may be made where there is a wrong one.
    match &cli.command {
        Command::Check(arguments) => return check::run(&cli.global, arguments),
        Command::Completions(arguments) => return Ok(manual::completions(arguments, Cli::command())),
        Command::Man(arguments) => return manual::pages(arguments, Cli::command()),
        _ => {}
    }
    let settings = Settings::load(&cli.global)?;
    let stop = stop_token()?;
    let ended = arguments::run(cli.command, &cli.global, &settings, &stop).await;
    ended.map_err(|error| settings.explain(error))
}

/// Cancelled by the first Ctrl-C or SIGTERM; a second one ends the process at once.
fn stop_token() -> std::io::Result<CancellationToken> {
    shutdown::token(|| std::process::exit(i32::from(Exit::GaveUp as u8)))
}
