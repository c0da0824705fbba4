//! What the README shows runs as it stands: its configuration, its worker, its commands. `deploy/quickstart.sh` itself
//! is a check of `tests/run.sh`, since it installs and builds what a newcomer needs.

use std::fs;
use std::path::Path;
use std::process::Command;

use crewfleet_tests::PATIENCE;
use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::crews::{binary, checkout, test_environment, venv_python};
use crewfleet_tests::process::Process;
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::timeout;

use super::page::Page;

/// The pages that call the gateway.
pub(crate) const OVER_HTTP: [&str; 2] = ["README.md", "producer/HTTP.md"];

/// A shell as the README's reader has it, but for addresses, the namespace and the interpreter.
struct Reader {
    folder: TempDir,
    namespace: Namespace,
    environment: Vec<(&'static str, String)>,
}

impl Reader {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let namespace = Namespace::new();
        let own = |file: &str| folder.path().join(file).display().to_string();
        let environment = vec![
            ("CREWFLEET__BROKER__URL", broker().await.url()),
            ("CREWFLEET__BROKER__NAMESPACE", namespace.to_string()),
            ("CREWFLEET__WORKER__ADMIN_ADDR", "127.0.0.1:0".into()),
            ("CREWFLEET__GATEWAY__ADDR", "127.0.0.1:0".into()),
            ("CREWFLEET__GATEWAY__ADMIN_ADDR", "127.0.0.1:0".into()),
            ("CREWFLEET__GATEWAY__TOKENS_FILE", own("tokens.json")),
            ("CREWFLEET__GATEWAY__STORE__FILE", own("store.sqlite")),
            ("CREWFLEET__WORKER__DATA_DIR", own("data")),
            // The README's path is that of a checkout in which deploy/python-env.sh ran.
            (
                "CREWFLEET__CREWS__MARKETING__PYTHON",
                venv_python().display().to_string(),
            ),
        ];
        Self {
            folder,
            namespace,
            environment,
        }
    }

    fn process(&self, name: &str, command: &mut Command) -> Process {
        let programs = binary("crewfleet").parent().unwrap().display().to_string();
        let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
        command.current_dir(checkout()).env("PATH", path);
        command.envs(self.environment.clone());
        Process::spawn(name, command, b"")
    }

    fn shell(&self, line: &str) -> Process {
        self.process(line, Command::new("bash").args(["-c", &format!("exec {line}")]))
    }

    /// The worker of the README, once it is ready.
    async fn worker(&self, readme: &Page) -> Process {
        let file = self.folder.path().join("crewfleet.toml");
        let [configuration] = &blocks(readme, "toml")[..] else {
            panic!("the README has one configuration");
        };
        // Its paths start where it stands: in the checkout.
        let there = format!("path = [\"{}/deploy/", checkout().display());
        fs::write(&file, configuration.replace("path = [\"deploy/", &there)).unwrap();
        let lines = shell_lines(readme);
        let serve = lines
            .iter()
            .find(|line| line.starts_with("crewfleet-worker "))
            .unwrap();
        let worker = self.shell(&serve.replace("crewfleet.toml", file.to_str().unwrap()));
        worker
            .stderr
            .first("ready", |line| line.contains("\"ready\"").then_some(()))
            .await;
        worker
    }

    /// The three commands of a page: the gateway, a token, a call. It gives what the call answers.
    async fn over_http(&self, page: &Page) -> String {
        let shown = blocks(page, "sh")
            .into_iter()
            .find(|block| block.contains("crewfleet gateway\n"))
            .unwrap();
        let lines = shown.replace("\\\n", "");
        let [gateway, token, call] = lines.trim().lines().collect::<Vec<_>>()[..] else {
            panic!("not three commands: {lines}");
        };
        let token = self.shell(token.trim_start_matches("TOKEN=$(").trim_end_matches(')'));
        let token = token.output().await.success();
        let gateway = self.shell(gateway);
        let listens = |line: &str| {
            let line = serde_json::from_str::<Value>(line).ok()?;
            line["addr"].as_str().map(str::to_owned)
        };
        // The gateway takes a free port here, so it is not called before that is known.
        let address = gateway.stderr.first("the gateway listens", listens).await;
        let call = call.replace("127.0.0.1:8080", &address).replace("$TOKEN", &token);
        let answered = async {
            loop {
                let answer = self.shell(&call).output().await.success();
                // A gateway that has just started has heard of no crew; it is asking the workers.
                if !answer.contains("was heard yet") {
                    break answer;
                }
            }
        };
        let answer = timeout(PATIENCE, answered)
            .await
            .expect("an answer of the gateway");
        gateway.signal(Signal::SIGTERM);
        assert_eq!(gateway.exit().await.code(), Some(0));
        answer
    }
}

fn blocks(page: &Page, language: &str) -> Vec<String> {
    let blocks = page
        .blocks()
        .into_iter()
        .filter(|block| block.language == language);
    blocks.map(|block| block.text).collect()
}

fn shell_lines(page: &Page) -> Vec<String> {
    let blocks = blocks(page, "sh");
    blocks
        .iter()
        .flat_map(|block| block.lines())
        .map(ToOwned::to_owned)
        .collect()
}

#[tokio::test]
async fn the_worker_the_commands_and_the_program_of_the_readme_run() {
    let readme = Page::at(Path::new("README.md"));
    let reader = Reader::new().await;
    let worker = reader.worker(&readme).await;

    let lines = shell_lines(&readme);
    let kickoffs: Vec<&String> = lines
        .iter()
        .filter(|line| line.starts_with("crewfleet kickoff "))
        .collect();
    assert!(!kickoffs.is_empty());
    for line in kickoffs {
        let text = reader.shell(line).output().await.success();
        assert!(text.contains("a bakery") && text.contains("rye bread"), "{text}");
    }

    for (page, answer) in OVER_HTTP.iter().zip(["kickoff_id", "BUSINESS_DETAILS"]) {
        let answered = reader.over_http(&Page::at(Path::new(page))).await;
        assert!(answered.contains(answer), "{page}: {answered}");
    }

    // Its namespace is the usual one, which is anybody's on a node that tests share.
    let [program] = &blocks(&readme, "python")[..] else {
        panic!("the README has one program in Python");
    };
    let program = program.replace("\"kickoff.", &format!("\"{}.", reader.namespace));
    let python = test_environment("test-python/bin/python");
    let printed = reader.process(
        "the program in Python",
        Command::new(python).args(["-c", &program]),
    );
    assert_eq!(printed.output().await.success(), "succeeded");

    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.exit().await.code(), Some(0));
}

#[tokio::test]
async fn the_help_of_the_quickstart_comes_before_all_else_and_names_options_that_dev_has() {
    let mut quickstart = Command::new(checkout().join("deploy/quickstart.sh"));
    // Without cargo nothing can be built.
    quickstart.args(["--once", "--help"]).env("PATH", "/usr/bin:/bin");
    let helped = Process::spawn("quickstart.sh --help", &quickstart, b"");
    let helped = helped.output().await.ended_with(0);
    assert!(helped.stderr.is_empty(), "{helped:?}");
    let help = helped.stdout.join("\n");
    let mut dev = Command::new(binary("crewfleet"));
    dev.args(["dev", "--help"]);
    let of_dev = Process::spawn("crewfleet dev --help", &dev, b"")
        .output()
        .await
        .success();
    let lines = help.lines().filter_map(|line| line.strip_prefix("  "));
    let options: Vec<&str> = lines
        .filter_map(|line| line.split([' ', ',']).find(|word| word.starts_with("--")))
        .collect();
    assert!(options.len() > 5, "{help}");
    for option in options {
        assert!(of_dev.contains(option), "{option} is not in: {of_dev}");
    }
}
