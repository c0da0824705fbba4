//! The command line.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};
use crewfleet_tests::{clock, crews};

use super::{
    caller::CallerArguments,
    gateway::GatewayArguments,
    native::NativeArguments,
    producer::ProducerArguments,
    schedule::{self, Kind},
    sinks::SinksArguments,
};

const NO_FAKETIME: &str =
    "libfaketime: run tests/test-env.sh, which fetches it, or install Debian's package libfaketime";

/// Runs kickoffs through a fleet while faults hit it, and checks what became of each.
///
/// Progress goes to stderr; the last line of stdout is a JSON summary. Exit status 0: nothing of what is promised was
/// broken. 1: something was; the folder with the whole history is kept then, and named.
#[derive(Debug, Parser)]
#[command(name = "campaign", args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    /// The campaign.
    #[command(flatten)]
    pub options: Options,
    /// What its own processes are.
    #[command(subcommand)]
    pub role: Option<Role>,
}

/// The campaign.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// How many kickoffs are published.
    #[arg(long, default_value_t = 600)]
    pub kickoffs: u64,
    /// Makes kickoffs and faults; the same seed makes the same ones. Any, by default.
    #[arg(long)]
    pub seed: Option<u64>,
    /// How many rows the batch has; by default as many as there are kickoffs.
    #[arg(long)]
    pub batch_items: Option<u64>,
    /// The kinds of faults: `all` (that the nodes allow), `none`, or some, separated by commas.
    #[arg(long, default_value = "all")]
    pub faults: String,
    /// How many faults at least; some more are scheduled, since some find nobody to hit. By default one for each 100
    /// kickoffs, but at least one of each kind.
    #[arg(long)]
    pub fault_count: Option<usize>,
    /// The nodes of the broker: 1, or a cluster of 3.
    #[arg(long, default_value_t = 1, value_parser = one_or_three)]
    pub nodes: u8,
    /// Over how many seconds kickoffs and faults are spread; by default 15 kickoffs a second, but at least 90 s.
    #[arg(long)]
    pub span_s: Option<f64>,
    /// How long, in seconds, all that was published may take to be answered after the last fault.
    #[arg(long, default_value_t = 300.0)]
    pub patience_s: f64,
    /// A `crewfleet-worker` of an earlier version, which runs beside the others. By default what CREWFLEET_OLD_WORKER
    /// names; without either all workers are of this version.
    #[arg(long, value_name = "PATH")]
    pub old_worker: Option<PathBuf>,
    /// Keep the folder with the history even where nothing was broken.
    #[arg(long)]
    pub keep: bool,
}

/// What a process of the campaign is; it starts these itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// A worker with the crew in Rust.
    #[command(hide = true)]
    Worker {
        /// Its configuration.
        #[arg(long)]
        config: PathBuf,
    },
    /// A crew that is a program.
    #[command(hide = true)]
    Crew,
    /// A producer.
    #[command(hide = true)]
    Producer(ProducerArguments),
    /// A producer that calls a gateway as a client of AMP does.
    #[command(hide = true)]
    Caller(CallerArguments),
    /// A producer that calls the gateways' native API.
    #[command(hide = true)]
    Native(NativeArguments),
    /// A gateway.
    #[command(hide = true)]
    Gateway(GatewayArguments),
    /// A process of sinks.
    #[command(hide = true)]
    Sinks(SinksArguments),
}

impl Options {
    /// Over how long kickoffs and faults are spread.
    pub(crate) fn span(&self) -> Duration {
        let by_default = || (self.kickoffs as f64 / 15.0).max(90.0);
        Duration::from_secs_f64(self.span_s.unwrap_or_else(by_default))
    }

    /// How many rows the batch has.
    pub(crate) fn batch_items(&self) -> u64 {
        self.batch_items.unwrap_or(self.kickoffs).max(1)
    }

    /// The kinds of faults that were asked for.
    pub(crate) fn kinds(&self) -> anyhow::Result<Vec<Kind>> {
        match self.faults.as_str() {
            "none" => Ok(Vec::new()),
            "all" => Ok(self.all_that_can_be_done()),
            list => list.split(',').map(|name| self.kind(name)).collect(),
        }
    }

    fn kind(&self, name: &str) -> anyhow::Result<Kind> {
        let kind = name.parse()?;
        let allowed = Kind::of_nodes(self.nodes);
        ensure!(
            allowed.contains(&kind),
            "--faults: {kind} cannot be done with --nodes {}; there are {}",
            self.nodes,
            schedule::names(&allowed)
        );
        ensure!(
            !kind.is_of_clocks() || clock::library().is_some(),
            "--faults: {kind} cannot be done without {NO_FAKETIME}"
        );
        Ok(kind)
    }

    /// What is left out is said.
    fn all_that_can_be_done(&self) -> Vec<Kind> {
        let mut kinds = Kind::of_nodes(self.nodes);
        if clock::library().is_none() {
            let (of_clocks, others): (Vec<_>, Vec<_>) =
                kinds.into_iter().partition(|kind| kind.is_of_clocks());
            eprintln!(
                "campaign: {} are left out without {NO_FAKETIME}",
                schedule::names(&of_clocks)
            );
            kinds = others;
        }
        kinds
    }

    /// The worker of an earlier version, if there is one.
    pub(crate) fn old_worker(&self) -> anyhow::Result<Option<PathBuf>> {
        let Some(named) = &self.old_worker else {
            return Ok(crews::old_worker());
        };
        let found = named.canonicalize();
        Ok(Some(found.with_context(|| {
            format!("--old-worker {}: name a crewfleet-worker", named.display())
        })?))
    }

    /// How many faults of so many kinds are to be done at least.
    pub(crate) fn fault_count(&self, kinds: usize) -> usize {
        let by_default = || {
            usize::try_from(self.kickoffs / 100)
                .unwrap_or(usize::MAX)
                .max(kinds)
        };
        self.fault_count.unwrap_or_else(by_default)
    }

    /// How many are scheduled: a tenth more than are to be done, since some find nobody to hit.
    pub(crate) fn scheduled(&self, kinds: usize) -> usize {
        let count = self.fault_count(kinds);
        count + count.div_ceil(10)
    }
}

fn one_or_three(nodes: &str) -> Result<u8, String> {
    match nodes {
        "1" => Ok(1),
        "3" => Ok(3),
        _ => Err("must be 1, or 3 for a cluster".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Options {
        let command = ["campaign"].iter().chain(arguments);
        Arguments::try_parse_from(command).expect("arguments").options
    }

    #[test]
    fn a_kind_that_the_nodes_do_not_have_is_refused() {
        for (nodes, kind, other) in [
            ("1", "partition", "broker_sigkill"),
            ("1", "leader_sigkill", "broker_restart"),
            ("3", "broker_sigkill", "leader_sigkill"),
            ("3", "broker_restart", "rolling_restart"),
        ] {
            let asked = format!("worker_sigkill,{kind}");
            let refused = options(&["--nodes", nodes, "--faults", &asked]).kinds();
            let error = refused.expect_err(kind).to_string();
            assert!(error.contains(&format!("{kind} cannot be done")), "{error}");
            assert!(error.contains(other), "{error}");
            let kinds = options(&["--nodes", nodes, "--faults", other]).kinds();
            assert_eq!(kinds.expect(other).len(), 1);
        }
    }

    #[test]
    fn more_faults_are_scheduled_than_are_to_be_done() {
        for (count, scheduled) in [("0", 0), ("1", 2), ("30", 33), ("31", 35)] {
            let options = options(&["--fault-count", count]);
            assert_eq!(options.scheduled(5), scheduled, "{count}");
        }
        assert_eq!(options(&["--kickoffs", "100"]).scheduled(20), 22);
    }
}
