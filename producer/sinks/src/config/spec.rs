//! What the sections say, checked, with what their files hold.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crewfleet_amqp::{BrokerConfig, Problem};
use crewfleet_protocol::webhooks::{Authentication, WebhookUrl};
use crewfleet_protocol::{CrewName, SinkName};
use crewfleet_service::spelling;
use secrecy::{ExposeSecret, SecretString};

use super::kind_keys;
use super::{Format, SinkConfig, SinkKind, SinksConfig, WebhooksConfig};
use crate::error::SinksError;
use crate::filter::{Filter, On};
use crate::kinds::amqp::RoutingKey;
use crate::kinds::file::Rotation;
use crate::webhook::address_guard::{AddressGuard, Exception, network};
use crate::webhook::client::CallLimits;
use crate::webhook::hosts::HostLimits;
use crate::webhook::signing::Signer;

/// How many messages a sink holds at once, unless it says so.
const PREFETCH: u16 = 50;
const DAY_S: u64 = 24 * 60 * 60;

/// Both sections, checked.
#[derive(Clone)]
pub(crate) struct Specs {
    pub(crate) webhooks: Webhooks,
    pub(crate) sinks: Vec<Spec>,
}

/// `[webhooks]`, checked.
#[derive(Clone)]
pub(crate) struct Webhooks {
    pub(crate) signer: Signer,
    pub(crate) guard: AddressGuard,
    pub(crate) hosts: HostLimits,
    pub(crate) calls: CallLimits,
    pub(crate) prefetch: u16,
    pub(crate) max_body: usize,
}

/// A sink.
#[derive(Clone)]
pub(crate) struct Spec {
    pub(crate) name: SinkName,
    pub(crate) filter: Filter,
    pub(crate) format: Format,
    pub(crate) prefetch: u16,
    pub(crate) target: Target,
}

/// Where a sink hands things on to.
#[derive(Clone)]
pub(crate) enum Target {
    Webhook {
        url: WebhookUrl,
        signer: Signer,
        authentication: Option<Authentication>,
    },
    File {
        path: PathBuf,
        rotation: Rotation,
    },
    Amqp {
        /// Another than ours.
        broker: Option<Box<BrokerConfig>>,
        exchange: String,
        routing_key: RoutingKey,
    },
    #[cfg(feature = "postgres")]
    Postgres(PostgresSpec),
}

/// A database, and its tables.
#[derive(Debug, Clone)]
#[cfg(feature = "postgres")]
pub(crate) struct PostgresSpec {
    pub(crate) url: SecretString,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) table: String,
    pub(crate) events_table: String,
}

impl SinksConfig {
    /// Checks the values, and reads the files of secrets. Nothing is kept of it: for whoever only checks.
    ///
    /// # Errors
    /// The first [`Problem`].
    pub fn check(&self) -> Result<(), Problem> {
        self.resolve().map(drop)
    }

    /// The sink of this name.
    pub(crate) fn named(&self, name: &str) -> Result<Spec, SinksError> {
        match self.sinks.get(name) {
            Some(sink) => Ok(sink.resolve(name)?),
            None => Err(SinksError::NoSuchSink {
                name: name.to_owned(),
                meant: match spelling::did_you_mean(name, self.sinks.keys().map(String::as_str)).as_str() {
                    "" => ".".to_owned(),
                    meant => meant.to_owned(),
                },
                known: match self.sinks.is_empty() {
                    true => "none".to_owned(),
                    false => self.sinks.keys().cloned().collect::<Vec<_>>().join(", "),
                },
            }),
        }
    }

    /// Checks the values, and reads the files of secrets.
    pub(crate) fn resolve(&self) -> Result<Specs, Problem> {
        let sinks = self.sinks.iter().map(|(name, sink)| sink.resolve(name));
        Ok(Specs {
            webhooks: self.webhooks.resolve()?,
            sinks: sinks.collect::<Result<_, _>>()?,
        })
    }
}

impl WebhooksConfig {
    /// Checks the values, and reads the file of the secret.
    pub(crate) fn resolve(&self) -> Result<Webhooks, Problem> {
        for (key, value) in [
            ("timeout_s", self.timeout_s),
            ("connect_timeout_s", self.connect_timeout_s),
        ] {
            if !(0.1..=120.0).contains(&value) {
                let problem = "must be 0.1 to 120 seconds";
                return Err(Problem::new(format!("webhooks.{key}"), value, problem));
            }
        }
        let positive = [
            ("calls_per_host", self.calls_per_host),
            ("prefetch", self.prefetch.into()),
        ];
        if let Some((key, value)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(Problem::new(
                format!("webhooks.{key}"),
                value,
                "must be 1 or more",
            ));
        }
        if self.max_body.as_u64() < 8 * 1024 {
            return Err(Problem::new(
                "webhooks.max_body",
                self.max_body,
                "must be 8KiB or more",
            ));
        }
        let exceptions = self.allow.iter().map(|value| {
            let problem = |problem: &str| Problem::new("webhooks.allow", format!("{value:?}"), problem);
            value.parse::<Exception>().map_err(problem)
        });
        let denied = self.deny.iter().map(|value| {
            let problem = |problem: &str| Problem::new("webhooks.deny", format!("{value:?}"), problem);
            network(value).map_err(problem)
        });
        let guard = AddressGuard::new(exceptions.collect::<Result<_, _>>()?);
        let guard = guard.without(denied.collect::<Result<_, _>>()?);
        Ok(Webhooks {
            signer: signer("webhooks", self.secret.as_ref(), self.secret_file.as_ref())?,
            guard,
            hosts: HostLimits {
                calls: self.calls_per_host,
                waiting: self.waiting_per_host,
                before_sharing: usize::from(self.prefetch / 2),
            },
            calls: CallLimits {
                total: Duration::from_secs_f64(self.timeout_s),
                connect: Duration::from_secs_f64(self.connect_timeout_s),
            },
            prefetch: self.prefetch,
            max_body: usize::try_from(self.max_body.as_u64()).unwrap_or(usize::MAX),
        })
    }
}

impl SinkConfig {
    fn resolve(&self, name: &str) -> Result<Spec, Problem> {
        let key = |key: &str| format!("sinks.{name}.{key}");
        let sink = SinkName::parse(name)
            .map_err(|error| Problem::new(format!("sinks.{name}"), "{…}", error.to_string()))?;
        if sink == SinkName::webhooks() {
            let problem = "this name is taken by the webhooks that kickoffs ask for; give the sink another";
            return Err(Problem::new(format!("sinks.{name}"), "{…}", problem));
        }
        let Some(kind) = self.kind else {
            let problem = "it has no kind; set kind to \"webhook\", \"file\", \"amqp\" or \"postgres\"";
            return Err(Problem::new(format!("sinks.{name}"), "{…}", problem));
        };
        kind_keys::check(name, self, kind)?;
        let on = match &self.on {
            None => On::replies(),
            Some(names) => On::read(names)
                .map_err(|(value, problem)| Problem::new(key("on"), format!("{value:?}"), problem))?,
        };
        if on.is_empty() {
            let problem =
                "nothing would come; name statuses, or types of events, or leave it out for all replies";
            return Err(Problem::new(key("on"), "[]", problem));
        }
        let crews = self.crews.iter().flatten().map(|crew| {
            CrewName::parse(crew)
                .map_err(|error| Problem::new(key("crews"), format!("{crew:?}"), error.to_string()))
        });
        let crews: BTreeSet<_> = crews.collect::<Result<_, _>>()?;
        if self.crews.is_some() && crews.is_empty() {
            let problem = "nothing would come; name crews, or leave it out for all";
            return Err(Problem::new(key("crews"), "[]", problem));
        }
        if self.prefetch == Some(0) {
            return Err(Problem::new(key("prefetch"), 0, "must be 1 or more"));
        }
        Ok(Spec {
            target: self.target(name, kind)?,
            name: sink,
            filter: Filter { on, crews },
            format: self.format.unwrap_or_default(),
            prefetch: self.prefetch.unwrap_or(PREFETCH),
        })
    }

    fn target(&self, name: &str, kind: SinkKind) -> Result<Target, Problem> {
        let key = |key: &str| format!("sinks.{name}.{key}");
        let url = || secret(&key("url"), self.url.as_ref(), self.url_file.as_ref());
        let missing = |field: &str, example: &str| {
            let problem = format!("a sink of kind {kind} needs one; set {field} = {example}");
            Problem::new(key(field), "not set", problem)
        };
        Ok(match kind {
            SinkKind::Webhook => {
                let url = url()?.ok_or_else(|| missing("url", "\"https://example.org/hook\""))?;
                // The reader's words show a host, and what is no URL may be a secret.
                let refused = |problem: String| match url.expose_secret().contains("://") {
                    true => Problem::new(key("url"), "…", problem),
                    false => Problem::new(
                        key("url"),
                        "…",
                        "it is no URL; give one as in https://example.org/hook",
                    ),
                };
                let token = secret(&key("token"), self.token.as_ref(), self.token_file.as_ref())?;
                if let Some(token) = &token
                    && !token.expose_secret().bytes().all(|byte| byte.is_ascii_graphic())
                {
                    let problem = "it has a space, or a character beyond ASCII, which no token has; give the token alone";
                    return Err(Problem::new(key("token"), "…", problem));
                }
                let authentication = token.map(|token| Authentication::Bearer {
                    token: token.expose_secret().to_owned(),
                });
                Target::Webhook {
                    url: url.expose_secret().parse().map_err(refused)?,
                    signer: signer(
                        &format!("sinks.{name}"),
                        self.secret.as_ref(),
                        self.secret_file.as_ref(),
                    )?,
                    authentication,
                }
            }
            SinkKind::File => Target::File {
                path: self
                    .path
                    .clone()
                    .ok_or_else(|| missing("path", "\"results.jsonl\""))?,
                rotation: Rotation {
                    max_bytes: self.max_size.map_or(100 << 20, |size| size.as_u64().max(1)),
                    max_age: Duration::from_secs(self.max_age_s.unwrap_or(DAY_S).max(1)),
                    keep: self.keep.unwrap_or(7),
                },
            },
            SinkKind::Amqp => {
                let routing_key = self.routing_key.as_deref().unwrap_or("results.{crew}.{status}");
                Target::Amqp {
                    broker: url()?.map(|url| self.broker(name, url)).transpose()?,
                    exchange: self
                        .exchange
                        .clone()
                        .ok_or_else(|| missing("exchange", "\"results\""))?,
                    routing_key: RoutingKey::parse(routing_key).map_err(|problem| {
                        Problem::new(key("routing_key"), format!("{routing_key:?}"), problem)
                    })?,
                }
            }
            #[cfg(not(feature = "postgres"))]
            SinkKind::Postgres => {
                let problem = "this program is built without PostgreSQL; build it with the feature postgres";
                return Err(Problem::new(key("kind"), kind, problem));
            }
            #[cfg(feature = "postgres")]
            SinkKind::Postgres => {
                let table = |field: &str, given: &Option<String>, default: &str| {
                    let named = given.as_deref().unwrap_or(default);
                    let part = |part: &str| {
                        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                        (1..=63).contains(&part.len())
                            && part.chars().all(allowed)
                            && !part.starts_with(|c: char| c.is_ascii_digit())
                    };
                    match named.split('.').count() <= 2 && named.split('.').all(part) {
                        true => Ok(named.to_owned()),
                        false => {
                            let problem = "must be a name as in crewfleet_kickoffs or schema.crewfleet_kickoffs: a-z, 0-9 and _";
                            Err(Problem::new(key(field), format!("{named:?}"), problem))
                        }
                    }
                };
                Target::Postgres(PostgresSpec {
                    url: url()?
                        .ok_or_else(|| missing("url", "\"postgresql://USER:PASSWORD@HOST/DATABASE\""))?,
                    ca_file: self.ca_file.clone(),
                    table: table("table", &self.table, "crewfleet_kickoffs")?,
                    events_table: table("events_table", &self.events_table, "crewfleet_events")?,
                })
            }
        })
    }

    /// Another broker.
    fn broker(&self, name: &str, url: SecretString) -> Result<Box<BrokerConfig>, Problem> {
        let mut broker = BrokerConfig {
            url,
            ca_file: self.ca_file.clone(),
            ..BrokerConfig::default()
        };
        broker.resolve().map_err(|problem| Problem {
            key: problem.key.replace("broker.", &format!("sinks.{name}.")),
            ..problem
        })?;
        Ok(Box::new(broker))
    }
}

/// A secret, or what its file holds.
fn secret(
    key: &str,
    given: Option<&SecretString>,
    file: Option<&PathBuf>,
) -> Result<Option<SecretString>, Problem> {
    match (given, file) {
        (Some(_), Some(file)) => {
            let problem = format!("{key} is set, too; remove one of them");
            Err(Problem::new(format!("{key}_file"), file.display(), problem))
        }
        (Some(given), None) if given.expose_secret().trim().is_empty() => {
            Err(Problem::new(key, "\"\"", "it is empty; set it, or remove it"))
        }
        (given, None) => Ok(given.cloned()),
        (None, Some(file)) => match fs::read_to_string(file) {
            Ok(text) if text.trim().is_empty() => {
                let problem = "the file is empty; write the secret into it";
                Err(Problem::new(format!("{key}_file"), file.display(), problem))
            }
            Ok(text) => Ok(Some(text.trim().into())),
            Err(error) => {
                let problem = format!("cannot be read: {error}; name a readable file");
                Err(Problem::new(format!("{key}_file"), file.display(), problem))
            }
        },
    }
}

fn signer(section: &str, given: Option<&SecretString>, file: Option<&PathBuf>) -> Result<Signer, Problem> {
    let key = format!("{section}.secret");
    match secret(&key, given, file)? {
        None => Ok(Signer::default()),
        Some(secret) => Signer::new(&secret).map_err(|problem| Problem::new(key, "…", problem)),
    }
}

#[cfg(test)]
mod tests;
