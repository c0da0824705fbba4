//! Which keys a kind of sink takes: one that it does not is a mistake.

use crewfleet_amqp::Problem;

use super::{SinkConfig, SinkKind};

/// Refuses the first key that says nothing to this kind.
pub(super) fn check(name: &str, sink: &SinkConfig, kind: SinkKind) -> Result<(), Problem> {
    use SinkKind::{Amqp, File, Postgres, Webhook};
    let keys: [(&str, bool, &[SinkKind]); 15] = [
        ("url", sink.url.is_some(), &[Webhook, Amqp, Postgres]),
        ("url_file", sink.url_file.is_some(), &[Webhook, Amqp, Postgres]),
        ("secret", sink.secret.is_some(), &[Webhook]),
        ("secret_file", sink.secret_file.is_some(), &[Webhook]),
        ("token", sink.token.is_some(), &[Webhook]),
        ("token_file", sink.token_file.is_some(), &[Webhook]),
        ("path", sink.path.is_some(), &[File]),
        ("max_size", sink.max_size.is_some(), &[File]),
        ("max_age_s", sink.max_age_s.is_some(), &[File]),
        ("keep", sink.keep.is_some(), &[File]),
        ("exchange", sink.exchange.is_some(), &[Amqp]),
        ("routing_key", sink.routing_key.is_some(), &[Amqp]),
        ("table", sink.table.is_some(), &[Postgres]),
        ("events_table", sink.events_table.is_some(), &[Postgres]),
        ("ca_file", sink.ca_file.is_some(), &[Amqp, Postgres]),
    ];
    for (key, is_given, kinds) in keys {
        if is_given && !kinds.contains(&kind) {
            let takers: Vec<_> = kinds.iter().map(|kind| kind.as_str()).collect();
            let problem = format!(
                "a sink of kind {kind} takes no {key}, only one of kind {} does; remove it",
                takers.join(" or ")
            );
            return Err(Problem::new(format!("sinks.{name}.{key}"), "…", problem));
        }
    }
    if kind == Postgres && sink.format.is_some() {
        let problem = "a sink of kind postgres takes no format: it has columns; remove it";
        return Err(Problem::new(format!("sinks.{name}.format"), "…", problem));
    }
    Ok(())
}
