//! What callers over HTTP wait at an open load, beside a thousand who follow events: against a client that speaks AMQP, at
//! the same rate, beside the same thousand.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use crewfleet::{BrokerConfig, KickoffClient};
use crewfleet_tests::{
    broker::Namespace, cli::Cli, crews::builtin_crew_toml, gateway::GatewayProcess, worker::WorkerProcess,
};
use nix::unistd::Pid;
use serde_json::{json, value::RawValue};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    calls::Caller,
    cycle::{CREW, REQUEST_BYTES},
    figures::{Report, Target, Waits},
    load,
    readers::{Readers, SLEEPING, STREAMS},
    site::Site,
    usage,
};

/// Kickoffs a second that are tried, until a rate does not hold.
const RATES: [u32; 9] = [50, 250, 500, 750, 1000, 1250, 1500, 1750, 2000];
/// What is measured at a rate far below that …
const MODERATE: u32 = 250;
/// … and at the rate that a busy fleet may ask for, whether or not it holds.
const FULL: u32 = 2000;
const SPAN: Duration = Duration::from_secs(5);
/// A rate holds if its last kickoff is taken so soon after it was to be sent …
const LATE: Duration = Duration::from_secs(1);
/// … and 99 in 100 have their results within so many milliseconds.
const PATIENT_MS: f64 = 1000.0;
/// In connections of callers; more than there are by default.
const MOST_CONNECTIONS: usize = 8192;
/// At once, of each crew.
const CONCURRENCY: u32 = 4000;
const MIB: f64 = 1024.0 * 1024.0;

/// Who takes part in what is measured, in the order in which their CPU is counted.
const PARTS: [&str; 4] = ["gateway", "broker", "worker", "all callers and readers"];

/// What came of one open load.
struct Run {
    /// Until it is taken: an answer 202, or a confirm.
    taken: Waits,
    /// Until its result is here.
    answered: Waits,
    /// Taken a second, from the first one's moment to the last one's answer.
    per_second: f64,
    /// From the last one's moment to the last answer 202.
    late: Duration,
    /// Of 1,000, and why the first one was.
    refused: f64,
    why: Option<String>,
    /// Shares of a core, of each of [`PARTS`].
    cores: [f64; PARTS.len()],
    /// Events that readers have read a second.
    events: f64,
}

struct Bench<'a> {
    site: &'a Site,
    /// The folder with the gateway's files.
    _cli: Cli,
    gateway: GatewayProcess,
    worker: WorkerProcess,
    token: String,
    client: KickoffClient,
    readers: Readers,
}

/// Measures all of it.
pub(crate) async fn measure(site: &Site, pairs: usize, report: &mut Report) -> anyhow::Result<()> {
    let mut bench = Bench::begin(site).await?;
    let reading = bench.readers.last(true).await?;
    let holds = bench.highest(Bench::over_http).await?;
    let by_amqp = bench.highest(Bench::by_amqp).await?;
    let name = format!("kickoffs/s that hold, {STREAMS} streams: over HTTP");
    report.against(&name, &[(holds, by_amqp)], "AMQP", Some(Target::AtLeast(1.0)));
    for rate in [MODERATE, FULL] {
        bench.against_amqp(rate, pairs, report).await?;
        let most = usage::most_resident(bench.gateway.process().pid())? as f64 / MIB;
        report.alone(&format!("gateway MiB at most, up to {rate}/s"), vec![most], None);
    }
    drop(reading);
    // At the highest rate, all wait for everything.
    bench.with_a_slow_reader(MODERATE, pairs, report).await?;
    bench.client.close().await;
    Ok(())
}

impl<'a> Bench<'a> {
    async fn begin(site: &'a Site) -> anyhow::Result<Self> {
        let descriptors = crewfleet_service::http::descriptors();
        ensure!(
            descriptors > MOST_CONNECTIONS,
            "this process may have {descriptors} files open; it needs more than {MOST_CONNECTIONS} (ulimit -n)"
        );
        // The streams of other subjects are nothing that this gateway has to read first.
        let namespace = Namespace::named("bench-gateway");
        let cli = Cli::new(&site.url(), &namespace).with_free_gateway_ports().env(
            "CREWFLEET__GATEWAY__MAX_CONNECTIONS",
            &MOST_CONNECTIONS.to_string(),
        );
        let created = cli.run(&["token", "create", "bench", "--all-crews"]).await;
        let token = created.success().trim().to_owned();
        let worker = WorkerProcess::builder(&site.url(), &namespace)
            .crew(CREW, &builtin_crew_toml(CREW, CONCURRENCY))
            .crew(SLEEPING, &builtin_crew_toml(SLEEPING, CONCURRENCY))
            .ready()
            .await;
        let gateway = GatewayProcess::ready(&cli).await;
        let config: BrokerConfig =
            serde_json::from_value(json!({"url": site.url(), "namespace": namespace.to_string()}))?;
        let client = KickoffClient::connect(&config, "bench").await?;
        let readers = Readers::begin(Arc::new(Caller::new(gateway.addr(), &token))).await?;
        Ok(Self {
            site,
            _cli: cli,
            gateway,
            worker,
            token,
            client,
            readers,
        })
    }

    async fn against_amqp(&mut self, rate: u32, pairs: usize, report: &mut Report) -> anyhow::Result<()> {
        let mut runs = Vec::new();
        for _ in 0..pairs {
            let over_http = self.over_http(rate).await?;
            eprintln!("bench: {over_http}");
            let by_amqp = self.by_amqp(rate).await?;
            eprintln!("bench: {by_amqp}");
            runs.push((over_http, by_amqp));
        }
        for (name, yardstick, of) in [
            (
                "p50 ms to 202",
                "confirm",
                (|run| run.taken.p50) as fn(&Run) -> f64,
            ),
            ("p99 ms to 202", "confirm", |run| run.taken.p99),
            ("p50 ms to the result", "reply", |run| run.answered.p50),
            ("p99 ms to the result", "reply", |run| run.answered.p99),
        ] {
            let pairs: Vec<_> = runs.iter().map(|(http, amqp)| (of(http), of(amqp))).collect();
            report.against(
                &format!("HTTP {name} at {rate}/s"),
                &pairs,
                &format!("AMQP {yardstick}"),
                None,
            );
        }
        for (place, part) in PARTS.iter().enumerate() {
            let pairs: Vec<_> = runs
                .iter()
                .map(|(http, amqp)| (http.cores[place], amqp.cores[place]))
                .collect();
            report.against(&format!("cores of {part} at {rate}/s"), &pairs, "AMQP", None);
        }
        let refused = runs.iter().map(|(http, _)| http.refused).collect();
        report.alone(&format!("refused over HTTP at {rate}/s, of 1,000"), refused, None);
        let events = runs.iter().map(|(http, _)| http.events).collect();
        report.alone(
            &format!("events/s read by {STREAMS} streams at {rate}/s"),
            events,
            None,
        );
        Ok(())
    }

    /// One of those who follow all that happens to the crew reads nothing; then it reads, too.
    async fn with_a_slow_reader(
        &mut self,
        rate: u32,
        pairs: usize,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let mut runs = Vec::new();
        for pair in 0..pairs {
            let mut one = async |reads| {
                let _last = self.readers.last(reads).await?;
                let run = self.over_http(rate).await?;
                eprintln!("bench: {run}");
                anyhow::Ok(run)
            };
            // In turns: whoever is first finds another machine than whoever is last.
            runs.push(match pair % 2 {
                0 => (one(false).await?, one(true).await?),
                _ => {
                    let all = one(true).await?;
                    (one(false).await?, all)
                }
            });
        }
        for (name, of) in [
            ("p99 ms to 202", (|run| run.taken.p99) as fn(&Run) -> f64),
            ("p99 ms to the result", |run| run.answered.p99),
        ] {
            let pairs: Vec<_> = runs.iter().map(|(slow, all)| (of(slow), of(all))).collect();
            let name = format!("HTTP {name} at {rate}/s, a reader reads nothing");
            report.against(&name, &pairs, "all read", None);
        }
        Ok(())
    }

    /// The highest rate that holds; 0 where none does.
    async fn highest(
        &mut self,
        offer: impl AsyncFn(&mut Self, u32) -> anyhow::Result<Run>,
    ) -> anyhow::Result<f64> {
        let mut highest = 0.0;
        for rate in RATES {
            let run = offer(self, rate).await?;
            eprintln!("bench: {run}");
            if !run.holds() {
                break;
            }
            highest = f64::from(rate);
        }
        Ok(highest)
    }

    async fn over_http(&mut self, rate: u32) -> anyhow::Result<Run> {
        let caller = Arc::new(Caller::new(self.gateway.addr(), &self.token));
        let body = String::from_utf8(load::request(REQUEST_BYTES))?;
        let body: Arc<[u8]> = body
            .replacen('{', &format!("{{\"crew\": \"{CREW}\", "), 1)
            .into_bytes()
            .into();
        self.offer(rate, || {
            let (caller, body) = (Arc::clone(&caller), Arc::clone(&body));
            async move {
                let id = caller.kickoff(&body).await?;
                let taken = Instant::now();
                caller.reply(&id).await?;
                Ok(taken)
            }
        })
        .await
    }

    async fn by_amqp(&mut self, rate: u32) -> anyhow::Result<Run> {
        let inputs = String::from_utf8(load::inputs(REQUEST_BYTES - r#"{"inputs":}"#.len()))?;
        let inputs: Arc<RawValue> = RawValue::from_string(inputs)?.into();
        let client = self.client.clone();
        self.offer(rate, || {
            let (client, inputs) = (client.clone(), Arc::clone(&inputs));
            async move {
                let mut kickoff = client.kickoff(CREW, &*inputs).await?;
                let taken = Instant::now();
                kickoff.reply().await?;
                Ok(taken)
            }
        })
        .await
    }

    /// Has so many start a second, each at its moment, whether or not the earlier are answered. A kickoff says when it
    /// was taken, and ends when its result is here.
    async fn offer<F>(&mut self, rate: u32, kickoff: impl Fn() -> F) -> anyhow::Result<Run>
    where
        F: Future<Output = anyhow::Result<Instant>> + Send + 'static,
    {
        // The first ones open connections; they don't count.
        let (warm_up, count) = (rate / 2, rate * u32::try_from(SPAN.as_secs())?);
        let begin = Instant::now();
        let due = |number| begin + Duration::from_secs(1) * number / rate;
        let mut under_way = JoinSet::new();
        let mut counted = None;
        for number in 0..warm_up + count {
            sleep_until(due(number)).await;
            if number == warm_up {
                counted = Some((Instant::now(), self.spent()?, self.readers.read()?));
            }
            let (kickoff, due) = (kickoff(), due(number));
            under_way.spawn(async move { anyhow::Ok((number, due, kickoff.await?, Instant::now())) });
        }
        let (since, spent, read) = counted.context("more than a warm-up")?;
        let (now, used, read) = (Instant::now(), self.spent()?, self.readers.read()? - read);
        let took = (now - since).as_secs_f64();
        let (mut to_taken, mut to_answered, mut failed, mut last) =
            (Vec::new(), Vec::new(), (0_u32, None), begin);
        while let Some(ended) = under_way.join_next().await {
            match ended? {
                Ok((number, due, taken, answered)) if number >= warm_up => {
                    to_taken.push((taken - due).as_secs_f64() * 1e3);
                    to_answered.push((answered - due).as_secs_f64() * 1e3);
                    last = last.max(taken);
                }
                Ok(_) => {}
                Err(error) => {
                    let (number, first) = failed;
                    failed = (number + 1, first.or_else(|| Some(format!("{error:#}"))));
                }
            }
        }
        let cores = std::array::from_fn(|part| (used[part] - spent[part]).as_secs_f64() / took);
        Ok(Run {
            per_second: to_taken.len() as f64 / (last - due(warm_up)).as_secs_f64(),
            taken: Waits::of(to_taken),
            answered: Waits::of(to_answered),
            late: last.saturating_duration_since(due(warm_up + count - 1)),
            refused: f64::from(failed.0) / f64::from(warm_up + count) * 1e3,
            why: failed.1,
            cores,
            events: read as f64 / took,
        })
    }

    /// What each of [`PARTS`] has used so far.
    fn spent(&self) -> anyhow::Result<[Duration; PARTS.len()]> {
        let own = Pid::this();
        let [gateway, broker, worker, own] = [
            self.gateway.process().pid(),
            self.site.broker,
            self.worker.pid(),
            own,
        ]
        .map(usage::cpu);
        Ok([gateway?, broker?, worker?, own?])
    }
}

impl Run {
    fn holds(&self) -> bool {
        self.refused == 0.0 && self.late < LATE && self.answered.p99 < PATIENT_MS
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            taken,
            answered,
            per_second,
            cores,
            events,
            refused,
            why,
            ..
        } = self;
        write!(
            f,
            "{per_second:.0}/s taken after {:.1}, {:.1} ms (p50, p99), answered after {:.1}, {:.1}; {events:.0} events/s read; cores:",
            taken.p50, taken.p99, answered.p50, answered.p99
        )?;
        for (part, share) in PARTS.iter().zip(cores) {
            write!(f, " {part} {share:.2}")?;
        }
        why.iter()
            .try_for_each(|why| write!(f, "; {refused:.0} of 1,000 refused: {why}"))
    }
}
