//! The campaign from start to end.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crewfleet_tests::postgres::Postgres;
use tempfile::TempDir;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    batch::{self, Batch},
    checker::{self, Findings},
    evidence,
    faults::{self, Arena},
    fleet::{self, Fleet},
    gateway::{self, Gateways},
    history::History,
    hook::{self, Hook},
    journal::{self, Journal, now},
    options::Options,
    producers::{self, Producers},
    schedule::{self, Crowd, Kind, Scheduled},
    sinks::{self, Sinks},
    site::{HEARTBEAT_S, Site},
    summary::{self, Frame},
    survey,
    workload::{self, Planned},
};

/// How often progress is told.
const TELL: Duration = Duration::from_secs(5);
/// How often it is looked whether the queues are empty: each look costs a second of a processor.
const LOOK: Duration = Duration::from_secs(2);
/// Between the moment at which everything is ready and the first kickoff.
const LEAD: Duration = Duration::from_millis(500);

/// Runs it; the last line of stdout is its summary. `false` where a promise was broken.
pub(crate) async fn run(options: &Options) -> anyhow::Result<bool> {
    let began = Instant::now();
    let seed = options.seed.unwrap_or_else(|| now() % 1_000_000);
    let folder = tempfile::Builder::new().prefix("crewfleet-campaign-").tempdir()?;
    let is_mixed = options.old_worker()?.is_some();
    let plan = workload::kickoffs(seed, options.kickoffs, options.span(), is_mixed);
    let schedule = schedule(options, seed)?;
    eprintln!(
        "campaign: {} kickoffs and {} faults over {:.0} s, --seed {seed}, in {}",
        plan.len(),
        schedule.len(),
        options.span().as_secs_f64(),
        folder.path().display()
    );

    let outcome = play(options, seed, &plan, &schedule, folder.path(), began).await;
    let (findings, summary) = match outcome {
        Ok((history, findings, frame)) => {
            let (workers, producers) = (frame.workers, frame.producers);
            let duration_s = began.elapsed().as_secs_f64();
            let frame = Frame {
                seed,
                nodes: options.nodes,
                duration_s,
                faults_scheduled: schedule.len(),
                workers: &workers,
                producers: &producers,
            };
            let summary = summary::summary(&history, &findings, frame);
            (findings, summary)
        }
        Err(error) => {
            eprintln!(
                "campaign: broken off; the history is kept in {}",
                folder.keep().display()
            );
            return Err(error);
        }
    };
    let is_sound = findings.violations.is_empty();
    for violation in findings.violations.iter().take(50) {
        eprintln!("campaign: {:?}: {}", violation.rule, violation.text);
    }
    std::fs::write(folder.path().join("summary.json"), summary.to_string())?;
    keep(folder, options.keep || !is_sound);
    println!("{summary}");
    Ok(is_sound)
}

fn keep(folder: TempDir, is_kept: bool) {
    if is_kept {
        eprintln!("campaign: the history is kept in {}", folder.keep().display());
    }
}

fn schedule(options: &Options, seed: u64) -> anyhow::Result<Vec<Scheduled>> {
    let kinds: Vec<Kind> = options.kinds()?;
    let of_any_clock = match options.old_worker()? {
        Some(_) => &fleet::BEHIND_PROXIES[..1],
        None => &fleet::BEHIND_PROXIES,
    };
    let crowd = Crowd {
        workers: fleet::WORKERS,
        workers_behind_proxies: &fleet::BEHIND_PROXIES,
        python_workers: &fleet::PYTHON,
        workers_of_any_clock: of_any_clock,
        late_worker: fleet::LATE_AT,
        producers: producers::PRODUCERS,
        library_producers: producers::LIBRARY,
        producers_behind_proxies: &producers::BEHIND_PROXIES,
        gateways: gateway::GATEWAYS,
        sinks: sinks::SINKS,
        heartbeat_s: HEARTBEAT_S,
    };
    Ok(schedule::faults(
        seed,
        &kinds,
        options.scheduled(kinds.len()),
        options.span(),
        &crowd,
    ))
}

/// Who took part.
struct Names {
    workers: Vec<String>,
    producers: Vec<String>,
}

async fn play(
    options: &Options,
    seed: u64,
    plan: &[Planned],
    schedule: &[Scheduled],
    folder: &Path,
    began: Instant,
) -> anyhow::Result<(History, Findings, Names)> {
    let planned = Journal::open(&folder.join("schedule.jsonl"))?;
    schedule.iter().for_each(|fault| planned.write(fault));
    let site = Site::start(options.nodes).await?;
    let old = options.old_worker()?;
    eprintln!(
        "campaign: {}",
        match &old {
            Some(old) => format!("w{} is an old worker, {}", fleet::OLD + 1, old.display()),
            None => "all workers are of this version, since no --old-worker is named".to_owned(),
        }
    );
    let fleet = Fleet::start(&site, folder, old.as_deref()).await?;
    let gateways = Gateways::start(&site, folder).await?;
    let (hook, database) = (Hook::start(seed, folder).await?, Postgres::start().await);
    let sinks = Sinks::start(&site, &hook, &database, folder).await?;
    // A queue must not be lost to a SIGKILL that comes right after its declaration.
    site.sync_names().await?;
    eprintln!(
        "campaign: the broker and {} workers are ready after {:.1} s",
        fleet::WORKERS,
        began.elapsed().as_secs_f64()
    );

    let start = Instant::now() + LEAD;
    let epoch = now() + u64::try_from(LEAD.as_nanos())?;
    hook.be_patient_until(epoch + u64::try_from(options.span().as_nanos() / 3)?);
    let producers = Producers::start(&site, &gateways, &hook.url(), folder, plan, epoch)?;
    let batch = Arc::new(Batch::start(
        &site,
        folder,
        options.batch_items(),
        options.span(),
    )?);
    let arena = Arena {
        site,
        fleet,
        gateways,
        sinks,
        database: Mutex::new(database),
        producers,
        batch: Arc::clone(&batch),
        idle_probes: Mutex::default(),
        late_probes: Mutex::default(),
        folder: folder.to_owned(),
        start,
    };
    let batch_done = AbortOnDropHandle::new(tokio::spawn(async move { batch.see_through().await }));
    let telling = tokio::spawn(tell(folder.to_owned(), plan.len(), schedule.len(), start));
    faults::inject(&arena, schedule).await?;
    arena.fleet.heal();
    arena.producers.heal();
    let left_s = options.span().saturating_sub(start.elapsed()).as_secs_f64();
    let settled = timeout(
        Duration::from_secs_f64(left_s + options.patience_s),
        settle(&arena, batch_done),
    )
    .await;
    telling.abort();
    if let Ok(Err(error)) = settled {
        return Err(error);
    }
    let mut history = History {
        faults: journal::read(&folder.join(faults::FILE))?,
        ..History::default()
    };
    if settled.is_err() {
        history.troubles.push(format!(
            "not everything was settled {} s after the last fault",
            options.patience_s
        ));
    }

    let answered = answered(folder)?;
    eprintln!(
        "campaign: {:4.0} s: all is settled",
        start.elapsed().as_secs_f64()
    );
    let survey = survey::take(&arena.gateways, &answered, folder);
    let (surveys, ()) = tokio::join!(survey, arena.fleet.stop());
    history.surveys = surveys?;
    eprintln!(
        "campaign: {:4.0} s: the gateways have shown {} kickoffs",
        start.elapsed().as_secs_f64(),
        answered.len()
    );
    arena.gateways.stop().await?;
    arena.sinks.stop().await?;
    let names = Names {
        workers: arena.fleet.names(),
        producers: arena.producers.names(),
    };
    let Arena {
        site,
        fleet,
        producers,
        gateways,
        database,
        ..
    } = arena;
    history.troubles.extend(fleet.troubles());
    drop((producers, gateways));
    evidence::read(&site, &mut history).await?;
    drop(site);
    let database = database.into_inner();
    history.rows = Some(evidence::rows(&database)?);
    database.stop().await;
    history.hooked = journal::read(&folder.join(hook::FILE))?;
    producers::read_histories(folder, &mut history)?;
    batch::read(folder, options.batch_items(), epoch, &mut history)?;
    history.add_crew(fleet::read_journals(folder)?);
    history.resolve_keyed();
    history.resolve_calls();
    history.resolve_steps();
    history
        .troubles
        .extend(checker::missing(&history, options.kickoffs));
    history.faults.sort_by_key(|fault| fault.begin);
    let findings = checker::check(&history);
    Ok((history, findings, names))
}

/// The kickoffs whose producers know how they ended.
fn answered(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut seen = History::default();
    producers::read_histories(folder, &mut seen)?;
    seen.resolve_keyed();
    let told = seen.calls.iter().filter(|call| !call.told.is_empty());
    let called = told.filter_map(|call| call.id().map(str::to_owned));
    let called: Vec<String> = called.collect();
    let others = seen
        .asked
        .into_iter()
        .filter(|(_, asked)| !asked.answers.is_empty());
    Ok(others.map(|(id, _)| id).chain(called).collect())
}

/// Waits until every producer has its replies, and the batch its end, and the queues are empty.
async fn settle(arena: &Arena, batch: AbortOnDropHandle<anyhow::Result<()>>) -> anyhow::Result<()> {
    arena.producers.finish().await?;
    batch.await??;
    arena.probes_are_answered().await?;
    loop {
        let open = evidence::unsettled(&arena.site).await?;
        if open.is_empty() {
            return Ok(());
        }
        eprintln!("campaign: waiting for {}", open.join(", "));
        tokio::time::sleep(LOOK).await;
    }
}

async fn tell(folder: PathBuf, kickoffs: usize, faults: usize, start: Instant) {
    let mut ticks = tokio::time::interval(TELL);
    loop {
        ticks.tick().await;
        let (confirmed, replied) = producers::progress(&folder);
        let done = std::fs::read_to_string(folder.join(faults::FILE)).unwrap_or_default();
        eprintln!(
            "campaign: {:4.0} s: {confirmed} of {kickoffs} kickoffs confirmed, {replied} answered, {} of {faults} faults over",
            start.elapsed().as_secs_f64(),
            done.lines().count()
        );
    }
}
