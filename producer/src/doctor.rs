//! `crewfleet doctor`: whether the broker is as crewfleet needs it, with a fix for what is not.
//!
//! It changes nothing: each question is one that the broker answers, or refuses, before it would act. Only the
//! heartbeats of workers are heard through a queue of its own, which it deletes. What AMQP does not tell (policies,
//! bindings, alarms, the broker's clock) is read from the management API where `[broker] management_url` is set, else
//! it is `unknown`.
//!
//! | file | what it holds |
//! |---|---|
//! | [`finding`] | what a check found: state, found, wanted, fix |
//! | `management` | the few questions to the management API |
//! | `broker` | version, message size, nodes and alarms, feature flags, the broker's clock |
//! | `topology` | exchanges, queues and bindings: declared against wanted |
//! | `judgement` | what another argument, or a policy, does to the messages of a queue |
//! | `permissions` | what our user may do |
//! | `crews` | time limits against the consumer timeout, drain grace |
//! | `workers` | who is heard, and their clocks |
//! | `unacked` | what is delivered and not acked: who has it, and what it keeps of the queues' logs |

mod broker;
mod crews;
pub mod finding;
mod judgement;
mod management;
mod permissions;
mod topology;
mod unacked;
mod workers;

use std::collections::{BTreeMap, BTreeSet};

use crewfleet_amqp::uri::Login;
use crewfleet_amqp::{BrokerConfig, ConnectError};
use crewfleet_protocol::CrewName;
use crewfleet_protocol::topology::{Binding, Topology};

pub use self::broker::ASK_MANAGEMENT;
pub use self::finding::{Finding, Report, State};
use self::management::Management;
use crate::client::KickoffClient;
use crate::error::ClientError;

/// What the configuration says, as far as it is to be checked.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The section `[broker]`.
    pub broker: BrokerConfig,
    /// The crews and their time limits in seconds.
    pub crews: BTreeMap<CrewName, f64>,
    /// `[worker] declare`.
    pub declare: bool,
    /// `[worker] drain_grace_s`.
    pub drain_grace_s: f64,
    /// `[worker] cancel_grace_s`.
    pub cancel_grace_s: f64,
    /// How long the crews' processes may take to end: `exit_grace_s` of the crew with the longest.
    pub exit_grace_s: f64,
    /// `[worker] termination_grace_s`: what the deployment grants, where that is known.
    pub termination_grace_s: Option<f64>,
}

/// Runs all checks.
///
/// # Errors
/// [`ClientError::Connect`], and [`ClientError::Broker`] when the broker stops to answer meanwhile.
pub async fn examine(subject: &Subject) -> Result<Report, ClientError> {
    examine_telling(subject, || {}).await
}

/// As [`examine`]; `none_answers` is told where no worker answers, before we listen for those that cannot be asked.
///
/// # Errors
/// As [`examine`].
pub async fn examine_telling(subject: &Subject, none_answers: impl FnOnce()) -> Result<Report, ClientError> {
    let client = KickoffClient::connect(&subject.broker, "crewfleet doctor").await?;
    let link = client.broker().connected().await;
    let mut findings = vec![broker::version(link.version())];
    let management = Management::connect(&subject.broker, &mut findings).await?;
    let management = management.as_ref();

    let heard = workers::hear(&client, &mut findings, none_answers).await;
    let limits = crews::limits(subject, &heard);
    let mut names: BTreeSet<CrewName> = limits.keys().cloned().collect();
    names.extend(crews::declared(client.names(), management).await);
    let names = Vec::from_iter(names);
    let wanted = Topology::of(client.names(), &names, subject.broker.results());
    let wanted = wanted.with_streams(broker::streams(subject, &client, &link, &mut findings).await);
    let present = topology::examine(&link, &wanted, management, &mut findings).await?;
    crews::consumers(client.names(), &names, &present, &mut findings);
    unacked::examine(&client, link.version(), &names, &heard, management, &mut findings).await;
    crews::time_limits(subject, &limits, link.version(), &present, &mut findings);
    crews::drain_grace(subject, &mut findings);
    let questions = Binding {
        exchange: client.names().queries(),
        queue: client.own_queue("queries"),
        key: String::new(),
    };
    let login = Login::of(&subject.broker).map_err(ConnectError::from)?;
    let user = permissions::User {
        name: login.user.as_ref().map(|(name, _)| name.as_str()),
        vhost: &login.vhost,
        client_name: subject.broker.client_name.as_deref(),
    };
    permissions::examine(
        &link,
        (client.names(), &user),
        subject.declare,
        &wanted,
        &present,
        &questions,
        &mut findings,
    )
    .await?;
    broker::message_size(&link, subject, client.names(), &present, &mut findings).await?;
    broker::cluster(management, &mut findings).await;
    let endpoint = client.broker().endpoint().to_string();
    let version = link.version().to_string();
    drop(link);
    client.close().await;
    Ok(Report::new(endpoint, version, findings))
}
