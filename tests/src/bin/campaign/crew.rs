//! The crews: each writes down what it does, then does what its order says. The one in Python is
//! `tests/crews/campaign.py`.

use std::{
    io::{Read, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context;
use crewfleet_protocol::{KickoffError, KickoffResult};
use crewfleet_service::{shutdown, telemetry};
use crewfleet_worker::config::{Backoff, RetryConfig};
use crewfleet_worker::{CrewOptions, Handler, Inputs, KickoffContext, Worker, WorkerBuilder, config};
use serde::Deserialize;
use serde_json::{json, value::to_raw_value};

use super::{
    history::{CrewLine, Ending},
    journal::{Journal, now},
    workload::{Act, IDLE, MAX_ATTEMPTS, MAX_CRASHES, Order, ROWS, SWIFT},
};

/// How a worker's crews find their journal, in their environment: `tests/crews/campaign.py` reads it too.
pub(crate) const JOURNAL_VARIABLE: &str = "CAMPAIGN_JOURNAL";
/// A file that keeps one crew from being built while it is there, likewise: `tests/crews/campaign_late.py` reads it.
pub(crate) const AWAY_VARIABLE: &str = "CAMPAIGN_AWAY";
/// The worker's id, likewise.
pub(crate) const WORKER_VARIABLE: &str = "CAMPAIGN_WORKER";

/// How many kickoffs of the crew in Rust run at once on one worker.
const CONCURRENCY: u16 = 24;

/// Writes down the executions of one worker's crews.
#[derive(Debug)]
pub(crate) struct Recorder {
    journal: Journal,
    worker: String,
    count: AtomicU64,
}

/// An execution that has started; its end is written when this is dropped.
struct Recording<'a> {
    recorder: &'a Recorder,
    run: String,
    how: Ending,
}

impl Recorder {
    /// Writes where the environment says, for the worker that it names.
    pub(crate) fn from_environment() -> anyhow::Result<Self> {
        let journal = std::env::var(JOURNAL_VARIABLE).context(JOURNAL_VARIABLE)?;
        Ok(Self {
            journal: Journal::open(Path::new(&journal))?,
            worker: std::env::var(WORKER_VARIABLE).context(WORKER_VARIABLE)?,
            count: AtomicU64::new(0),
        })
    }

    fn start(&self, id: &str, attempt: u32, redrive: u32, nonce: &str) -> Recording<'_> {
        let (t, pid) = (now(), std::process::id());
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let run = format!("{}-{pid}-{t}-{count}", self.worker);
        self.journal.write(&CrewLine::Start {
            t,
            run: run.clone(),
            id: id.to_owned(),
            attempt,
            redrive,
            pid: i32::try_from(pid).expect("a pid"),
            worker: self.worker.clone(),
            nonce: nonce.to_owned(),
        });
        Recording {
            recorder: self,
            run,
            how: Ending::Stopped,
        }
    }
}

impl Recording<'_> {
    fn acted(&mut self) {
        self.how = Ending::Acted;
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        self.recorder.journal.write(&CrewLine::End {
            t: now(),
            run: self.run.clone(),
            how: self.how,
        });
    }
}

/// A worker with the crew in Rust: `campaign worker`, as `crewfleet-worker` but for its crews.
pub(crate) async fn worker(config: &Path) -> anyhow::Result<()> {
    let config = config::load(Some(config), &[], true)?;
    let _logging = telemetry::init("info,lapin=error");
    let shutdown = shutdown::token(|| std::process::exit(1))?;
    let mut worker = Worker::builder();
    // The others run programs.
    if config.config.crews.is_empty() {
        worker = with_crews_in_rust(worker)?;
    }
    worker
        .config(config)
        .build()?
        .run(shutdown.cancelled_owned())
        .await?;
    Ok(())
}

fn with_crews_in_rust(worker: WorkerBuilder) -> anyhow::Result<WorkerBuilder> {
    let recorder = Arc::new(Recorder::from_environment()?);
    let options = CrewOptions {
        concurrency: CONCURRENCY,
        retry: RetryConfig {
            max_attempts: MAX_ATTEMPTS,
            max_crashes: MAX_CRASHES,
            backoff: Backoff::Fixed,
            delay_s: 5.0,
            jitter: 0.0,
            ..RetryConfig::default()
        },
        ..CrewOptions::default()
    };
    Ok(worker
        .crew_with(SWIFT, options.clone(), in_rust(Arc::clone(&recorder)))
        .crew_with(IDLE, options.clone(), in_rust(recorder))
        .crew_with(ROWS, options, of_rows()))
}

fn in_rust(recorder: Arc<Recorder>) -> impl Handler {
    move |context: KickoffContext, inputs: Inputs| {
        let recorder = Arc::clone(&recorder);
        async move {
            let order: Order = inputs.parse()?;
            let id = context.kickoff_id.as_str();
            let mut recording = recorder.start(id, context.attempt, context.redrive, &order.nonce);
            tokio::time::sleep(order.work()).await;
            let act = order.act(context.attempt);
            if act == Act::Hang {
                std::future::pending::<()>().await;
            }
            recording.acted();
            match act {
                Act::Succeed | Act::Hang => Ok(result(&order)),
                Act::FailForNow => Err(failure(act).retryable()),
                Act::Fail => Err(failure(act)),
                Act::Crash => panic!("as ordered"),
            }
        }
    }
}

/// As [`in_rust`], and nothing is written down: rows are many, and each ends as ordered at its first attempt.
fn of_rows() -> impl Handler {
    async move |_: KickoffContext, inputs: Inputs| {
        let order: Order = inputs.parse()?;
        tokio::time::sleep(order.work()).await;
        match order.act(1) {
            Act::Fail => Err(failure(Act::Fail)),
            _ => Ok(result(&order)),
        }
    }
}

fn result(order: &Order) -> KickoffResult {
    KickoffResult {
        raw: order.nonce.clone(),
        json: to_raw_value(&json!({ "nonce": order.nonce, "steps": order.steps, "told": order.told })).ok(),
        ..KickoffResult::default()
    }
}

fn failure(act: Act) -> KickoffError {
    KickoffError::new("ordered", format!("the order says {act:?}"))
}

/// What a program gets on its stdin.
#[derive(Deserialize)]
struct Request {
    kickoff_id: String,
    attempt: u32,
    redrive: u32,
    inputs: Order,
}

/// The crew that is a program: `campaign crew`. It lives for one kickoff.
pub(crate) fn program() -> anyhow::Result<()> {
    let mut stdin = Vec::new();
    std::io::stdin().read_to_end(&mut stdin)?;
    let request: Request = serde_json::from_slice(&stdin)?;
    let (order, attempt) = (request.inputs, request.attempt);
    let recorder = Recorder::from_environment()?;
    let mut recording = recorder.start(&request.kickoff_id, attempt, request.redrive, &order.nonce);
    std::thread::sleep(order.work());
    let act = order.act(attempt);
    if act == Act::Hang {
        loop {
            std::thread::park();
        }
    }
    recording.acted();
    drop(recording);
    let answer = match act {
        Act::Succeed | Act::Hang => json!(result(&order)),
        Act::FailForNow => json!({ "error": failure(act).retryable() }),
        Act::Fail => json!({ "error": failure(act) }),
        Act::Crash => std::process::abort(),
    };
    writeln!(std::io::stdout(), "{answer}")?;
    Ok(())
}
