//! What our user may do. A worker that declares needs nearly all of it, and so do `dead-letters` and this command; one
//! with `[worker] declare = false` needs what it publishes to and consumes.

use std::collections::{BTreeMap, BTreeSet};

use crewfleet_amqp::inspect::Allowed;
use crewfleet_amqp::{BrokerError, Link};
use crewfleet_protocol::Names;
use crewfleet_protocol::topology::{Binding, Topology};

use super::broker::no_answer;
use super::checks::Role;
use super::finding::{Finding, State};
use super::topology::Present;

const CHECK: &str = "permissions";

/// What is refused, by the permission that it takes: as the broker names it, with its kind.
#[derive(Default)]
struct Refusals {
    objects: BTreeMap<&'static str, BTreeSet<String>>,
    /// What could not be taken apart, in the broker's words.
    others: BTreeSet<String>,
}

impl Refusals {
    /// Takes note of a refusal, as in `access to queue 'kickoff.control' in vhost '/' refused for user 'shop'`.
    fn add(&mut self, permission: &'static str, cause: String) {
        let object = cause
            .split_once("access to ")
            .and_then(|(_, rest)| rest.split_once(" in vhost"));
        match object {
            Some((object, _)) => {
                let of_permission = self.objects.entry(permission).or_default();
                of_permission.insert(object.to_owned());
            }
            None => drop(self.others.insert(cause)),
        }
    }

    /// To bind takes two permissions.
    fn add_binding(&mut self, cause: String) {
        let permission = match cause.contains("access to queue") {
            true => "write",
            false => "read",
        };
        self.add(permission, cause);
    }

    fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.others.is_empty()
    }

    /// As in `may not write exchange 'a', exchange 'b'; may not read queue 'c'`.
    fn in_words(self) -> String {
        let groups = self.objects.into_iter().map(|(permission, objects)| {
            let objects: Vec<_> = objects.into_iter().collect();
            format!("may not {permission} {}", objects.join(", "))
        });
        groups.chain(self.others).collect::<Vec<_>>().join("; ")
    }
}

/// Who we are at the broker.
pub(super) struct User<'a> {
    /// As whom we log in; `None`: by certificate.
    pub(super) name: Option<&'a str>,
    /// Where.
    pub(super) vhost: &'a str,
    /// `[broker] client_name`.
    pub(super) client_name: Option<&'a str>,
}

impl User<'_> {
    /// The command that grants a worker what it needs. It replaces what the user has.
    fn grant(&self, declares: bool, names: &Names) -> String {
        let namespace = names.namespace().replace('.', "[.]");
        let own = match self.client_name {
            Some(client) => format!("clients[.]{client}[.].+"),
            None => "clients[.].+".to_owned(),
        };
        let of = |what: &str| format!("'^{namespace}[.]{what}$'");
        let (configure, write, read) = match declares {
            true => (of(".+"), of(".+"), of(".+")),
            false => (
                of(&own),
                of(&format!(
                    "(requests|replies|answers|events|webhooks|control|fleet|dead-letters|retry[.].+|{own})"
                )),
                of(&format!(
                    "(requests[.].+|replies|queries|control|fleet|results|{own})"
                )),
            ),
        };
        format!(
            "rabbitmqctl set_permissions -p {} {} {configure} {write} {read}",
            quoted(self.vhost),
            quoted(self.name.unwrap_or("USER"))
        )
    }
}

/// As a word of a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What a worker that does not declare need not publish to: the broker does, or those who ask workers.
const NOT_A_WORKERS: [&str; 3] = [".due", ".dead-letters.unroutable", ".queries"];

pub(super) async fn examine(
    link: &Link,
    (names, user): (&Names, &User<'_>),
    declares: bool,
    wanted: &Topology,
    present: &Present,
    questions: &Binding,
    findings: &mut Vec<Finding>,
) -> Result<(), BrokerError> {
    let mut refused = Refusals::default();
    for exchange in &present.exchanges {
        if !declares && NOT_A_WORKERS.iter().any(|end| exchange.ends_with(end)) {
            continue;
        }
        match link.may_publish(exchange, 0).await {
            Ok(Allowed::No(cause)) => refused.add("write", cause),
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
            // Whoever runs sinks reads theirs.
            Role::DeadLetters | Role::Sink => declares,
            Role::Retry => false,
        };
        let there = present.queues.contains_key(&queue.name);
        if consumed
            && there
            && let Allowed::No(cause) = link.may_consume(&queue.name).await?
        {
            refused.add("read", cause);
        }
    }
    // The queue is each worker's own, and there only while it runs.
    if present.exchanges.contains(&questions.exchange)
        && let Allowed::No(cause) = link.may_bind(questions).await?
    {
        refused.add_binding(cause);
    }
    if declares {
        for cause in present.hidden.values() {
            refused.add("configure", cause.clone());
        }
        for binding in &wanted.bindings {
            let there =
                present.queues.contains_key(&binding.queue) && present.exchanges.contains(&binding.exchange);
            if there && let Allowed::No(cause) = link.may_bind(binding).await? {
                refused.add_binding(cause);
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
        let who = user.name.map_or_else(String::new, |name| format!("the user {name} "));
        Finding::new(State::Unsafe, CHECK, format!("{who}{}", refused.in_words()))
        .wanted(match declares {
            true => "to configure, write and read everything in the namespace, as a worker needs that declares",
            false => "to publish and consume what a worker needs which does not declare ([worker] declare = false)",
        })
        .fix(match declares {
            true => format!(
                "{}; or set [worker] declare = false, and let another user run `crewfleet topology declare`",
                user.grant(declares, names)
            ),
            false => user.grant(declares, names),
        })
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_grouped_by_what_they_take() {
        let mut refused = Refusals::default();
        let said = |object: &str| {
            format!("ACCESS_REFUSED - access to {object} in vhost '/' refused for user 'shop'")
        };
        for exchange in [
            "exchange 'k.events'",
            "exchange 'k.control'",
            "exchange 'k.events'",
        ] {
            refused.add("write", said(exchange));
        }
        refused.add_binding(said("exchange 'k.queries'"));
        refused.add_binding(said("queue 'k.control'"));
        refused.add("configure", "in other words".into());
        assert_eq!(
            refused.in_words(),
            "may not read exchange 'k.queries'; may not write exchange 'k.control', exchange 'k.events', queue 'k.control'; \
             in other words"
        );
    }

    #[test]
    fn the_command_can_be_pasted() {
        let user = User {
            name: Some("o'neil"),
            vhost: "/",
            client_name: Some("shop"),
        };
        let names = Names::new("acme.crews");
        assert_eq!(
            user.grant(true, &names),
            r"rabbitmqctl set_permissions -p '/' 'o'\''neil' '^acme[.]crews[.].+$' '^acme[.]crews[.].+$' '^acme[.]crews[.].+$'"
        );
        let least = user.grant(false, &names);
        assert!(
            least.contains(r"'^acme[.]crews[.]clients[.]shop[.].+$'"),
            "{least}"
        );
    }
}
