//! `crewfleet token create|list|revoke`

mod list;

use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args, Subcommand};
use crewfleet::{ClientError, KickoffClient};
use crewfleet_gateway::tokens::{Scope, Token, TokensFile};
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
    /// List the tokens, with their scopes, crews, limits and last uses
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
    /// What it is good for; may be repeated [default: kickoff, read, operate]
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',', value_parser = scope())]
    scopes: Vec<Scope>,
    /// For whom its kickoffs are; the gateway writes it into their meta.tenant
    #[arg(long)]
    tenant: Option<String>,
    /// So many calls a second on average, as in 5 or 0.1 [default: any number]
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// So many of them at once after a pause [default: those of a second]
    #[arg(long, value_name = "CALLS", requires = "rate")]
    burst: Option<u32>,
    /// So many calls under way at once [default: any number]
    #[arg(long, value_name = "CALLS")]
    max_concurrent: Option<u32>,
    /// How long it is good, as in 30d or 12h [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    expires: Option<Duration>,
}

pub(crate) async fn run(settings: &Settings, action: Action) -> anyhow::Result<Exit> {
    let file = TokensFile::new(&settings.gateway.tokens_file);
    match action {
        Action::Create(asked) => {
            let (crews, expires_at) = (asked.crews.clone(), asked.expires.map(ends).transpose()?);
            let token = asked.token(expires_at);
            let shown = list::good_for(&token);
            let secret = file.create(token)?;
            for crew in &crews {
                warn_if_unknown(settings, crew).await;
            }
            say(&format!(
                "kept in {}, good for {shown}; it is shown only once:",
                file.place().display()
            ));
            print(secret.expose_secret())?;
        }
        Action::List { format } => list::print(&file, &settings.gateway.uses_file(), &format)?,
        Action::Revoke { name } => {
            file.revoke(&name)?;
            say(&format!("token {name:?} is revoked"));
        }
    }
    Ok(Exit::Succeeded)
}

impl Create {
    fn token(self, expires_at: Option<DateTime<Utc>>) -> Token {
        let crews = self.crews.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut scopes = self.scopes;
        scopes.sort_unstable();
        scopes.dedup();
        Token {
            crews: (!crews.is_empty()).then_some(crews),
            scopes: (!scopes.is_empty()).then_some(scopes),
            tenant: self.tenant,
            rate_per_s: self.rate,
            burst: self.burst,
            max_concurrent: self.max_concurrent,
            expires_at,
            ..Token::named(&self.name)
        }
    }
}

/// Shells complete their names.
fn scope() -> impl TypedValueParser<Value = Scope> {
    let names = PossibleValuesParser::new(Scope::ALL.map(Scope::as_str));
    names.try_map(|name| Scope::parse(&name))
}

/// When a time ends that begins now.
fn ends(after: Duration) -> anyhow::Result<DateTime<Utc>> {
    let end = TimeDelta::from_std(after)
        .ok()
        .filter(|after| !after.is_zero())
        .and_then(|after| Utc::now().checked_add_signed(after));
    let end = end.ok_or_else(|| {
        let after = humantime::format_duration(after);
        anyhow::anyhow!(
            "--expires {after}: that is no time a token can be good for; say one as in 30d or 12h"
        )
    })?;
    Ok(end.trunc_subsecs(0))
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
