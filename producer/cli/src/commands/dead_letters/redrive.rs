//! `crewfleet dead-letters redrive`

use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use crewfleet::dead_letters::{DeadLetters, Owner, Plan, RedriveOptions, RedriveReport};
use crewfleet::{KickoffClient, KickoffId};
use crewfleet_protocol::topology::Reason;
use tokio_util::sync::CancellationToken;

use super::ask::{agreed, can_ask};
use super::{Selectors, check_reason, not_there, say_where, where_to_look, with};
use crate::exit::Exit;
use crate::output::{counted, print, say};
use crate::settings::Settings;

/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(1);

/// Of a thousand letters that fail alike, so many are told.
const TOLD: usize = 20;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    selectors: Selectors,
    /// So many a second at most
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// Only say what would be redriven
    #[arg(long)]
    dry_run: bool,
    /// Keep what was redriven so often already: it fails again and again
    #[arg(long, value_name = "N", default_value_t = RedriveOptions::default().max_redrives)]
    max_redrives: u32,
    /// Redrive those as well
    #[arg(long)]
    force: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(
    settings: &Settings,
    arguments: &Arguments,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let selection = arguments.selectors.selection()?;
    let options = RedriveOptions {
        rate: arguments.rate,
        max_redrives: arguments.max_redrives,
        force: arguments.force,
    };
    with(settings, async |client: &KickoffClient| {
        let letters = DeadLetters::of(client);
        let planning = async {
            let crews = where_to_look(&letters, settings, &arguments.selectors.crews).await?;
            anyhow::Ok(letters.plan(&crews, &selection).await?)
        };
        let Some(plan) = stop.run_until_cancelled(planning).await else {
            say("interrupted; nothing was redriven");
            return Ok(Exit::Failed);
        };
        let plan = plan?;
        say_where(&plan.queues);
        if plan.letters() == 0 {
            check_reason(&selection)?;
            return Ok(match &selection.kickoff_id {
                Some(id) => not_there(id),
                None => {
                    print("0 redriven: no dead letter is selected")?;
                    Exit::Succeeded
                }
            });
        }
        warn_of_rejected(&plan);
        if arguments.dry_run {
            return dry_run(&plan, &options);
        }
        // Each is a run of its crew, with all that this costs. Who names one has counted.
        let count = plan.forecast(&options).redriven;
        let of_sinks = only_sinks(&selection.crews);
        let (what, happens) = match of_sinks {
            true => ("dead letter", "would be handed on again"),
            false => ("kickoff", "would be run again, with all that this costs"),
        };
        if count > 0 && selection.kickoff_id.is_none() && !arguments.yes {
            if !can_ask() {
                bail!(
                    "{} {happens}, and there is no terminal to ask on: add --yes",
                    counted(count, what)
                );
            }
            say(&format!(
                "these would be redriven:\n{}",
                super::print::listing(&plan.groups, chrono::Utc::now())
            ));
            let question = match of_sinks {
                true => format!("hand {} on again?", counted(count, what)),
                false => format!("run {} again?", counted(count, what)),
            };
            let answer = stop.run_until_cancelled(agreed(&question)).await;
            if answer != Some(true) {
                say("nothing was redriven");
                return Ok(Exit::Failed);
            }
        }
        let mut told = Instant::now();
        let progress = |done, total| {
            if done == total || told.elapsed() >= PROGRESS {
                told = Instant::now();
                say(&format!("{done} of {total} dead letters done"));
            }
        };
        let only = selection.kickoff_id.clone().or_else(|| only_one(&plan));
        let report = letters.redrive(plan, &options, stop, progress).await?;
        let exit = tell(&report, &options)?;
        if report.redriven == 1
            && !of_sinks
            && let Some(id) = only
        {
            say(&format!("its new reply, when it has ended: crewfleet wait {id}"));
        }
        Ok(exit)
    })
    .await
}

/// Whether they are of sinks alone, so that nothing runs.
fn only_sinks(owners: &[Owner]) -> bool {
    !owners.is_empty() && owners.iter().all(|owner| matches!(owner, Owner::Sink(_)))
}

/// The kickoff, where the letters are of one alone.
fn only_one(plan: &Plan) -> Option<KickoffId> {
    match plan.groups.as_slice() {
        [group] if group.count == 1 => group.example.clone(),
        _ => None,
    }
}

fn dry_run(plan: &Plan, options: &RedriveOptions) -> anyhow::Result<Exit> {
    print(&super::print::listing(&plan.groups, chrono::Utc::now()))?;
    let forecast = plan.forecast(options);
    print(&format!("{} would be redriven", forecast.redriven))?;
    if forecast.copies > 0 {
        say(&format!(
            "{} would only be removed: another one stands for the same kickoff",
            counted(forecast.copies, "letter")
        ));
    }
    if forecast.guarded > 0 {
        say_guarded(forecast.guarded, options);
    }
    Ok(Exit::Succeeded)
}

fn tell(report: &RedriveReport, options: &RedriveOptions) -> anyhow::Result<Exit> {
    print(&format!("{} redriven", report.redriven))?;
    if report.copies > 0 {
        say(&format!(
            "only removed, since another one stands for the same kickoff: {}",
            counted(report.copies, "letter")
        ));
    }
    if report.guarded > 0 {
        say_guarded(report.guarded, options);
    }
    for undone in report.undone.iter().take(TOLD) {
        let of = match undone.crew.contains('.') {
            true => undone.crew.clone(),
            false => format!("crew {}", undone.crew),
        };
        say(&format!(
            "kickoff {} of {of} is not redriven: {}",
            undone.kickoff_id, undone.problem
        ));
    }
    if report.undone.len() > TOLD {
        say(&format!("and {} more like these", report.undone.len() - TOLD));
    }
    if report.gone > 0 {
        say(&format!(
            "somebody else took {} meanwhile",
            counted(report.gone, "letter")
        ));
    }
    if report.interrupted {
        say("interrupted; what was not redriven is in the dead letters as before");
    }
    let all = report.undone.is_empty() && report.guarded == 0 && report.gone == 0 && !report.interrupted;
    Ok(if all { Exit::Succeeded } else { Exit::Failed })
}

fn say_guarded(guarded: u64, options: &RedriveOptions) {
    say(&format!(
        "kept, since redriven {} times or more, and dead each time: {} (--max-redrives; --force redrives what is kept, too)",
        options.max_redrives,
        counted(guarded, "letter")
    ));
}

fn warn_of_rejected(plan: &Plan) {
    let rejected = plan
        .groups
        .iter()
        .filter(|group| group.reason == Reason::Rejected.as_str());
    let rejected: u64 = rejected.map(|group| group.count).sum();
    if rejected > 0 {
        say(&format!(
            "{rejected} of these were rejected as requests that cannot be understood: they will be again, unless the \
             workers have changed"
        ));
    }
}

/// A number above 0.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("expected a number above 0, as in 5 or 0.5".into()),
    }
}
