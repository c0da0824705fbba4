//! How crews are served, and those in Rust.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crewfleet_protocol::InputsSchema;

use crate::config::{CrewConfig, DEFAULT_CRASH_LIMIT, OnRedelivery, RetryConfig};
use crate::runner::builtin::Handler;

/// How a crew is served.
#[derive(Debug, Clone)]
pub struct CrewOptions {
    /// How many kickoffs at once.
    pub concurrency: u16,
    /// The hard limit of one.
    pub timeout: Duration,
    /// What to do with a redelivered one.
    pub on_redelivery: OnRedelivery,
    /// How many workers one may take along.
    pub crash_limit: u32,
    /// When to try again what failed.
    pub retry: RetryConfig,
    /// Whether they tell what happens to them on the way (`kickoff.events`).
    pub events: bool,
    /// The JSON Schema of the inputs, told to whoever asks; nothing is checked against it.
    pub inputs_schema: Option<InputsSchema>,
}

impl Default for CrewOptions {
    fn default() -> Self {
        Self {
            concurrency: 16,
            timeout: Duration::from_secs(600),
            on_redelivery: OnRedelivery::Run,
            crash_limit: DEFAULT_CRASH_LIMIT,
            retry: RetryConfig::default(),
            events: true,
            inputs_schema: None,
        }
    }
}

impl From<&CrewConfig> for CrewOptions {
    fn from(of_crew: &CrewConfig) -> Self {
        Self {
            concurrency: of_crew.concurrency,
            timeout: Duration::from_secs_f64(of_crew.timeout_s),
            on_redelivery: of_crew.on_redelivery,
            crash_limit: of_crew.crash_limit,
            retry: of_crew.retry(),
            events: of_crew.events,
            inputs_schema: of_crew.inputs_schema().cloned(),
        }
    }
}

/// Crews in Rust, by name.
pub(crate) type Handlers = BTreeMap<String, (CrewOptions, Arc<dyn Handler>)>;
