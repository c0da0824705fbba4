//! Fleets whose workers differ: what is running when somebody upgrades. The old worker is the one that
//! `CREWFLEET_OLD_WORKER` names, the new one that of `CREWFLEET_BIN_DIR`, or else of this build; so any pair of versions
//! can be tried, and one way round or the other.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::{Messages, PlainClient};
use crewfleet_tests::crews::{OLD_WORKER_VARIABLE, old_worker};
use crewfleet_tests::journal::Journal;
use crewfleet_tests::proxy::Proxy;
use crewfleet_tests::worker::WorkerProcess;
use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Old,
    New,
}

use Version::{New, Old};

impl Version {
    fn other(self) -> Self {
        match self {
            Old => New,
            New => Old,
        }
    }
}

/// A broker's namespace with one crew, `work`, for workers of both versions.
struct Fleet {
    old: PathBuf,
    namespace: Namespace,
    journal: Journal,
}

/// A worker, and its line.
struct Member {
    worker: WorkerProcess,
    proxy: Proxy,
}

impl Fleet {
    /// `None` where there is no old worker: then the test is skipped, and it is said.
    fn new() -> Option<Self> {
        let Some(old) = old_worker() else {
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            let why = format!(
                "skipped: {test}: {OLD_WORKER_VARIABLE} names no crewfleet-worker of an earlier version; \
                 tests/old-worker.sh builds one\n"
            );
            // Unlike what is printed, this is seen of a test that passes, too.
            std::io::stderr().write_all(why.as_bytes()).expect("stderr");
            return None;
        };
        Some(Self {
            old,
            namespace: Namespace::new(),
            journal: Journal::new(),
        })
    }

    async fn start(&self, version: Version, id: &str) -> Member {
        self.start_with(version, id, 60.0).await
    }

    async fn start_with(&self, version: Version, id: &str, drain_grace_s: f64) -> Member {
        let proxy = Proxy::start(broker().await.port());
        let mut worker = WorkerProcess::builder(&proxy.url(), &self.namespace)
            .worker(&format!("id = {id:?}"))
            .worker("cancel_grace_s = 0.5")
            .worker(&format!("drain_grace_s = {drain_grace_s:?}"))
            .crew("work", &self.journal.crew(2));
        if version == Old {
            worker = worker.program(&self.old);
        }
        let worker = worker.ready().await;
        Member { worker, proxy }
    }

    async fn client(&self) -> PlainClient {
        PlainClient::connect(&broker().await.url(), &self.namespace).await
    }

    async fn cli(&self) -> Cli {
        Cli::new(&broker().await.url(), &self.namespace)
    }

    /// A kickoff that holds on a worker of one version, beside one of the other. Its inputs may say more.
    async fn held_by(&self, version: Version, id: &str, more: Value) -> Held {
        let owner = self.start_with(version, "owner", 0.5).await;
        let client = self.client().await;
        let replies = client.replies(&["#"]).await;
        let mut inputs = more;
        inputs["hold"] = json!(true);
        client.request("work", id, &inputs).await;
        self.journal.started(id, 1).await;
        let other = self.start(version.other(), "other").await;
        Held {
            owner,
            other,
            client,
            replies,
        }
    }
}

/// See [`Fleet::held_by`].
struct Held {
    owner: Member,
    other: Member,
    client: PlainClient,
    replies: Messages,
}

impl Held {
    /// Ends both workers, which leave nothing in the crew's queue.
    async fn nothing_left(self, fleet: &Fleet) {
        for member in [&self.owner, &self.other] {
            member.worker.signal(nix::sys::signal::Signal::SIGTERM);
            assert!(member.worker.exit().await.success());
        }
        assert_eq!(self.client.count(&fleet.namespace.requests_of("work")).await, 0);
    }
}

/// What workers of any version say when they hold a delivery for another.
const WAITS: &str = "another worker still runs it; waiting for its reply";
/// And when they are told that it is settled.
const SETTLED: &str = "another worker has settled it";
/// Long enough for the other one to have asked, and well within the 5 s that it waits for an answer.
const CUT_OFF: Duration = Duration::from_secs(1);

async fn is_cut_off_while_it_runs(version: Version) {
    let Some(fleet) = Fleet::new() else { return };
    let mut held = fleet.held_by(version, "m-1", json!({})).await;
    held.owner.proxy.refuse();
    tokio::time::sleep(CUT_OFF).await;
    held.owner.proxy.pass();
    held.other.worker.logged_message(WAITS).await;
    fleet.journal.release("m-1");
    let reply = held.replies.of("m-1").await.json();
    assert_eq!(
        (&reply["status"], &reply["worker"]),
        (&json!("succeeded"), &json!("owner"))
    );
    held.other.worker.logged_message(SETTLED).await;
    held.nothing_left(&fleet).await;
    assert_eq!(fleet.journal.lines(), ["start m-1 1", "end m-1 1"]);
}

#[tokio::test]
async fn an_old_worker_cut_off_for_a_second_answers_a_new_one() {
    is_cut_off_while_it_runs(Old).await;
}

#[tokio::test]
async fn a_new_worker_cut_off_for_a_second_answers_an_old_one() {
    is_cut_off_while_it_runs(New).await;
}

async fn ends_its_kickoff_while_it_is_cut_off(version: Version) {
    let Some(fleet) = Fleet::new() else { return };
    let mut held = fleet.held_by(version, "m-2", json!({})).await;
    held.owner.proxy.refuse();
    fleet.journal.release("m-2");
    tokio::time::sleep(CUT_OFF).await;
    held.owner.proxy.pass();
    assert_eq!(held.replies.of("m-2").await.json()["status"], "succeeded");
    held.other.worker.logged_message(SETTLED).await;
    held.nothing_left(&fleet).await;
    assert_eq!(fleet.journal.lines(), ["start m-2 1", "end m-2 1"]);
}

#[tokio::test]
async fn what_an_old_worker_ended_while_it_was_cut_off_is_not_run_again_by_a_new_one() {
    ends_its_kickoff_while_it_is_cut_off(Old).await;
}

#[tokio::test]
async fn what_a_new_worker_ended_while_it_was_cut_off_is_not_run_again_by_an_old_one() {
    ends_its_kickoff_while_it_is_cut_off(New).await;
}

/// A run that lost its delivery tells nothing but success: the worker that waits for it runs the kickoff then.
async fn fails_while_the_other_waits(version: Version) {
    let Some(fleet) = Fleet::new() else { return };
    let failure = json!({"outcomes": [{"error": {"message": "refused"}}]});
    let mut held = fleet.held_by(version, "m-3", failure).await;
    held.owner.proxy.refuse();
    tokio::time::sleep(CUT_OFF).await;
    held.owner.proxy.pass();
    held.other.worker.logged_message(WAITS).await;
    fleet.journal.release("m-3");
    let reply = held.replies.of("m-3").await.json();
    assert_eq!(
        (&reply["status"], &reply["worker"]),
        (&json!("failed"), &json!("other"))
    );
    held.nothing_left(&fleet).await;
    assert_eq!(fleet.journal.starts("m-3"), ["1", "1"]);
}

#[tokio::test]
async fn a_new_worker_runs_what_failed_on_an_old_one_that_had_lost_it() {
    fails_while_the_other_waits(Old).await;
}

#[tokio::test]
async fn an_old_worker_runs_what_failed_on_a_new_one_that_had_lost_it() {
    fails_while_the_other_waits(New).await;
}

#[tokio::test]
async fn deaths_of_both_versions_count_together() {
    let Some(fleet) = Fleet::new() else { return };
    let mut member = fleet.start(Old, "w-1").await;
    let client = fleet.client().await;
    let mut replies = client.replies(&["#"]).await;
    client.request("work", "m-4", &json!({"kill_worker": true})).await;
    for (death, next) in [(1, New), (2, Old), (3, New)] {
        assert!(!member.worker.exit().await.success());
        assert_eq!(fleet.journal.starts("m-4").len(), death);
        member = fleet.start(next, &format!("w-{}", death + 1)).await;
    }
    let reply = replies.of("m-4").await.json();
    assert_eq!(
        (&reply["status"], &reply["error"]["kind"]),
        (&json!("failed"), &json!("crashed_workers"))
    );
    assert_eq!(fleet.journal.starts("m-4").len(), 3);
}

#[tokio::test]
async fn lost_connections_of_one_version_are_no_deaths_to_the_other() {
    for version in [Old, New] {
        let Some(fleet) = Fleet::new() else { return };
        let owner = fleet.start(version, "owner").await;
        let client = fleet.client().await;
        let mut replies = client.replies(&["#"]).await;
        client.request("work", "m-5", &json!({"hold": true})).await;
        fleet.journal.started("m-5", 1).await;
        for count in 1..=4 {
            owner.proxy.cut();
            let labels = [("crew", "work")];
            owner
                .worker
                .metric_becomes("crewfleet_kickoffs_redelivered_total", &labels, f64::from(count))
                .await;
        }
        owner.worker.kill();
        let _other = fleet.start(version.other(), "other").await;
        // Five deliveries came back, one of them from a dead worker.
        fleet.journal.started("m-5", 2).await;
        fleet.journal.release("m-5");
        assert_eq!(replies.of("m-5").await.json()["status"], "succeeded");
    }
}

#[tokio::test]
async fn a_cancel_reaches_old_and_new_workers_and_what_waits_for_them() {
    let Some(fleet) = Fleet::new() else { return };
    let cli = fleet.cli().await;
    cli.run(&["topology", "declare", "work"]).await.success();
    for id in ["for-old", "for-new"] {
        cli.run(&["kickoff", "work", "--id", id, "--detach"])
            .await
            .success();
        cli.run(&["cancel", id, "--timeout", "0.1"]).await.ended_with(0);
        // Each of them reads what was commanded before it was there.
        let version = if id == "for-old" { Old } else { New };
        let member = fleet.start(version, "reader").await;
        cli.run(&["wait", id]).await.ended_with(5);
        member.worker.signal(nix::sys::signal::Signal::SIGTERM);
        member.worker.exit().await;
    }
    assert_eq!(fleet.journal.lines(), [""; 0]);

    for version in [Old, New] {
        let id = format!("m-6-{version:?}");
        let held = fleet.held_by(version, &id, json!({})).await;
        let cancelled = cli.run(&["cancel", &id, "--timeout", "60"]).await.ended_with(0);
        cancelled.said(&["is cancelled; it was running on worker owner"]);
        held.nothing_left(&fleet).await;
    }
}

#[tokio::test]
async fn a_pause_holds_on_both_versions_and_for_those_that_start_later() {
    let Some(fleet) = Fleet::new() else { return };
    let (cli, old) = (fleet.cli().await, fleet.start(Old, "w-old").await);
    // An old worker need not know the question that the command asks; that it obeys, its metrics say.
    let paused = async |member: &Member, paused: f64| {
        let labels = [("crew", "work")];
        member
            .worker
            .metric_becomes("crewfleet_crew_paused", &labels, paused)
            .await;
    };
    cli.run(&["pause", "work"]).await.ended_with(0);
    paused(&old, 1.0).await;
    let new = fleet.start(New, "w-new").await;
    let later = fleet.start(Old, "w-later").await;
    let client = fleet.client().await;
    let mut replies = client.replies(&["#"]).await;
    for number in 0..6 {
        client.request("work", &format!("m-7-{number}"), &json!({})).await;
    }
    for member in [&old, &new, &later] {
        paused(member, 1.0).await;
    }
    assert_eq!(client.count(&fleet.namespace.requests_of("work")).await, 6);
    assert_eq!(fleet.journal.lines(), [""; 0]);
    cli.run(&["resume", "work"]).await.ended_with(0).said(&["w-new"]);
    for number in 0..6 {
        let reply = replies.of(&format!("m-7-{number}")).await.json();
        assert_eq!(reply["status"], "succeeded");
    }
    drop((old, new, later));
}

#[tokio::test]
async fn a_drained_worker_s_kickoff_is_finished_by_one_of_the_other_version() {
    for version in [Old, New] {
        let Some(fleet) = Fleet::new() else { return };
        let mut held = fleet.held_by(version, "m-8", json!({})).await;
        let drained = fleet.cli().await.run(&["drain", "owner"]).await.ended_with(0);
        drained.said(&["worker \"owner\" ran 1 kickoff"]);
        assert!(held.owner.worker.exit().await.success());
        fleet.journal.started("m-8", 2).await;
        fleet.journal.release("m-8");
        let reply = held.replies.of("m-8").await.json();
        assert_eq!(
            (&reply["status"], &reply["worker"], &reply["attempt"]),
            (&json!("succeeded"), &json!("other"), &json!(1)),
            "{version:?}"
        );
    }
}

#[tokio::test]
async fn a_rolling_upgrade_under_load_and_back_runs_each_kickoff_once() {
    const KICKOFFS: usize = 60;
    let Some(fleet) = Fleet::new() else { return };
    let mut members = vec![fleet.start(Old, "w-1").await, fleet.start(Old, "w-2").await];
    let (cli, client) = (fleet.cli().await, fleet.client().await);
    let mut replies = client.replies(&["#"]).await;
    let publishing = async {
        for number in 0..KICKOFFS {
            client.request("work", &format!("m-9-{number}"), &json!({})).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let upgrading = async {
        for (version, id) in [(New, "w-3"), (New, "w-4"), (Old, "w-5"), (New, "w-6")] {
            members.push(fleet.start(version, id).await);
            let first = members.remove(0);
            first.worker.signal(nix::sys::signal::Signal::SIGTERM);
            assert!(first.worker.exit().await.success());
        }
    };
    tokio::join!(publishing, upgrading);
    for number in 0..KICKOFFS {
        let id = format!("m-9-{number}");
        assert_eq!(replies.of(&id).await.json()["status"], "succeeded");
        assert_eq!(fleet.journal.starts(&id).len(), 1, "{id}");
    }
    cli.run(&["workers"]).await.success();
    assert_eq!(client.count(&fleet.namespace.requests_of("work")).await, 0);
}
