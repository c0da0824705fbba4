//! The gateway of a campaign: this binary as `campaign gateway`, which is the library behind `crewfleet gateway`. It
//! keeps its address in all of its lives.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::ensure;
use crewfleet_gateway::{
    self as gateway, GatewayConfig, GatewayError, StoreConfig,
    tokens::{Token, TokensFile},
};
use crewfleet_service::{shutdown, telemetry};
use crewfleet_tests::{ports::free_port, process::Process};
use nix::sys::signal::Signal;
use secrecy::ExposeSecret;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::sleep,
};

use super::site::{Site, broker_config};

/// The pause before a gateway that found no broker starts again, as a supervisor would have it.
const PAUSE: Duration = Duration::from_millis(500);

/// What a gateway is told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct GatewayArguments {
    /// The broker.
    #[arg(long)]
    pub url: String,
    /// Where it listens.
    #[arg(long)]
    pub addr: String,
    /// Where its tokens are kept.
    #[arg(long)]
    pub tokens_file: PathBuf,
}

/// Serves until it is told to end.
pub(crate) async fn run(arguments: &GatewayArguments) -> anyhow::Result<()> {
    let _logging = telemetry::init("info,lapin=error");
    let shutdown = shutdown::token(|| std::process::exit(1))?;
    let config = GatewayConfig {
        addr: arguments.addr.clone(),
        admin_addr: "127.0.0.1:0".to_owned(),
        tokens_file: arguments.tokens_file.clone(),
        store: StoreConfig {
            file: arguments.tokens_file.with_extension("sqlite"),
            ..StoreConfig::default()
        },
        ..GatewayConfig::default()
    };
    let broker = broker_config(&arguments.url);
    loop {
        match gateway::serve(&broker, &config, None, &shutdown).await {
            Err(GatewayError::Client(error)) => {
                eprintln!("the gateway starts again: {error}");
                tokio::select! {
                    () = sleep(PAUSE) => {}
                    () = shutdown.cancelled() => return Ok(()),
                }
            }
            other => return Ok(other?),
        }
    }
}

/// The gateway's process, one after the other.
#[derive(Debug)]
pub(crate) struct Gateway {
    addr: String,
    token_file: PathBuf,
    command: Vec<String>,
    folder: PathBuf,
    process: Mutex<Process>,
}

impl Gateway {
    /// Starts it, and makes a token for its callers.
    pub(crate) async fn start(site: &Site, folder: &Path) -> anyhow::Result<Self> {
        let (tokens_file, token_file) = (folder.join("tokens.json"), folder.join("token"));
        let token = TokensFile::new(&tokens_file).create(Token::named("campaign"))?;
        std::fs::write(&token_file, token.expose_secret())?;
        let addr = format!("127.0.0.1:{}", free_port());
        let command = vec![
            "gateway".to_owned(),
            format!("--url={}", site.url()),
            format!("--addr={addr}"),
            format!("--tokens-file={}", tokens_file.display()),
        ];
        let process = spawn(&command, folder)?;
        let listens = |line: &str| line.contains("the gateway listens").then_some(());
        process.stderr.first("the gateway listens", listens).await;
        Ok(Self {
            addr,
            token_file,
            command,
            folder: folder.to_owned(),
            process: Mutex::new(process),
        })
    }

    /// The base URL of its API.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The file with its callers' token.
    pub(crate) fn token_file(&self) -> &Path {
        &self.token_file
    }

    /// Kills it.
    pub(crate) async fn kill(&self) -> anyhow::Result<Killed<'_>> {
        let process = self.process.lock().await;
        self.ended(&process, Signal::SIGKILL).await?;
        Ok(Killed {
            gateway: self,
            process,
        })
    }

    /// Tells it to end.
    pub(crate) async fn stop(&self) -> anyhow::Result<()> {
        let process = self.process.lock().await;
        self.ended(&process, Signal::SIGTERM).await
    }

    async fn ended(&self, process: &Process, signal: Signal) -> anyhow::Result<()> {
        ensure!(
            process.is_running(),
            "the gateway ended unexpectedly:\n{}",
            process.stderr.tail()
        );
        process.signal(signal);
        process.exit().await;
        let mut log = process.stderr.so_far().join("\n");
        log.push('\n');
        let file = self.folder.join("gateway.log");
        let earlier = std::fs::read_to_string(&file).unwrap_or_default();
        Ok(std::fs::write(file, earlier + &log)?)
    }
}

/// A gateway that was killed.
#[derive(Debug)]
pub(crate) struct Killed<'a> {
    gateway: &'a Gateway,
    process: MutexGuard<'a, Process>,
}

impl Killed<'_> {
    /// Starts it again.
    pub(crate) fn begin_again(mut self) -> anyhow::Result<()> {
        *self.process = spawn(&self.gateway.command, &self.gateway.folder)?;
        Ok(())
    }
}

fn spawn(arguments: &[String], folder: &Path) -> anyhow::Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).current_dir(folder);
    Ok(Process::spawn("the gateway", &command, b""))
}
