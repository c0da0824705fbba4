//! The processes of sinks: this binary as `campaign sinks`, which is the library behind `crewfleet sinks`. They call
//! the webhooks that kickoffs ask for, and write all replies into a database.

use std::{collections::BTreeMap, path::Path, process::Command};

use crewfleet_service::{shutdown, telemetry};
use crewfleet_sinks::config::{SinkConfig, SinkKind, SinksConfig, WebhooksConfig};
use crewfleet_tests::postgres::Postgres;
use futures_util::future::try_join_all;

use super::{
    hook::Hook,
    lives::Lives,
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
    members: Vec<Lives>,
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
        let mut members = Vec::new();
        for place in 0..SINKS {
            let name = format!("s{}", place + 1);
            let mut command = Command::new(std::env::current_exe()?);
            command
                .arg("sinks")
                .arg(format!("--url={}", site.url()))
                .arg(format!("--receiver={}", hook.addr()))
                .arg(format!("--database={}", database.url()));
            let log = folder.join(format!("sinks-{name}.log"));
            members.push(Lives::begin(&name, command, log));
        }
        for member in &members {
            for sink in ["webhooks", WAREHOUSE] {
                let takes = |line: &str| {
                    (line.contains("the sink takes messages") && line.contains(&format!("\"{sink}\"")))
                        .then_some(())
                };
                let process = member.process().await;
                process.stderr.first("a sink that takes messages", takes).await;
            }
        }
        Ok(Self { members })
    }

    /// The process at a place.
    pub(crate) fn member(&self, place: usize) -> &Lives {
        &self.members[place]
    }

    /// Tells them to end, and waits until they have.
    pub(crate) async fn stop(&self) -> anyhow::Result<()> {
        try_join_all(self.members.iter().map(Lives::stop)).await.map(drop)
    }
}
