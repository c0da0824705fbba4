//! The gateway of `crewfleet dev`: in this process, with a token for this run.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use anyhow::Context;
use crewfleet::BrokerConfig;
use crewfleet_gateway::GatewayError;
use crewfleet_gateway::config::{GatewayConfig, StoreConfig};
use crewfleet_gateway::tokens::{Token, TokensFile};
use crewfleet_protocol::CrewName;
use crewfleet_sinks::SinksConfig;
use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use super::folder::Folder;
use super::webhook_secret;

/// Where people look for it, while nobody else is there.
const USUAL: u16 = 8080;

/// It serves until this is dropped.
pub(crate) struct Gateway {
    /// `HOST:PORT` of its API.
    pub(crate) addr: String,
    /// The secret that its webhooks are signed by, where we made it.
    pub(crate) webhook_secret: Option<PathBuf>,
    token: SecretString,
    serving: AbortOnDropHandle<Result<(), GatewayError>>,
    _stop: DropGuard,
}

impl Gateway {
    /// Starts it; what keeps it from serving, [`Self::failed`] says.
    ///
    /// # Errors
    /// When its token cannot be kept, or there is no free port.
    pub(crate) fn start(
        folder: &Folder,
        broker: &BrokerConfig,
        crew: &CrewName,
        mut sinks: SinksConfig,
    ) -> anyhow::Result<Self> {
        let webhook_secret = webhook_secret::ensure(folder, &mut sinks)?;
        let tokens_file = folder.join("gateway-tokens.json");
        // Those of earlier runs are good no more.
        match fs::remove_file(&tokens_file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", tokens_file.display()));
            }
            _ => {}
        }
        let token = TokensFile::new(&tokens_file).create(Token::named("dev"))?;
        let config = GatewayConfig {
            addr: free(USUAL).or_else(|_| free(0)).context("no port is free")?,
            admin_addr: "127.0.0.1:0".into(),
            tokens_file,
            store: StoreConfig {
                file: folder.join("gateway.sqlite"),
                ..StoreConfig::default()
            },
            lame_duck_s: 0,
            ..GatewayConfig::default()
        };
        let (addr, stop) = (config.addr.clone(), CancellationToken::new());
        let (broker, crew, told) = (broker.clone(), crew.clone(), stop.clone());
        let serving = tokio::spawn(async move {
            crewfleet_gateway::serve(&broker, &config, Some(crew), Some(&sinks), &told).await
        });
        Ok(Self {
            addr,
            webhook_secret,
            token,
            serving: AbortOnDropHandle::new(serving),
            _stop: stop.drop_guard(),
        })
    }

    /// Completes when it does not serve: then with the reason.
    pub(crate) async fn failed(&mut self) -> String {
        match (&mut self.serving).await {
            Ok(Ok(())) => "it has ended".into(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// How to kick the crew off over it, from a shell; `body` is a word of the shell.
    pub(crate) fn kickoff_example(&self, body: &str) -> String {
        self.curl(
            &format!(" -H 'Content-Type: application/json' -d {body}"),
            "kickoff",
        )
    }

    /// How to ask it from a shell what the crew needs.
    pub(crate) fn example(&self) -> String {
        self.curl("", "inputs")
    }

    /// Where people see it, and with what they sign in.
    pub(crate) fn dashboard(&self) -> String {
        format!(
            "the dashboard is at http://{}/ui; sign in with the token {}",
            self.addr,
            self.token.expose_secret()
        )
    }

    fn curl(&self, arguments: &str, path: &str) -> String {
        format!(
            "curl -H 'Authorization: Bearer {}'{arguments} http://{}/{path}",
            self.token.expose_secret(),
            self.addr
        )
    }
}

/// An address of this machine alone whose port is free now; port 0 chooses one.
fn free(port: u16) -> std::io::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    Ok(listener.local_addr()?.to_string())
}
