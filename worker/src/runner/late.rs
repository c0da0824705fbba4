//! A runner that is not there yet: its crew could not be built at the start, and is tried again while others are
//! served.

use std::sync::Arc;
use std::time::Duration;

use crewfleet_protocol::InputsSchema;
use crewfleet_service::config::Loaded;
use futures_util::future::BoxFuture;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tracing::{info, warn};

use super::python::{PythonRunner, Pythons};
use super::{Hosting, KickoffContext, Runner};
use crate::config::FileConfig;
use crate::crews::crew::Crew;
use crate::execution::outcome::Outcome;
use crate::state::WorkerState;

/// The pause before a crew is built again. It doubles each time, up to the longest.
const PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Delegates to the runner once there is one.
#[derive(Default)]
pub(crate) struct LateRunner(watch::Sender<Option<Arc<PythonRunner>>>);

impl LateRunner {
    fn runner(&self) -> Option<Arc<PythonRunner>> {
        self.0.borrow().clone()
    }
}

impl Runner for LateRunner {
    fn run<'a>(&'a self, context: KickoffContext, inputs: &'a RawValue) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            // Nothing is consumed before.
            self.usable().await;
            match self.runner() {
                Some(runner) => runner.run(context, inputs).await,
                None => std::future::pending().await,
            }
        })
    }

    fn usable(&self) -> BoxFuture<'_, ()> {
        let mut there = self.0.subscribe();
        Box::pin(async move {
            // The sender lives as long as `self`.
            let _ = there.wait_for(Option::is_some).await;
        })
    }

    fn inputs(&self) -> Option<Vec<String>> {
        self.runner()?.inputs()
    }

    fn required_inputs(&self) -> Option<Vec<String>> {
        self.runner()?.required_inputs()
    }

    fn inputs_schema(&self) -> Option<InputsSchema> {
        self.runner()?.inputs_schema()
    }

    fn hosting(&self) -> Hosting {
        self.runner().map(|runner| runner.hosting()).unwrap_or_default()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Some(runner) = self.runner() {
                runner.shutdown().await;
            }
        })
    }
}

/// Builds a crew again until that succeeds, or the worker drains.
pub(crate) async fn try_again(
    worker: Arc<WorkerState>,
    pythons: Pythons,
    config: Loaded<FileConfig>,
    crew: Arc<Crew>,
    late: Arc<LateRunner>,
) {
    let Some(of_crew) = config.config.crews.get(crew.name.as_str()) else {
        return;
    };
    let mut pause = PAUSE;
    let trying = async {
        loop {
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
            match PythonRunner::check(&pythons, &crew.name, of_crew).await {
                Ok(runner) => {
                    late.0.send_replace(Some(Arc::new(runner)));
                    crew.set_trouble(None);
                    info!(crew = %crew.name, "the crew can be built now");
                    return;
                }
                Err(unbuilt) => {
                    let trouble = config.invalid(unbuilt.problem).to_string();
                    if crew.set_trouble(Some(trouble.clone())) {
                        warn!(crew = %crew.name, trouble, "the crew still cannot be built");
                    }
                }
            }
        }
    };
    // Before the interpreters end, or one would be started for nobody.
    worker.lifecycle.draining.run_until_cancelled(trying).await;
    worker.lifecycle.heartbeat_due.notify_one();
}
