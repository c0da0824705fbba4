//! What our user may do. A worker needs all of it; a producer to publish requests and to have a queue of its own.

use std::collections::BTreeSet;

use crewfleet_shared::amqp::inspect::Allowed;
use crewfleet_shared::amqp::topology::Topology;
use crewfleet_shared::amqp::{BrokerError, Link};

use super::broker::no_answer;
use super::finding::{Finding, State};
use super::judgement::Role;
use super::topology::Present;

const CHECK: &str = "permissions";

pub(super) async fn examine(
    link: &Link,
    wanted: &Topology,
    present: &Present,
    findings: &mut Vec<Finding>,
) -> Result<(), BrokerError> {
    // The same words for one object may come from several questions.
    let mut refused: BTreeSet<String> = present.hidden.values().cloned().collect();
    for exchange in &present.exchanges {
        match link.may_publish(exchange, 0).await {
            Ok(Allowed::No(cause)) => drop(refused.insert(cause)),
            Ok(_) => {}
            Err(error @ BrokerError::Timeout { .. }) => {
                findings.push(no_answer(CHECK, &error));
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    for queue in &wanted.queues {
        let consumed = Role::of(queue) != Role::Retry && present.queues.contains_key(&queue.name);
        if consumed && let Allowed::No(cause) = link.may_consume(&queue.name).await? {
            refused.insert(cause);
        }
    }
    for binding in &wanted.bindings {
        let there =
            present.queues.contains_key(&binding.queue) && present.exchanges.contains(&binding.exchange);
        if there && let Allowed::No(cause) = link.may_bind(binding).await? {
            refused.insert(cause);
        }
    }
    findings.push(if refused.is_empty() {
        match present.exchanges.is_empty() {
            true => Finding::new(State::Unknown, CHECK, "there is nothing to try them on"),
            false => Finding::ok(CHECK, "to configure, write and read all that a worker needs"),
        }
    } else {
        Finding::new(
            State::Unsafe,
            CHECK,
            refused.into_iter().collect::<Vec<_>>().join("; "),
        )
        .wanted("to configure, write and read everything in the namespace, as a worker needs")
        .fix(
            "rabbitmqctl set_permissions -p VHOST USER CONFIGURE WRITE READ, each '^NAMESPACE[.].*' or wider",
        )
    });
    Ok(())
}
