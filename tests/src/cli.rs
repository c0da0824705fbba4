//! The `crewfleet` command.

use std::process::Command;

use tempfile::TempDir;

use crate::{broker::Namespace, crews, process::Process};

/// The command on one broker and namespace, in a working directory of its own.
#[derive(Debug)]
pub struct Cli {
    environment: Vec<(String, String)>,
    dir: TempDir,
}

/// How a command ended, and what it wrote.
#[derive(Debug)]
pub struct Output {
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// All of stdout, line by line.
    pub stdout: Vec<String>,
    /// All of stderr, line by line.
    pub stderr: Vec<String>,
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

    /// The folder that commands run in, for the files they read and write.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Runs `crewfleet` with these arguments to its end.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        self.run_with_input(arguments, b"").await
    }

    /// Runs `crewfleet` with something to read on its stdin.
    pub async fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        let process = self.spawn_with_input(arguments, input);
        let status = process.exit().await;
        Output {
            code: status.code(),
            stdout: process.stdout.so_far(),
            stderr: process.stderr.so_far(),
        }
    }

    /// Starts `crewfleet` and returns at once; it is killed when the process is dropped.
    pub fn spawn(&self, arguments: &[&str]) -> Process {
        self.spawn_with_input(arguments, b"")
    }

    fn spawn_with_input(&self, arguments: &[&str], input: &[u8]) -> Process {
        let mut command = Command::new(crews::binary("crewfleet"));
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .envs(environment);
        Process::spawn(&format!("crewfleet {}", arguments.join(" ")), &command, input)
    }
}

impl Output {
    /// Its stdout, if it ended with 0; else panics with everything it wrote.
    pub fn success(self) -> String {
        self.ended_with(0).stdout.join("\n")
    }

    /// Itself, if it ended with this code; else panics with everything it wrote.
    pub fn ended_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// All of its stderr, which must name each of these.
    pub fn said(&self, expected: &[&str]) -> String {
        let said = self.stderr.join("\n");
        for part in expected {
            assert!(said.contains(part), "{part:?} is not said in: {said}");
        }
        said
    }
}
