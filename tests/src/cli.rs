//! The `crewfleet` command.

use std::process::Command;

use tempfile::TempDir;

use crate::{
    broker::Namespace,
    crews,
    process::{Output, Process},
    terminal::Terminal,
};

/// The command on one broker and namespace, in a working directory of its own.
#[derive(Debug)]
pub struct Cli {
    environment: Vec<(String, String)>,
    dir: TempDir,
}

impl Cli {
    /// The command, with the broker in its environment.
    pub fn new(url: &str, namespace: &Namespace) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("crewfleet-cli-")
            .tempdir()
            .expect("a temporary folder");
        let environment = vec![
            ("CREWFLEET__BROKER__URL".to_owned(), url.to_owned()),
            ("CREWFLEET__BROKER__NAMESPACE".to_owned(), namespace.to_string()),
        ];
        Self { environment, dir }
    }

    /// Sets one more variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Has gateways that it starts take free ports, and end without waiting for load balancers.
    pub fn with_free_gateway_ports(self) -> Self {
        self.env("CREWFLEET__GATEWAY__ADDR", "127.0.0.1:0")
            .env("CREWFLEET__GATEWAY__ADMIN_ADDR", "127.0.0.1:0")
            .env("CREWFLEET__GATEWAY__LAME_DUCK_S", "0")
    }

    /// The folder that commands run in, for the files they read and write.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Runs `crewfleet` with these arguments to its end.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        self.run_with_input(arguments, b"").await
    }

    /// Runs `crewfleet` with more variables than [`Self::env`] set, which win.
    pub async fn run_with_environment(&self, arguments: &[&str], more: &[(&str, &str)]) -> Output {
        self.spawn_with(arguments, b"", more).output().await
    }

    /// Runs `crewfleet` with something to read on its stdin.
    pub async fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        self.spawn_with_input(arguments, input).output().await
    }

    /// Starts `crewfleet` and returns at once; it is killed when the process is dropped.
    pub fn spawn(&self, arguments: &[&str]) -> Process {
        self.spawn_with_input(arguments, b"")
    }

    /// The same, with more variables than [`Self::env`] set, which win.
    pub fn spawn_with_environment(&self, arguments: &[&str], more: &[(&str, &str)]) -> Process {
        self.spawn_with(arguments, b"", more)
    }

    /// The same by another program, which is told what to run behind arguments of its own.
    pub fn spawn_by(&self, program: &[&str], arguments: &[&str], more: &[(&str, &str)]) -> Process {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(crews::binary("crewfleet"));
        self.spawn_command(command, arguments, b"", more)
    }

    /// Starts `crewfleet` in a terminal; it is killed when that is dropped.
    pub fn spawn_in_terminal(&self, arguments: &[&str]) -> Terminal {
        let mut command = Command::new(crews::binary("crewfleet"));
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .envs(environment);
        Terminal::spawn(command)
    }

    fn spawn_with_input(&self, arguments: &[&str], input: &[u8]) -> Process {
        self.spawn_with(arguments, input, &[])
    }

    fn spawn_with(&self, arguments: &[&str], input: &[u8], more: &[(&str, &str)]) -> Process {
        let command = Command::new(crews::binary("crewfleet"));
        self.spawn_command(command, arguments, input, more)
    }

    fn spawn_command(
        &self,
        mut command: Command,
        arguments: &[&str],
        input: &[u8],
        more: &[(&str, &str)],
    ) -> Process {
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .envs(environment)
            .envs(more.iter().copied());
        Process::spawn(&format!("crewfleet {}", arguments.join(" ")), &command, input)
    }
}
