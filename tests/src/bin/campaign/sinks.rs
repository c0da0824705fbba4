//! The processes of sinks: this binary as `campaign sinks`, which is the library behind `crewfleet sinks`. They call
//! the webhooks that kickoffs ask for, and write all replies into a database.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::ensure;
use crewfleet_service::{shutdown, telemetry};
use crewfleet_sinks::config::{SinkConfig, SinkKind, SinksConfig, WebhooksConfig};
use crewfleet_tests::{postgres::Postgres, process::Process};
use nix::sys::signal::Signal;
use tokio::sync::{Mutex, MutexGuard};

use super::{
    hook::Hook,
    site::{Site, broker_config},
};

/// How many there are.
pub(crate) const SINKS: usize = 2;
/// The sink that writes into the database.
const WAREHOUSE: &str = "warehouse";
/// How long the receiver may take for an answer, in seconds.
const ANSWERED_WITHIN_S: f64 = 2.0;

/// What one is told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SinksArguments {
    /// The broker.
    #[arg(long)]
    pub url: String,
    /// `HOST:PORT` of the receiver.
    #[arg(long)]
    pub receiver: String,
    /// The database.
    #[arg(long)]
    pub database: String,
}

/// Hands on until it is told to end.
pub(crate) async fn run(arguments: &SinksArguments) -> anyhow::Result<()> {
    let _logging = telemetry::init("info,lapin=error");
    let shutdown = shutdown::token(|| std::process::exit(1))?;
    let warehouse = SinkConfig {
        kind: Some(SinkKind::Postgres),
        url: Some(arguments.database.as_str().into()),
        ..SinkConfig::default()
    };
    let config = SinksConfig {
        webhooks: WebhooksConfig {
            admin_addr: "127.0.0.1:0".to_owned(),
            allow: vec![arguments.receiver.clone()],
            timeout_s: ANSWERED_WITHIN_S,
            ..WebhooksConfig::default()
        },
        sinks: BTreeMap::from([(WAREHOUSE.to_owned(), warehouse)]),
    };
    Ok(crewfleet_sinks::serve(&broker_config(&arguments.url), &config, &shutdown).await?)
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Sinks {
    members: Vec<Member>,
}

/// One process after the other.
#[derive(Debug)]
pub(crate) struct Member {
    name: String,
    command: Vec<String>,
    log: std::path::PathBuf,
    process: Mutex<Process>,
}

impl Sinks {
    /// Makes the tables, starts all, and waits until each takes messages.
    pub(crate) async fn start(
        site: &Site,
        hook: &Hook,
        database: &Postgres,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        database.sql(crewfleet_sinks::DDL);
        let members: Vec<Member> = (0..SINKS)
            .map(|place| {
                let name = format!("s{}", place + 1);
                let command = vec![
                    "sinks".to_owned(),
                    format!("--url={}", site.url()),
                    format!("--receiver={}", hook.addr()),
                    format!("--database={}", database.url()),
                ];
                Ok(Member {
                    log: folder.join(format!("sinks-{name}.log")),
                    process: Mutex::new(spawn(&name, &command)?),
                    name,
                    command,
                })
            })
            .collect::<anyhow::Result<_>>()?;
        for member in &members {
            for sink in ["webhooks", WAREHOUSE] {
                let takes = |line: &str| {
                    (line.contains("the sink takes messages") && line.contains(&format!("\"{sink}\"")))
                        .then_some(())
                };
                let process = member.process.lock().await;
                process.stderr.first("a sink that takes messages", takes).await;
            }
        }
        Ok(Self { members })
    }

    /// The process at a place.
    pub(crate) fn member(&self, place: usize) -> &Member {
        &self.members[place]
    }

    /// Tells them to end, and waits until they have.
    pub(crate) async fn stop(&self) -> anyhow::Result<()> {
        for member in &self.members {
            member
                .ended(&*member.process.lock().await, Signal::SIGTERM)
                .await?;
        }
        Ok(())
    }
}

impl Member {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Kills it.
    pub(crate) async fn kill(&self) -> anyhow::Result<Killed<'_>> {
        let process = self.process.lock().await;
        self.ended(&process, Signal::SIGKILL).await?;
        Ok(Killed {
            member: self,
            process,
        })
    }

    async fn ended(&self, process: &Process, signal: Signal) -> anyhow::Result<()> {
        ensure!(
            process.is_running(),
            "the sinks {} ended unexpectedly:\n{}",
            self.name,
            process.stderr.tail()
        );
        process.signal(signal);
        process.exit().await;
        let mut log = process.stderr.so_far().join("\n");
        log.push('\n');
        let earlier = fs::read_to_string(&self.log).unwrap_or_default();
        Ok(fs::write(&self.log, earlier + &log)?)
    }
}

/// One that was killed.
#[derive(Debug)]
pub(crate) struct Killed<'a> {
    member: &'a Member,
    process: MutexGuard<'a, Process>,
}

impl Killed<'_> {
    /// Starts it again.
    pub(crate) fn begin_again(mut self) -> anyhow::Result<()> {
        *self.process = spawn(&self.member.name, &self.member.command)?;
        Ok(())
    }
}

fn spawn(name: &str, arguments: &[String]) -> anyhow::Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments);
    Ok(Process::spawn(&format!("the sinks {name}"), &command, b""))
}
