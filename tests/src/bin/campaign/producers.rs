//! All producers: each has a part of the plan. The first ones use the client library, the others call gateways.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::ensure;
use crewfleet_tests::{clock::Clock, process::Process, proxy::Proxy};
use nix::sys::signal::Signal;
use tokio::sync::{Mutex, MutexGuard};

use super::{
    calls,
    gateway::{Gateway, Gateways},
    history::History,
    journal::{self, CLOCK_VARIABLE, Journal, Nanos, clock_base},
    keyed,
    site::Site,
    workload::Planned,
};

/// How many there are.
pub(crate) const PRODUCERS: usize = LIBRARY + 2;
/// How many of them use the client library.
pub(crate) const LIBRARY: usize = 3;
/// The one that calls a gateway as a client of AMP does …
pub(crate) const CALLER: &str = "p4";
/// … at this place …
const CALLER_AT: usize = LIBRARY;
/// … and the gateway that it calls.
pub(crate) const CALLED: &str = "g1";
/// The one that calls the native API of all gateways …
pub(crate) const NATIVE: &str = "p5";
/// … at this place.
const NATIVE_AT: usize = LIBRARY + 1;
/// Those behind a proxy.
pub(crate) const BEHIND_PROXIES: [usize; 1] = [1];

/// How often it is looked whether they have ended.
const LOOK: Duration = Duration::from_millis(200);

/// What each of them is told of the campaign.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Part {
    /// Its kickoffs.
    #[arg(long)]
    pub plan: PathBuf,
    /// What it writes, and goes on from.
    #[arg(long)]
    pub history: PathBuf,
    /// The campaign's start.
    #[arg(long)]
    pub epoch: Nanos,
}

/// All producer processes.
#[derive(Debug)]
pub(crate) struct Producers {
    members: Vec<Member>,
}

/// One producer, through all its lives.
#[derive(Debug)]
pub(crate) struct Member {
    name: String,
    command: Vec<String>,
    folder: PathBuf,
    /// Its line, where it has one of its own.
    pub proxy: Option<Proxy>,
    process: Mutex<Process>,
}

impl Producers {
    /// Starts them.
    pub(crate) fn start(
        site: &Site,
        gateways: &Gateways,
        hook: &str,
        folder: &Path,
        plan: &[Planned],
        epoch: Nanos,
    ) -> anyhow::Result<Self> {
        let mut members = Vec::new();
        for place in 0..PRODUCERS {
            let name = format!("p{}", place + 1);
            let (part, history) = files(folder, &name);
            let journal = Journal::open(&part)?;
            plan.iter()
                .filter(|planned| of_number(planned.number) == place)
                .map(|planned| match place {
                    CALLER_AT => planned.clone().over_amp(),
                    NATIVE_AT => planned.clone().in_bursts(),
                    _ => planned.clone(),
                })
                .for_each(|planned| journal.write(&planned));
            let proxy = BEHIND_PROXIES.contains(&place).then(|| site.proxy());
            let url = proxy.as_ref().map_or_else(|| site.url(), Proxy::url);
            let file = |path: &Path| path.to_str().expect("a path of ours").to_owned();
            let gateway = |gateway: &Gateway| format!("--gateway={}", gateway.url());
            let mut command = match place {
                CALLER_AT => vec!["caller".to_owned(), gateway(gateways.named(CALLED))],
                NATIVE_AT => ["native".to_owned()]
                    .into_iter()
                    .chain(gateways.iter().map(gateway))
                    .collect(),
                _ => vec!["producer".to_owned(), format!("--url={url}")],
            };
            if [CALLER_AT, NATIVE_AT].contains(&place) {
                command.push(format!("--token-file={}", file(gateways.token_file())));
            }
            command.extend([
                format!("--plan={}", file(&part)),
                format!("--history={}", file(&history)),
                format!("--epoch={epoch}"),
                format!("--hook={hook}"),
            ]);
            let process = Mutex::new(spawn(&name, &command, folder, Clock::Right)?);
            members.push(Member {
                name,
                command,
                folder: folder.to_owned(),
                proxy,
                process,
            });
        }
        Ok(Self { members })
    }

    /// The producer at a place.
    pub(crate) fn member(&self, place: usize) -> &Member {
        &self.members[place]
    }

    /// Names of all.
    pub(crate) fn names(&self) -> Vec<String> {
        self.members.iter().map(|member| member.name.clone()).collect()
    }

    /// Opens all lines.
    pub(crate) fn heal(&self) {
        self.members
            .iter()
            .filter_map(|member| member.proxy.as_ref())
            .for_each(Proxy::pass);
    }

    /// Waits until all have their replies.
    pub(crate) async fn finish(&self) -> anyhow::Result<()> {
        for member in &self.members {
            while member.process.lock().await.is_running() {
                tokio::time::sleep(LOOK).await;
            }
            let output = member.process.lock().await.output().await;
            ensure!(
                output.code == Some(0),
                "the producer {} ended: {output:#?}",
                member.name
            );
        }
        Ok(())
    }
}

impl Member {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Sends it a signal that it dies of, and waits for its end; `None` where it has ended already, with nothing left
    /// to do.
    pub(crate) async fn kill(&self, signal: Signal) -> Option<Killed<'_>> {
        let process = self.process.lock().await;
        if !process.is_running() {
            return None;
        }
        process.signal(signal);
        process.exit().await;
        Some(Killed {
            member: self,
            process,
        })
    }
}

/// A producer that was killed.
#[derive(Debug)]
pub(crate) struct Killed<'a> {
    member: &'a Member,
    process: MutexGuard<'a, Process>,
}

impl Killed<'_> {
    /// Starts it again, with this clock.
    pub(crate) fn begin_again(mut self, clock: Clock) -> anyhow::Result<()> {
        let member = self.member;
        *self.process = spawn(&member.name, &member.command, &member.folder, clock)?;
        Ok(())
    }
}

/// Whose a kickoff of this number is. Each has some of all crews, of which every fourth kickoff is the Python one's.
fn of_number(number: u64) -> usize {
    let producers = PRODUCERS as u64;
    usize::try_from((number + number / producers) % producers).expect("less than there are producers")
}

fn spawn(name: &str, arguments: &[String], folder: &Path, clock: Clock) -> anyhow::Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(arguments)
        .current_dir(folder)
        .env(CLOCK_VARIABLE, clock_base().to_string());
    clock.set(&mut command);
    Ok(Process::spawn(&format!("producer {name}"), &command, b""))
}

/// The plan of a producer, and its history.
pub(super) fn files(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    (
        folder.join(format!("plan-{name}.jsonl")),
        folder.join(format!("producer-{name}.jsonl")),
    )
}

/// What all producers wrote, the prober among them, in one history; that of callers waits for
/// [`History::resolve_calls`] and [`History::resolve_keyed`].
pub(crate) fn read_histories(folder: &Path, into: &mut History) -> anyhow::Result<()> {
    for place in 0..=PRODUCERS {
        let name = format!("p{place}");
        let (plan, history) = files(folder, &name);
        let plan = journal::read::<Planned>(&plan)?
            .into_iter()
            .map(|planned| (planned.number, planned));
        let plan = plan.collect();
        match name.as_str() {
            CALLER => {
                let calls = calls::read(&name, &plan, journal::read(&history)?);
                into.calls.extend(calls.into_values());
            }
            NATIVE => {
                let keyed = keyed::read(&name, &plan, journal::read(&history)?);
                into.keyed.extend(keyed.into_values());
            }
            _ => into.add_producer(&name, &plan, journal::read(&history)?),
        }
    }
    Ok(())
}

/// How many kickoffs were confirmed and answered so far.
pub(crate) fn progress(folder: &Path) -> (usize, usize) {
    let (mut confirmed, mut replied) = (0, 0);
    for place in 0..PRODUCERS {
        let text = fs::read_to_string(files(folder, &format!("p{}", place + 1)).1).unwrap_or_default();
        confirmed += text.matches("\"what\":\"confirmed\"").count();
        replied += text.matches("\"what\":\"replied\"").count();
    }
    (confirmed, replied)
}
