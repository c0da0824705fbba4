//! Faults of the worker's own, in a program that embeds it: what panics is settled, what fails leaves nothing.

use std::{
    fs,
    net::TcpListener,
    panic::panic_any,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use crewfleet_amqp::{Broker, BrokerConfig};
use crewfleet_protocol::KickoffResult;
use crewfleet_tests::{
    PATIENCE,
    broker::{Namespace, broker, free_port},
    client::PlainClient,
    http,
    process::TICK,
};
use crewfleet_worker::{
    CrewOptions, Inputs, KickoffContext, Worker, WorkerBuilder, WorkerError,
    config::{self, OnRedelivery},
};
use serde_json::json;
use tempfile::TempDir;
use tokio::{runtime::Handle, sync::oneshot, task::JoinHandle, time::timeout};

/// What a crew throws. The worker catches the panic of a crew, and then drops what was thrown, which panics once more:
/// now on the worker's own way.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

/// A worker within this process, with a crew in Rust.
struct Embedded {
    admin: String,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), WorkerError>>,
    dir: TempDir,
}

/// The configuration of a worker with crews of its own, and its admin endpoint's address.
fn configured(dir: &Path, url: &str, namespace: &Namespace, more: &str) -> (PathBuf, String) {
    let admin = format!("127.0.0.1:{}", free_port());
    let (url, namespace, data) = (json!(url), json!(namespace.to_string()), json!(dir.join("data")));
    let text = format!(
        "[broker]\nurl = {url}\nnamespace = {namespace}\n{more}\n\n[worker]\nadmin_addr = \"{admin}\"\ndata_dir = {data}\n"
    );
    let file = dir.join("crewfleet.toml");
    fs::write(&file, text).expect("the configuration is written");
    (file, admin)
}

fn built(builder: WorkerBuilder, file: &Path) -> Worker {
    let config = config::load(Some(file), &[], true).expect("the configuration is good");
    builder.config(config).build().expect("it can be built")
}

impl Embedded {
    async fn ready(namespace: &Namespace, builder: WorkerBuilder) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let (file, admin) = configured(dir.path(), &broker().await.url(), namespace, "");
        let worker = built(builder, &file);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(worker.run(async {
            let _ = stopped.await;
        }));
        let embedded = Self {
            admin,
            stop,
            task,
            dir,
        };
        embedded.becomes("crewfleet_worker_ready 1").await;
        embedded
    }

    /// Waits until its metrics have this line.
    async fn becomes(&self, line: &str) {
        let url = format!("http://{}/metrics", self.admin);
        let shown = async {
            loop {
                // It may not listen yet.
                if let Ok(response) = http::client().get(&url).send().await
                    && let Ok(scrape) = response.text().await
                    && scrape.lines().any(|shown| shown == line)
                {
                    return;
                }
                tokio::time::sleep(TICK).await;
            }
        };
        timeout(PATIENCE, shown).await.expect(line);
    }

    /// Ends it, and returns what was left in its folder.
    async fn end(self) -> Vec<PathBuf> {
        let _ = self.stop.send(());
        self.task.await.expect("it does not panic").expect("it ends well");
        let workers = self.dir.path().join("data/workers");
        let left = fs::read_dir(workers).into_iter().flatten().flatten();
        left.map(|entry| entry.path()).collect()
    }
}

/// A crew that throws the first `times` times, and counts how often it was started.
fn throwing(times: u32, options: CrewOptions) -> (WorkerBuilder, Arc<AtomicU32>) {
    let starts = Arc::<AtomicU32>::default();
    let counted = Arc::clone(&starts);
    let crew = move |_: KickoffContext, _: Inputs| {
        let start = counted.fetch_add(1, Ordering::Relaxed) + 1;
        async move {
            if start <= times {
                panic_any(Bomb);
            }
            Ok(KickoffResult {
                raw: format!("start {start}"),
                ..KickoffResult::default()
            })
        }
    };
    let options = CrewOptions {
        // One that was lost would be seen.
        concurrency: 1,
        ..options
    };
    (Worker::builder().crew_with("work", options, crew), starts)
}

async fn nothing_is_held(worker: &Embedded, client: &PlainClient, namespace: &Namespace) {
    worker
        .becomes("crewfleet_kickoffs_in_flight{crew=\"work\"} 0")
        .await;
    assert_eq!(client.count(&namespace.requests_of("work")).await, 0);
}

#[tokio::test]
async fn a_panic_on_a_kickoff_s_way_puts_it_back_as_the_same_attempt() {
    let namespace = Namespace::new();
    let (builder, starts) = throwing(1, CrewOptions::default());
    let worker = Embedded::ready(&namespace, builder).await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    client
        .request("work", "first", &json!({"secret": "of the inputs"}))
        .await;
    let reply = replies.of("first").await.json();
    assert_eq!(
        (&reply["result"]["raw"], &reply["attempt"]),
        (&json!("start 2"), &json!(1)),
        "{reply}"
    );
    for line in [
        "crewfleet_worker_panics_total{part=\"pipeline\"} 1",
        "crewfleet_kickoffs_requeued_total{crew=\"work\",reason=\"worker_fault\"} 1",
    ] {
        worker.becomes(line).await;
    }
    // Its only place is free again.
    client.request("work", "second", &json!({})).await;
    assert_eq!(replies.of("second").await.json()["status"], "succeeded");
    assert_eq!(starts.load(Ordering::Relaxed), 3);
    nothing_is_held(&worker, &client, &namespace).await;
    assert_eq!(worker.end().await, Vec::<PathBuf>::new());
}

#[tokio::test]
async fn one_that_makes_workers_panic_each_time_ends_in_the_dead_letters() {
    let namespace = Namespace::new();
    let options = CrewOptions {
        crash_limit: 2,
        ..CrewOptions::default()
    };
    let (builder, starts) = throwing(2, options);
    let worker = Embedded::ready(&namespace, builder).await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    client.request("work", "poison", &json!({})).await;
    let reply = replies.of("poison").await.json();
    assert_eq!(
        (&reply["status"], &reply["error"]["kind"]),
        (&json!("failed"), &json!("crashed_workers")),
        "{reply}"
    );
    assert_eq!(reply["error"]["detail"]["worker_faults"], 2);
    let dead = client.dead_letter("work").await;
    assert_eq!(dead.headers["x-kickoff-reason"], json!("crashed_workers"));
    assert_eq!(starts.load(Ordering::Relaxed), 2);
    client.request("work", "next", &json!({})).await;
    assert_eq!(replies.of("next").await.json()["status"], "succeeded");
    nothing_is_held(&worker, &client, &namespace).await;
    worker.end().await;
}

#[tokio::test]
async fn one_that_may_not_run_twice_fails_at_the_first_panic() {
    let namespace = Namespace::new();
    let options = CrewOptions {
        on_redelivery: OnRedelivery::Fail,
        ..CrewOptions::default()
    };
    let (builder, starts) = throwing(1, options);
    let worker = Embedded::ready(&namespace, builder).await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    client.request("work", "once", &json!({})).await;
    let reply = replies.of("once").await.json();
    assert_eq!(
        (&reply["status"], &reply["error"]["kind"]),
        (&json!("failed"), &json!("interrupted")),
        "{reply}"
    );
    assert_eq!(starts.load(Ordering::Relaxed), 1);
    nothing_is_held(&worker, &client, &namespace).await;
    worker.end().await;
}

/// Its crew may run for longer than the broker lets a delivery be held, which is known once it is connected.
#[tokio::test]
async fn a_worker_that_ends_by_an_error_leaves_nothing_up() {
    let url = broker().await.url();
    let broker_config = BrokerConfig {
        url: url.clone().into(),
        ..BrokerConfig::default()
    };
    let probe = Broker::connect(&broker_config, "probe").await.expect("a broker");
    let by_queue = probe
        .link()
        .is_some_and(|link| link.version().has_queue_consumer_timeout());
    probe.close().await;
    drop(probe);
    if by_queue {
        // Later brokers take the limit from the queue: there is nothing that could be refused.
        return;
    }
    let dir = TempDir::new().expect("a temporary folder");
    let (file, admin) = configured(dir.path(), &url, &Namespace::new(), "consumer_timeout_s = 1800");
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let becomes = async |wanted: usize| {
        while tasks() > wanted {
            tokio::time::sleep(TICK).await;
        }
    };
    timeout(PATIENCE, becomes(0)).await.expect("nothing runs before");
    let options = CrewOptions {
        timeout: Duration::from_secs(3600),
        ..CrewOptions::default()
    };
    let (builder, _) = throwing(0, options);
    let ended = built(builder, &file).run(std::future::pending()).await;
    assert!(matches!(ended, Err(WorkerError::Config(_))), "{ended:?}");
    TcpListener::bind(&admin).expect("the admin endpoint's address is free");
    let left = fs::read_dir(dir.path().join("data/workers")).expect("the folder of workers");
    assert_eq!(left.count(), 0, "a folder of a worker");
    timeout(PATIENCE, becomes(0))
        .await
        .unwrap_or_else(|_| panic!("{} tasks go on", tasks()));
}
