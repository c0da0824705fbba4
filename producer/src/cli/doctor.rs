//! `crewfleet doctor`

use clap::Args;
use crewfleet_producer::doctor::{self, Finding, Report, State, Subject};
use tokio_util::sync::CancellationToken;

use super::exit::Exit;
use super::output::{one_line, print, say};
use super::settings::Settings;

#[derive(Args)]
#[command(
    after_help = "It changes nothing on the broker. Run it with the configuration of a worker: the crews, limits and the user \
of that are what is checked.\n\nExit codes: 0 nothing is unsafe; 1 something is; 2 usage or configuration; 3 broker unreachable."
)]
pub(crate) struct Arguments {
    /// Print the report as one line of JSON
    #[arg(long)]
    json: bool,
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
    say("examining, which takes some seconds");
    let Some(report) = stop.run_until_cancelled(doctor::examine(&subject)).await else {
        return Ok(Exit::GaveUp);
    };
    let report = report?;
    print(&if arguments.json {
        one_line(&report)?
    } else {
        listing(&report)
    })?;
    Ok(match report.state {
        State::Unsafe => Exit::Failed,
        _ => Exit::Succeeded,
    })
}

/// A line a check; what was wanted and the fix stand below it, indented.
fn listing(report: &Report) -> String {
    let mut lines = vec![format!("{} at {}", report.version, report.broker)];
    lines.extend(report.findings.iter().map(lines_of));
    let count = |state: State| {
        report
            .findings
            .iter()
            .filter(|finding| finding.state == state)
            .count()
    };
    let states = [
        State::Unsafe,
        State::Warning,
        State::Unknown,
        State::Note,
        State::Ok,
    ];
    let counts = states.map(|state| format!("{} {}", count(state), state.as_str()));
    lines.push(counts.join(", "));
    lines.join("\n")
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
