//! Sinks: whether anybody runs those of the configuration, and what they have given up.

use crewfleet_protocol::{Names, SinkName};

use super::finding::{Finding, State};
use super::topology::Present;

/// Those of the configuration, and the one for the webhooks that kickoffs ask for.
pub(super) fn examine(
    names: &Names,
    sinks: &[SinkName],
    signs_webhooks: bool,
    present: &Present,
    findings: &mut Vec<Finding>,
) {
    let webhooks = SinkName::webhooks();
    if present.queues.contains_key(&names.sink_queue(&webhooks)) {
        let check = "signature of webhooks";
        findings.push(match signs_webhooks {
            true => Finding::ok(check, "they are signed"),
            false => Finding::new(State::Note, check, "none: this configuration has no [webhooks] secret")
                .wanted("a signature, by which a receiver knows who calls")
                .fix(
                    "set [webhooks] secret_file to a file with the output of `echo whsec_$(openssl rand -base64 32)`, for \
                     the gateways or `crewfleet sinks`, and give it to the receivers",
                ),
        });
    }
    for sink in sinks.iter().chain([&webhooks]) {
        if let Some(state) = present.queues.get(&names.sink_queue(sink)) {
            let check = format!("processes of sink {sink}");
            let found = format!("{} run it, {} messages wait", state.consumers, state.messages);
            findings.push(match (state.consumers, state.messages) {
                // Perhaps no kickoff asks for any.
                (0, 0) if *sink == webhooks => Finding::ok(check, found),
                (0, 0) => Finding::new(State::Note, check, found),
                (0, _) => Finding::new(State::Warning, check, found)
                    .wanted("a process that runs it")
                    .fix(
                        "run `crewfleet sinks`, or a gateway with this configuration and [gateway] sinks = true; start it \
                         again, if its webhook has answered 410 (runbook CrewfleetSinkDisabled)",
                    ),
                _ => Finding::ok(check, found),
            });
        }
        if let Some(state) = present.queues.get(&names.sink_dead_letter_queue(sink)) {
            let check = format!("dead letters of sink {sink}");
            let found = format!("{} are kept", state.messages);
            findings.push(match state.messages {
                0 => Finding::ok(check, found),
                _ => Finding::new(State::Note, check, found)
                    .fix(format!("crewfleet dead-letters list --crew sinks.{sink}")),
            });
        }
    }
}
