//! What is checked.

use std::collections::BTreeMap;

use crewfleet::BrokerConfig;
use crewfleet_protocol::topology::Topology;
use crewfleet_protocol::{CrewName, SinkName};

/// What the configuration says, as far as it is to be checked.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    /// The section `[broker]`.
    pub(crate) broker: BrokerConfig,
    /// The crews and their time limits in seconds.
    pub(crate) crews: BTreeMap<CrewName, f64>,
    /// The sinks.
    pub(crate) sinks: Vec<SinkName>,
    /// Whether the webhooks that kickoffs ask for are signed.
    pub(crate) signs_webhooks: bool,
    /// What these need beside what all workers do.
    pub(crate) of_sinks: Topology,
    /// `[worker] declare`.
    pub(crate) declare: bool,
    /// `[worker] drain_grace_s`.
    pub(crate) drain_grace_s: f64,
    /// `[worker] cancel_grace_s`.
    pub(crate) cancel_grace_s: f64,
    /// How long the crews' processes may take to end: `exit_grace_s` of the crew with the longest.
    pub(crate) exit_grace_s: f64,
    /// `[worker] termination_grace_s`: what the deployment grants, where that is known.
    pub(crate) termination_grace_s: Option<f64>,
}
