//! What a person can have the fleet do, and how one sees that it was done.

use super::fleet::Fleet;
use crate::output::worker as named;

/// A command to the fleet. The names are those that heartbeats and workers give, unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Pause this crew.
    Pause(String),
    /// Resume this crew.
    Resume(String),
    /// Drain this worker.
    Drain(String),
    /// Cancel this kickoff.
    Cancel {
        /// Its id.
        id: String,
        /// A reply that it has may be from before it was redriven.
        is_redriven: bool,
    },
}

impl Command {
    /// What is asked before it is sent.
    pub(crate) fn question(&self) -> String {
        match self {
            Self::Pause(crew) => {
                format!("Pause the crew {crew}? Workers start no more of its kickoffs. (y/n)")
            }
            Self::Resume(crew) => format!("Resume the crew {crew}? (y/n)"),
            Self::Drain(worker) => {
                format!(
                    "Drain {}? It finishes what it runs, and ends. (y/n)",
                    named(worker)
                )
            }
            Self::Cancel { id, .. } => format!("Cancel kickoff {id}? (y/n)"),
        }
    }

    /// What is said while it is being sent.
    pub(crate) fn under_way(&self) -> String {
        match self {
            Self::Pause(crew) => format!("Pausing the crew {crew} …"),
            Self::Resume(crew) => format!("Resuming the crew {crew} …"),
            Self::Drain(worker) => format!("Draining {} …", named(worker)),
            Self::Cancel { id, .. } => format!("Cancelling kickoff {id} …"),
        }
    }

    /// What is said when RabbitMQ has it and the heartbeats do not show it yet.
    pub(crate) fn sent(&self) -> String {
        format!("{} RabbitMQ has the command", self.under_way())
    }

    /// What is said once heartbeats show that it was done; `None` before that.
    pub(crate) fn done(&self, fleet: &Fleet) -> Option<String> {
        match self {
            Self::Pause(crew) => is_paused(fleet, crew, true),
            Self::Resume(crew) => is_paused(fleet, crew, false),
            Self::Drain(worker) => {
                let seen = fleet.worker(worker)?;
                seen.heartbeat
                    .draining
                    .then(|| format!("{} drains", named(worker)))
            }
            // Its reply tells.
            Self::Cancel { .. } => None,
        }
    }

    /// What is said when the worker that was to drain is not there any more.
    pub(crate) fn gone(&self) -> String {
        match self {
            Self::Drain(worker) => format!("{} has ended", named(worker)),
            command => command.sent(),
        }
    }

    /// What is said when no heartbeat has shown in time that it was done.
    pub(crate) fn not_confirmed(&self, fleet: &Fleet) -> String {
        let (what, missing) = match self {
            Self::Pause(crew) => (format!("pauses the crew {crew}"), not_so(fleet, crew, true)),
            Self::Resume(crew) => (format!("resumes the crew {crew}"), not_so(fleet, crew, false)),
            Self::Drain(worker) => ("drains".to_owned(), vec![worker.as_str()]),
            Self::Cancel { .. } => return self.sent(),
        };
        format!(
            "RabbitMQ has the command; not yet confirmed that it {what}: {}",
            missing.join(", ")
        )
    }
}

/// The workers that take kickoffs of a crew, with whether they say it to be paused.
fn serving<'a>(fleet: &'a Fleet, crew: &'a str) -> impl Iterator<Item = (&'a str, bool)> {
    let running = fleet.workers().filter(|seen| !seen.heartbeat.draining);
    running.filter_map(move |seen| {
        let mut crews = seen.heartbeat.crews.iter();
        let status = crews.find(|status| status.name == crew)?;
        Some((seen.heartbeat.worker.as_str(), status.paused))
    })
}

fn not_so<'a>(fleet: &'a Fleet, crew: &'a str, paused: bool) -> Vec<&'a str> {
    let others = serving(fleet, crew).filter(|(_, is_paused)| *is_paused != paused);
    others.map(|(worker, _)| worker).collect()
}

fn is_paused(fleet: &Fleet, crew: &str, paused: bool) -> Option<String> {
    if !not_so(fleet, crew, paused).is_empty() {
        return None;
    }
    let done = if paused { "paused" } else { "resumed" };
    let workers: Vec<_> = serving(fleet, crew).map(|(worker, _)| worker).collect();
    Some(match workers.as_slice() {
        [] => format!("the crew {crew} is {done} for workers that start later; none serves it now"),
        workers => format!("the crew {crew} is {done} on {}", workers.join(", ")),
    })
}
