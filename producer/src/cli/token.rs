//! `crewfleet token create|list|revoke`

use clap::Subcommand;
use crewfleet_producer::gateway::tokens::{Token, TokensFile};
use crewfleet_shared::kickoff::CrewName;
use secrecy::ExposeSecret;

use super::exit::Exit;
use super::format::Format;
use super::output::{print, say};
use super::settings::Settings;

/// They are kept, hashed, in the file gateway.tokens_file, which gateways read again whenever it changes.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// Make a token and print it; it is not seen again
    Create {
        /// Whose it is, as in the gateway's log
        name: String,
        /// A crew that it is good for; may be repeated. Without this it is good for all
        #[arg(long = "crew", value_name = "CREW")]
        crews: Vec<CrewName>,
    },
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

pub(crate) fn run(settings: &Settings, action: Action) -> anyhow::Result<Exit> {
    let file = TokensFile::new(&settings.gateway.tokens_file);
    match action {
        Action::Create { name, crews } => {
            let crews = (!crews.is_empty()).then_some(crews);
            let token = file.create(&name, crews.as_deref())?;
            let good_for = match &crews {
                Some(_) => "these crews",
                None => "all crews (--crew limits it)",
            };
            say(&format!(
                "kept in {}, good for {good_for}; the token is not seen again:",
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

fn line(token: &Token) -> String {
    let crews = token.crews.as_ref();
    let crews = crews.map_or_else(|| "all crews".to_owned(), |crews| crews.join(", "));
    format!("{}  {}  {crews}", token.name, token.created_at.format("%F %T"))
}
