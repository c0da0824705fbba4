//! A process of the campaign's own, in one life after the other.

use std::{fs, path::PathBuf, process::Command};

use anyhow::Context;
use crewfleet_tests::process::Process;
use nix::sys::signal::Signal;
use tokio::sync::{Mutex, MutexGuard};

/// One process after the other, which are started alike.
#[derive(Debug)]
pub(crate) struct Lives {
    name: String,
    command: Command,
    log: PathBuf,
    process: Mutex<Process>,
}

impl Lives {
    /// Starts the first. What each writes to its stderr goes to the end of `log` when it ends.
    pub(crate) fn begin(name: &str, command: Command, log: PathBuf) -> Self {
        let process = Mutex::new(Process::spawn(name, &command, b""));
        Self {
            name: name.to_owned(),
            command,
            log,
            process,
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The present one. Nobody kills it while this is held.
    pub(crate) async fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().await
    }

    /// Kills it; `None` where it has ended by itself.
    pub(crate) async fn kill(&self) -> anyhow::Result<Option<Killed<'_>>> {
        let process = self.process.lock().await;
        if !process.is_running() {
            return Ok(None);
        }
        self.end(&process, Signal::SIGKILL).await?;
        let lives = self;
        Ok(Some(Killed { lives, process }))
    }

    /// Kills one that does not end by itself.
    pub(crate) async fn kill_running(&self) -> anyhow::Result<Killed<'_>> {
        let killed = self.kill().await?;
        killed.with_context(|| format!("{} ended unexpectedly: see {}", self.name, self.log.display()))
    }

    /// Tells one that does not end by itself to end, and waits until it has.
    pub(crate) async fn stop(&self) -> anyhow::Result<()> {
        let process = self.process.lock().await;
        anyhow::ensure!(
            process.is_running(),
            "{} ended unexpectedly:\n{}",
            self.name,
            process.stderr.tail()
        );
        self.end(&process, Signal::SIGTERM).await
    }

    /// Starts the next one in the place of one that has ended.
    pub(crate) fn begin_again(&self, process: &mut Process) {
        *process = Process::spawn(&self.name, &self.command, b"");
    }

    async fn end(&self, process: &Process, signal: Signal) -> anyhow::Result<()> {
        process.signal(signal);
        process.exit().await;
        let mut log = process.stderr.so_far().join("\n");
        log.push('\n');
        let earlier = fs::read_to_string(&self.log).unwrap_or_default();
        Ok(fs::write(&self.log, earlier + &log)?)
    }
}

/// One that was killed.
#[derive(Debug)]
pub(crate) struct Killed<'a> {
    lives: &'a Lives,
    process: MutexGuard<'a, Process>,
}

impl Killed<'_> {
    /// Starts the next one.
    pub(crate) fn begin_again(mut self) {
        self.lives.begin_again(&mut self.process);
    }
}
