//! What our user may do. A worker that declares needs nearly all of it, and so do `dead-letters` and this command; one
//! with `[worker] declare = false` needs what it publishes to and consumes.

use std::collections::BTreeSet;

use crewfleet_shared::amqp::inspect::Allowed;
use crewfleet_shared::amqp::topology::{Binding, Topology};
use crewfleet_shared::amqp::{BrokerError, Link};

use super::broker::no_answer;
use super::finding::{Finding, State};
use super::judgement::Role;
use super::topology::Present;

const CHECK: &str = "permissions";

/// What a worker that does not declare need not publish to: the broker does, or those who ask workers.
const NOT_A_WORKERS: [&str; 3] = [".due", ".dead-letters.unroutable", ".queries"];

pub(super) async fn examine(
    link: &Link,
    declares: bool,
    wanted: &Topology,
    present: &Present,
    questions: &Binding,
    findings: &mut Vec<Finding>,
) -> Result<(), BrokerError> {
    // The same words for one object may come from several questions.
    let mut refused = BTreeSet::new();
    for exchange in &present.exchanges {
        if !declares && NOT_A_WORKERS.iter().any(|end| exchange.ends_with(end)) {
            continue;
        }
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
        let consumed = match Role::of(queue) {
            Role::Requests | Role::Stream => true,
            Role::DeadLetters => declares,
            Role::Retry => false,
        };
        let there = present.queues.contains_key(&queue.name);
        if consumed
            && there
            && let Allowed::No(cause) = link.may_consume(&queue.name).await?
        {
            refused.insert(cause);
        }
    }
    // The queue is each worker's own, and there only while it runs.
    if present.exchanges.contains(&questions.exchange)
        && let Allowed::No(cause) = link.may_bind(questions).await?
    {
        refused.insert(cause);
    }
    if declares {
        refused.extend(present.hidden.values().cloned());
        for binding in &wanted.bindings {
            let there =
                present.queues.contains_key(&binding.queue) && present.exchanges.contains(&binding.exchange);
            if there && let Allowed::No(cause) = link.may_bind(binding).await? {
                refused.insert(cause);
            }
        }
    }
    findings.push(if refused.is_empty() {
        match present.exchanges.is_empty() {
            true => Finding::new(State::Unknown, CHECK, "there is nothing to try them on"),
            false if declares => Finding::ok(CHECK, "to configure, write and read everything in the namespace"),
            false => Finding::ok(CHECK, "to publish and consume all that a worker needs which does not declare"),
        }
    } else {
        Finding::new(
            State::Unsafe,
            CHECK,
            refused.into_iter().collect::<Vec<_>>().join("; "),
        )
        .wanted(match declares {
            true => "to configure, write and read everything in the namespace, as a worker needs that declares",
            false => "to publish and consume what a worker needs which does not declare ([worker] declare = false)",
        })
        .fix(match declares {
            true => "rabbitmqctl set_permissions -p VHOST USER CONFIGURE WRITE READ, each '^NAMESPACE[.].*' or wider; or set \
                     [worker] declare = false, and let another user run `crewfleet topology declare`",
            false => "rabbitmqctl set_permissions -p VHOST USER CONFIGURE WRITE READ, as deploy/rabbitmq/definitions.json has \
                      it for the user worker",
        })
    });
    Ok(())
}
