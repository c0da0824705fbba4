//! `crewfleet dead-letters purge`

use anyhow::bail;
use clap::Args;
use crewfleet::KickoffClient;
use crewfleet::dead_letters::DeadLetters;
use tokio_util::sync::CancellationToken;

use super::ask::{agreed, can_ask};
use super::{Selectors, check_reason, not_there, say_where, where_to_look, with};
use crate::exit::Exit;
use crate::output::{counted, print, say};
use crate::settings::Settings;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    selectors: Selectors,
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
    if !arguments.yes && !can_ask() {
        bail!("purge throws requests away for good, and there is no terminal to ask on: add --yes");
    }
    with(settings, async |client: &KickoffClient| {
        let letters = DeadLetters::of(client);
        let planning = async {
            let crews = where_to_look(&letters, settings, &arguments.selectors.crews).await?;
            let plan = letters.plan(&crews, &selection).await?;
            say_where(&plan.queues);
            if plan.letters() == 0 {
                check_reason(&selection)?;
            }
            if plan.letters() > 0 && !arguments.yes {
                say(&format!(
                    "these would be gone for good:\n{}",
                    super::print::listing(&plan.groups, chrono::Utc::now())
                ));
                if !agreed(&format!("purge {}?", counted(plan.letters(), "dead letter"))).await {
                    say("nothing was purged");
                    return Ok(None);
                }
            }
            anyhow::Ok(Some(plan))
        };
        let Some(plan) = stop.run_until_cancelled(planning).await else {
            say("interrupted; nothing was purged");
            return Ok(Exit::Failed);
        };
        let Some(plan) = plan? else {
            return Ok(Exit::Failed);
        };
        if plan.letters() == 0
            && let Some(id) = &selection.kickoff_id
        {
            return Ok(not_there(id));
        }
        let report = letters.purge(plan, stop).await?;
        print(&format!("{} purged", report.purged))?;
        if report.gone > 0 {
            say(&format!(
                "somebody else took {} meanwhile",
                counted(report.gone, "letter")
            ));
        }
        if report.interrupted {
            say("interrupted; the others are in the dead letters as before");
            return Ok(Exit::Failed);
        }
        Ok(Exit::Succeeded)
    })
    .await
}
