//! What callers over HTTP wait, beside a thousand who follow events: against a client that speaks AMQP, at the same open
//! load.

use std::{cell::RefCell, collections::HashMap, rc::Rc, time::Duration};

use anyhow::{Context, ensure};
use crewfleet_tests::{gateway::GatewayProcess, http, worker::WorkerProcess};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    cycle::{self, CREW, Sides},
    figures::Report,
    latency, load,
    site::Site,
    usage,
};

/// Kickoffs a second.
const RATES: [u32; 3] = [100, 400, 1000];
const SPAN: Duration = Duration::from_secs(5);
/// Who follows the events of a crew that does nothing, and of the one that is called.
const IDLE: usize = 990;
const BUSY: usize = 10;
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures all of it.
pub(crate) async fn measure(site: &Site, pairs: usize, report: &mut Report) -> anyhow::Result<()> {
    let sides = Sides::new(site).await?;
    let cli = site.cli().with_free_gateway_ports();
    let token = cli
        .run(&["token", "create", "bench", "--all-crews"])
        .await
        .success();
    let _worker: WorkerProcess = sides.worker(true).await;
    let gateway = GatewayProcess::ready(&cli).await;
    let pid = gateway.process().pid();
    let mut followers = JoinSet::new();
    let (seen, mut finished) = mpsc::unbounded_channel();
    for number in 0..IDLE + BUSY {
        let crew = if number < IDLE { "nobody" } else { CREW };
        let stream = follow(&gateway, &token, crew).await?;
        // One of those who are told of everything tells when.
        let seen = (number == IDLE).then(|| seen.clone());
        followers.spawn(read(stream, seen));
    }
    for rate in RATES {
        let mut runs = Vec::new();
        for _ in 0..pairs {
            site.purge(&cycle::queue(site)).await?;
            let over_http = run(&gateway, &token, rate, &mut finished).await?;
            runs.push((over_http, latency::run(site, rate).await?));
        }
        for (name, of) in [
            ("p50", (|run| run.p50) as fn(&latency::Run) -> f64),
            ("p99", |run| run.p99),
        ] {
            let pairs: Vec<_> = runs.iter().map(|(fleet, amqp)| (of(fleet), of(amqp))).collect();
            let name = format!("gateway {name} ms at {rate}/s, 1,000 streams");
            report.against(&name, &pairs, "AMQP", None);
        }
    }
    report.alone("gateway MiB at most", vec![usage::peak_mib(pid)?], None);
    Ok(())
}

/// From a `POST` to the event that says that its kickoff has ended.
async fn run(
    gateway: &GatewayProcess,
    token: &str,
    rate: u32,
    finished: &mut mpsc::UnboundedReceiver<(String, Instant)>,
) -> anyhow::Result<latency::Run> {
    let client = http::client();
    let url = format!("{}/v1/kickoffs", gateway.url());
    let inputs = String::from_utf8(load::request(cycle::REQUEST_BYTES))?;
    let body = inputs.replacen('{', &format!("{{\"crew\": \"{CREW}\", "), 1);
    let (count, warm_up) = (rate * u32::try_from(SPAN.as_secs())?, rate / 2);
    let (begin, sent) = (Instant::now(), Rc::new(RefCell::new(HashMap::new())));
    let sending = async {
        let mut calls = JoinSet::new();
        for number in 0..warm_up + count {
            let at = begin + Duration::from_secs(1) * number / rate;
            sleep_until(at).await;
            let call = client
                .post(&url)
                .bearer_auth(token.trim())
                .body(body.clone())
                .send();
            calls.spawn(async move {
                let answer = call.await?.error_for_status()?.text().await?;
                let answer: serde_json::Value = serde_json::from_str(&answer)?;
                let id = answer["kickoff_id"].as_str().context("an id")?.to_owned();
                anyhow::Ok((id, (number >= warm_up).then_some(at)))
            });
        }
        while let Some(call) = calls.join_next().await {
            let (id, at) = call??;
            sent.borrow_mut().insert(id, at);
        }
        anyhow::Ok(())
    };
    let mut ended = HashMap::new();
    let receiving = async {
        while ended.len() < (warm_up + count) as usize {
            let Some((id, at)) = timeout(PATIENCE, finished.recv()).await? else {
                break;
            };
            ended.entry(id).or_insert(at);
        }
        anyhow::Ok(())
    };
    tokio::try_join!(sending, receiving)?;
    let sent = sent.borrow();
    let waits = ended
        .iter()
        .filter_map(|(id, at)| Some((*at - sent.get(id).copied()??).as_secs_f64() * 1e3));
    let waits: Vec<f64> = waits.collect();
    ensure!(waits.len() == count as usize, "{} of {count} ended", waits.len());
    Ok(latency::Run::of(waits))
}

/// A connection whose answer is a stream of events: a thousand clients of a library would be what is measured.
async fn follow(gateway: &GatewayProcess, token: &str, crew: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(gateway.addr()).await?;
    let head = format!(
        "GET /v1/events?crew={crew} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {}\r\naccept: text/event-stream\r\n\r\n",
        token.trim()
    );
    stream.write_all(head.as_bytes()).await?;
    Ok(stream)
}

async fn read(mut stream: TcpStream, seen: Option<mpsc::UnboundedSender<(String, Instant)>>) {
    let (mut buffer, mut rest) = (vec![0; 16 * 1024], String::new());
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        let Some(seen) = &seen else { continue };
        rest.push_str(&String::from_utf8_lossy(&buffer[..length]));
        while let Some((block, behind)) = rest.split_once("\n\n") {
            if block.contains("event: kickoff_finished")
                && let Some((_, id)) = block.split_once("\"kickoff_id\":\"")
                && let Some((id, _)) = id.split_once('"')
            {
                // Whoever measures is gone in the end.
                let _ = seen.send((id.to_owned(), Instant::now()));
            }
            rest = behind.to_owned();
        }
    }
}
