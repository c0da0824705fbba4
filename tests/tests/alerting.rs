//! From a worker's death to a message to people: Prometheus and Alertmanager as they are configured in
//! `deploy/monitoring`, on a fleet that works.

use std::{fs, process::Command, sync::Arc};

use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use crewfleet_tests::{
    PATIENCE,
    broker::{Namespace, with_http},
    client::PlainClient,
    crews::{builtin_crew_toml, checkout},
    process::Process,
    prometheus::{Prometheus, address, program, shipped, with_value},
    worker::WorkerProcess,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::watch, time::timeout};

/// What people would be told: the alerts of all messages that came, in their order.
struct Webhook {
    url: String,
    told: watch::Receiver<Vec<Value>>,
}

impl Webhook {
    async fn start() -> Self {
        let (sender, told) = watch::channel(Vec::new());
        let router = Router::new()
            .route("/alerts", post(receive))
            .with_state(Arc::new(sender));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/alerts", listener.local_addr().expect("an address"));
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { url, told }
    }

    /// Waits for an alert of this name and status, `firing` or `resolved`, past or future.
    async fn told(&self, name: &str, status: &str) -> Value {
        let mut told = self.told.clone();
        let wanted = |alert: &&Value| alert["labels"]["alertname"] == name && alert["status"] == status;
        let comes = told.wait_for(|alerts| alerts.iter().any(|alert| wanted(&alert)));
        if let Ok(alerts) = timeout(PATIENCE, comes).await {
            let alerts = alerts.expect("the server runs as long as the test");
            return alerts.iter().find(wanted).expect("it was seen").clone();
        }
        panic!("{name} is not told as {status}, but {:#?}", self.told.borrow());
    }
}

async fn receive(
    State(told): State<Arc<watch::Sender<Vec<Value>>>>,
    Json(message): Json<Value>,
) -> StatusCode {
    let alerts = message["alerts"].as_array().cloned().unwrap_or_default();
    told.send_modify(|told| told.extend(alerts));
    StatusCode::OK
}

/// An Alertmanager with the shipped configuration, but for times and the receiver, which is to be filled in.
struct Alertmanager {
    address: String,
    // Ends before its folder goes.
    _process: Process,
    _dir: TempDir,
}

impl Alertmanager {
    async fn start(webhook: &Webhook) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("crewfleet-alertmanager-")
            .tempdir()
            .expect("a temporary folder");
        let mut config = shipped("alertmanager.yaml");
        for key in ["group_wait:", "group_interval:"] {
            config = with_value(&config, key, "1s");
        }
        let receiver = format!("on-call\n    webhook_configs: [{{url: {}}}]", json!(webhook.url));
        let config = with_value(&config, "- name:", &receiver);
        fs::write(dir.path().join("alertmanager.yaml"), config).expect("it is written");
        let program = program("prometheus-alertmanager", "prometheus-alertmanager");
        let mut command = Command::new(&program);
        let path = |name: &str| dir.path().join(name).display().to_string();
        command
            .args([
                &format!("--config.file={}", path("alertmanager.yaml")),
                &format!("--storage.path={}", path("data")),
                "--web.listen-address=127.0.0.1:0",
                // No cluster of Alertmanagers.
                "--cluster.listen-address=",
            ])
            // An unpacked one has no templates in /usr/share: tests/test-env.sh has made it look for them here.
            .current_dir(program.with_file_name("../share/prometheus/alertmanager"));
        let process = Process::spawn("prometheus-alertmanager", &command, b"");
        Self {
            address: address(&process).await,
            _process: process,
            _dir: dir,
        }
    }
}

#[tokio::test]
async fn people_are_told_when_requests_wait_for_a_dead_worker_and_when_another_takes_them() {
    let (node, exporter) = with_http("prometheus").await;
    let namespace = Namespace::new();
    let webhook = Webhook::start().await;
    let alertmanager = Alertmanager::start(&webhook).await;
    let prometheus = Prometheus::start(&exporter).await;
    prometheus.finds("alertmanagers", &alertmanager.address);

    // One kickoff at a time, each for an hour: two requests wait.
    let first = WorkerProcess::builder(&node.url(), &namespace)
        .crew("work", &builtin_crew_toml("sleep", 1))
        .ready()
        .await;
    let first_address = first.admin_addr().await;
    prometheus.finds("workers", &first_address);
    let client = PlainClient::connect(&node.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    let ids = ["a", "b", "c"];
    for id in ids {
        client.request("work", id, &json!({"seconds": 3600})).await;
    }
    // While a worker lives, that is as it should be: no alert, not even a pending one.
    let crew = format!("{{namespace=\"{namespace}\", crew=\"work\"}}");
    prometheus
        .shows(&format!(
            "(crewfleet:requests_waiting{crew} == 2 and crewfleet:requests_consumers{crew} == 1) \
             and on () up{{job=\"crewfleet\", instance=\"{first_address}\"}} == 1"
        ))
        .await;
    let alerts = prometheus.ask("ALERTS{alertname=\"CrewfleetNoConsumer\"}").await;
    assert!(alerts.is_empty(), "{alerts:?}");

    first.kill();
    first.exit().await;
    let down = webhook.told("CrewfleetWorkerDown", "firing").await;
    assert_eq!(down["labels"]["instance"], first_address);
    let fired = webhook.told("CrewfleetNoConsumer", "firing").await;
    let labels = json!({
        "alertname": "CrewfleetNoConsumer", "severity": "critical", "job": "rabbitmq", "vhost": "/",
        "namespace": namespace.to_string(), "crew": "work",
    });
    assert_eq!(fired["labels"], labels);
    let annotation = |name: &str| fired["annotations"][name].as_str().unwrap_or_default().to_owned();
    assert!(
        annotation("description").ends_with("requests of crew work wait, and its queue has no consumer."),
        "{fired:#}"
    );
    let runbook = checkout()
        .join("deploy/monitoring")
        .join(annotation("runbook_url"));
    assert!(runbook.is_file(), "{}", runbook.display());

    // The same crew, which answers at once there.
    let second = WorkerProcess::builder(&node.url(), &namespace)
        .crew("work", &builtin_crew_toml("echo", 1))
        .ready()
        .await;
    prometheus.finds("workers", &second.admin_addr().await);
    for id in ids {
        assert_eq!(replies.of(id).await.json()["status"], "succeeded", "{id}");
    }
    let resolved = webhook.told("CrewfleetNoConsumer", "resolved").await;
    assert_eq!(resolved["fingerprint"], fired["fingerprint"]);
    webhook.told("CrewfleetWorkerDown", "resolved").await;
}
