//! `crewfleet-worker`: serves the crews of its configuration until it is told to end.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use crewfleet_service::config::Loaded;
use crewfleet_service::told::Told;
use crewfleet_service::{shutdown, telemetry, traces};
use crewfleet_worker::config::{self, FileConfig};
use crewfleet_worker::{Kickoff, Worker};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Serves AI crews over RabbitMQ.
///
/// Runs until SIGTERM or SIGINT: then it stops consuming, lets what runs finish within [worker] drain_grace_s,
/// requeues the rest, and exits 0. A second signal ends it at once.
#[derive(Parser)]
#[command(name = "crewfleet-worker", version)]
struct Arguments {
    /// The configuration file [default: crewfleet.toml in the working directory, if it exists].
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Asks a running worker's /healthz: exit 0 when it lives, 1 when not.
    Healthcheck,
    /// Builds every crew of the configuration as at a start, without a broker, and says what a worker would make of
    /// it: exit 0 when each can be built, 1 when not, 2 when the configuration is refused.
    Check {
        /// As JSON: an array with an object for each crew.
        #[arg(long)]
        json: bool,
    },
    /// Runs one kickoff of a crew as a worker would, without a broker; for programs: `crewfleet run` is for people. The
    /// first line of stdin is the request, as a producer would publish it; at stdin's end the crew is cancelled. Writes
    /// a line of JSON each to stdout: {"note": …}, {"event": …}, and at the end {"reply": …}, or {"unfinished": …} where
    /// a worker would put the request back.
    Run {
        /// A crew of the configuration.
        crew: String,
        /// Copy the files that the crew leaves into this folder.
        #[arg(long, value_name = "DIR")]
        files: Option<PathBuf>,
    },
}

/// The configuration is refused, or an address is taken: as with wrong arguments, nothing was started.
const REFUSED: u8 = 2;

fn main() -> ExitCode {
    // Crews run as the same user. Of a process that is not dumpable they can read neither the environment, with the
    // broker's password in it, nor the memory (prctl(2), PR_SET_DUMPABLE; programs that it starts are as others). Nor
    // does it leave a core file with them.
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        eprintln!("crewfleet-worker: crews could read this process: prctl(PR_SET_DUMPABLE): {error}");
        return ExitCode::FAILURE;
    }
    let arguments = Arguments::parse();
    let serves = arguments.command.is_none();
    let _logging = serves.then(|| telemetry::init("info,lapin=off"));
    let _traces = serves.then(|| traces::start("crewfleet-worker"));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("crewfleet-worker: the async runtime does not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(run(arguments));
    // Blocking work that hangs (a file system that is gone) must not hold the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    telemetry::flush();
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("crewfleet-worker: {error:#}");
            ExitCode::from(REFUSED)
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    // Who only asks for its health needs no crew.
    let needs_none = matches!(arguments.command, Some(Command::Healthcheck));
    let config = config::load(arguments.config.as_deref(), &[], needs_none)?;
    match arguments.command {
        Some(Command::Healthcheck) => return Ok(healthcheck(&config.config.worker.admin_addr).await),
        Some(Command::Check { json }) => return check(config, json).await,
        Some(Command::Run { crew, files }) => return kickoff(config, crew, files).await,
        None => {}
    }
    let shutdown = shutdown::token(|| std::process::exit(1))?;
    Worker::builder()
        .config(config)
        .build()?
        .run(shutdown.cancelled_owned())
        .await?;
    Ok(ExitCode::SUCCESS)
}

async fn check(config: Loaded<FileConfig>, json: bool) -> anyhow::Result<ExitCode> {
    let checked = crewfleet_worker::check(config).await?;
    match json {
        true => println!("{}", serde_json::to_string(&checked)?),
        false => checked.iter().for_each(|crew| print!("{crew}")),
    }
    let usable = checked.iter().all(|crew| crew.trouble.is_none());
    Ok(if usable {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn kickoff(
    config: Loaded<FileConfig>,
    crew: String,
    files: Option<PathBuf>,
) -> anyhow::Result<ExitCode> {
    let stop = shutdown::token(|| std::process::exit(1))?;
    let mut stdin = BufReader::new(tokio::io::stdin()).lines();
    let request = stdin
        .next_line()
        .await
        .context("the request cannot be read from stdin")?;
    let request = request.unwrap_or_default().into_bytes();
    let kickoff = Kickoff { crew, request, files };
    let asker_is_gone = stop.clone();
    tokio::spawn(async move {
        while let Ok(Some(_)) = stdin.next_line().await {}
        asker_is_gone.cancel();
    });
    let mut stdout = std::io::stdout().lock();
    let tell = |told| {
        // Nobody reads any more.
        if write_line(&mut stdout, &told).is_err() {
            stop.cancel();
        }
    };
    crewfleet_worker::run(config, kickoff, stop.clone(), tell).await?;
    Ok(ExitCode::SUCCESS)
}

fn write_line(stdout: &mut impl Write, told: &Told) -> std::io::Result<()> {
    let line = serde_json::to_string(told)?;
    // A crew's own JSON may be laid out over lines; outside of strings, where JSON has none, they are space.
    writeln!(stdout, "{}", line.replace(['\n', '\r'], " "))?;
    stdout.flush()
}

async fn healthcheck(address: &str) -> ExitCode {
    match crewfleet_service::admin::check(address, "/healthz", Duration::from_secs(5)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crewfleet-worker: {error}");
            ExitCode::FAILURE
        }
    }
}
