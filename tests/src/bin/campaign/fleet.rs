//! The worker processes: started, killed, started again.
//!
//! All are this binary as `campaign worker`, which is the library behind `crewfleet-worker`: so they are never older
//! than the campaign, and two of them have a crew in Rust. But for one, where the campaign is given a `crewfleet-worker`
//! of an earlier version: it runs beside the others in all of its lives.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex as Lock, PoisonError},
    time::{Duration, Instant},
};

use anyhow::ensure;
use crewfleet_tests::{clock::Clock, crews, process::Process, proxy::Proxy};
use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::json;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::sleep,
};

use super::{
    crew::{AWAY_VARIABLE, JOURNAL_VARIABLE, WORKER_VARIABLE},
    history::CrewLine,
    journal::{self, CLOCK_VARIABLE, clock_base},
    site::{HEARTBEAT_S, NAMESPACE, Site},
    workload::{FORKED, LATE, MAX_ATTEMPTS, MAX_CRASHES, PROGRAM},
};

/// How many there are: two with the crew in Rust, two with the crews in processes of their own; the second of each is
/// behind a proxy and has a new id in each of its lives, as a container has.
pub(crate) const WORKERS: usize = 4;
/// Those behind a proxy.
pub(crate) const BEHIND_PROXIES: [usize; 2] = [1, 3];
/// Those with the Python crew.
pub(crate) const PYTHON: [usize; 2] = [2, 3];

/// The one of them that has the crew that cannot always be built.
pub(crate) const LATE_AT: usize = 2;
/// The one of them that may be of an earlier version.
pub(crate) const OLD: usize = 3;

/// How long a worker may take to serve its other crews when it cannot build one, whatever else happens to it.
const SERVED_WITHIN: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(100);

/// What a worker that is told to end gives its kickoffs: less than the longest of them take.
const DRAIN_GRACE_S: u32 = 2;

/// All workers.
#[derive(Debug)]
pub(crate) struct Fleet {
    members: Vec<Member>,
    troubles: Lock<Vec<String>>,
}

/// A place in the fleet, with one worker after the other.
#[derive(Debug)]
pub(crate) struct Member {
    name: String,
    place: usize,
    url: String,
    folder: PathBuf,
    /// Its `crewfleet-worker`, where it is not this binary.
    program: Option<PathBuf>,
    /// Its line, where it has one of its own.
    pub proxy: Option<Proxy>,
    life: Mutex<Life>,
}

#[derive(Debug)]
struct Life {
    number: u32,
    id: String,
    process: Option<Process>,
}

impl Fleet {
    /// Starts all workers, and waits until they are ready.
    pub(crate) async fn start(site: &Site, folder: &Path, old: Option<&Path>) -> anyhow::Result<Self> {
        let mut members = Vec::new();
        for place in 0..WORKERS {
            let proxy = BEHIND_PROXIES.contains(&place).then(|| site.proxy());
            let life = Life {
                number: 0,
                id: String::new(),
                process: None,
            };
            members.push(Member {
                name: format!("w{}", place + 1),
                place,
                url: proxy.as_ref().map_or_else(|| site.url(), Proxy::url),
                folder: folder.to_owned(),
                program: old.filter(|_| place == OLD).map(Path::to_owned),
                proxy,
                life: Mutex::new(life),
            });
        }
        for member in &members {
            member.write_url(site)?;
            member.begin(&mut *member.life.lock().await, Clock::Right)?;
        }
        for member in &members {
            ready(&*member.life.lock().await).await;
        }
        Ok(Self {
            members,
            troubles: Lock::default(),
        })
    }

    /// The worker at a place.
    pub(crate) fn member(&self, place: usize) -> &Member {
        &self.members[place]
    }

    /// Names of all places.
    pub(crate) fn names(&self) -> Vec<String> {
        self.members.iter().map(|member| member.name.clone()).collect()
    }

    /// What went wrong with workers that nobody hit.
    pub(crate) fn troubles(&self) -> Vec<String> {
        self.troubles
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Has the workers know the password that their user has now.
    pub(crate) fn write_urls(&self, site: &Site) -> anyhow::Result<()> {
        self.members.iter().try_for_each(|member| member.write_url(site))
    }

    /// Has the crew that cannot always be built be one that can, or not.
    pub(crate) fn set_buildable(&self, is_buildable: bool) -> anyhow::Result<()> {
        let away = self.members[LATE_AT].away();
        match is_buildable {
            true => fs::remove_file(away)?,
            false => fs::write(away, "")?,
        }
        Ok(())
    }

    /// Opens all lines.
    pub(crate) fn heal(&self) {
        self.members
            .iter()
            .filter_map(|member| member.proxy.as_ref())
            .for_each(Proxy::pass);
    }

    /// Kills the worker at a place, or tells it to end, and waits for its end.
    pub(crate) async fn end(&self, place: usize, signal: Signal) -> Ended<'_> {
        let member = &self.members[place];
        let mut life = member.life.lock().await;
        self.end_life(member, &mut life, signal).await;
        Ended { member, life }
    }

    /// Tells all workers to end, and waits until they have.
    pub(crate) async fn stop(&self) {
        for member in &self.members {
            self.end_life(member, &mut *member.life.lock().await, Signal::SIGTERM)
                .await;
        }
    }

    async fn end_life(&self, member: &Member, life: &mut Life, signal: Signal) {
        let Some(process) = life.process.take() else {
            return;
        };
        if process.is_running() {
            process.signal(signal);
        } else {
            self.trouble(format!(
                "{} ended unexpectedly; see {}",
                life.id,
                member.log(life.number).display()
            ));
        }
        let status = process.exit().await;
        if signal == Signal::SIGTERM && !status.success() {
            self.trouble(format!(
                "{} ended with {status} after SIGTERM; see {}",
                life.id,
                member.log(life.number).display()
            ));
        }
        let log = process.stderr.so_far().join("\n");
        fs::write(member.log(life.number), log + "\n").expect("the log is written");
    }

    fn trouble(&self, trouble: String) {
        self.troubles
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(trouble);
    }
}

/// A place whose worker has ended.
#[derive(Debug)]
pub(crate) struct Ended<'a> {
    member: &'a Member,
    life: MutexGuard<'a, Life>,
}

impl Ended<'_> {
    /// Starts the next worker, with this clock.
    pub(crate) fn begin_again(mut self, clock: Clock) -> anyhow::Result<()> {
        self.member.begin(&mut self.life, clock)
    }

    /// Starts the next worker, which cannot build one of its crews, and waits until it serves another all the same.
    pub(crate) async fn begin_again_without_one(mut self) -> anyhow::Result<()> {
        self.member.begin(&mut self.life, Clock::Right)?;
        let process = self.life.process.as_ref().expect("it was started");
        let said = |line: &String| line.contains("the crew cannot be built") && line.contains(LATE);
        let serves = |line: &String| line.contains("\"message\":\"consuming\"") && line.contains(FORKED);
        let deadline = Instant::now() + SERVED_WITHIN;
        loop {
            let log = process.stderr.so_far();
            if log.iter().any(said) && log.iter().any(serves) {
                return Ok(());
            }
            ensure!(
                process.is_running() && Instant::now() < deadline,
                "{} does not serve the crew {FORKED} while it cannot build {LATE}:\n{}",
                self.life.id,
                process.stderr.tail()
            );
            sleep(LOOK).await;
        }
    }
}

impl Member {
    /// The name of the place.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A forked child of it that is at work, if there is one.
    pub(crate) async fn child_at_work(&self) -> Option<Pid> {
        let life = self.life.lock().await;
        let process = life.process.as_ref().filter(|process| process.is_running())?;
        let lines: Vec<CrewLine> = journal::read(&self.journal()).ok()?;
        let mut working = Vec::new();
        for line in lines {
            match line {
                CrewLine::Start { run, pid, worker, .. } if worker == life.id => working.push((run, pid)),
                CrewLine::Start { .. } => {}
                CrewLine::End { run, .. } => working.retain(|(known, _)| *known != run),
            }
        }
        let children = process.descendants();
        let mut pids = working.into_iter().rev().map(|(_, pid)| Pid::from_raw(pid));
        pids.find(|pid| children.contains(pid))
    }

    /// Its Python crew host, while a forked child is at work.
    pub(crate) async fn host_at_work(&self) -> Option<Pid> {
        let child = self.child_at_work().await?;
        let worker = self.life.lock().await.process.as_ref()?.pid();
        // A program is the worker's own child.
        parent(child).filter(|host| *host != worker)
    }

    fn begin(&self, life: &mut Life, clock: Clock) -> anyhow::Result<()> {
        life.number += 1;
        life.id = match BEHIND_PROXIES.contains(&self.place) {
            true => format!("{}-{}{}", self.name, life.number, clock.suffix()),
            false => self.name.clone(),
        };
        let config = self.folder.join(format!("{}.toml", self.name));
        fs::write(&config, self.toml(&life.id))?;
        let mut command = match &self.program {
            Some(program) => Command::new(program),
            None => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("worker");
                command
            }
        };
        command
            .arg("--config")
            .arg(config)
            .current_dir(&self.folder)
            .env(JOURNAL_VARIABLE, self.journal())
            .env(WORKER_VARIABLE, &life.id)
            .env(AWAY_VARIABLE, self.away())
            .env(CLOCK_VARIABLE, clock_base().to_string());
        clock.set(&mut command);
        life.process = Some(Process::spawn(&format!("worker {}", life.id), &command, b""));
        Ok(())
    }

    /// As a secret is replaced: the file has either value, and never a half.
    fn write_url(&self, site: &Site) -> anyhow::Result<()> {
        let new = self.url_file().with_extension("new");
        fs::write(&new, site.as_worker(&self.url))?;
        Ok(fs::rename(new, self.url_file())?)
    }

    fn url_file(&self) -> PathBuf {
        self.folder.join(format!("url-{}", self.name))
    }

    /// While it is there, one crew of this worker cannot be built.
    fn away(&self) -> PathBuf {
        self.folder.join(format!("away-{}", self.name))
    }

    fn journal(&self) -> PathBuf {
        self.folder.join(format!("crews-{}.jsonl", self.name))
    }

    fn log(&self, life: u32) -> PathBuf {
        self.folder.join(format!("worker-{}-{life}.log", self.name))
    }

    fn toml(&self, id: &str) -> String {
        // JSON's strings are TOML's too.
        let (url_file, data) = (
            json!(self.url_file()),
            json!(self.folder.join(format!("data-{}", self.name))),
        );
        // Half of them have less room than their crews together, so that these share it and take turns.
        let room = match self.place {
            place if PYTHON.contains(&place) => "max_in_flight = 5\n",
            0 => "max_in_flight = 24\nmemory_limit = \"6GiB\"\n",
            _ => "",
        };
        let mut toml = format!(
            "[broker]\nurl_file = {url_file}\nnamespace = \"{NAMESPACE}\"\nheartbeat_s = {HEARTBEAT_S}\n\n\
             [worker]\nid = \"{id}\"\nadmin_addr = \"127.0.0.1:0\"\ndata_dir = {data}\ndrain_grace_s = {DRAIN_GRACE_S}\n\
             cancel_grace_s = 1\nkeep_failed_s = 0\n{room}"
        );
        if PYTHON.contains(&self.place) {
            let path = crews::checkout().join("tests/crews");
            let program = std::env::current_exe().expect("the path of this binary");
            let retry = |crew: &str| {
                format!(
                    "[crews.{crew}.retry]\nmax_attempts = {MAX_ATTEMPTS}\nmax_crashes = {MAX_CRASHES}\n\
                     backoff = \"fixed\"\ndelay_s = 5\njitter = 0\n"
                )
            };
            toml += "\n";
            if self.place == LATE_AT {
                toml += &crews::python_crew_toml(LATE, "campaign_late:LateCrew", &path, 1);
                toml += &format!("working_dir = {}\n\n", json!(path));
            }
            toml += &crews::python_crew_toml(FORKED, "campaign:CampaignCrew", &path, 6);
            // Not the worker's own folder: what a crew writes below its working directory, as the journal, would be the
            // kickoff's.
            toml += &format!("working_dir = {}\n", json!(path));
            toml += &retry(FORKED);
            toml += &format!(
                "\n[crews.{PROGRAM}]\nrunner = \"command\"\ncommand = [{}, \"crew\"]\nconcurrency = 2\n",
                json!(program)
            );
            toml += &retry(PROGRAM);
        }
        toml
    }
}

fn parent(pid: Pid) -> Option<Pid> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok().map(Pid::from_raw)
}

async fn ready(life: &Life) {
    let process = life.process.as_ref().expect("it was started");
    let is_ready = |line: &str| line.contains("\"message\":\"ready\"").then_some(());
    process.stderr.first("the log line \"ready\"", is_ready).await;
}

/// The journals of all crews in a folder.
pub(crate) fn read_journals(folder: &Path) -> anyhow::Result<Vec<CrewLine>> {
    let mut lines = Vec::new();
    for place in 0..WORKERS {
        lines.extend(journal::read(
            &folder.join(format!("crews-w{}.jsonl", place + 1)),
        )?);
    }
    Ok(lines)
}
