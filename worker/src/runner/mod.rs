//! Runners: the ways a crew can be run. A runner awaits one crew and reports how it ended; deadlines,
//! cancellation and drain reach it through its [`KickoffContext`].

pub(crate) mod builtin;
pub(crate) mod command;
pub(crate) mod late;
mod output;
pub(crate) mod python;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crewfleet_amqp::Problem;
use crewfleet_protocol::{CrewName, KickoffId};
use futures_util::future::BoxFuture;
use serde_json::value::RawValue;
use tokio_util::task::TaskTracker;

use crate::execution::events::EventSink;
use crate::execution::outcome::Outcome;
use crate::execution::spans::CrewTrace;
use crate::execution::stop::Stop;
use crate::webhooks::tap::WebhookTap;

/// A way to run a crew.
pub(crate) trait Runner: Send + Sync {
    /// Runs one kickoff to its end. It starts the clock of the time limit ([`Stop::start_clock`]) when the crew
    /// itself starts, must end soon after [`Stop::requested`] completes, and leave no process
    /// behind.
    fn run<'a>(&'a self, context: KickoffContext, inputs: &'a RawValue) -> BoxFuture<'a, Outcome>;

    /// Completes once it can run kickoffs.
    fn usable(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// The names of the inputs that the crew asks for, where it says so.
    fn inputs(&self) -> Option<Vec<String>> {
        None
    }

    /// The names of those that a request must have, where the crew says so.
    fn required_inputs(&self) -> Option<Vec<String>> {
        None
    }

    /// How and where kickoffs are started, where there is more than one way.
    fn hosting(&self) -> Hosting {
        Hosting::default()
    }

    /// What its crew was built in, as far as there is anything to tell.
    fn environment(&self) -> Environment {
        Environment::default()
    }

    /// Whether kickoffs need a folder of their own.
    fn needs_work_dir(&self) -> bool {
        true
    }

    /// Ends what outlives single kickoffs (crew hosts).
    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Why a crew has no runner.
#[derive(Debug, Clone)]
pub(crate) struct Unbuilt {
    /// What is wrong, as with a value of the configuration.
    pub(crate) problem: Problem,
    /// Whether another try may go better: a server was away, for one.
    pub(crate) may_pass: bool,
}

impl From<Problem> for Unbuilt {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            may_pass: false,
        }
    }
}

/// How and where the kickoffs of a crew are started; a heartbeat tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hosting {
    /// `fork` or `spawn`.
    pub(crate) isolation: Option<String>,
    /// Why, in sentences; empty where nothing is special.
    pub(crate) isolation_reasons: Vec<String>,
    /// `overlay` or `links`.
    pub(crate) files: Option<String>,
    /// The folder that kickoffs stand in.
    pub(crate) working_dir: Option<String>,
}

/// What a crew was built in; `check` tells it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    /// The interpreter.
    pub(crate) python: Option<PathBuf>,
    /// Its version.
    pub(crate) python_version: Option<String>,
    /// That of CrewAI, where it is there.
    pub(crate) crewai: Option<String>,
    /// What is otherwise than where the crew runs by itself, and what CrewAI lacks; in sentences.
    pub(crate) notes: Vec<String>,
}

/// What a runner knows of the kickoff it runs.
#[derive(Clone)]
pub struct KickoffContext {
    /// The kickoff.
    pub kickoff_id: KickoffId,
    /// Its crew.
    pub crew: CrewName,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How often it was run again from the dead letters, from 0.
    pub redrive: u32,
    /// The request's `meta`, as sent.
    pub meta: Option<Box<RawValue>>,
    /// The hard limit of this attempt.
    pub time_limit: Duration,
    /// An empty folder of this attempt's own, removed after the reply; an empty path for builtin crews.
    pub work_dir: PathBuf,
    /// Held while something still uses that folder, beyond the run.
    pub(crate) work_dir_use: TaskTracker,
    /// Set by the runner: the folder that holds the files which the result names; in `work_dir`, or `work_dir` itself.
    pub(crate) files_dir: Arc<OnceLock<PathBuf>>,
    /// When to stop.
    pub stop: Stop,
    /// Where events go.
    pub events: EventSink,
    /// Where its webhooks hear of it.
    pub(crate) webhooks: WebhookTap,
    /// The crew's part of the kickoff's trace.
    pub(crate) trace: CrewTrace,
}
