//! A crew's process may end in any way: its kickoff gets a reply with the cause, nobody else notices, nothing is
//! left behind. The crew does what the inputs ask for: in the call of a model of a real CrewAI crew where that could make a
//! difference, and without CrewAI elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::client::{Messages, PlainClient};
use crewfleet_tests::crews::{checkout, plain_crew_toml, python_crew_toml};
use crewfleet_tests::process::until;
use crewfleet_tests::worker::{WorkerBuilder, WorkerProcess};
use lapin::BasicProperties;
use serde_json::{Value, json};
use tempfile::TempDir;

struct Fleet {
    worker: WorkerProcess,
    client: PlainClient,
    replies: Messages,
    dir: TempDir,
}

impl Fleet {
    /// With a crew without CrewAI.
    async fn start(options: &str, configure: impl FnOnce(WorkerBuilder) -> WorkerBuilder) -> Self {
        let crew = plain_crew_toml("bad", "deeds:Plain", &checkout().join("tests/crews"), 8);
        Self::of(crew + options, configure).await
    }

    /// With a crew of CrewAI's.
    async fn with_crewai(configure: impl FnOnce(WorkerBuilder) -> WorkerBuilder) -> Self {
        let path = checkout().join("tests/crews");
        Self::of(
            python_crew_toml("bad", "misbehaving:misbehaving", &path, 8),
            configure,
        )
        .await
    }

    async fn of(crew: String, configure: impl FnOnce(WorkerBuilder) -> WorkerBuilder) -> Self {
        let (namespace, url) = (Namespace::new(), broker().await.url());
        // What dies is not tried again here: tests/retries.rs has that.
        let crew = crew + "\n[crews.bad.retry]\nmax_crashes = 1\n";
        let builder = WorkerProcess::builder(&url, &namespace)
            .crews(&crew)
            .worker("cancel_grace_s = 1.0");
        let worker = configure(builder).ready().await;
        let client = PlainClient::connect(&url, &namespace).await;
        let replies = client.replies(&["#"]).await;
        let dir = tempfile::tempdir().unwrap();
        Self {
            worker,
            client,
            replies,
            dir,
        }
    }

    fn journal(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    fn runs(&self, mark: &str) -> usize {
        let journal = fs::read_to_string(self.journal()).unwrap_or_default();
        journal.lines().filter(|line| *line == mark).count()
    }

    async fn ask(&self, id: &str, deed: &str, with: &str) {
        let inputs = json!({"DO": deed, "WITH": with, "MARK": id, "JOURNAL": self.journal()});
        self.client.request("bad", id, &inputs).await;
    }

    async fn reply(&mut self, id: &str) -> Value {
        self.replies.of(id).await.json()
    }

    /// One kickoff to its reply.
    async fn run(&mut self, deed: &str, with: &str) -> Value {
        self.ask(deed, deed, with).await;
        self.reply(deed).await
    }
}

#[tokio::test]
async fn a_child_that_dies_is_a_crash_with_its_cause_and_its_neighbours_do_not_notice() {
    let mut fleet = Fleet::with_crewai(|b| b.worker("keep_missing_inputs = false")).await;
    // The caller of such a kickoff is told, so nobody else need hear of it.
    lacking_inputs(&mut fleet, false).await;
    // A neighbour that runs all the while.
    fleet.ask("neighbour", "sleep", "3").await;
    for (deed, with, kind, says) in [
        ("kill", "", "crashed", "signal 9"),
        ("segfault", "", "crashed", "signal 11"),
        ("os_exit", "7", "crashed", "exit code 7"),
        ("sys_exit", "3", "system_exit", "sys.exit(3)"),
        ("raise", "a plain failure", "exception", "a plain failure"),
    ] {
        let reply = fleet.run(deed, with).await;
        assert_eq!(reply["status"], "failed", "{deed}: {reply}");
        assert_eq!(reply["error"]["kind"], kind, "{deed}: {reply}");
        let message = reply["error"]["message"].as_str().unwrap();
        assert!(message.contains(says), "{deed}: {message}");
        assert_eq!(fleet.runs(deed), 1, "{deed} ran more than once");
        let dead = fleet.client.dead_letter("bad").await;
        assert_eq!(dead.correlation_id(), deed);
    }
    let neighbour = fleet.reply("neighbour").await;
    assert_eq!(neighbour["result"]["raw"], "neighbour slept 3");
    nothing_outlives_its_kickoff(&mut fleet).await;
    assert_eq!(fleet.worker.get("/healthz").await.0, 200);
    fleet.worker.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(fleet.worker.exit().await.success());
    fleet.worker.processes_gone().await;
}

#[tokio::test]
async fn running_out_of_memory_ends_one_kickoff() {
    let mut fleet = Fleet::start("", |b| b.worker("memory_limit = \"1GiB\"")).await;
    fleet.ask("neighbour", "sleep", "1").await;
    let reply = fleet.run("out_of_memory", "").await;
    assert_eq!(reply["status"], "failed");
    assert_eq!(reply["error"]["kind"], "out_of_memory", "{reply}");
    assert_eq!(fleet.reply("neighbour").await["status"], "succeeded");
}

#[tokio::test]
async fn garbage_on_stdout_is_logged_and_forges_nothing() {
    let mut fleet = Fleet::start("", |b| b).await;
    let reply = fleet.run("garbage", "").await;
    assert_eq!(
        (&reply["status"], &reply["result"]["raw"]),
        (&json!("succeeded"), &json!("garbage printed"))
    );
    // What it prints is in the log with its kickoff, up to a limit that is said.
    let dropped = |line: &Value| {
        line["kickoff_id"] == "garbage"
            && line["message"]
                .as_str()
                .is_some_and(|m| m.contains("the rest is dropped"))
    };
    fleet
        .worker
        .logged("the line that says what was dropped", dropped)
        .await;
}

#[tokio::test]
async fn a_crew_beyond_its_limit_is_killed_with_all_it_started() {
    let mut fleet = Fleet::start("timeout_s = 3\n", |b| b).await;
    // One sleeps, one never lets go of the interpreter's lock: neither hears anything but SIGKILL.
    for deed in ["hang", "hold_the_gil"] {
        let reply = fleet.run(deed, "").await;
        assert_eq!(reply["status"], "timed_out", "{reply}");
        assert!(
            reply["error"]["message"]
                .as_str()
                .unwrap()
                .contains("limit of 3 s")
        );
        assert_eq!(fleet.runs(deed), 1);
    }
    let body =
        json!({"timeout_s": 1.5, "inputs": {"DO": "hang", "WITH": "", "MARK": "lower", "JOURNAL": ""}});
    let properties = BasicProperties::default().with_correlation_id("lower".into());
    fleet.client.publish("bad", body.to_string(), properties).await;
    let reply = fleet.reply("lower").await;
    assert!(
        reply["error"]["message"]
            .as_str()
            .unwrap()
            .contains("limit of 1.5 s")
    );
}

#[tokio::test]
async fn grandchildren_daemons_and_threads_do_not_outlive_their_kickoff() {
    let mut fleet = Fleet::start("", |b| b).await;
    nothing_outlives_its_kickoff(&mut fleet).await;
    fleet.worker.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(fleet.worker.exit().await.success());
    fleet.worker.processes_gone().await;
}

async fn nothing_outlives_its_kickoff(fleet: &mut Fleet) {
    for deed in ["grandchild", "daemon"] {
        let reply = fleet.run(deed, "").await;
        let raw = reply["result"]["raw"].as_str().unwrap().to_owned();
        let pid = raw
            .split(' ')
            .next_back()
            .unwrap()
            .parse::<i32>()
            .expect("the pid of what it started");
        // The child ends it once its exit handlers have run, which may want it.
        until("what the kickoff started has ended", || {
            (!is_running(pid)).then_some(())
        })
        .await;
    }
    let file = fleet.dir.path().join("daemon");
    let reply = fleet.run("daemon_then_kill", file.to_str().unwrap()).await;
    assert_eq!(reply["error"]["kind"], "crashed", "{reply}");
    let pid = fs::read_to_string(&file).unwrap().trim().parse::<i32>().unwrap();
    assert!(!is_running(pid), "the daemon {pid} outlived its kickoff");
    assert_eq!(
        fleet.run("threads", "").await["result"]["raw"],
        "threads threads run on"
    );
}

fn is_running(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[tokio::test]
async fn large_results_and_tracebacks_are_one_reply_of_one_run() {
    let mut fleet = Fleet::start("", |b| b).await;
    let reply = fleet.run("big_result", "20971520").await;
    assert_eq!(
        (&reply["status"], &reply["error"]["kind"]),
        (&json!("failed"), &json!("result_too_large"))
    );
    // It is a failure everywhere, not only in the reply.
    let dead = fleet.client.dead_letter("bad").await;
    assert_eq!(
        (dead.correlation_id(), &dead.headers["x-kickoff-reason"]),
        ("big_result", &json!("failed"))
    );
    let failed = [("crew", "bad"), ("status", "failed")];
    fleet
        .worker
        .metric_becomes("crewfleet_kickoffs_completed_total", &failed, 1.0)
        .await;
    let kept = reply["error"]["detail"]["file"]
        .as_str()
        .expect("where it is kept");
    let kept: Value = serde_json::from_slice(&fs::read(kept).unwrap()).unwrap();
    assert!(kept["result"]["raw"].as_str().unwrap().len() > 20 * 1024 * 1024);
    assert_eq!(fleet.runs("big_result"), 1);

    let reply = fleet.run("long_traceback", "204800").await;
    assert_eq!(reply["error"]["kind"], "exception");
    let detail = reply["error"]["detail"].to_string();
    assert!(
        detail.len() > 200 * 1024,
        "the traceback has {} bytes",
        detail.len()
    );
    assert_eq!(fleet.runs("long_traceback"), 1);
    let dead = fleet.client.dead_letter("bad").await;
    let error = dead.headers["x-kickoff-error"].as_str().unwrap();
    assert!(error.len() <= 2048, "a header of {} bytes", error.len());
}

#[tokio::test]
async fn a_kickoff_that_loses_its_host_is_run_again_and_one_that_kills_it_is_not_for_ever() {
    let mut fleet = Fleet::start("", |b| b).await;
    let reply = fleet.run("kill_host", "").await;
    assert_eq!(reply["error"]["kind"], "host_lost", "{reply}");
    assert_eq!(
        fleet.runs("kill_host"),
        2,
        "requeued once, and then taken to be the cause"
    );
    assert_eq!(fleet.run("sleep", "0").await["status"], "succeeded");
}

#[tokio::test]
async fn missing_inputs_are_rejected_by_name_and_kept_where_somebody_wants_that() {
    let mut fleet = Fleet::with_crewai(|b| b.worker("keep_missing_inputs = true")).await;
    lacking_inputs(&mut fleet, true).await;
}

async fn lacking_inputs(fleet: &mut Fleet, keep: bool) {
    fleet
        .client
        .request("bad", "missing", &json!({"DO": "sleep"}))
        .await;
    let reply = fleet.reply("missing").await;
    assert_eq!(
        (&reply["status"], &reply["error"]["kind"]),
        (&json!("rejected"), &json!("invalid_inputs"))
    );
    for name in ["WITH", "MARK", "JOURNAL"] {
        assert!(
            reply["error"]["message"].as_str().unwrap().contains(name),
            "{reply}"
        );
    }
    let metrics = [
        ("kickoffs_missing_inputs_total", 1.0),
        ("kickoffs_dead_lettered_total", f64::from(keep)),
    ];
    for (name, count) in metrics {
        let labels: &[_] = match name {
            "kickoffs_dead_lettered_total" => &[("crew", "bad"), ("reason", "rejected")],
            _ => &[("crew", "bad")],
        };
        let name = format!("crewfleet_{name}");
        fleet.worker.metric_becomes(&name, labels, count).await;
    }
    // What is no request is kept in any case, and is the first dead letter where nothing else is.
    let properties = lapin::BasicProperties::default().with_correlation_id("unread".into());
    fleet.client.publish("bad", "no JSON", properties).await;
    fleet.reply("unread").await;
    let letter = fleet.client.dead_letter("bad").await;
    assert_eq!(letter.headers["x-kickoff-reason"], "rejected");
    assert_eq!(letter.correlation_id(), if keep { "missing" } else { "unread" });
}

#[tokio::test]
async fn a_target_that_starts_threads_is_run_in_fresh_interpreters() {
    let mut fleet = Fleet::of(
        plain_crew_toml(
            "bad",
            "threads_at_import:crew",
            &checkout().join("tests/crews"),
            8,
        ),
        |b| b,
    )
    .await;
    let reply = fleet.run("sleep", "0").await;
    assert_eq!(reply["status"], "succeeded", "{reply}");
    let said = fleet
        .worker
        .logged("why forking is not safe", |line| {
            line["level"] == "WARN"
                && line["reasons"]
                    .as_str()
                    .is_some_and(|reasons| reasons.contains("client-poller"))
        })
        .await;
    assert!(said["message"].as_str().unwrap().contains("spawn"));
}

#[tokio::test]
async fn a_child_sees_nothing_of_the_worker_s_configuration() {
    let mut fleet = Fleet::start("env = { OF_THE_CREW = \"1\" }\n", |b| {
        b.env("CREWFLEET__BROKER__CONNECT_TIMEOUT_S", "9")
    })
    .await;
    let raw = fleet.run("environment", "").await["result"]["raw"].to_string();
    assert!(
        raw.contains("OF_THE_CREW") && raw.contains("CREWFLEET_KICKOFF_ID"),
        "{raw}"
    );
    assert!(!raw.contains("CREWFLEET__"), "{raw}");
}

#[tokio::test]
async fn kickoff_folders_go_with_the_reply_and_those_of_failures_stay_a_while() {
    let mut fleet = Fleet::start("", |b| b).await;
    let reply = fleet.run("write_file", "report.txt").await;
    let raw = reply["result"]["raw"].as_str().unwrap();
    let folder = raw.split(' ').next_back().unwrap();
    // It goes after the reply, and before the worker ends.
    fleet.run("raise", "no").await;
    fleet.worker.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(fleet.worker.exit().await.success());
    assert!(!Path::new(folder).exists(), "{folder} outlived its kickoff");
    let kept: Vec<_> = fs::read_dir(Path::new(folder).parent().unwrap())
        .unwrap()
        .collect();
    assert_eq!(kept.len(), 1, "the folder of the failed one is kept: {kept:?}");
}
