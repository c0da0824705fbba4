//! `crewfleet token create|list|revoke`

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use crewfleet::{ClientError, KickoffClient};
use crewfleet_gateway::tokens::{Token, TokensFile};
use crewfleet_protocol::CrewName;
use secrecy::ExposeSecret;
use tokio::time::timeout;

use crate::exit::Exit;
use crate::format::Format;
use crate::output::{print, say};
use crate::settings::Settings;

/// How long the broker is asked which crews there are. A token is made without it, too.
const ASKING: Duration = Duration::from_secs(3);

/// They are kept, hashed, in the file gateway.tokens_file, which gateways read again whenever it changes.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// Make a token and print it; it is shown only once
    Create(Create),
    /// List the tokens' names, crews and ages
    List {
        #[command(flatten)]
        format: Format,
    },
    /// Take a token out; gateways refuse it within seconds
    Revoke {
        /// Its name
        name: String,
    },
}

#[derive(Args)]
#[command(group(ArgGroup::new("good_for").required(true).args(["crews", "all_crews"])))]
pub(crate) struct Create {
    /// Whose it is, as in the gateway's log
    name: String,
    /// A crew that it is good for; may be repeated
    #[arg(long = "crew", value_name = "CREW")]
    crews: Vec<CrewName>,
    /// It is good for all crews, also for those to come
    #[arg(long)]
    all_crews: bool,
}

pub(crate) async fn run(settings: &Settings, action: Action) -> anyhow::Result<Exit> {
    let file = TokensFile::new(&settings.gateway.tokens_file);
    match action {
        Action::Create(Create { name, crews, .. }) => {
            let crews = (!crews.is_empty()).then_some(crews);
            let token = file.create(&name, crews.as_deref())?;
            for crew in crews.iter().flatten() {
                warn_if_unknown(settings, crew).await;
            }
            let good_for = match &crews {
                Some(_) => "these crews",
                None => "all crews",
            };
            say(&format!(
                "kept in {}, good for {good_for}; it is shown only once:",
                file.place().display()
            ));
            print(token.expose_secret())?;
        }
        Action::List { format } => {
            let tokens = file.read_existing()?;
            let lines = || tokens.iter().map(line).collect::<Vec<_>>().join("\n");
            format.print(&tokens, || (!tokens.is_empty()).then(lines))?;
        }
        Action::Revoke { name } => {
            file.revoke(&name)?;
            say(&format!("token {name:?} is revoked"));
        }
    }
    Ok(Exit::Succeeded)
}

/// A crew's name may be misspelt. Where the broker does not answer, nothing is known, and nothing said.
async fn warn_if_unknown(settings: &Settings, crew: &CrewName) {
    let asked = async {
        let client = KickoffClient::connect(&settings.broker, "crewfleet token").await?;
        let known = client.has_queue(crew).await;
        client.close().await;
        known
    };
    if let Ok(Ok::<_, ClientError>(false)) = timeout(ASKING, asked).await {
        say(&format!(
            "warning: no worker has ever served a crew {:?} here, so the token is good for nothing yet; is that its name?",
            crew.as_str()
        ));
    }
}

fn line(token: &Token) -> String {
    let crews = token.crews.as_ref();
    let crews = crews.map_or_else(|| "all crews".to_owned(), |crews| crews.join(", "));
    format!("{}  {}  {crews}", token.name, token.created_at.format("%F %T"))
}
