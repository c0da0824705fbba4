//! A process under watch.

mod lines;

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    process::{Command, ExitStatus, Stdio},
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use memchr::{memchr, memmem, memrchr};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use tokio::{sync::watch, time::timeout};

use crate::PATIENCE;

pub use lines::Lines;

/// Marks everything that descends from a watched process, however far it went from it.
const MARK: &str = "CREWFLEET_TEST_PROCESS";

/// How often something is looked at that tells nobody when it changes.
pub const TICK: Duration = Duration::from_millis(20);

/// A process whose output is read all the time, and which is killed with all that descends from it when this is
/// dropped, or when the test process dies.
///
/// It may be shared by tests with a runtime each, so everything here runs on threads of its own.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    mark: String,
    exit: watch::Receiver<Option<ExitStatus>>,
    /// What it wrote to stdout.
    pub stdout: Lines,
    /// What it wrote to stderr.
    pub stderr: Lines,
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

impl Process {
    /// Starts `command`, with `input` on its stdin.
    pub fn spawn(name: &str, command: &Command, input: &[u8]) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mark = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut command = dying_with_this_process(command);
        command
            .env(MARK, &mark)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = on_a_lasting_thread(command).unwrap_or_else(|error| {
            panic!("could not run {name}: {error}. `tests/run.sh` builds what the tests need")
        });

        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        let (mut stdin, input) = (child.stdin.take().expect("stdin is a pipe"), input.to_vec());
        thread::spawn(move || drop(stdin.write_all(&input)));
        let stdout = Lines::read(
            format!("stdout of {name}"),
            child.stdout.take().expect("stdout is a pipe"),
        );
        let stderr = Lines::read(
            format!("stderr of {name}"),
            child.stderr.take().expect("stderr is a pipe"),
        );
        let (ended, exit) = watch::channel(None);
        thread::spawn(move || ended.send(Some(child.wait().expect("a child can be waited for"))));
        Self {
            name: name.to_owned(),
            pid,
            mark,
            exit,
            stdout,
            stderr,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.exit.borrow().is_none()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        assert!(
            self.is_running(),
            "{} has ended: {:?}\n{}",
            self.name,
            self.exit.borrow(),
            self.stderr.tail()
        );
        signal::kill(self.pid, signal)
            .unwrap_or_else(|error| panic!("could not signal {}: {error}", self.name));
    }

    /// Waits for its end, and for the last of what it wrote.
    pub async fn exit(&self) -> ExitStatus {
        self.exit_within(PATIENCE).await
    }

    /// As [`Self::exit`], for what takes longer than a test may.
    pub async fn exit_within(&self, limit: Duration) -> ExitStatus {
        let mut exit = self.exit.clone();
        let ended = async {
            let status = exit.wait_for(Option::is_some).await;
            *status.expect("the watching thread says how it ended")
        };
        let Ok(status) = timeout(limit, ended).await else {
            panic!("{} does not end.\n{}", self.name, self.stderr.tail());
        };
        let status = status.expect("waited for");
        self.stdout.end().await;
        self.stderr.end().await;
        status
    }

    /// Waits for its end, and takes all that it wrote.
    pub async fn output(&self) -> Output {
        self.output_within(PATIENCE).await
    }

    /// As [`Self::output`], for what takes longer than a test may.
    pub async fn output_within(&self, limit: Duration) -> Output {
        Output {
            code: self.exit_within(limit).await.code(),
            stdout: self.stdout.so_far(),
            stderr: self.stderr.so_far(),
        }
    }

    /// All living processes that descend from it, itself not among them, also those that went away from it.
    pub fn descendants(&self) -> BTreeSet<Pid> {
        let mut found = with_environment(MARK, &self.mark);
        // A process may have been given another environment: such are found by their parents.
        let parents = parents();
        let mut known = found.clone();
        known.insert(self.pid);
        while let Some((child, _)) = parents
            .iter()
            .find(|(pid, parent)| known.contains(parent) && !known.contains(pid))
        {
            known.insert(*child);
            found.insert(*child);
        }
        found.remove(&self.pid);
        found
    }

    /// Waits until nothing that descends from it is left.
    pub async fn descendants_gone(&self) {
        let gone = async {
            let mut tick = tokio::time::interval(TICK);
            while !self.descendants().is_empty() {
                tick.tick().await;
            }
        };
        if timeout(PATIENCE, gone).await.is_err() {
            let left: Vec<String> = self.descendants().into_iter().map(command_line).collect();
            panic!("processes of {} are left:\n{}", self.name, left.join("\n"));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut doomed = self.descendants();
        while self.is_running() || !doomed.is_empty() {
            doomed.insert(self.pid);
            for pid in doomed.iter().filter(|pid| **pid != self.pid || self.is_running()) {
                // It may have ended by itself meanwhile.
                let _ = signal::kill(*pid, Signal::SIGKILL);
            }
            thread::sleep(TICK / 4);
            doomed = self.descendants();
        }
        if thread::panicking() {
            eprintln!("--- the end of {}", self.stderr.tail());
        }
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

/// Waits until `look` finds something: for what tells nobody when it changes, a file as a rule.
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tick.tick().await;
            if let Some(found) = look() {
                return found;
            }
        }
    };
    match timeout(PATIENCE, found).await {
        Ok(found) => found,
        Err(_) => panic!("{what} does not come"),
    }
}

/// The processes, zombies apart, that carry a variable of this value in their environment.
pub fn with_environment(name: &str, value: &str) -> BTreeSet<Pid> {
    // As the environment has it: between zero bytes.
    let wanted = format!("{name}={value}\0").into_bytes();
    let finder = memmem::Finder::new(&wanted);
    let carries = |pid: &Pid| {
        let Ok(all) = fs::read(format!("/proc/{pid}/environ")) else {
            return false;
        };
        finder.find_iter(&all).any(|at| at == 0 || all[at - 1] == 0)
    };
    all_processes().filter(carries).collect()
}

/// The processes, zombies apart, whose command line contains a text.
pub fn with_command_line(text: &str) -> BTreeSet<Pid> {
    all_processes()
        .filter(|pid| command_line(*pid).contains(text))
        .collect()
}

fn all_processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").expect("/proc can be read").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw))
}

/// Each living process with its parent.
fn parents() -> Vec<(Pid, Pid)> {
    let parent = |pid: Pid| {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        // The name before it, in brackets, may contain anything: "1 (name) S 2 ...".
        let after = stat.get(memrchr(b')', &stat)? + 2..)?;
        let end = memchr(b' ', after.get(2..)?)?;
        let parent = str::from_utf8(after.get(2..2 + end)?).ok()?.parse().ok()?;
        (!matches!(after[0], b'Z' | b'X')).then_some((pid, Pid::from_raw(parent)))
    };
    all_processes().filter_map(parent).collect()
}

fn command_line(pid: Pid) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    format!("{pid} {}", String::from_utf8_lossy(&line).replace('\0', " "))
}

/// The same command under `setpriv`, which has the kernel kill it with the thread that started it.
fn dying_with_this_process(command: &Command) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped
        .args(["--pdeathsig", "KILL", "--"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        wrapped.current_dir(dir);
    }
    wrapped
}

/// Starts a command from a thread that lasts as long as this process: the kernel's "parent death" is that of the
/// thread.
fn on_a_lasting_thread(command: Command) -> std::io::Result<std::process::Child> {
    type Order = (Command, mpsc::Sender<std::io::Result<std::process::Child>>);
    static ORDERS: LazyLock<Mutex<mpsc::Sender<Order>>> = LazyLock::new(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in orders {
                // Nobody waits for it any more: then the child is dropped, and its pipes with it.
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (answer, spawned) = mpsc::channel();
    let orders: MutexGuard<'_, _> = ORDERS.lock().unwrap_or_else(PoisonError::into_inner);
    orders.send((command, answer)).expect("the thread lasts");
    drop(orders);
    spawned.recv().expect("the thread answers")
}
