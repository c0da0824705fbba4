//! A real PostgreSQL of a test's own: Debian's package, a data folder and a port that go with it.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    sys::signal::Signal,
    unistd::{User, geteuid},
};
use tempfile::TempDir;

use crate::certificates::Identity;
use crate::ports::free_port;
use crate::process::Process;

/// Its superuser, who needs no password.
const USER: &str = "crewfleet";

/// A running server. It ends, with its data, when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    port: u16,
    dir: TempDir,
}

impl Postgres {
    /// Makes a database cluster and starts a server for it, on the loopback interface.
    pub async fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("crewfleet-postgres-")
            .tempdir()
            .expect("a temporary folder");
        let data = dir.path().join("data");
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
        Self {
            process: serve(dir.path(), port).await,
            port,
            dir,
        }
    }

    /// What a client connects by.
    pub fn url(&self) -> String {
        format!("postgresql://{USER}@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends its connections and takes no more, until it is [started again](Self::restart) on its port with its data.
    pub async fn halt(&mut self) {
        self.process.signal(Signal::SIGINT);
        self.process.exit().await;
    }

    /// Starts it again.
    pub async fn restart(&mut self) {
        self.process = serve(self.dir.path(), self.port).await;
    }

    /// Has it speak TLS with this certificate, to whoever asks for that.
    pub async fn speak_tls(&mut self, server: &Identity) {
        for (from, name) in [(&server.certificate, "server.crt"), (&server.key, "server.key")] {
            let to = self.dir.path().join("data").join(name);
            fs::copy(from, &to).expect("the file is copied");
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).expect("it is ours");
            if let Some(owner) = owner() {
                chown(&to, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).expect("it is ours");
            }
        }
        self.sql("ALTER SYSTEM SET ssl = on");
        self.halt().await;
        self.restart().await;
    }

    /// Runs SQL, and returns the rows, with | between columns.
    pub fn sql(&self, statements: &str) -> String {
        let psql = Command::new(program("psql"))
            .args([
                "--no-psqlrc",
                "--quiet",
                "--tuples-only",
                "--no-align",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
            ])
            .args([&self.url(), "-c", statements])
            .output()
            .expect("psql starts");
        let said = String::from_utf8_lossy(&psql.stderr);
        assert!(psql.status.success(), "{said}");
        String::from_utf8_lossy(&psql.stdout).trim().to_owned()
    }

    /// Ends it as an administrator does, so that it removes its shared memory.
    pub async fn stop(self) {
        self.process.signal(Signal::SIGINT);
        self.process.exit().await;
    }
}

/// A server for the cluster in this folder.
async fn serve(dir: &Path, port: u16) -> Process {
    let mut command = run_as(owner().as_ref(), &program("postgres"), dir);
    command
        .arg("-D")
        .arg(dir.join("data"))
        .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
        .args(["-c", "fsync=off", "-c", "max_connections=200"])
        .arg("-k")
        .arg(dir);
    let process = Process::spawn("postgres", &command, b"");
    let ready = |line: &str| line.contains("ready to accept connections").then_some(());
    process.stderr.first("that it is ready", ready).await;
    process
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
