//! The part of the configuration that the command reads.

use std::collections::BTreeMap;

use anyhow::Context;
use crewfleet::ClientError;
use crewfleet_amqp::{BrokerConfig, ConnectError, Problem};
use crewfleet_gateway::GatewayConfig;
use crewfleet_protocol::CrewName;
use crewfleet_service::config::{self, ConfigError, time_limit};
use crewfleet_sinks::SinksConfig;
use crewfleet_sinks::config::{SinkConfig, WebhooksConfig};
use serde::Deserialize;
use serde_json::Value;

use crate::exit::client_error;
use crate::global::Global;

/// One file serves the worker, too: its sections are known here, and left to it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    pub(crate) broker: BrokerConfig,
    /// Whether somebody named a broker, even if it is the default one.
    #[serde(skip)]
    pub(crate) broker_is_given: bool,
    /// Where the broker's URL came from, unless that is the default or a flag.
    #[serde(skip)]
    broker_url_origin: Option<String>,
    crews: BTreeMap<String, Value>,
    worker: Value,
    pub(crate) gateway: GatewayConfig,
    webhooks: WebhooksConfig,
    sinks: BTreeMap<String, SinkConfig>,
    /// What is wrong with the two above, and where that came from: told to whoever uses them. Others may not read the files of
    /// their secrets.
    #[serde(skip)]
    sinks_problem: Option<(Problem, String)>,
    /// The default crew of [`Self::gateway`], checked.
    #[serde(skip)]
    pub(crate) default_crew: Option<CrewName>,
}

impl Settings {
    pub(crate) fn load(global: &Global) -> Result<Self, ConfigError> {
        let flags = [
            ("broker.url", &global.broker_url),
            ("broker.namespace", &global.namespace),
        ];
        let given = flags
            .iter()
            .filter_map(|(key, value)| Some(((*key).to_owned(), (*value).clone()?)));
        let mut loaded = config::load::<Self>(global.config.as_deref(), &given.collect::<Vec<_>>())?;
        loaded.config.broker_is_given =
            loaded.is_given("broker.url") || loaded.config.broker.url_file.is_some();
        if global.broker_url.is_none() {
            loaded.config.broker_url_origin = loaded.origin("broker.url").map(str::to_owned);
        }
        if let Err(problem) = loaded.config.sinks_unchecked().check() {
            let origin = loaded
                .origin(&problem.key)
                .unwrap_or("the configuration")
                .to_owned();
            loaded.config.sinks_problem = Some((problem, origin));
        }
        let resolved = loaded.config.broker.resolve();
        match resolved.and_then(|()| loaded.config.gateway.check()) {
            Ok(default_crew) => {
                loaded.config.default_crew = default_crew;
                Ok(loaded.config)
            }
            Err(problem) => Err(loaded.invalid(problem)),
        }
    }

    fn sinks_unchecked(&self) -> SinksConfig {
        SinksConfig {
            webhooks: self.webhooks.clone(),
            sinks: self.sinks.clone(),
        }
    }

    /// `[webhooks]` and `[sinks.<name>]`.
    pub(crate) fn sinks(&self) -> Result<SinksConfig, ConfigError> {
        match &self.sinks_problem {
            None => Ok(self.sinks_unchecked()),
            Some((Problem { key, value, problem }, origin)) => Err(ConfigError::Invalid {
                key: key.clone(),
                value: value.clone(),
                origin: origin.clone(),
                problem: problem.clone(),
            }),
        }
    }

    /// The crews of the configuration.
    pub(crate) fn crews(&self) -> anyhow::Result<Vec<CrewName>> {
        let parse =
            |name: &String| CrewName::parse(name).with_context(|| format!("configuration: [crews.{name}]"));
        self.crews.keys().map(parse).collect()
    }

    /// An error, with the place that the broker's URL came from, where there is no connection.
    pub(crate) fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        match &self.broker_url_origin {
            Some(origin) if is_about_connecting(&error) => {
                let advice = match origin.contains(BROKER_URL_VARIABLE) {
                    true => "; unset it if it is that of a `crewfleet dev` which has ended",
                    false => "",
                };
                error.context(format!("the broker's URL is from {origin}{advice}"))
            }
            None if !self.broker_is_given && is_about_connecting(&error) => error.context(
                "no broker's URL is given (`crewfleet dev` prints that of its private broker, to be exported)",
            ),
            _ => error,
        }
    }

    /// The crews of the configuration with their time limits, in seconds.
    pub(crate) fn time_limits(&self) -> anyhow::Result<BTreeMap<CrewName, f64>> {
        let limits = self.crews()?.into_iter().map(|name| {
            let crew = &self.crews[name.as_str()];
            let limit = seconds(crew, "timeout_s").unwrap_or(time_limit::DEFAULT_TIMEOUT_S);
            (name, limit)
        });
        Ok(limits.collect())
    }

    /// `[worker] declare`, as the worker reads it.
    pub(crate) fn declares(&self) -> bool {
        let declare = self.worker.get("declare");
        !declare.is_some_and(|value| value.as_bool() == Some(false) || value.as_str() == Some("false"))
    }

    /// How long the processes of a crew may take to end, of the crew with the longest, as the worker counts it.
    pub(crate) fn exit_grace_s(&self) -> f64 {
        let of_crew = |crew: &Value| {
            if crew.get("runner").and_then(Value::as_str) != Some("python") {
                return 0.0;
            }
            let grace = seconds(crew, "exit_grace_s").unwrap_or(time_limit::DEFAULT_EXIT_GRACE_S);
            // What is no such number is the worker's to refuse.
            let kickoffs = seconds(crew, "kickoffs_per_child").map_or(1, |number| number.max(1.0) as u32);
            time_limit::end_of_crew_s(grace, kickoffs)
        };
        self.crews.values().map(of_crew).fold(0.0, f64::max)
    }

    /// `[worker] keep_failed_s`, where the configuration says it.
    pub(super) fn keeps_failed_s(&self) -> Option<f64> {
        seconds(&self.worker, "keep_failed_s")
    }

    /// `[worker] drain_grace_s`, `cancel_grace_s` and `termination_grace_s`, as the worker reads them.
    pub(crate) fn graces(&self) -> (f64, f64, Option<f64>) {
        let grace = |key: &str| seconds(&self.worker, key);
        (
            grace("drain_grace_s").unwrap_or(time_limit::DEFAULT_DRAIN_GRACE_S),
            grace("cancel_grace_s").unwrap_or(time_limit::DEFAULT_CANCEL_GRACE_S),
            grace("termination_grace_s"),
        )
    }
}

/// What `dev` has people export in other terminals.
pub(crate) const BROKER_URL_VARIABLE: &str = "CREWFLEET__BROKER__URL";

fn is_about_connecting(error: &anyhow::Error) -> bool {
    matches!(client_error(error), Some(ClientError::Connect(_))) || error.is::<ConnectError>()
}

/// A number of a section that is the worker's; one that comes from the environment is text.
fn seconds(section: &Value, key: &str) -> Option<f64> {
    let value = section.get(key)?;
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}
