//! What all processes of crews have in common: what they see of us, and how those that left their process group are
//! found.

use std::fs;

use crewfleet_service::config::ENVIRONMENT_PREFIX;
use tokio::process::Command;

use crate::resources::process_handle::ProcessHandle;

/// Every process of a kickoff has this variable in its environment, with the kickoff's id.
pub(crate) const KICKOFF_VARIABLE: &str = "CREWFLEET_KICKOFF_ID";
/// And this one, with an id of this one run: the same kickoff may run on another worker of the same machine.
pub(crate) const RUN_VARIABLE: &str = "CREWFLEET_RUN_ID";

/// Where systemd puts a service's secrets (`LoadCredential=`): the worker's, not its crews'.
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// Keeps the worker's own configuration, secrets among it, from what `command` will see.
pub(crate) fn hide_own_configuration(command: &mut Command) {
    let own = format!("{ENVIRONMENT_PREFIX}__");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with(&own)) {
        command.env_remove(name);
    }
    command.env_remove(CREDENTIALS_VARIABLE);
}

/// Kills every process that carries the run's mark, until none is left: a daemon leaves its parent's group and
/// session, but keeps its environment. Reads all of `/proc`: not for a thread of the async runtime.
pub(crate) fn kill_marked(run_id: &str) {
    let mark = format!("{RUN_VARIABLE}={run_id}");
    // Each round kills all that are seen; a process that forks meanwhile is seen in the next. One that forks
    // faster than it can be killed is left after a bounded number of rounds.
    for _ in 0..20 {
        let found = marked(mark.as_bytes());
        if found.is_empty() {
            return;
        }
        for process in found {
            // It may have ended by itself.
            process.kill();
        }
    }
}

fn marked(mark: &[u8]) -> Vec<ProcessHandle> {
    let is_marked = |pid: i32| {
        // Another user's process cannot be read, and a zombie's environment is empty.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == mark)
    };
    // Read again by whoever the handle means: the number may have become another's.
    pids()
        .filter(|pid| is_marked(*pid))
        .filter_map(|pid| Some((pid, ProcessHandle::of_child(pid).ok()?)))
        .filter(|(pid, _)| is_marked(*pid))
        .map(|(_, handle)| handle)
        .collect()
}

/// All processes of this machine that can be seen. Reads all of `/proc`: not for a thread of the async runtime.
pub(crate) fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
