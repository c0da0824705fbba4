//! What sinks cost: kickoffs a second beside a webhook sink and one of PostgreSQL, against none.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::ensure;
use axum::{Router, http::StatusCode};
use crewfleet_tests::{cli::Cli, postgres::Postgres, process::Process};
use nix::sys::signal::Signal;
use tokio::{net::TcpListener, time::sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    cycle::{COUNT, Sides},
    figures::Report,
    site::Site,
};

const WEBHOOK: &str = "hook";
const DATABASE: &str = "warehouse";
/// What one host may take at once, and have waiting. A sink that holds more puts the rest off for seconds.
const PLACES: u16 = 8 + 16;
/// How often it is looked whether all is handed on.
const LOOK: Duration = Duration::from_millis(200);

/// A receiver that takes everything, and counts.
struct Receiver {
    addr: String,
    count: Arc<AtomicU32>,
    _serving: AbortOnDropHandle<()>,
}

/// Measures all of it.
pub(crate) async fn measure(site: &Site, pairs: usize, report: &mut Report) -> anyhow::Result<()> {
    let (receiver, postgres) = (Receiver::start().await?, Postgres::start().await);
    postgres.sql(crewfleet_sinks::DDL);
    let cli = site.cli().env("CREWFLEET__WEBHOOKS__ADMIN_ADDR", "127.0.0.1:0");
    let toml = format!(
        "[webhooks]\nallow = [\"{addr}\"]\n\n\
         [sinks.{WEBHOOK}]\nkind = \"webhook\"\nurl = \"http://{addr}/replies\"\nprefetch = {PLACES}\n\n\
         [sinks.{DATABASE}]\nkind = \"postgres\"\nurl = \"{}\"\n",
        postgres.url(),
        addr = receiver.addr,
    );
    fs::write(cli.dir().join("crewfleet.toml"), toml)?;
    let sides = Sides::new(site).await?;
    let mut runs = Vec::new();
    for _ in 0..pairs {
        let sinks = start(&cli).await;
        let beside = sides.by_worker(true, true, COUNT).await?.per_second;
        // What is left would be handed on beside the next run.
        all_is_handed_on(&receiver, &postgres).await;
        sinks.signal(Signal::SIGTERM);
        ensure!(sinks.exit().await.success(), "the sinks failed");
        for sink in [WEBHOOK, DATABASE] {
            site.delete(&site.namespace.exchange(&format!("sinks.{sink}")))
                .await?;
        }
        receiver.count.store(0, Ordering::Relaxed);
        postgres.sql("TRUNCATE crewfleet_kickoffs");
        runs.push((beside, sides.by_worker(true, true, COUNT).await?.per_second));
    }
    report.against(
        "kickoffs/s beside a webhook sink and one of PostgreSQL",
        &runs,
        "no sinks",
        None,
    );
    postgres.stop().await;
    Ok(())
}

async fn start(cli: &Cli) -> Process {
    let sinks = cli.spawn(&["sinks"]);
    for sink in [WEBHOOK, DATABASE] {
        let name = format!("\"sink\":\"{sink}\"");
        let takes =
            |line: &str| (line.contains("the sink takes messages") && line.contains(&name)).then_some(());
        sinks.stderr.first("a sink that takes messages", takes).await;
    }
    sinks
}

async fn all_is_handed_on(receiver: &Receiver, postgres: &Postgres) {
    let rows = || postgres.sql("SELECT count(*) FROM crewfleet_kickoffs");
    let all = COUNT.to_string();
    while receiver.count.load(Ordering::Relaxed) < COUNT || rows() != all {
        sleep(LOOK).await;
    }
}

impl Receiver {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?.to_string();
        let count = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&count);
        let router = Router::new().fallback(move |_body: axum::body::Bytes| async move {
            counter.fetch_add(1, Ordering::Relaxed);
            StatusCode::NO_CONTENT
        });
        let serving = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves");
        });
        Ok(Self {
            addr,
            count,
            _serving: AbortOnDropHandle::new(serving),
        })
    }
}
