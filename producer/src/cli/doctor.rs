//! `crewfleet doctor`

use clap::Args;
use crewfleet_producer::doctor::{self, Finding, Report, State, Subject};
use tokio_util::sync::CancellationToken;

use super::exit::Exit;
use super::format::Format;
use super::output::say;
use super::settings::Settings;
use super::workers::none_answers;

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
    let subject = Subject {
        broker: settings.broker.clone(),
        crews: settings.time_limits()?,
        declare: settings.declares(),
        drain_grace_s,
        cancel_grace_s,
        exit_grace_s: settings.exit_grace_s(),
        termination_grace_s,
    };
    let examining = doctor::examine_telling(&subject, || say(&none_answers()));
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
    let mut wrong: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.state >= State::Unknown)
        .collect();
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
            "{left} more that are not as they should be: crewfleet doctor --all"
        ));
    }
    lines.insert(0, format!("{} at {}", report.version, report.broker));
    lines.push(counts(report));
    lines.join("\n")
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
        .map(|state| format!("{} {}", count(state), state.as_str()))
        .join(", ")
}

fn lines_of(finding: &Finding) -> String {
    let mut text = format!(
        "{:<7}  {}: {}",
        finding.state.as_str(),
        finding.check,
        finding.found
    );
    if let Some(wanted) = &finding.wanted {
        text += &format!("\n         wanted: {wanted}");
    }
    if let Some(fix) = &finding.fix {
        text += &format!("\n         fix: {fix}");
    }
    text
}
