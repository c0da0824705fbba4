use std::{
    ffi::OsString,
    io::Write,
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    time::Duration,
};

use super::NodeError;

/// Runs the node and epmd, and ends them when its stdin ends: so they go when this process goes, even by SIGKILL.
const SCRIPT: &str = include_str!("supervise.sh");

/// How often the supervisor is looked at. A `std` child is polled rather than a `tokio` one awaited because a node that
/// tests share lives longer than the runtime that started it.
pub(super) const POLL: Duration = Duration::from_millis(10);

/// A supervising shell with the node under it.
#[derive(Debug)]
pub(super) struct Supervisor {
    shell: Child,
    commands: ChildStdin,
}

impl Supervisor {
    /// Starts the shell, and with it the node.
    pub(super) fn start(
        folder: &Path,
        server: &Path,
        remove_at_end: bool,
        environment: Vec<(&'static str, OsString)>,
    ) -> Result<Self, NodeError> {
        // A session of its own: a Ctrl-C in the terminal is for the owner, who then stops the node in order.
        let spawned = Command::new("setsid")
            .args(["sh", "-c", SCRIPT, "crewfleet-node"])
            .args([folder, server])
            .arg(if remove_at_end { "remove" } else { "keep" })
            .env_clear()
            .envs(environment)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let failed = |source| NodeError::Spawn {
            program: "setsid sh".to_owned(),
            package: "util-linux",
            source,
        };
        let mut shell = spawned.map_err(failed)?;
        let commands = shell
            .stdin
            .take()
            .ok_or_else(|| failed(std::io::Error::other("it has no stdin")))?;
        Ok(Self { shell, commands })
    }

    /// How the node ended, or `None` while it runs.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        // The one error there is, ECHILD, says that somebody else reaped the shell: it ended.
        self.shell
            .try_wait()
            .unwrap_or_else(|_| Some(ExitStatus::default()))
    }

    /// Waits for the end of the node.
    pub(super) async fn end(&mut self) -> ExitStatus {
        loop {
            match self.ended() {
                Some(status) => return status,
                None => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Asks for a clean stop.
    pub(super) fn stop(&mut self) {
        self.command("stop\n");
    }

    /// Has every process of the node killed.
    pub(super) fn kill(&mut self) {
        self.command("kill\n");
    }

    /// Lets go of the node as the death of this process would, and waits for its end.
    pub(super) fn abandon(self) {
        let Self { mut shell, commands } = self;
        drop(commands);
        // The shell kills and ends: some 30 ms. There is nobody left to tell about an error.
        let _ = shell.wait();
    }

    fn command(&mut self, line: &str) {
        // Fails only where the shell has ended, and then there is nothing to command.
        let _ = self.commands.write_all(line.as_bytes());
    }
}
