//! `crewfleet doctor`

use crate::doctor::{self, ASK_MANAGEMENT, Finding, Report, State, Subject};
use clap::Args;
use crewfleet_protocol::{Names, SinkName};
use crewfleet_sinks::SinksError;
use crewfleet_sinks::running::topology_of_all;
use tokio_util::sync::CancellationToken;

use super::workers::none_answers;
use crate::exit::Exit;
use crate::format::Format;
use crate::output::{counted, say};
use crate::settings::Settings;

#[derive(Args)]
#[command(
    after_help = "It changes nothing on the broker. Run it with the configuration of a worker: the crews, limits and the user \
of that are what is checked.\n\nExit codes: 0 nothing is unsafe; 1 something is; 2 usage or configuration; 3 broker unreachable."
)]
pub(crate) struct Arguments {
    /// Show all checks, whole; without it at most 20 lines of what is wrong, the worst first
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    format: Format,
}

pub(crate) async fn run(
    settings: &Settings,
    arguments: Arguments,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let (drain_grace_s, cancel_grace_s, termination_grace_s) = settings.graces();
    let sinks = settings.sinks()?;
    let of_sinks =
        topology_of_all(&sinks, &Names::new(&settings.broker.namespace)).map_err(SinksError::from)?;
    let subject = Subject {
        broker: settings.broker.clone(),
        sinks: sinks
            .sinks
            .keys()
            .filter_map(|name| SinkName::parse(name).ok())
            .collect(),
        signs_webhooks: sinks.webhooks.has_secret(),
        of_sinks,
        crews: settings.time_limits()?,
        declare: settings.declares(),
        drain_grace_s,
        cancel_grace_s,
        exit_grace_s: settings.exit_grace_s(),
        termination_grace_s,
    };
    let examining = doctor::examine(&subject, || say(&none_answers()));
    let Some(report) = stop.run_until_cancelled(examining).await else {
        return Ok(Exit::GaveUp);
    };
    let report = report?;
    let text = || match arguments.all {
        true => listing(&report),
        false => summary(&report),
    };
    arguments.format.print(&report, || Some(text()))?;
    Ok(match report.state {
        State::Unsafe => Exit::Failed,
        _ => Exit::Succeeded,
    })
}

/// How many lines of findings are shown, and how long one may be.
const LINES: usize = 20;
const LINE_CHARS: usize = 240;

/// What is wrong, the worst first, as far as there is room; then how much there is.
fn summary(report: &Report) -> String {
    let wrong = report
        .findings
        .iter()
        .filter(|finding| finding.state >= State::Unknown);
    let (for_management, wrong): (Vec<_>, Vec<_>) = wrong.partition(|finding| asks_management(finding));
    let for_management = of_management(&for_management);
    let mut wrong: Vec<_> = wrong.into_iter().chain(&for_management).collect();
    wrong.sort_by_key(|finding| std::cmp::Reverse(finding.state));
    let mut lines = Vec::new();
    let mut shown = 0;
    for finding in &wrong {
        let text = lines_of(finding);
        let of_finding: Vec<_> = text.lines().map(shortened).collect();
        if lines.len() + of_finding.len() > LINES {
            break;
        }
        shown += 1;
        lines.extend(of_finding);
    }
    let left = wrong.len() - shown;
    if left > 0 {
        lines.push(format!(
            "{} more: crewfleet doctor --all",
            counted(left as u64, "finding")
        ));
    }
    lines.insert(0, format!("{} at {}", report.version, report.broker));
    lines.push(counts(report));
    lines.join("\n")
}

fn asks_management(finding: &Finding) -> bool {
    let fix = finding.fix.as_deref().unwrap_or_default();
    finding.state == State::Unknown && fix.starts_with(ASK_MANAGEMENT)
}

/// All that only the management API can tell, as one: one thing is to be done about it.
fn of_management(findings: &[&Finding]) -> Option<Finding> {
    let checks: Vec<_> = findings
        .iter()
        .map(|finding| finding.check.as_str())
        .filter(|check| *check != "management API")
        .collect();
    let first = findings.first()?;
    let found = match checks.as_slice() {
        [] => first.found.clone(),
        checks => format!("only that can tell of: {}", checks.join(", ")),
    };
    Some(Finding {
        check: "management API".to_owned(),
        state: State::Unknown,
        found,
        wanted: None,
        fix: Some(format!(
            "{ASK_MANAGEMENT}, as in http://127.0.0.1:15672 (plugin rabbitmq_management); or look with the commands that \
             crewfleet doctor --all names"
        )),
    })
}

/// A fix is to be pasted, so it is never cut.
fn shortened(line: &str) -> String {
    if line.trim_start().starts_with("fix: ") || line.chars().count() <= LINE_CHARS {
        return line.to_owned();
    }
    let start: String = line.chars().take(LINE_CHARS).collect();
    format!("{start}… (--all)")
}

/// A line a check; what was wanted and the fix stand below it, indented.
fn listing(report: &Report) -> String {
    let mut lines = vec![format!("{} at {}", report.version, report.broker)];
    lines.extend(report.findings.iter().map(lines_of));
    lines.push(counts(report));
    lines.join("\n")
}

fn counts(report: &Report) -> String {
    let count = |state: State| {
        let of_state = report.findings.iter().filter(|finding| finding.state == state);
        of_state.count()
    };
    let states = [
        State::Unsafe,
        State::Warning,
        State::Unknown,
        State::Note,
        State::Ok,
    ];
    states
        .map(|state| match state {
            State::Warning | State::Note => counted(count(state) as u64, &state.to_string()),
            _ => format!("{} {state}", count(state)),
        })
        .join(", ")
}

fn lines_of(finding: &Finding) -> String {
    let mut text = format!("{:<7}  {}: {}", finding.state, finding.check, finding.found);
    if let Some(wanted) = &finding.wanted {
        text += &format!("\n         wanted: {wanted}");
    }
    if let Some(fix) = &finding.fix {
        text += &format!("\n         fix: {fix}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(check: &str, fix: &str) -> Finding {
        Finding {
            check: check.to_owned(),
            state: State::Unknown,
            found: "only RabbitMQ's management API can tell".to_owned(),
            wanted: None,
            fix: Some(fix.to_owned()),
        }
    }

    #[test]
    fn what_only_the_management_api_can_tell_is_one_line() {
        let ask = |how: &str| format!("{ASK_MANAGEMENT}{how}");
        let report = Report {
            broker: "amqp://b".to_owned(),
            version: "RabbitMQ 4".to_owned(),
            state: State::Unknown,
            findings: vec![
                unknown("management API", &ask(", as in http://")),
                unknown("bindings", &ask(", or: rabbitmqctl list_bindings")),
                unknown("feature flags", &ask("")),
                unknown("drain grace", "say it"),
            ],
        };
        let summary = summary(&report);
        assert!(
            summary.contains("unknown  management API: only that can tell of: bindings, feature flags\n"),
            "{summary}"
        );
        assert_eq!(summary.matches("unknown  ").count(), 2, "{summary}");
        assert!(
            summary.ends_with("0 unsafe, 0 warnings, 4 unknown, 0 notes, 0 ok"),
            "{summary}"
        );
        assert!(listing(&report).contains("list_bindings"));
    }
}
