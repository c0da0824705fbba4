//! The gateways of a campaign: this binary as `campaign gateway`, which is the library behind `crewfleet gateway`. Each
//! keeps its address in all of its lives, and its file unless that is lost.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use crewfleet_gateway::{
    self as gateway, GatewayConfig, StoreConfig,
    tokens::{Token, TokensFile},
};
use crewfleet_service::{shutdown, telemetry};
use crewfleet_tests::{ports::free_port, process::Process};
use futures_util::future::try_join_all;
use nix::sys::signal::Signal;
use secrecy::ExposeSecret;
use tokio::sync::{Mutex, MutexGuard};

use super::site::{Site, broker_config};

/// How many there are.
pub(crate) const GATEWAYS: usize = 2;
/// The names of what SQLite keeps beside its file end so.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

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
    /// What it knows of kickoffs.
    #[arg(long)]
    pub store: PathBuf,
}

/// Serves until it is told to end.
pub(crate) async fn run(arguments: &GatewayArguments) -> anyhow::Result<()> {
    let _logging = telemetry::init("info,lapin=error");
    let shutdown = shutdown::token(|| std::process::exit(1))?;
    let config = GatewayConfig {
        addr: arguments.addr.clone(),
        admin_addr: "127.0.0.1:0".to_owned(),
        tokens_file: arguments.tokens_file.clone(),
        // Nobody balances callers between them.
        lame_duck_s: 0,
        store: StoreConfig {
            file: arguments.store.clone(),
            ..StoreConfig::default()
        },
        ..GatewayConfig::default()
    };
    let broker = broker_config(&arguments.url);
    Ok(gateway::serve(&broker, &config, None, None, &shutdown).await?)
}

/// All gateways.
#[derive(Debug)]
pub(crate) struct Gateways {
    members: Vec<Gateway>,
    token_file: PathBuf,
}

/// One gateway: one process after the other.
#[derive(Debug)]
pub(crate) struct Gateway {
    name: String,
    addr: String,
    store: PathBuf,
    command: Vec<String>,
    folder: PathBuf,
    process: Mutex<Process>,
}

impl Gateways {
    /// Starts them, and makes a token for their callers.
    pub(crate) async fn start(site: &Site, folder: &Path) -> anyhow::Result<Self> {
        let (tokens_file, token_file) = (folder.join("tokens.json"), folder.join("token"));
        let token = TokensFile::new(&tokens_file).create(Token::named("campaign"))?;
        fs::write(&token_file, token.expose_secret())?;
        let members: Vec<Gateway> = (0..GATEWAYS)
            .map(|place| Gateway::start(format!("g{}", place + 1), site, &tokens_file, folder))
            .collect::<anyhow::Result<_>>()?;
        for member in &members {
            let listens = |line: &str| line.contains("the gateway listens").then_some(());
            let process = member.process.lock().await;
            process.stderr.first("the gateway listens", listens).await;
        }
        Ok(Self { members, token_file })
    }

    /// The gateway at a place.
    pub(crate) fn member(&self, place: usize) -> &Gateway {
        &self.members[place]
    }

    /// The gateway of this name.
    pub(crate) fn named(&self, name: &str) -> &Gateway {
        let found = self.members.iter().find(|member| member.name == name);
        found.expect("a gateway of ours")
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Gateway> {
        self.members.iter()
    }

    /// The file with their callers' token.
    pub(crate) fn token_file(&self) -> &Path {
        &self.token_file
    }

    /// Tells them to end, and waits until they have.
    pub(crate) async fn stop(&self) -> anyhow::Result<()> {
        let ends = self.members.iter().map(|member| async {
            let process = member.process.lock().await;
            member.ended(&process, Signal::SIGTERM).await
        });
        try_join_all(ends).await.map(drop)
    }
}

impl Gateway {
    fn start(name: String, site: &Site, tokens_file: &Path, folder: &Path) -> anyhow::Result<Self> {
        let addr = format!("127.0.0.1:{}", free_port());
        let store = folder.join(format!("{name}.sqlite"));
        let command = vec![
            "gateway".to_owned(),
            format!("--url={}", site.url()),
            format!("--addr={addr}"),
            format!("--tokens-file={}", tokens_file.display()),
            format!("--store={}", store.display()),
        ];
        let process = spawn(&name, &command, folder)?;
        Ok(Self {
            name,
            addr,
            store,
            command,
            folder: folder.to_owned(),
            process: Mutex::new(process),
        })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The base URL of its API.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
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

    async fn ended(&self, process: &Process, signal: Signal) -> anyhow::Result<()> {
        ensure!(
            process.is_running(),
            "the gateway {} ended unexpectedly:\n{}",
            self.name,
            process.stderr.tail()
        );
        process.signal(signal);
        process.exit().await;
        let mut log = process.stderr.so_far().join("\n");
        log.push('\n');
        let file = self.folder.join(format!("gateway-{}.log", self.name));
        let earlier = fs::read_to_string(&file).unwrap_or_default();
        Ok(fs::write(file, earlier + &log)?)
    }
}

/// A gateway that was killed.
#[derive(Debug)]
pub(crate) struct Killed<'a> {
    gateway: &'a Gateway,
    process: MutexGuard<'a, Process>,
}

impl Killed<'_> {
    /// Takes away all that it knew. Where it has not come to make its file, there is none.
    pub(crate) fn lose_file(&self) -> anyhow::Result<()> {
        let store = self.gateway.store.display();
        let beside = BESIDE.iter().map(|end| PathBuf::from(format!("{store}{end}")));
        for file in [self.gateway.store.clone()].into_iter().chain(beside) {
            if file.exists() {
                fs::remove_file(&file).with_context(|| format!("deleting {}", file.display()))?;
            }
        }
        Ok(())
    }

    /// Starts it again.
    pub(crate) fn begin_again(mut self) -> anyhow::Result<()> {
        let gateway = self.gateway;
        *self.process = spawn(&gateway.name, &gateway.command, &gateway.folder)?;
        Ok(())
    }
}

fn spawn(name: &str, arguments: &[String], folder: &Path) -> anyhow::Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).current_dir(folder);
    Ok(Process::spawn(&format!("the gateway {name}"), &command, b""))
}
