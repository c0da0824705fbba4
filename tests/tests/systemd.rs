//! What a worker tells systemd, over the socket that systemd would give it.

use std::{path::Path, time::Duration};

use crewfleet_node::Node;
use crewfleet_tests::{
    PATIENCE,
    broker::{Namespace, alone, broker},
    cli::Cli,
    worker::WorkerProcess,
};
use nix::sys::signal::Signal;
use tokio::{net::UnixDatagram, time::timeout};

struct Systemd(UnixDatagram);

impl Systemd {
    fn at(path: &Path) -> Self {
        Self(UnixDatagram::bind(path).expect("a socket"))
    }

    /// Waits for a message with this line, and returns the lines that came before it.
    async fn hears(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let mut before = Vec::new();
        let heard = async {
            let mut buffer = [0; 4096];
            loop {
                let length = self.0.recv(&mut buffer).await.expect("a message");
                let message = String::from_utf8_lossy(&buffer[..length]);
                for line in message.lines() {
                    if wanted(line) {
                        return;
                    }
                    before.push(line.to_owned());
                }
            }
        };
        let found = timeout(PATIENCE, heard).await;
        assert!(found.is_ok(), "systemd heard only {before:?}");
        before
    }
}

async fn ctl(node: &Node, command: &str) {
    let done = node.ctl(&[command]).await;
    done.unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test]
async fn systemd_hears_of_readiness_of_life_and_of_the_drain() {
    let node = alone().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let systemd = Systemd::at(&path);
    ctl(&node, "stop_app").await;
    let watchdog = Duration::from_millis(200).as_micros().to_string();
    let worker = WorkerProcess::builder(&node.url(), &Namespace::new())
        .crew("echo", "runner = \"builtin\"\ntarget = \"echo\"\n")
        .env("NOTIFY_SOCKET", path.to_str().expect("a path"))
        .env("WATCHDOG_USEC", &watchdog)
        .spawn();
    // Without a broker it is alive and not ready.
    let waiting = |line: &str| line.starts_with("STATUS=not ready: not connected to RabbitMQ");
    let before = systemd.hears(waiting).await;
    assert!(!before.contains(&"READY=1".to_owned()), "{before:?}");
    // At its usual pace the worker would take longer for these than this test waits.
    let pings = async {
        for _ in 0..30 {
            systemd.hears(|line| line == "WATCHDOG=1").await;
        }
    };
    timeout(PATIENCE, pings).await.expect("30 pings");
    ctl(&node, "start_app").await;
    systemd.hears(|line| line == "READY=1").await;
    systemd
        .hears(|line| line == "STATUS=ready; 0 kickoffs in flight")
        .await;
    systemd.hears(|line| line == "WATCHDOG=1").await;
    worker.signal(Signal::SIGTERM);
    systemd.hears(|line| line == "STOPPING=1").await;
    assert!(worker.exit().await.success());
}

#[tokio::test]
async fn systemd_hears_of_a_gateway_s_readiness_life_and_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let systemd = Systemd::at(&path);
    let cli = Cli::new(&broker().await.url(), &Namespace::new())
        .with_free_gateway_ports()
        .env("NOTIFY_SOCKET", path.to_str().expect("a path"))
        .env("WATCHDOG_USEC", "200000");
    let gateway = cli.spawn(&["gateway"]);
    systemd.hears(|line| line == "READY=1").await;
    // No worker ever ran here, so there are no streams to read.
    systemd.hears(|line| line.starts_with("STATUS=not ready: ")).await;
    systemd.hears(|line| line == "WATCHDOG=1").await;
    cli.run(&["topology", "declare", "echo"]).await.success();
    systemd
        .hears(|line| line == "STATUS=ready; 0 kickoffs are known")
        .await;
    gateway.signal(Signal::SIGTERM);
    systemd.hears(|line| line == "STOPPING=1").await;
    assert!(gateway.exit().await.success());
}
