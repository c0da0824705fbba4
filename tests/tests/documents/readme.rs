//! What the README shows runs as it stands: its configuration, its worker, its commands. `deploy/quickstart.sh` itself
//! is a check of `tests/run.sh`, since it installs and builds what a newcomer needs.

use std::fs;
use std::process::Command;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::crews::{binary, checkout, venv_python};
use crewfleet_tests::process::Process;
use nix::sys::signal::Signal;
use serde_json::Value;

/// The blocks of this language, in order.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    text.split(fence.as_str())
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

#[tokio::test]
async fn the_worker_and_the_command_of_the_readme_run() {
    let readme = fs::read_to_string(checkout().join("README.md")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("crewfleet.toml");
    // Its paths start where it stands: in the checkout.
    let path = |start: &str| format!("path = [\"{start}deploy/");
    let there = path(&format!("{}/", checkout().display()));
    fs::write(&config, blocks(&readme, "toml")[0].replace(&path(""), &there)).unwrap();
    let (url, namespace, python) = (broker().await.url(), Namespace::new(), venv_python());
    let environment = [
        ("CREWFLEET__BROKER__URL", url.clone()),
        ("CREWFLEET__BROKER__NAMESPACE", namespace.to_string()),
        ("CREWFLEET__WORKER__ADMIN_ADDR", "127.0.0.1:0".into()),
        ("CREWFLEET__GATEWAY__ADDR", "127.0.0.1:0".into()),
        ("CREWFLEET__GATEWAY__ADMIN_ADDR", "127.0.0.1:0".into()),
        (
            "CREWFLEET__GATEWAY__TOKENS_FILE",
            dir.path().join("tokens.json").display().to_string(),
        ),
        ("CREWFLEET__WORKER__DATA_DIR", dir.path().display().to_string()),
        // The README's path is that of a checkout in which deploy/python-env.sh ran.
        (
            "CREWFLEET__CREWS__MARKETING__PYTHON",
            python.display().to_string(),
        ),
    ];
    let shell = |line: &str| {
        let programs = binary("crewfleet").parent().unwrap().display().to_string();
        let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command
            .args(["-c", &format!("exec {line}")])
            .current_dir(checkout())
            .env("PATH", path);
        command.envs(environment.clone());
        Process::spawn(line, &command, b"")
    };
    let lines: Vec<&str> = blocks(&readme, "sh")
        .iter()
        .flat_map(|block| block.lines())
        .collect();

    let serve = lines
        .iter()
        .find(|line| line.starts_with("crewfleet-worker "))
        .unwrap();
    let worker = shell(&serve.replace("crewfleet.toml", config.to_str().unwrap()));
    worker
        .stderr
        .first("ready", |line| line.contains("\"ready\"").then_some(()))
        .await;
    let kickoffs: Vec<&&str> = lines
        .iter()
        .filter(|line| line.starts_with("crewfleet kickoff "))
        .collect();
    assert!(!kickoffs.is_empty());
    for line in kickoffs {
        let output = shell(line).output().await.ended_with(0);
        let text = output.stdout.join("\n");
        assert!(text.contains("a bakery") && text.contains("rye bread"), "{text}");
    }
    let over_http = blocks(&readme, "sh")
        .into_iter()
        .find(|block| block.contains("crewfleet gateway\n"));
    // The gateway of the line takes a free port here, so it is not called before that is known.
    let lines = over_http.unwrap().replace("\\\n", "");
    let [gateway, token, call] = lines.trim().lines().collect::<Vec<_>>()[..] else {
        panic!("not three commands: {lines}");
    };
    let token = shell(token.trim_start_matches("TOKEN=$(").trim_end_matches(')'));
    let token = token.output().await.success();
    let gateway = shell(gateway);
    let listens = |line: &str| {
        let line = serde_json::from_str::<Value>(line).ok()?;
        line["addr"].as_str().map(str::to_owned)
    };
    let address = gateway.stderr.first("the gateway listens", listens).await;
    let call = call.replace("127.0.0.1:8080", &address).replace("$TOKEN", &token);
    let answer = shell(&call).output().await.success();
    assert!(answer.contains("kickoff_id"), "{answer}");
    for process in [gateway, worker] {
        process.signal(Signal::SIGTERM);
        assert_eq!(process.exit().await.code(), Some(0));
    }
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

#[test]
fn every_link_of_the_documentation_leads_somewhere() {
    for page in [
        "README.md",
        "producer/PUBLISHERS.md",
        "deploy/README.md",
        "deploy/CONFIGURATION.md",
        "deploy/helm/crewfleet/README.md",
        "deploy/rabbitmq/README.md",
        "deploy/monitoring/METRICS.md",
    ] {
        let page = checkout().join(page);
        let text = fs::read_to_string(&page).unwrap();
        for link in text
            .split("](")
            .skip(1)
            .map(|rest| rest.split(')').next().unwrap())
        {
            if link.starts_with("http") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => page.clone(),
                path => page.parent().unwrap().join(path),
            };
            assert!(target.exists(), "{}: {link}", page.display());
            let headings = fs::read_to_string(&target).unwrap_or_default();
            let mut headings = headings.lines().filter(|line| line.starts_with('#')).map(slug);
            assert!(
                heading.is_empty() || headings.any(|slug| slug == heading),
                "{}: {link}",
                page.display()
            );
        }
    }
}

/// The name of a heading in a link, as GitHub makes it.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
