//! A configuration that cannot be is refused at start.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use crewfleet_tests::broker::broker;
use crewfleet_tests::crews;
use crewfleet_tests::process::Process;

#[tokio::test]
async fn a_configuration_that_cannot_be_is_refused_with_key_value_origin_and_fix() {
    let (url, python) = (broker().await.url(), crews::plain_python());
    let python = python.display();
    let old_crewai = tempfile::tempdir().unwrap();
    let metadata = old_crewai.path().join("crewai-0.5.0.dist-info");
    fs::create_dir(&metadata).unwrap();
    fs::write(
        metadata.join("METADATA"),
        "Metadata-Version: 2.1\nName: crewai\nVersion: 0.5.0\n",
    )
    .unwrap();
    let cases = [
        (
            "[worker]\ndrain_grace = 3\n[crews.a]\nrunner = \"builtin\"\ntarget = \"echo\"".to_owned(),
            vec![
                "worker.drain_grace",
                "refused.toml",
                "did you mean drain_grace_s?",
                "deploy/CONFIGURATION.md",
            ],
        ),
        (
            "[crews.a]\nrunner = \"builtin\"\ntarget = \"echo\"\ntimeout = 3".into(),
            vec!["crews.a.timeout", "refused.toml", "did you mean timeout_s?"],
        ),
        (
            "[crew.a]\nrunner = \"builtin\"\ntarget = \"echo\"".into(),
            vec!["unknown key \"crew\" (", "refused.toml", "did you mean crews?"],
        ),
        (
            "[crews.a]\nrunner = \"builtin\"\ntarget = \"echo\"\nconcurrency = \"many\"".into(),
            vec!["concurrency", "many", "refused.toml"],
        ),
        (
            "[crews.a]\nrunner = \"builtin\"\ntarget = \"nothing\"".into(),
            vec!["crews.a.target", "nothing", "refused.toml", "echo"],
        ),
        (
            format!(
                "[crews.a]\nrunner = \"python\"\npython = \"{python}\"\ntarget = \"no_such_module:Crew\""
            ),
            vec![
                "crews.a.target",
                "no_such_module:Crew",
                "refused.toml",
                "there is no module",
                "path",
            ],
        ),
        (
            "[crews.a]\nrunner = \"python\"\npython = \"/no/python\"\ntarget = \"a:b\"".into(),
            vec!["crews.a.python", "/no/python", "virtual environment"],
        ),
        (
            format!(
                "[crews.a]\nrunner = \"python\"\npython = \"{python}\"\ntarget = \"a:b\"\nenv = {{ PYTHONPATH = \"{}\" }}",
                old_crewai.path().display()
            ),
            vec![
                "crews.a.python",
                "refused.toml",
                "crewai 0.5.0 is too old",
                "pip install --upgrade 'crewai>=",
            ],
        ),
        (
            "[crews.a]\nrunner = \"builtin\"\ntarget = \"echo\"\ntimeout_s = 1790".into(),
            vec![
                "crews.a.timeout_s",
                "1790",
                "consumer timeout",
                "consumer_timeout_s",
            ],
        ),
        (
            "[crews.a]\nrunner = \"builtin\"\ntarget = \"echo\"\ntimeout_s = 90000".into(),
            vec!["crews.a.timeout_s", "90000", "86400"],
        ),
        (
            "[crews.A]\nrunner = \"builtin\"\ntarget = \"echo\"".into(),
            vec!["crews.A", "a-z"],
        ),
        (
            "[crews.a]\nrunner = \"builtin\"\ntarget = \"echo\"\ninputs_schema = \"no.json\"".into(),
            vec![
                "crews.a.inputs_schema",
                "/no.json",
                "refused.toml",
                "cannot be read",
                "name a readable file",
            ],
        ),
        (
            "[crews.a]\nrunner = \"command\"\ncommand = [\"env\"]\ninputs_schema = \"refused.toml\"".into(),
            vec![
                "crews.a.inputs_schema",
                "/refused.toml",
                "is no JSON: expected value at line 1",
            ],
        ),
        (
            "[crews.a]\nrunner = \"builtin\"\ntarget = \"echo\"\ninputs_schema = \"list.json\"".into(),
            vec![
                "crews.a.inputs_schema",
                "/list.json",
                "is an array and no JSON object; write a JSON Schema",
            ],
        ),
        (
            "[crews.a]\nrunner = \"builtin\"\ntarget = \"echo\"\ninputs_schema = \"large.json\"".into(),
            vec![
                "crews.a.inputs_schema",
                "/large.json",
                "is larger than the 65536 bytes",
                "shorten it",
            ],
        ),
        (String::new(), vec!["crews", "nothing to serve"]),
    ];
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("list.json"), "[1]").unwrap();
    fs::write(
        dir.path().join("large.json"),
        format!("{{\"a\": \"{}\"}}", "x".repeat(65_536)),
    )
    .unwrap();
    let file = dir.path().join("refused.toml");
    // From RabbitMQ 3.12 on the limit of a kickoff is the queue's, of 24 hours, not the node's.
    let version = broker().await.ctl(&["version"]).await.unwrap();
    let mut parts = version.trim().split('.').map(|part| part.parse().unwrap_or(0));
    let has_node_limit = (parts.next(), parts.next()) < (Some(3), Some(12));
    for (toml, expected) in cases {
        if expected.contains(&"1790") && !has_node_limit {
            continue;
        }
        fs::write(&file, toml).unwrap();
        let mut worker = Command::new(crews::binary("crewfleet-worker"));
        worker
            .arg("--config")
            .arg(&file)
            .env("CREWFLEET__BROKER__URL", &url);
        worker
            .env("CREWFLEET__WORKER__ADMIN_ADDR", "127.0.0.1:0")
            .env("CREWFLEET__WORKER__DATA_DIR", dir.path());
        let output = tokio::task::spawn_blocking(move || worker.output())
            .await
            .unwrap()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let refusal: Vec<&str> = said
            .lines()
            .skip_while(|line| !line.starts_with("crewfleet-worker: "))
            .collect();
        let refusal = refusal.join("\n");
        assert_eq!(output.status.code(), Some(2), "{said}");
        for part in expected {
            assert!(refusal.contains(part), "{part:?} is not named in: {refusal}");
        }
    }
    // An address that is taken is told before crews are built, which may take long.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    fs::write(
        &file,
        "[crews.a]\nrunner = \"python\"\npython = \"/no/python\"\ntarget = \"a:b\"",
    )
    .unwrap();
    let mut worker = Command::new(crews::binary("crewfleet-worker"));
    worker
        .arg("--config")
        .arg(&file)
        .env("CREWFLEET__BROKER__URL", &url)
        .env("CREWFLEET__WORKER__ADMIN_ADDR", &taken);
    let worker = worker.env("CREWFLEET__WORKER__DATA_DIR", dir.path());
    let output = Process::spawn("the worker", worker, b"")
        .output()
        .await
        .ended_with(2);
    let said = output.said(&["cannot listen on", &taken, "[worker] admin_addr"]);
    assert!(!said.contains("/no/python"), "{said}");
    // The variable, not the file, is named when the value came from there.
    let mut worker = Command::new(crews::binary("crewfleet-worker"));
    worker
        .env("CREWFLEET__WORKER__DRAIN_GRACE_S", "-1")
        .env("CREWFLEET__CREWS__A__RUNNER", "builtin");
    let output = worker
        .env("CREWFLEET__CREWS__A__TARGET", "echo")
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("CREWFLEET__WORKER__DRAIN_GRACE_S"), "{said}");
}
