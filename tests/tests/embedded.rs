//! A worker within a program that embeds it: whatever ends the worker, nothing of it is left.

use std::{
    fs,
    future::{pending, ready},
    net::TcpStream,
    path::{Path, PathBuf},
    time::Duration,
};

use crewfleet_amqp::{Broker, BrokerConfig};
use crewfleet_protocol::{KickoffError, KickoffResult};
use crewfleet_tests::{
    PATIENCE,
    broker::{ALL_RIGHTS, Namespace, add_users, broker},
    client::PlainClient,
    crews::{checkout, plain_crew_toml, python_crew_toml},
    http,
    ports::free_port,
    process::{TICK, until, with_command_line, with_environment},
};
use crewfleet_worker::{CrewOptions, Inputs, KickoffContext, Worker, WorkerBuilder, WorkerError, config};
use serde_json::json;
use tempfile::TempDir;
use tokio::{runtime::Handle, sync::oneshot, task::JoinHandle, time::timeout};

/// A worker within this process, with a crew in Rust.
pub(super) struct Embedded {
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
    pub(super) async fn ready(namespace: &Namespace, builder: WorkerBuilder) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let (file, admin) = configured(dir.path(), &broker().await.url(), namespace, "");
        Self::started(dir, admin, built(builder, &file)).await
    }

    async fn started(dir: TempDir, admin: String, worker: Worker) -> Self {
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
    pub(super) async fn becomes(&self, line: &str) {
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

    /// Drops the future of the worker; what it has started ends by itself. Returns the folder.
    async fn drop_future(self) -> TempDir {
        self.task.abort();
        assert!(self.task.await.is_err_and(|error| error.is_cancelled()));
        self.dir
    }

    /// Ends it, and returns what was left in its folder.
    pub(super) async fn end(self) -> Vec<PathBuf> {
        let _ = self.stop.send(());
        self.task.await.expect("it does not panic").expect("it ends well");
        folders(self.dir.path())
    }
}

/// The folders of workers that are left.
fn folders(dir: &Path) -> Vec<PathBuf> {
    let left = fs::read_dir(dir.join("data/workers"))
        .into_iter()
        .flatten()
        .flatten();
    left.map(|entry| entry.path()).collect()
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Waits until no more than `wanted` tasks of this runtime are left.
async fn tasks_end(wanted: usize) {
    let becomes = async {
        while tasks() > wanted {
            tokio::time::sleep(TICK).await;
        }
    };
    timeout(PATIENCE, becomes)
        .await
        .unwrap_or_else(|_| panic!("{} tasks go on, {wanted} did before", tasks()));
}

async fn echo(_: KickoffContext, inputs: Inputs) -> Result<KickoffResult, KickoffError> {
    Ok(KickoffResult {
        raw: inputs.raw().get().to_owned(),
        ..KickoffResult::default()
    })
}

/// Never ends.
async fn hang(_: KickoffContext, _: Inputs) -> Result<KickoffResult, KickoffError> {
    pending().await
}

/// A user of a test's own, by whom its connections are known. Returns the URL.
async fn own_user(name: &str) -> String {
    let node = broker().await;
    add_users(node, &[(name, name, ALL_RIGHTS)]).await;
    node.url().replace("guest:guest@", &format!("{name}:{name}@"))
}

async fn connections_of(user: &str) -> usize {
    let listed = broker().await.ctl(&["list_connections", "user", "--quiet"]).await;
    let listed = listed.unwrap_or_else(|error| panic!("{error}"));
    listed.lines().filter(|line| line.trim() == user).count()
}

async fn connections_end(user: &str) {
    let end = async {
        while connections_of(user).await > 0 {
            tokio::time::sleep(TICK).await;
        }
    };
    timeout(PATIENCE, end).await.expect("the connections end");
}

/// The sections of a Python crew and of a program that sleep.
fn sleeping_crews() -> String {
    let path = checkout().join("tests/crews");
    with_sleeping_program(&plain_crew_toml("python", "deeds:Plain", &path, 1))
}

fn with_sleeping_program(python: &str) -> String {
    format!(
        "{python}\n[crews.program]\nrunner = \"command\"\ncommand = [\"sleep\", \"600\"]\nconcurrency = 1\n"
    )
}

#[tokio::test]
async fn a_worker_whose_future_is_dropped_leaves_nothing_up() {
    let namespace = Namespace::new();
    let user = namespace.to_string();
    let url = own_user(&user).await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let dir = TempDir::new().expect("a temporary folder");
    let more = "[worker]\nid = \"embedded\"\n";
    let (file, admin) = configured(dir.path(), &url, &namespace, "");
    let text = fs::read_to_string(&file).expect("the configuration is there");
    let text = text.replace("[worker]\n", more) + "\n" + &sleeping_crews();
    fs::write(&file, text).expect("the configuration is written");
    let before = tasks();
    let worker = || built(Worker::builder().crew("work", hang), &file);
    let embedded = Embedded::started(dir, admin.clone(), worker()).await;
    let (of_python, of_program) = (format!("{namespace}-python"), format!("{namespace}-program"));
    let journal = embedded.dir.path().join("journal");
    let inputs = json!({"DO": "sleep", "WITH": "600", "JOURNAL": journal, "MARK": "python"});
    client.request("python", &of_python, &inputs).await;
    client.request("program", &of_program, &json!({})).await;
    client.request("work", "rust", &json!({})).await;
    until("the Python crew's model call", || {
        fs::read_to_string(&journal).ok().filter(|text| !text.is_empty())
    })
    .await;
    until("the program", || {
        with_environment("CREWFLEET_KICKOFF_ID", &of_program)
            .into_iter()
            .next()
    })
    .await;
    embedded
        .becomes("crewfleet_kickoffs_in_flight{crew=\"work\"} 1")
        .await;
    let data = embedded.dir.path().join("data");
    let data = data.to_str().expect("UTF-8");
    // The fork server, the crew host and its children have the same command line.
    assert!(
        with_command_line(data).len() >= 3,
        "{:?}",
        with_command_line(data)
    );
    assert!(connections_of(&user).await > 0);

    let dir = embedded.drop_future().await;

    until("the end of the processes", || {
        with_command_line(data).is_empty().then_some(())
    })
    .await;
    assert!(with_environment("CREWFLEET_KICKOFF_ID", &of_program).is_empty());
    connections_end(&user).await;
    tasks_end(before).await;
    nobody_listens(&admin);
    // RabbitMQ has all three back.
    for crew in ["python", "program", "work"] {
        assert_eq!(client.count(&namespace.requests_of(crew)).await, 1, "{crew}");
    }
    // Another worker of that name may use the folder at once.
    worker().run(ready(())).await.expect("it starts and ends");
    tasks_end(before).await;
    drop(dir);
}

/// Its port may be that of somebody's connection by now, which keeps it from being bound.
fn nobody_listens(address: &str) {
    let answer = TcpStream::connect(address);
    assert!(
        answer.is_err(),
        "something listens on {address} still: {answer:?}"
    );
}

/// A file or folder is there in which the worker keeps its Python side.
fn has_fork_server(data: &Path) -> Option<()> {
    let data = data.to_str().expect("UTF-8");
    (!with_command_line(data).is_empty()).then_some(())
}

#[tokio::test]
async fn a_worker_whose_future_is_dropped_while_it_starts_leaves_nothing_up() {
    let namespace = Namespace::new();
    let dir = TempDir::new().expect("a temporary folder");
    let (file, admin) = configured(dir.path(), &broker().await.url(), &namespace, "");
    let text = fs::read_to_string(&file).expect("the configuration is there");
    fs::write(&file, text + &sleeping_crews()).expect("the configuration is written");
    let before = tasks();
    let starting = tokio::spawn(built(Worker::builder(), &file).run(pending()));
    let data = dir.path().join("data");
    until("the fork server", || has_fork_server(&data)).await;
    starting.abort();
    assert!(starting.await.is_err_and(|error| error.is_cancelled()));
    until("the end of the processes", || {
        has_fork_server(&data).is_none().then_some(())
    })
    .await;
    tasks_end(before).await;
    nobody_listens(&admin);
    assert_eq!(folders(dir.path()), Vec::<PathBuf>::new());
}

/// The memory limit is compared with what the fork server holds, so it runs by then.
#[tokio::test]
async fn a_worker_that_cannot_be_built_leaves_nothing_up() {
    let namespace = Namespace::new();
    let dir = TempDir::new().expect("a temporary folder");
    let (file, admin) = configured(dir.path(), &broker().await.url(), &namespace, "");
    let text = fs::read_to_string(&file).expect("the configuration is there");
    // CrewAI alone takes more.
    let text = text.replace("[worker]\n", "[worker]\nmemory_limit = \"64MiB\"\n");
    let path = checkout().join("tests/crews");
    let crewai = python_crew_toml("python", "misbehaving:misbehaving", &path, 1);
    fs::write(&file, text + &with_sleeping_program(&crewai)).expect("the configuration is written");
    let before = tasks();
    let ended = built(Worker::builder(), &file).run(pending()).await;
    let error = ended.expect_err("it has no room").to_string();
    assert!(error.contains("memory_limit"), "{error}");
    assert!(has_fork_server(&dir.path().join("data")).is_none());
    nobody_listens(&admin);
    assert_eq!(folders(dir.path()), Vec::<PathBuf>::new());
    tasks_end(before).await;
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
    tasks_end(0).await;
    let options = CrewOptions {
        timeout: Duration::from_secs(3600),
        ..CrewOptions::default()
    };
    let builder = Worker::builder().crew_with("work", options, echo);
    let ended = built(builder, &file).run(std::future::pending()).await;
    assert!(matches!(ended, Err(WorkerError::Config(_))), "{ended:?}");
    nobody_listens(&admin);
    assert_eq!(folders(dir.path()), Vec::<PathBuf>::new());
    tasks_end(0).await;
}
