//! `crewfleet dev`: everything on one machine, and nothing of it left behind.

mod ends;
mod own;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crewfleet_node::supervisor::SUPERVISED_VARIABLE;
use crewfleet_tests::PATIENCE;
use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::crews;
use crewfleet_tests::http;
use crewfleet_tests::process::{Output, Process, TICK, until, with_environment};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// A working directory with a home and a temporary folder beside it, which `dev` must not touch.
struct Place {
    dir: TempDir,
    broker: Option<(String, Namespace)>,
}

impl Place {
    /// Where `dev` starts a broker of its own.
    fn new() -> Self {
        // No checkout is around it, so the working directory itself is where everything goes.
        let dir = tempfile::Builder::new()
            .prefix("crewfleet-dev-")
            .tempdir()
            .unwrap();
        for name in ["work", "home", "tmp"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir, broker: None }
    }

    /// Where it uses the broker of this test binary.
    async fn with_broker() -> Self {
        let broker = Some((broker().await.url(), Namespace::new()));
        Self {
            broker,
            ..Self::new()
        }
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    fn write(&self, name: &str, text: &str) {
        let file = self.work().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    fn dev(&self, arguments: &[&str]) -> Process {
        self.dev_in(&crews::venv_python(), arguments)
    }

    /// In an interpreter without CrewAI, for what needs none.
    fn plain_dev(&self, arguments: &[&str]) -> Process {
        self.dev_in(&crews::plain_python(), arguments)
    }

    /// A crew of a program that has no CrewAI: for what is the same for every crew.
    fn plain_crew(&self, arguments: &[&str]) -> Process {
        let crew = "class Plain:\n    def kickoff(self, inputs):\n        return 'done'\n";
        self.write("src/plain.py", crew);
        let target = ["--target", "plain:Plain", "--path", "src"];
        self.plain_dev(&[&target[..], arguments].concat())
    }

    fn dev_in(&self, python: &Path, arguments: &[&str]) -> Process {
        self.dev_with(python, arguments, &[])
    }

    fn dev_with(&self, python: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Process {
        let mut command = Command::new(crews::binary("crewfleet"));
        command
            .arg("dev")
            .args(arguments)
            .current_dir(self.work())
            .env("HOME", self.dir.path().join("home"))
            .env("TMPDIR", self.dir.path().join("tmp"))
            .env("CREWFLEET_PYTHON", python)
            .envs(environment.iter().copied())
            .env_remove("CREWFLEET_DIR")
            .env_remove("OPENAI_API_KEY");
        if let Some((url, namespace)) = &self.broker {
            command.env("CREWFLEET__BROKER__URL", url);
            command.env("CREWFLEET__BROKER__NAMESPACE", namespace.to_string());
        }
        Process::spawn("crewfleet dev", &command, b"")
    }

    /// The processes of a part: `broker`, `worker-1`, `worker-2`.
    fn processes_of(&self, part: &str) -> BTreeSet<Pid> {
        let folder = self.work().join(".crewfleet/dev").join(part);
        with_environment(SUPERVISED_VARIABLE, &folder.display().to_string())
    }

    fn parts(&self) -> [BTreeSet<Pid>; 3] {
        ["broker", "worker-1", "worker-2"].map(|part| self.processes_of(part))
    }

    /// Waits until nothing of it runs, and looks that nothing was written elsewhere. `expected` is what is in the
    /// working directory; with an own crew there CrewAI itself makes its usual folders in the home.
    async fn is_clean(&self, dev: &Process, expected: &[&str]) {
        dev.descendants_gone().await;
        until("the end of everything", || {
            self.parts().iter().all(BTreeSet::is_empty).then_some(())
        })
        .await;
        let home = entries(&self.dir.path().join("home"));
        assert!(expected != [".crewfleet"] || home.is_empty(), "{home:?}");
        assert_eq!(entries(&self.dir.path().join("tmp")), BTreeSet::new());
        let expected = expected.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(entries(&self.work()), expected);
    }
}

fn entries(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Waits until it keeps running, and returns the value of the line that another terminal needs.
async fn keeps_running(dev: &Process) {
    dev.stderr
        .first("that it keeps running", |line| {
            line.contains("running until Ctrl-C").then_some(())
        })
        .await;
}

fn last_json(output: &Output) -> Value {
    let line = output.stdout.last().expect("a line on stdout");
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

const OWN_CREW: &str = r#"
from crewai import Agent, BaseLLM, Crew, Task


class Parrot(BaseLLM):
    def call(self, messages, *args, **kwargs):
        text = messages if isinstance(messages, str) else " ".join(str(m["content"]) for m in messages)
        return "Thought: done\nFinal Answer: heard " + text[text.index("say "):].split("\n")[0]


class OwnCrew:
    def crew(self):
        agent = Agent(role="parrot", goal="repeat", backstory="none", llm=Parrot(model="parrot"))
        task = Task(description="say {TOPIC} and {PLACE}", expected_output="the same", agent=agent)
        return Crew(agents=[agent], tasks=[task])
"#;

#[tokio::test]
async fn once_gives_the_example_s_reply_and_leaves_nothing() {
    let place = Place::new();
    let dev = place.dev(&["--once"]);
    let output = dev.output().await.ended_with(0);
    let reply = last_json(&output);
    assert_eq!(
        (&reply["status"], &reply["crew"]),
        (&"succeeded".into(), &"marketing".into())
    );
    let raw = reply["result"]["raw"].as_str().unwrap();
    for input in ["family bakery in Lisbon", "sourdough subscription"] {
        assert!(raw.contains(input), "{input:?} is not in {raw}");
    }
    assert_eq!(output.stdout.len(), 1, "stdout has the reply alone");
    output.said(&[
        "the broker is ready",
        "the worker is ready",
        "crew marketing on worker-1",
        "  task market_research",
        "      model offline, ",
        " tokens in, ",
        "2 model calls, ",
    ]);
    let raw =
        |line: &String| line.contains("task_started") || line.contains("metrics") || line.contains('\u{1b}');
    assert!(!output.stderr.iter().any(raw), "{output:?}");
    let noise: Vec<_> = output
        .stderr
        .iter()
        .filter(|line| line.contains(" error=") || line.contains("worker-1: ") || line.contains("worker-2: "))
        .filter(|line| !line.contains("http://"))
        .collect();
    assert_eq!(noise, Vec::<&String>::new(), "a good run has nothing to warn of");
    place.is_clean(&dev, &[".crewfleet"]).await;

    // What RabbitMQ cannot repair is made anew. A stream is down like this when its broker was stopped while it
    // started.
    let broker = place.work().join(".crewfleet/dev/broker");
    fs::remove_dir_all(broker.join("mnesia/crewfleet@localhost/coordination")).unwrap();
    let dev = place.plain_crew(&["--once", "-v"]);
    let output = dev.output().await.ended_with(0);
    output.said(&["making the broker anew", "kickoff_started", "kickoff_finished"]);
    place.is_clean(&dev, &[".crewfleet", "src"]).await;
}

#[tokio::test]
async fn nothing_is_started_for_a_crew_that_cannot_be() {
    let place = Place::new();
    let dev = place.dev(&["--once", "--python", "/no/such/python"]);
    dev.output().await.ended_with(2).said(&["deploy/python-env.sh"]);
    let made = entries(&place.work().join(".crewfleet/dev"));
    assert!(!made.contains("broker"), "{made:?}");
    place.is_clean(&dev, &[".crewfleet"]).await;
}

#[tokio::test]
async fn it_keeps_running_for_other_terminals_until_ctrl_c() {
    let place = Place::new();
    let dev = place.plain_crew(&["--input", "TOPIC=sourdough"]);
    keeps_running(&dev).await;
    assert!(
        place.parts().iter().all(|part| !part.is_empty()),
        "{:?}",
        place.parts()
    );
    let shown = |line: &str| line.contains("done").then_some(());
    dev.stdout.first("the result", shown).await;

    let second = place.plain_crew(&["--once"]).output().await.ended_with(2);
    second.said(&["another `crewfleet dev`", &dev.pid().to_string()]);

    // Prometheus could scrape the broker's queues.
    let url = dev
        .stderr
        .first("where the broker's metrics are", |line| {
            Some(line.split_once("the broker's metrics: ")?.1.to_owned())
        })
        .await;
    for metric in ["messages_ready", "consumers"] {
        of_crew_s_queue(&url, metric).await;
    }

    // What it says works in another terminal.
    let export = dev
        .stderr
        .first("the export line", |line| {
            line.trim()
                .strip_prefix("export CREWFLEET__BROKER__URL=")
                .map(str::to_owned)
        })
        .await;
    let kickoff = dev
        .stderr
        .first("the command", |line| {
            line.contains(" kickoff plain ").then(|| line.trim().to_owned())
        })
        .await;
    let mut terminal = Command::new("sh");
    terminal
        .args([
            "-c",
            &format!("export CREWFLEET__BROKER__URL={export}; {kickoff} --json"),
        ])
        .current_dir(place.work());
    let reply = last_json(
        &Process::spawn("another terminal", &terminal, b"")
            .output()
            .await
            .ended_with(0),
    );
    assert_eq!(reply["status"], "succeeded");
    its_gateway_answers(&dev).await;

    // What waits at its end is told.
    let elsewhere = |command: &str| {
        let crewfleet = crews::binary("crewfleet");
        let command = format!(
            "export CREWFLEET__BROKER__URL={export}; {} {command}",
            crewfleet.display()
        );
        let mut terminal = Command::new("sh");
        terminal.args(["-c", &command]).current_dir(place.work());
        Process::spawn("another terminal", &terminal, b"")
    };
    elsewhere("pause plain").output().await.ended_with(0);
    elsewhere("kickoff plain -d").output().await.ended_with(0);
    dev.signal(Signal::SIGINT);
    let output = dev.output().await.ended_with(0);
    output.said(&["1 kickoff left in the private broker: the next `crewfleet dev` here runs"]);
    place.is_clean(&dev, &[".crewfleet", "src"]).await;
}

/// It says where the gateway is, and calls that work.
/// Waits until the broker tells this metric of the crew's queue: it counts every few seconds.
async fn of_crew_s_queue(url: &str, metric: &str) {
    let of_crew = |line: &str| {
        line.starts_with(&format!("rabbitmq_detailed_queue_{metric}{{"))
            && line.contains("queue=\"kickoff.requests.plain\"")
    };
    let told = async {
        loop {
            let (status, scrape) = http::get(url).await;
            assert_eq!(status, 200, "{scrape}");
            if scrape.lines().any(of_crew) {
                return;
            }
            tokio::time::sleep(TICK).await;
        }
    };
    let told = tokio::time::timeout(PATIENCE, told).await;
    told.unwrap_or_else(|_| panic!("{metric} is not told of the crew's queue"));
}

async fn its_gateway_answers(dev: &Process) {
    let addr = dev
        .stderr
        .first("where the gateway is", |line| {
            let addr = line
                .split_once("the gateway, with CrewAI AMP's API and its own below /v1: http://")?
                .1;
            Some(addr.split_once(' ')?.0.to_owned())
        })
        .await;
    let call = dev
        .stderr
        .first("a call", |line| {
            line.trim().starts_with("curl ").then(|| line.trim().to_owned())
        })
        .await;
    let (token, url) = call
        .strip_prefix("curl -H 'Authorization: Bearer ")
        .and_then(|rest| rest.split_once("' "))
        .expect("a token and a URL");
    assert_eq!(url, format!("http://{addr}/inputs"));
    // Just after its start it has to read what there is first.
    let (client, deadline) = (http::client(), tokio::time::Instant::now() + PATIENCE);
    let kickoff = dev
        .stderr
        .first("a kickoff", |line| {
            let line = line.trim();
            (line.starts_with("curl ") && line.ends_with("/kickoff")).then(|| line.to_owned())
        })
        .await;
    loop {
        let answer = client
            .get(url)
            .bearer_auth(token)
            .send()
            .await
            .expect("an answer");
        let (status, body) = (answer.status().as_u16(), answer.text().await.expect("a body"));
        if status == 200 {
            assert!(body.contains("inputs"), "{body}");
            let mut shell = Command::new("sh");
            shell.args(["-c", &kickoff]);
            let taken = Process::spawn("curl", &shell, b"").output().await.success();
            assert!(taken.contains("kickoff_id"), "{taken}");
            break;
        }
        assert!(
            status == 503 && tokio::time::Instant::now() < deadline,
            "{status} {body}"
        );
        tokio::time::sleep(TICK).await;
    }
    assert_eq!(
        client.get(url).send().await.expect("an answer").status().as_u16(),
        401
    );
}
