//! A supervising shell: it runs a program for this process, and leaves nothing of it when this process goes.

use std::{
    ffi::OsString,
    io::Write,
    path::Path,
    process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Stdio},
    time::Duration,
};

/// Runs the program, and ends it when its own stdin ends: so they go when this process goes, even by SIGKILL.
const SCRIPT: &str = include_str!("supervise.sh");
/// Holds the script, which would fill the list of processes as an argument.
const SCRIPT_VARIABLE: &str = "CREWFLEET_SUPERVISE";
const RUN_SCRIPT: &str = "eval \"$CREWFLEET_SUPERVISE\"";

/// Each process of the program has this variable in its environment, with the folder.
pub const SUPERVISED_VARIABLE: &str = "CREWFLEET_SUPERVISED";

/// The shell's exit status when the folder belongs to a program that runs.
pub const STATUS_IN_USE: i32 = 75;

/// How often the supervisor is looked at. A `std` child is polled rather than a `tokio` one awaited because a node that
/// tests share lives longer than the runtime that started it.
pub(super) const POLL: Duration = Duration::from_millis(10);

/// What is to run, and how.
#[derive(Debug)]
pub struct Program<'a> {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// An existing folder, as an absolute path, where the lock is kept: it has one program at a time.
    pub folder: &'a Path,
    /// The working directory.
    pub current_dir: &'a Path,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// A file for what it writes, anew at each start. Without one, its stderr is for [`Supervisor::take_stderr`], and
    /// its stdout is lost.
    pub log: Option<&'a Path>,
    /// Run Erlang's epmd on this port beside it.
    pub epmd_port: Option<u16>,
    /// Remove the folder should this process die.
    pub temporary: bool,
}

/// A supervising shell with the program under it. When it is dropped, the program is killed with all its processes.
#[derive(Debug)]
pub struct Supervisor {
    shell: Child,
    commands: ChildStdin,
}

impl Supervisor {
    /// Starts the shell, and with it the program.
    ///
    /// # Errors
    /// When `setsid` (Debian's package util-linux) or `sh` cannot be started.
    pub fn start(program: Program<'_>) -> std::io::Result<Self> {
        let epmd_port = program.epmd_port.map(|port| port.to_string());
        // A session of its own: a Ctrl-C in the terminal is for the owner, who then stops the program in order.
        let mut shell = Command::new("setsid")
            .args(["sh", "-c", RUN_SCRIPT, "crewfleet-supervisor"])
            .arg(program.folder)
            .arg(if program.temporary { "remove" } else { "keep" })
            .arg(epmd_port.unwrap_or_default())
            .arg(program.log.unwrap_or(Path::new("")))
            .args(program.command)
            .env_clear()
            .envs(program.environment)
            .env(SCRIPT_VARIABLE, SCRIPT)
            .current_dir(program.current_dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(match program.log {
                Some(_) => Stdio::null(),
                None => Stdio::piped(),
            })
            .spawn()?;
        let commands = shell
            .stdin
            .take()
            .ok_or_else(|| std::io::Error::other("it has no stdin"))?;
        Ok(Self { shell, commands })
    }

    /// What the program writes to stderr, unless it has a log file; once.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.shell.stderr.take()
    }

    /// How the program ended, or `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        // The one error there is, ECHILD, says that somebody else reaped the shell: it ended.
        self.shell
            .try_wait()
            .unwrap_or_else(|_| Some(ExitStatus::default()))
    }

    /// Waits for the end of the program.
    pub async fn end(&mut self) -> ExitStatus {
        loop {
            match self.ended() {
                Some(status) => return status,
                None => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Asks for a clean stop.
    pub fn stop(&mut self) {
        self.command("stop\n");
    }

    /// Has every process of the program killed.
    pub fn kill(&mut self) {
        self.command("kill\n");
    }

    /// Lets go of the program as the death of this process would, and waits for its end.
    pub fn abandon(self) {
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
