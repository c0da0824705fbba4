//! `crewfleet-worker`: serves the crews of its configuration until it is told to end.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use crewfleet_service::config::Loaded;
use crewfleet_service::told::{self, Told};
use crewfleet_service::{shutdown, telemetry, traces};
use crewfleet_worker::config::{self, FileConfig};
use crewfleet_worker::{Kickoff, Worker};
use tokio::sync::oneshot;

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

/// How many lines of one kickoff may wait for who reads them; further events are dropped.
const LINES: usize = 4096;
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
    let _logging = telemetry::init(match arguments.command {
        None => "info,lapin=off",
        // That there is no CrewAI is told of crews that need it.
        Some(_) => "warn,lapin=off,crewfleet_worker::runner::python::fork_server=error",
    });
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
    let stop = shutdown::token(|| std::process::exit(1))?;
    let Some(checked) = stop.run_until_cancelled(crewfleet_worker::check(config)).await else {
        return Ok(ExitCode::FAILURE);
    };
    let checked = checked?;
    let text = match json {
        true => serde_json::to_string(&checked)? + "\n",
        false => checked.iter().map(ToString::to_string).collect(),
    };
    // A reader that has gone away (`| head -1`) is no error.
    let _ = std::io::stdout().write_all(text.as_bytes());
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
    let (send, first) = oneshot::channel();
    // Threads of their own: the runtime would wait for them at its end, and who reads slowly holds up no kickoff.
    let asker_is_gone = stop.clone();
    thread::spawn(move || {
        let mut lines = std::io::stdin().lines();
        let _ = send.send(lines.next());
        lines.take_while(Result::is_ok).for_each(drop);
        asker_is_gone.cancel();
    });
    let Some(Ok(Some(request))) = stop.run_until_cancelled(first).await else {
        bail!("there is no request: its line is missing on stdin");
    };
    let request = request
        .context("the request cannot be read from stdin")?
        .into_bytes();
    let (lines, told) = mpsc::sync_channel(LINES);
    let reader_is_gone = stop.clone();
    let writing = thread::spawn(move || {
        let mut stdout = std::io::stdout().lock();
        for told in told {
            if write_line(&mut stdout, &told).is_err() {
                reader_is_gone.cancel();
                break;
            }
        }
    });
    let kickoff = Kickoff { crew, request, files };
    // An event may get lost, a reply may not. Nobody reads any more where that cannot be sent.
    let tell = move |told| match told {
        Told::Event(_) => lines.try_send(told).is_ok(),
        told => lines.send(told).is_ok(),
    };
    let ended = crewfleet_worker::run(config, kickoff, stop, tell).await;
    // It ends when all is written.
    let _ = writing.join();
    ended?;
    Ok(ExitCode::SUCCESS)
}

fn write_line(stdout: &mut impl Write, told: &Told) -> std::io::Result<()> {
    writeln!(stdout, "{}", told::one_line(told)?)?;
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
