//! The gateways of a campaign: this binary as `campaign gateway`, which is the library behind `crewfleet gateway`. Each
//! keeps its address in all of its lives, and its file unless that is lost.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use crewfleet_gateway::{
    self as gateway, GatewayConfig, StoreConfig,
    tokens::{Token, TokensFile},
};
use crewfleet_service::{shutdown, telemetry};
use crewfleet_tests::ports::free_port;
use futures_util::future::try_join_all;
use secrecy::ExposeSecret;

use super::{
    lives::{Killed, Lives},
    site::{Site, broker_config},
};

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

/// One gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    addr: String,
    store: PathBuf,
    lives: Lives,
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
            let process = member.lives.process().await;
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
        let found = self.members.iter().find(|member| member.name() == name);
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
        let ends = self.members.iter().map(|member| member.lives.stop());
        try_join_all(ends).await.map(drop)
    }
}

impl Gateway {
    fn start(name: String, site: &Site, tokens_file: &Path, folder: &Path) -> anyhow::Result<Self> {
        let addr = format!("127.0.0.1:{}", free_port());
        let store = folder.join(format!("{name}.sqlite"));
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("gateway")
            .arg(format!("--url={}", site.url()))
            .arg(format!("--addr={addr}"))
            .arg(format!("--tokens-file={}", tokens_file.display()))
            .arg(format!("--store={}", store.display()))
            .current_dir(folder);
        let log = folder.join(format!("gateway-{name}.log"));
        Ok(Self {
            addr,
            store,
            lives: Lives::begin(&name, command, log),
        })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.lives.name()
    }

    /// The base URL of its API.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Kills it.
    pub(crate) async fn kill(&self) -> anyhow::Result<Killed<'_>> {
        self.lives.kill_running().await
    }

    /// Takes away all that it knew, while it is dead. Where it has not come to make its file, there is none.
    pub(crate) fn lose_file(&self) -> anyhow::Result<()> {
        let store = self.store.display();
        let beside = BESIDE.iter().map(|end| PathBuf::from(format!("{store}{end}")));
        for file in [self.store.clone()].into_iter().chain(beside) {
            if file.exists() {
                fs::remove_file(&file).with_context(|| format!("deleting {}", file.display()))?;
            }
        }
        Ok(())
    }
}
