//! A real PostgreSQL of a test's own: Debian's package, a data folder and a port that go with it.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    sys::signal::Signal,
    unistd::{User, geteuid},
};
use tempfile::TempDir;

use crate::ports::free_port;
use crate::process::Process;

/// Its superuser, who needs no password.
const USER: &str = "crewfleet";

/// A running server. It ends, with its data, when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: u16,
    _dir: TempDir,
}

impl Postgres {
    /// Makes a database cluster and starts a server for it, on the loopback interface.
    pub async fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("crewfleet-postgres-")
            .tempdir()
            .expect("a temporary folder");
        let (data, sockets) = (dir.path().join("data"), dir.path());
        let owner = owner();
        if let Some(owner) = &owner {
            chown(dir.path(), Some(owner.uid.as_raw()), Some(owner.gid.as_raw()))
                .expect("the folder is ours");
        }
        let initdb = run_as(owner.as_ref(), &program("initdb"), dir.path())
            .args([
                "--username",
                USER,
                "--auth",
                "trust",
                "--no-sync",
                "--no-instructions",
            ])
            .arg("--pgdata")
            .arg(&data)
            .output()
            .expect("initdb starts");
        assert!(
            initdb.status.success(),
            "{}",
            String::from_utf8_lossy(&initdb.stderr)
        );
        let port = free_port();
        let mut command = run_as(owner.as_ref(), &program("postgres"), dir.path());
        command
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "fsync=off", "-c", "max_connections=200"])
            .arg("-k")
            .arg(sockets);
        let process = Process::spawn("postgres", &command, b"");
        let ready = |line: &str| line.contains("ready to accept connections").then_some(());
        process.stderr.first("that it is ready", ready).await;
        Self {
            process,
            port,
            _dir: dir,
        }
    }

    /// What a client connects by.
    pub fn url(&self) -> String {
        format!("postgresql://{USER}@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends it as an administrator does, so that it removes its shared memory.
    pub async fn stop(self) {
        self.process.signal(Signal::SIGINT);
        self.process.exit().await;
    }
}

/// Whom it runs as: PostgreSQL refuses root.
fn owner() -> Option<User> {
    geteuid().is_root().then(|| {
        let known = |name: &str| User::from_name(name).ok().flatten();
        known("postgres")
            .or_else(|| known("nobody"))
            .expect("there is a user besides root")
    })
}

fn run_as(owner: Option<&User>, program: &Path, dir: &Path) -> Command {
    let mut command = match owner {
        Some(owner) => {
            let mut command = Command::new("setpriv");
            let (uid, gid) = (format!("--reuid={}", owner.uid), format!("--regid={}", owner.gid));
            command
                .args([&uid, &gid, "--clear-groups", "--pdeathsig=KILL", "--"])
                .arg(program);
            command
        }
        None => Command::new(program),
    };
    command.current_dir(dir).env("LC_ALL", "C.UTF-8");
    command
}

/// A program of the newest PostgreSQL here.
fn program(name: &str) -> PathBuf {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect();
    versions.sort();
    let newest = versions.pop().map(|(_, folder)| folder.join("bin").join(name));
    newest.filter(|program| program.exists()).unwrap_or_else(|| {
        panic!("PostgreSQL's {name} is missing: run `tests/test-env.sh`, which installs it")
    })
}
