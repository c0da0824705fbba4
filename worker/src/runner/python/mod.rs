//! Python crews, CrewAI's above all: a fork server imports CrewAI, a crew host the crew, and a child runs the kickoff.
//!
//! | file | what it holds |
//! |---|---|
//! | [`pythons`] | all of it: the fork servers, and what the crews' hosts share |
//! | [`fork_server`] | one process an interpreter: imports CrewAI, checks targets, forks hosts |
//! | [`host`] | one process a crew: imports it, forks children |
//! | [`child`] | one process a kickoff at a time: runs it, is killed when it must stop |
//! | [`wind_down`] | what a child does between its answer and its end |
//! | [`crew_host`] | a crew's host while it is wanted, and its children, warm and ready to take a kickoff |
//! | [`pipes`] | what a child prints |
//! | [`spawner`] | starting processes and learning how they ended |
//! | [`channel`], [`frames`] | the wire |
//! | [`assets`] | the Python side, carried in this binary |

mod assets;
mod channel;
mod child;
mod crew_host;
mod fork_server;
mod frames;
mod host;
mod pipes;
mod pythons;
mod spawner;
mod wind_down;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crewfleet_amqp::Problem;
use crewfleet_protocol::{CrewName, InputsSchema, KickoffError, KickoffId};
use crewfleet_service::interpreter::default_interpreter;
use futures_util::future::BoxFuture;
use serde_json::value::RawValue;
use tokio::sync::Mutex;
use tracing::{debug, info, warn};

use self::child::KickoffEnd;
use self::crew_host::CrewHost;
use self::fork_server::{ForkServerError, Interpreter};
use self::frames::{Place, SPAWN, Settings};
use self::host::HOST_LOST_KIND;
pub(crate) use self::pythons::Pythons;
use super::{Environment, Hosting, KickoffContext, Runner, Unbuilt};
use crate::config::{CrewConfig, Isolation, Storage, WorkingDirWay};
use crate::execution::outcome::{Outcome, RequeueReason};

/// How many idle children may turn out to be dead before the host is taken to be lost.
const TRIES: usize = 3;

/// Runs one Python crew.
pub(crate) struct PythonRunner {
    host: Arc<CrewHost>,
    inputs: Option<Vec<String>>,
    required_inputs: Option<Vec<String>>,
    inputs_schema: Option<InputsSchema>,
    environment: Environment,
    /// Kickoffs that lost a host here already; a second loss is a crash, or a crew that kills its host would be
    /// requeued for ever.
    host_losses: Mutex<VecDeque<KickoffId>>,
    cancel_grace: Duration,
}

impl PythonRunner {
    /// Checks that the target imports and builds, and makes its runner. The host starts with the first kickoff.
    ///
    /// # Errors
    /// [`Unbuilt`], with the problem of the crew's configuration: interpreter or target.
    pub(crate) async fn check(
        pythons: &Pythons,
        crew: &CrewName,
        config: &CrewConfig,
    ) -> Result<Self, Unbuilt> {
        let shared = &pythons.0;
        let key = |field: &str| format!("crews.{crew}.{field}");
        let python = config.python.clone().unwrap_or_else(default_interpreter);
        let interpreter = Interpreter {
            python: python.clone(),
            env: config.env.clone(),
            dotenv: config.dotenv,
        };
        let fork_server = pythons.fork_server(&interpreter).await.map_err(|error| match error {
            ForkServerError::Interpreter(_) if python.is_dir() => {
                let problem = "is a folder; name the interpreter in it, as in .venv/bin/python";
                Problem::new(key("python"), python.display(), problem)
            }
            ForkServerError::Interpreter(e) => {
                let problem = format!(
                    "does not start: {e}; name a Python 3.10 or later, preferably that of a virtual environment"
                );
                Problem::new(key("python"), python.display(), problem)
            }
            ForkServerError::Unsupported(message) => Problem::new(key("python"), python.display(), message),
            ForkServerError::Broken(message) => {
                let problem = format!("cannot host crews: {message}; see the log lines above");
                Problem::new(key("python"), python.display(), problem)
            }
        })?;
        shared.memory.leaves_room(fork_server.pid).map_err(|bytes| {
            let problem = format!(
                "Python with crewai alone holds {bytes} bytes, so no kickoff would ever start; raise it"
            );
            Problem::new("worker.memory_limit", shared.memory.limit(), problem)
        })?;
        let target = config.target.clone().unwrap_or_default();
        let shown = format!("{target:?}");
        let scratch = shared.work_dirs.scratch(crew.as_str());
        let mut settings = Settings {
            target,
            path: config.path.clone(),
            isolation: match config.isolation {
                Isolation::Fork => "fork",
                Isolation::Spawn => SPAWN,
            },
            storage_dir: shared.work_dirs.storage(crew.as_str()),
            storage: match config.storage {
                Storage::Kickoff => "kickoff",
                Storage::Shared => "shared",
            },
            working_dir: config.working_dir.clone(),
            working_dir_way: config.working_dir_way.as_str(),
            data_dir: shared.work_dirs.base().to_owned(),
            scratch_dir: scratch.path().to_owned(),
            dotenv: config.dotenv,
            verbose_output: config.verbose_output,
            inputs: config.inputs.as_str(),
            // One that is configured is told instead.
            tell_schema: config.inputs_schema.is_none(),
            exit_grace_s: config.exit_grace_s,
            inline_files_bytes: config.inline_files_bytes.as_u64(),
            max_files: config.max_files,
            // Above the limit that the memory guard enforces, so that the guard, which can say what happened, comes
            // first; this stops what grows too fast to be seen.
            rlimit_data_bytes: shared.memory.limit() / 4 * 5,
        };
        let checked = fork_server.check(crew.as_str(), &settings).await;
        // The process that looked is gone, and no host is there yet.
        scratch.remove_all().await;
        let checked = checked.map_err(|message| {
            let problem = format!("could not be checked: {message}; see the log lines above");
            Unbuilt {
                problem: Problem::new(key("target"), &shown, problem),
                may_pass: true,
            }
        })?;
        if let Some(error) = checked.error.filter(|_| !checked.ok) {
            return Err(Unbuilt {
                problem: Problem::new(key("target"), &shown, unusable(&error)),
                may_pass: checked.may_pass,
            });
        }
        let isolated = checked.isolated;
        let (isolation, reasons) = (&isolated.isolation, isolated.isolation_reasons.join("; "));
        let inputs = checked.inputs.as_deref().unwrap_or_default().join(", ");
        let required = checked.required_inputs.as_ref().map(|names| names.join(", "));
        info!(%crew, inputs, required_inputs = required, isolation, reasons, "crew is usable");
        let mut notes = checked.notes;
        let inputs_schema = match checked.inputs_schema.as_deref().map(InputsSchema::parse) {
            Some(Ok(schema)) => Some(schema),
            Some(Err(error)) => {
                notes.push(format!(
                    "the JSON Schema of its inputs {error}; it is left out: name a file with one by inputs_schema in the \
                     crew's section, if callers need it"
                ));
                None
            }
            None => None,
        };
        for note in &notes {
            warn!(%crew, "{note}");
        }
        let environment = Environment {
            python: Some(python),
            python_version: Some(fork_server.python_version.clone()),
            crewai: fork_server.crewai.clone(),
            notes: [&fork_server.notes[..], &notes].concat(),
        };
        if isolated.spawns() && settings.isolation != SPAWN {
            crew_host::warn_of_spawn(crew, &reasons);
            // Its host then imports nothing: what the import opens would be in the way of the children's own.
            settings.isolation = SPAWN;
        }
        let host = CrewHost::new(
            pythons,
            crew,
            interpreter,
            settings,
            isolated,
            config.concurrency,
            config.kickoffs_per_child,
        );
        tell_of_place(crew, config, &checked.place);
        tell_of_env_file(crew, &checked.place);
        host.set_place(checked.place);
        host.warm_interpreters();
        let (host_losses, cancel_grace) = (Mutex::default(), shared.cancel_grace);
        Ok(Self {
            host,
            inputs: checked.inputs,
            required_inputs: checked.required_inputs,
            inputs_schema,
            environment,
            host_losses,
            cancel_grace,
        })
    }

    async fn run(&self, context: KickoffContext, inputs: &RawValue) -> Outcome {
        let _in_use = self.host.in_use();
        let room = tokio::select! {
            room = self.host.room() => room,
            reason = context.stop.requested() => return Outcome::stopped(reason, context.time_limit),
        };
        for _ in 0..TRIES {
            let mut child = tokio::select! {
                child = self.host.child() => match child {
                    Ok(child) => child,
                    Err(error) if error.kind == HOST_LOST_KIND => {
                        return self.host_lost(&context, &error.message).await;
                    }
                    Err(error) => return Outcome::Crashed(error),
                },
                reason = context.stop.requested() => return Outcome::stopped(reason, context.time_limit),
            };
            let last = self.host.is_last_of(&child);
            let ended = child.run(&context, inputs, self.cancel_grace, last).await;
            let Some(ended) = ended else {
                self.host.give_back(child);
                debug!("the child died while it was idle; another one takes the kickoff");
                continue;
            };
            if ended.answered {
                self.host.wind_down(child, context.clone(), room);
            } else {
                self.host.give_back(child);
            }
            let KickoffEnd { outcome, stats, .. } = ended;
            self.host.count_tokens(&stats);
            return match outcome {
                Outcome::Requeued {
                    reason: RequeueReason::HostLost,
                    ..
                } => self.host_lost(&context, "it died under the kickoff").await,
                outcome => outcome,
            };
        }
        self.host_lost(&context, "its idle children die").await
    }

    /// `why` there is no host, or none that starts children.
    async fn host_lost(&self, context: &KickoffContext, why: &str) -> Outcome {
        let mut losses = self.host_losses.lock().await;
        if losses.contains(&context.kickoff_id) {
            let message = format!(
                "the crew host died under this kickoff, or did not start a process for it, twice on this worker, so the \
                 kickoff is taken to be the cause; the last time: {why}"
            );
            return Outcome::Crashed(KickoffError::new(HOST_LOST_KIND, message).retryable());
        }
        warn!(why, "the crew host is lost to the kickoff, which is put back");
        losses.push_back(context.kickoff_id.clone());
        if losses.len() > 1000 {
            losses.pop_front();
        }
        Outcome::requeued(RequeueReason::HostLost)
    }
}

/// Says where the crew's kickoffs will stand: at the start, not with the first kickoff.
fn tell_of_place(crew: &CrewName, config: &CrewConfig, place: &Place) {
    let (working_dir, files) = (place.working_dir.as_deref(), place.files.as_deref());
    match place
        .files_reason
        .as_deref()
        .filter(|_| config.working_dir_way == WorkingDirWay::Auto)
    {
        None => info!(%crew, working_dir, files, "kickoffs run in their project's folder"),
        Some(reason) => warn!(%crew, working_dir, files, reason, "kickoffs run in a folder of their own"),
    }
}

/// Says what of the project's `.env` counts, by name.
fn tell_of_env_file(crew: &CrewName, place: &Place) {
    if let Some(file) = &place.env_file {
        let (path, variables) = (&file.path, file.set.len());
        let outranked = file.outranked.join(", ");
        info!(%crew, file = path, variables, outranked, "the project's .env is read");
    }
}

/// What to tell the operator of a target that cannot be used.
fn unusable(error: &KickoffError) -> String {
    let traceback = error
        .detail
        .as_ref()
        .and_then(|detail| serde_json::from_str::<String>(detail.get()).ok());
    let traceback = traceback.map(|t| format!("\n{t}")).unwrap_or_default();
    format!(
        "cannot be used ({kind}): {message}{traceback}",
        kind = error.kind,
        message = error.message,
    )
}

impl Runner for PythonRunner {
    fn run<'a>(&'a self, context: KickoffContext, inputs: &'a RawValue) -> BoxFuture<'a, Outcome> {
        Box::pin(self.run(context, inputs))
    }

    fn inputs(&self) -> Option<Vec<String>> {
        self.inputs.clone()
    }

    fn required_inputs(&self) -> Option<Vec<String>> {
        self.required_inputs.clone()
    }

    fn inputs_schema(&self) -> Option<InputsSchema> {
        self.inputs_schema.clone()
    }

    fn hosting(&self) -> Hosting {
        self.host.hosting()
    }

    fn environment(&self) -> Environment {
        self.environment.clone()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.host.shut_down())
    }
}
