//! The worker processes of `crewfleet dev`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, bail};
use crewfleet_amqp::BrokerConfig;
use crewfleet_node::supervisor::SUPERVISED_VARIABLE;
use crewfleet_service::config::ENVIRONMENT_PREFIX;
use futures_util::future::select_all;
use secrecy::ExposeSecret;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::crew::{CONFIG, NamedBy};
use super::folder::Folder;
use super::not_ready::{NotReady, READY_LIMIT};
use super::worker::{Known, State, Worker};
use crate::failure;
use crate::output::say;

/// How many there are where everything keeps running: the smallest fleet in which one takes over from another.
const FLEET: u64 = 2;
/// Each imports CrewAI, which takes seconds of a core: for one kickoff one will do.
const FOR_ONE_KICKOFF: u64 = 1;
const PROGRAM: &str = "crewfleet-worker";

/// The workers. Dropping them kills them; [`Self::stop`] drains them.
pub(crate) struct Workers {
    members: Vec<Member>,
    running: JoinSet<()>,
    stop: CancellationToken,
    folder: PathBuf,
    known: Arc<Known>,
}

struct Member {
    name: String,
    log: PathBuf,
    state: watch::Receiver<State>,
}

/// A worker that takes kickoffs.
pub(crate) struct Address {
    pub(crate) name: String,
    pub(crate) admin_addr: String,
    pub(crate) log: PathBuf,
}

/// The worker's program, beside this one.
///
/// # Errors
/// When it is not there.
pub(crate) fn program() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("cannot tell where this program is")?;
    let program = this.with_file_name(PROGRAM);
    if !program.is_file() {
        bail!(
            "{} is missing: build it with `cargo build`, as this command was",
            program.display()
        );
    }
    Ok(program)
}

impl Workers {
    /// How many there are to be, for one kickoff or until Ctrl-C.
    pub(crate) fn wanted(once: bool) -> u64 {
        match once {
            true => FOR_ONE_KICKOFF,
            false => FLEET,
        }
    }

    /// Starts so many, and returns at once.
    ///
    /// # Errors
    /// When their folders or logs cannot be made.
    pub(crate) fn start(
        count: u64,
        folder: &Folder,
        program: &Path,
        config: &Path,
        broker: &BrokerConfig,
        has_own_broker: bool,
    ) -> anyhow::Result<Self> {
        let mut workers = Self {
            members: Vec::new(),
            running: JoinSet::new(),
            stop: CancellationToken::new(),
            folder: folder.path().to_owned(),
            known: Arc::default(),
        };
        let current_dir = std::env::current_dir().context("the working directory cannot be told")?;
        for number in 1..=count {
            let name = format!("worker-{number}");
            // One name everywhere; on a broker of others theirs may be the same.
            let id = match has_own_broker {
                true => name.clone(),
                false => format!("{name}-{}", std::process::id()),
            };
            let log_path = folder.join(&format!("{name}.log"));
            let log =
                File::create(&log_path).with_context(|| format!("cannot write {}", log_path.display()))?;
            let (sender, state) = watch::channel(State::Starting);
            let worker = Worker {
                name: name.clone(),
                command: vec![program.into(), "--config".into(), config.into()],
                environment: environment(broker, &id),
                folder: folder.make(&name)?,
                current_dir: current_dir.clone(),
                log,
                log_path: log_path.clone(),
                known: Arc::clone(&workers.known),
            };
            workers.running.spawn(worker.run(sender, workers.stop.clone()));
            workers.members.push(Member {
                name,
                log: log_path,
                state,
            });
        }
        Ok(workers)
    }

    /// Waits until one has built the crew, for which it needs no broker. Beside it, [`Self::refused`] is to be awaited.
    /// Returns the inputs that a kickoff must have, as far as that is known by then.
    ///
    /// # Errors
    /// [`NotReady`], when it takes too long.
    pub(crate) async fn usable(&self) -> Result<Option<Vec<String>>, NotReady> {
        let usable = |member: &Member| {
            let mut state = member.state.clone();
            Box::pin(async move {
                let reached = |state: &State| matches!(state, State::Usable(_) | State::Ready(_));
                match state.wait_for(reached).await.as_deref() {
                    Ok(State::Usable(required)) => required.clone(),
                    Ok(_) => None,
                    // It has refused.
                    Err(_) => std::future::pending().await,
                }
            })
        };
        timeout(READY_LIMIT, select_all(self.members.iter().map(usable)))
            .await
            .map(|(required, ..)| required)
            .map_err(|_| self.not_ready())
    }

    /// Says that the broker is there: what they say of it from now on is news.
    pub(crate) fn have_broker(&self) {
        self.known.has_broker.store(true, Ordering::Relaxed);
    }

    /// Says which kickoff is our own: how it ends is told by its reply.
    pub(crate) fn are_asked_for(&self, kickoff_id: &str) {
        // There is one.
        let _ = self.known.own_kickoff.set(kickoff_id.to_owned());
    }

    fn not_ready(&self) -> NotReady {
        NotReady::new(self.folder.join("worker-*.log"))
    }

    /// Waits until all take kickoffs. Beside it, [`Self::refused`] is to be awaited.
    ///
    /// # Errors
    /// [`NotReady`], when it takes too long.
    pub(crate) async fn ready(&self) -> Result<(), NotReady> {
        let all_ready = async {
            for member in &self.members {
                let mut state = member.state.clone();
                if state
                    .wait_for(|state| matches!(state, State::Ready(_)))
                    .await
                    .is_err()
                {
                    // It has refused.
                    std::future::pending::<()>().await;
                }
            }
        };
        timeout(READY_LIMIT, all_ready)
            .await
            .map_err(|_| self.not_ready())
    }

    /// Waits for a worker that cannot run as it is configured, which is all of them, and returns what it said.
    pub(crate) async fn refused(&self, named_by: NamedBy) -> anyhow::Error {
        let refusal = |member: &Member| {
            let (mut state, log) = (member.state.clone(), member.log.clone());
            Box::pin(async move {
                match state
                    .wait_for(|state| matches!(state, State::Refused(_)))
                    .await
                    .as_deref()
                {
                    Ok(State::Refused(said)) => (said.clone(), log),
                    _ => std::future::pending().await,
                }
            })
        };
        let ((said, log), ..) = select_all(self.members.iter().map(refusal)).await;
        let whole = format!("\nthe whole traceback: {}", log.display());
        anyhow::anyhow!(explained(&said, named_by, &whole))
    }

    /// Those that take kickoffs now.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let address = |member: &Member| match &*member.state.borrow() {
            State::Ready(admin_addr) => Some(Address {
                name: member.name.clone(),
                admin_addr: admin_addr.clone(),
                log: member.log.clone(),
            }),
            _ => None,
        };
        self.members.iter().filter_map(address).collect()
    }

    /// Lets them finish what they run, within limits, and waits for their end.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.running.join_next().await {
            if let Err(error) = ended {
                say(&format!("a worker's supervision failed: {error}"));
            }
        }
    }
}

/// Whether a variable says what a configuration file says.
pub(crate) fn is_setting(name: &OsStr) -> bool {
    name.to_string_lossy()
        .starts_with(&format!("{ENVIRONMENT_PREFIX}__"))
}

/// That of this process, but for what would contradict the configuration file, or silence the log lines we read.
fn environment(broker: &BrokerConfig, id: &str) -> Vec<(OsString, OsString)> {
    let ours = format!("{ENVIRONMENT_PREFIX}__");
    let kept = |name: &OsString| !is_setting(name) && name != "RUST_LOG" && name != SUPERVISED_VARIABLE;
    let mut environment: Vec<_> = std::env::vars_os().filter(|(name, _)| kept(name)).collect();
    environment.push((
        format!("{ours}BROKER__URL").into(),
        broker.url.expose_secret().into(),
    ));
    environment.push((format!("{ours}WORKER__ID").into(), id.into()));
    environment
}

/// Why a worker refuses to start, in the words of the options that were given; `whole` is where all of it is.
pub(crate) fn explained(said: &str, named_by: NamedBy, whole: &str) -> String {
    let (mut said, is_less) = failure::shortened(&by_option(said, named_by));
    if is_less {
        said += whole;
    }
    with_advice(said, named_by)
}

/// A refusal of the workers' configuration, with the option of `dev` that says the same instead of the key and its file.
fn by_option(said: &str, named_by: NamedBy) -> String {
    let found = said.split_once("configuration: crews.").and_then(|(_, refusal)| {
        let (key, rest) = refusal.split_once(" = ")?;
        let field = key.rsplit('.').next()?;
        let named_by = match field {
            "python" => named_by.python,
            "target" => named_by.target,
            "path" => "--path",
            _ => return None,
        };
        // The file's path is relative to the working directory, where that is possible.
        let (before, problem) = rest.split_once(&format!("/{CONFIG}): "))?;
        let (value, _) = before.rsplit_once(" (")?;
        Some(format!("{named_by} {value}: {problem}"))
    });
    found.unwrap_or_else(|| said.to_owned())
}

fn with_advice(said: String, named_by: NamedBy) -> String {
    if said.contains("No module named 'crewai") || said.starts_with(&format!("{} ", named_by.python)) {
        return said
            + "\nwhat to do: `deploy/python-env.sh` makes a Python with CrewAI, which is then found by itself; or name one that \
               has it: --python .venv/bin/python";
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_option_that_was_given() {
        let refusal = |field: &str, folder: &str| {
            format!(
                "crewfleet-worker: configuration: crews.poet.{field} = \"a = (b)\" ({folder}/worker.toml): is (a) folder"
            )
        };
        let named_by = NamedBy {
            python: "CREWFLEET_PYTHON",
            target: "--target",
        };
        for folder in [".crewfleet/dev", "/w/.crewfleet/dev"] {
            for (field, name) in [
                ("python", "CREWFLEET_PYTHON"),
                ("target", "--target"),
                ("path", "--path"),
            ] {
                let expected = format!("{name} \"a = (b)\": is (a) folder");
                assert_eq!(by_option(&refusal(field, folder), named_by), expected);
            }
        }
        let other = refusal("env", ".crewfleet/dev");
        assert_eq!(by_option(&other, named_by), other);
        let plain = "worker-1: cannot start";
        assert_eq!(by_option(plain, named_by), plain);
    }
}
