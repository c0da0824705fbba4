//! All checks, in their order.

use std::collections::BTreeSet;

use crewfleet::{ClientError, KickoffClient};
use crewfleet_amqp::ConnectError;
use crewfleet_amqp::uri::Login;
use crewfleet_protocol::CrewName;
use crewfleet_protocol::topology::{Binding, Topology};

use super::finding::Report;
use super::management::Management;
use super::subject::Subject;
use super::{broker, crews, permissions, sinks, topology, unacked, workers};

/// Runs all checks. `none_answers` is told where no worker answers, before we listen for those that cannot be asked.
///
/// # Errors
/// [`ClientError::Connect`], and [`ClientError::Broker`] when the broker stops to answer meanwhile.
pub(crate) async fn examine(subject: &Subject, none_answers: impl FnOnce()) -> Result<Report, ClientError> {
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
    let mut wanted = Topology::of(client.names(), &names, subject.broker.results());
    wanted.add(subject.of_sinks.clone());
    let wanted = wanted.with_streams(broker::streams(subject, &client, &link, &mut findings).await);
    let present = topology::examine(&link, &wanted, management, &mut findings).await?;
    crews::consumers(client.names(), &names, &present, &mut findings);
    sinks::examine(
        client.names(),
        &subject.sinks,
        subject.signs_webhooks,
        &present,
        &mut findings,
    );
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
