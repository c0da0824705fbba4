//! The crews of a worker, made at its start. [`crew`]: one of them; [`options`]: how it is served.

pub(crate) mod crew;
pub(crate) mod options;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};

use crewfleet_amqp::Problem;
use crewfleet_protocol::{CrewName, InvalidName};
use crewfleet_service::config::Loaded;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use tokio::sync::watch;
use tracing::warn;

use crate::config::{CrewConfig, FileConfig, RunnerKind, WorkerConfig};
use crate::coordination::pause::Pause;
use crate::crews::crew::Crew;
use crate::crews::options::{CrewOptions, Handlers};
use crate::error::WorkerError;
use crate::intake::places::{Count, Places};
use crate::resources::memory::MemoryGuard;
use crate::runner::builtin::BuiltinRunner;
use crate::runner::command::CommandRunner;
use crate::runner::late::LateRunner;
use crate::runner::python::{PythonRunner, Pythons};
use crate::runner::{Runner, Unbuilt};

/// Each is a process that imports a crew.
const CHECKS_AT_ONCE: usize = 8;

/// A crew that could not be built, and what is to be its runner.
pub(crate) type Late = (Arc<Crew>, Arc<LateRunner>);

/// Makes the crews, and checks that every Python target imports.
///
/// # Errors
/// [`WorkerError`] for a configuration that can never work: a wrong value, or no crew that another try might build.
pub(crate) async fn build(
    config: &Loaded<FileConfig>,
    handlers: &Handlers,
    pythons: &Pythons,
    memory: &Arc<MemoryGuard>,
) -> Result<(Vec<Arc<Crew>>, Vec<Late>), WorkerError> {
    let (mut crews, mut late, mut errors, mut may_pass) = (Vec::new(), Vec::new(), Vec::new(), false);
    for (name, (options, handler)) in handlers {
        let runner = Arc::new(BuiltinRunner::new(Arc::clone(handler)));
        crews.push(crew(CrewName::parse(name)?, "builtin", runner, options.clone()));
    }
    for (name, of_crew, made) in make(&config.config, pythons, memory).await? {
        let mut unbuilt = None;
        let runner = match made {
            Ok(runner) => runner,
            // What it needs may come later, and meanwhile the other crews are served.
            Err(trouble)
                if of_crew.runner == RunnerKind::Python && trouble.problem.key.starts_with("crews.") =>
            {
                may_pass |= trouble.may_pass;
                errors.push(config.invalid(trouble.problem));
                let runner = Arc::<LateRunner>::default();
                unbuilt = Some(Arc::clone(&runner));
                runner
            }
            Err(trouble) => return Err(config.invalid(trouble.problem).into()),
        };
        let crew = crew(name, of_crew.runner.as_str(), runner, of_crew.into());
        late.extend(unbuilt.map(|runner| (Arc::clone(&crew), runner)));
        crews.push(crew);
    }
    let serves_none = late.len() == crews.len();
    if serves_none
        && !may_pass
        && let Some(first) = errors.drain(..).next()
    {
        // It would never serve anybody: whoever wrote that is best told at once.
        return Err(first.into());
    }
    for ((crew, _), error) in late.iter().zip(errors) {
        match serves_none {
            true => warn!(crew = %crew.name, %error, "the crew cannot be built; it is tried again"),
            false => {
                warn!(crew = %crew.name, %error, "the crew cannot be built; the others are served, and it is tried again");
            }
        }
        crew.set_trouble(Some(error.to_string()));
    }
    Ok((crews, late))
}

/// A crew of the configuration, and what runs it, or why nothing can.
pub(crate) type Made<'a> = (CrewName, &'a CrewConfig, Result<Arc<dyn Runner>, Unbuilt>);

/// Makes what runs each crew of the configuration.
///
/// # Errors
/// [`InvalidName`] for a crew whose name cannot be a routing key.
pub(crate) async fn make<'a>(
    config: &'a FileConfig,
    pythons: &Pythons,
    memory: &Arc<MemoryGuard>,
) -> Result<Vec<Made<'a>>, InvalidName> {
    let mut named = Vec::new();
    for (name, of_crew) in &config.crews {
        named.push((CrewName::parse(name)?, of_crew));
    }
    // At the same time: one that hangs, as its server drops packets, holds up none of the others.
    let mut making = Vec::new();
    for (name, of_crew) in &named {
        making.push(runner(name, of_crew, &config.worker, pythons, memory));
    }
    let made: Vec<_> = stream::iter(making).buffered(CHECKS_AT_ONCE).collect().await;
    let with_name = named.into_iter().zip(made);
    Ok(with_name
        .map(|((name, of_crew), made)| (name, of_crew, made))
        .collect())
}

/// Boxed, and no closure's, or [`crate::Worker::run`] could not be spawned: the compiler would not see that it is `Send`.
fn runner<'a>(
    name: &'a CrewName,
    of_crew: &'a CrewConfig,
    worker: &'a WorkerConfig,
    pythons: &'a Pythons,
    memory: &'a Arc<MemoryGuard>,
) -> BoxFuture<'a, Result<Arc<dyn Runner>, Unbuilt>> {
    Box::pin(async move {
        Ok(match of_crew.runner {
            RunnerKind::Builtin => Arc::new(builtin(name, of_crew)?) as Arc<dyn Runner>,
            RunnerKind::Command => Arc::new(CommandRunner::new(of_crew, worker, memory)),
            RunnerKind::Python => Arc::new(PythonRunner::check(pythons, name, of_crew).await?),
        })
    })
}

fn builtin(name: &CrewName, of_crew: &CrewConfig) -> Result<BuiltinRunner, Problem> {
    let target = of_crew.target.as_deref().unwrap_or_default();
    BuiltinRunner::named(target).ok_or_else(|| {
        let problem = "is not a builtin crew; take \"echo\", \"sleep\" or \"fail\", or give a Rust handler to Worker::builder()";
        Problem::new(format!("crews.{name}.target"), format!("{target:?}"), problem)
    })
}

/// A crew that nobody serves yet.
pub(crate) fn crew(
    name: CrewName,
    runner_name: &'static str,
    runner: Arc<dyn Runner>,
    options: CrewOptions,
) -> Arc<Crew> {
    Arc::new(Crew {
        name,
        runner_name,
        runner,
        pause: Pause::default(),
        places: Places::new(options.concurrency.into()),
        options,
        waiting: Count::default(),
        in_flight: AtomicU32::new(0),
        consuming: watch::Sender::new(false),
        waits_for_room: AtomicBool::new(false),
        trouble: watch::Sender::default(),
    })
}
