//! The layered configuration: a TOML file, then the environment, then flags. Every refusal names the key, its
//! value, where it came from, and what to do.

mod keys;
mod paths;
pub mod time_limit;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::{Environment, File, FileFormat, Value, ValueKind};
use serde::de::DeserializeOwned;

pub use crewfleet_amqp::Problem;

use crate::spelling;

/// The file that is read when no other is named and it exists.
pub const DEFAULT_FILE: &str = "crewfleet.toml";

/// Environment variables look like `CREWFLEET__BROKER__URL`.
pub const ENVIRONMENT_PREFIX: &str = "CREWFLEET";

/// What the configuration library calls the origin of a variable.
const FROM_ENVIRONMENT: &str = "the environment";

/// A configuration that is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that cannot be read or parsed, or a value of another type.
    #[error("configuration: {0}")]
    Unreadable(String),
    /// Keys that nobody reads: a typing error, most likely.
    #[error("configuration: {}", .0.join("; "))]
    UnknownKeys(Vec<String>),
    /// A value that is invalid.
    #[error("configuration: {key} = {value} ({origin}): {problem}")]
    Invalid {
        /// The key, `section.name`.
        key: String,
        /// The value; never a secret's.
        value: String,
        /// The file or variable it came from.
        origin: String,
        /// What is wrong, and how to mend it.
        problem: String,
    },
}

/// A configuration with the places its values came from.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// The values.
    pub config: T,
    origins: BTreeMap<String, String>,
}

impl<T> Loaded<T> {
    /// Whether some layer said something of this key (`section.name`), even if that is the default.
    pub fn is_given(&self, key: &str) -> bool {
        self.origin(key).is_some()
    }

    /// The file, variable or flag that a key's value came from; `None` where it is the default.
    pub fn origin(&self, key: &str) -> Option<&str> {
        self.origins.get(key).map(String::as_str)
    }

    /// The error for an invalid value, with the place it came from.
    pub fn invalid(&self, problem: Problem) -> ConfigError {
        let Problem { key, value, problem } = problem;
        let origin = self.origin(&key).unwrap_or("the default").to_owned();
        ConfigError::Invalid {
            key,
            value,
            origin,
            problem,
        }
    }
}

/// Loads `file`, else `crewfleet.toml` where it exists; then the environment; then `overrides` (key, value) from
/// flags. Paths in the file start at its folder.
///
/// # Errors
/// [`ConfigError`] for a missing file, a wrong type, or a key that nobody reads.
pub fn load<T: DeserializeOwned>(
    file: Option<&Path>,
    overrides: &[(String, String)],
) -> Result<Loaded<T>, ConfigError> {
    let unreadable = |e: config::ConfigError| ConfigError::Unreadable(without_source(&e.to_string()));
    let mut builder = config::Config::builder();
    let file = file.map_or_else(|| (PathBuf::from(DEFAULT_FILE), false), |f| (f.to_owned(), true));
    builder = builder.add_source(
        File::from(file.0.clone())
            .format(FileFormat::Toml)
            .required(file.1),
    );
    // Values stay text here and are read as what the field wants: parsing them first would turn a secret like
    // "0123" into a number.
    builder = builder.add_source(
        Environment::with_prefix(ENVIRONMENT_PREFIX)
            .prefix_separator("__")
            .separator("__"),
    );
    for (key, value) in overrides {
        builder = builder.set_override(key, value.as_str()).map_err(unreadable)?;
    }
    let tree = builder.build().map_err(unreadable)?.cache;
    let mut tree = without_outranked_url_file(tree);
    paths::rooted(&mut tree, &file.0)?;
    let mut origins = BTreeMap::new();
    collect_origins(&tree, String::new(), &mut origins);
    let mut unknown = Vec::new();
    let config = serde_ignored::deserialize(tree, |path| unknown.push(path.to_string().replace(".?.", ".")))
        .map_err(|e: config::ConfigError| {
            ConfigError::Unreadable(by_key(&without_source(&e.to_string()), &origins))
        })?;
    let loaded = Loaded { config, origins };
    refuse_lowercased_env(&loaded.origins)?;
    if unknown.is_empty() {
        return Ok(loaded);
    }
    let unknown = unknown.into_iter().map(|key| {
        let origin = loaded.origins.get(&key).cloned();
        let origin = origin.or_else(|| {
            let below = format!("{key}.");
            loaded
                .origins
                .iter()
                .find(|(k, _)| k.starts_with(&below))
                .map(|(_, origin)| origin.clone())
        });
        let origin = origin.unwrap_or_else(|| "a flag".into());
        let name = key.rsplit('.').next().unwrap_or_default();
        let meant = spelling::did_you_mean(name, keys::beside::<T>(&key).iter().copied());
        format!(
            "unknown key {key:?} ({origin}){}Remove it or correct its spelling; deploy/CONFIGURATION.md lists all keys",
            match meant.as_str() {
                "" => ". ".to_owned(),
                meant => format!("{meant} "),
            }
        )
    });
    Err(ConfigError::UnknownKeys(unknown.collect()))
}

/// What the library says of a value that does not fit, as all other refusals are told: the key, its origin, the problem.
fn by_key(error: &str, origins: &BTreeMap<String, String>) -> String {
    let parts = error.split_once(" for key `").and_then(|(problem, rest)| {
        let (key, place) = rest.split_once('`')?;
        let place = place.trim().strip_prefix("in ");
        let origin = origins.get(key).map(String::as_str).or(place)?;
        Some((key, origin, problem))
    });
    let Some((key, origin, problem)) = parts else {
        return error.to_owned();
    };
    let problem = problem
        .replace("expected a sequence", "expected a list, as in [\"…\"]")
        .replace("expected a floating point", "expected a number");
    format!("{key} ({origin}): {problem}")
}

/// A parser quotes the line it stumbles over, which may hold the broker's password.
fn without_source(error: &str) -> String {
    let lines = error.lines().filter(|line| !line.contains('|'));
    lines
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(": ")
}

/// A `url` of a later layer wins over the `url_file` of an earlier one, as any other value does.
fn without_outranked_url_file(mut tree: Value) -> Value {
    if let ValueKind::Table(sections) = &mut tree.kind
        && let Some(ValueKind::Table(broker)) = sections.get_mut("broker").map(|broker| &mut broker.kind)
    {
        let rank = |key: &str| broker.get(key).map(|value| layer(value.origin()));
        if rank("url") > rank("url_file") {
            broker.remove("url_file");
        }
    }
    tree
}

/// Which layer a value came from: a file, the environment, a flag.
fn layer(origin: Option<&str>) -> u8 {
    match origin {
        Some(FROM_ENVIRONMENT) => 1,
        Some(_) => 0,
        None => 2,
    }
}

/// The names of environment variables come here in lower case, so a crew's `env` cannot be set that way.
fn refuse_lowercased_env(origins: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    let variable = format!("environment variable {ENVIRONMENT_PREFIX}__CREWS__");
    match origins
        .iter()
        .find(|(key, origin)| key.contains(".env.") && origin.starts_with(&variable))
    {
        Some((key, origin)) => Err(ConfigError::Unreadable(format!(
            "{key} ({origin}): a crew's variables cannot be set by one of ours, which knows no lower and upper case; \
             set env in the file, or name an env_file"
        ))),
        None => Ok(()),
    }
}

fn collect_origins(value: &Value, key: String, origins: &mut BTreeMap<String, String>) {
    if let ValueKind::Table(table) = &value.kind {
        for (name, value) in table {
            let key = if key.is_empty() {
                name.clone()
            } else {
                format!("{key}.{name}")
            };
            collect_origins(value, key, origins);
        }
        return;
    }
    let origin = origin(&key, value.origin());
    origins.insert(key, origin);
}

/// Where a value of `key` came from, in words.
fn origin(key: &str, origin: Option<&str>) -> String {
    match origin {
        Some(FROM_ENVIRONMENT) => {
            format!(
                "environment variable {ENVIRONMENT_PREFIX}__{}",
                key.to_uppercase().replace('.', "__")
            )
        }
        Some(file) => file.to_owned(),
        None => "a flag".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use serde::Deserialize;

    use super::*;
    use crewfleet_amqp::BrokerConfig;

    #[derive(Debug, Deserialize)]
    struct Sample {
        #[serde(default)]
        broker: BrokerConfig,
        #[serde(default, rename = "extra")]
        _extra: BTreeMap<String, Extra>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Extra {
        #[serde(rename = "timeout_s")]
        _timeout_s: Option<f64>,
        #[serde(rename = "path")]
        _path: Option<Vec<String>>,
    }

    fn load_text(text: &str, overrides: &[(&str, &str)]) -> Result<Loaded<Sample>, ConfigError> {
        let dir = std::env::temp_dir().join(format!("crewfleet-config-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("test.toml");
        std::fs::write(&file, text).unwrap();
        let overrides: Vec<_> = overrides
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let loaded = load(Some(&file), &overrides);
        std::fs::remove_dir_all(dir).unwrap();
        loaded
    }

    #[test]
    fn later_layers_win_and_defaults_stay() {
        let loaded = load_text(
            "[broker]\nnamespace = \"a\"\nheartbeat_s = 7",
            &[("broker.namespace", "b")],
        )
        .unwrap();
        assert_eq!(loaded.config.broker.namespace, "b");
        assert_eq!(loaded.config.broker.heartbeat_s, 7);
        assert_eq!(loaded.config.broker.connect_timeout_s, 10);
    }

    #[test]
    fn a_url_of_a_later_layer_wins_over_a_file() {
        let both = "[broker]\nurl_file = \"/no/such/file\"";
        let mut loaded = load_text(both, &[("broker.url", "amqp://later/")]).unwrap();
        loaded.config.broker.resolve().unwrap();
        assert_eq!(loaded.config.broker.url.expose_secret(), "amqp://later/");
        assert!(load_text(both, &[]).unwrap().config.broker.resolve().is_err());
    }

    #[test]
    fn a_line_that_cannot_be_parsed_is_not_shown() {
        let error = load_text("[broker]\nurl = \"amqp://u:secret@h/", &[])
            .unwrap_err()
            .to_string();
        assert!(error.contains("line 2") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_file() {
        let error = load_text("[broker]\nheartbeet_s = 7", &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("\"broker.heartbeet_s\"") && error.contains("test.toml"),
            "{error}"
        );
    }

    #[test]
    fn the_key_that_may_be_meant_is_named() {
        for (text, expected) in [
            (
                "[broker]\nheartbeet_s = 7",
                "test.toml); did you mean heartbeat_s? Remove it or correct its spelling; deploy/CONFIGURATION.md lists",
            ),
            ("[brokr]\nurl = \"x\"", "did you mean broker?"),
            ("[extra.one]\ntimeout = 1", "did you mean timeout_s?"),
            ("[broker]\nnothing_like_it = 7", "test.toml). Remove it"),
        ] {
            let error = load_text(text, &[]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_wrong_type_is_named_with_key_value_and_file() {
        let error = load_text("[broker]\nheartbeat_s = \"soon\"", &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("soon") && error.contains("heartbeat_s") && error.contains("test.toml"),
            "{error}"
        );
        for (text, expected) in [
            ("[extra.one]\ntimeout_s = \"x\"", "extra.one.timeout_s ("),
            ("[extra.one]\npath = \"x\"", "expected a list, as in [\"…\"]"),
        ] {
            let error = load_text(text, &[]).unwrap_err().to_string();
            assert!(
                error.contains(expected) && error.contains("test.toml): "),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_no_url_is_named_by_its_place_and_not_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "http://u:secret@h/").unwrap();
        let by_file = format!("[broker]\nurl_file = \"{}\"", file.path().display());
        for (text, key) in [
            ("[broker]\nurl = \"http://u:secret@h/\"", "broker.url = … ("),
            (by_file.as_str(), "broker.url_file = /"),
        ] {
            let mut loaded = load_text(text, &[]).unwrap();
            let problem = loaded.config.broker.resolve().unwrap_err();
            let error = loaded.invalid(problem).to_string();
            assert!(
                error.contains(key) && error.contains("test.toml") && error.contains("amqp://USER:PASSWORD@"),
                "{error}"
            );
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_bad_value_is_named_with_its_origin_and_secrets_are_not_shown() {
        let mut loaded = load_text("[broker]\nnamespace = \"A B\"\nurl = \"amqp://u:0123@h/\"", &[]).unwrap();
        let problem = loaded.config.broker.resolve().unwrap_err();
        let error = loaded.invalid(problem).to_string();
        assert!(
            error.contains("broker.namespace = \"A B\"") && error.contains("test.toml"),
            "{error}"
        );
        assert_eq!(loaded.config.broker.url.expose_secret(), "amqp://u:0123@h/");
        assert!(!format!("{:?}", loaded.config).contains("0123"));
    }
}
