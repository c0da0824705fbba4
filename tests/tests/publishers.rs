//! The snippets of `producer/PUBLISHERS.md`, run as they stand against a real worker in the default namespace.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crewfleet_shared::node::{Node, NodeOptions};
use crewfleet_tests::broker::Namespace;
use crewfleet_tests::crews::{builtin_crew_toml, checkout};
use crewfleet_tests::process::{Output, Process};
use crewfleet_tests::worker::WorkerProcess;

#[tokio::test]
async fn the_snippets_for_other_languages_work_as_they_stand() {
    let options = NodeOptions::temporary().expect("a temporary folder");
    // The namespace `kickoff` is anybody's: so it is on a node of its own.
    let node = Node::start(options).await.expect("a node");
    let _worker = WorkerProcess::builder(&node.url(), &Namespace::named("kickoff"))
        .crew("echo", &builtin_crew_toml("echo", 8))
        .ready()
        .await;

    for (language, prints) in [
        ("python", r#"succeeded {"PRODUCT_DESCRIPTION": "a lamp"}"#),
        ("javascript", r#"succeeded {"PRODUCT_DESCRIPTION":"a lamp"}"#),
    ] {
        let ran = run(language, &snippet(language), &node).await;
        assert_eq!(ran.code, Some(0), "{language}: {ran:#?}");
        assert_eq!(ran.stdout, [prints], "{language}: {ran:#?}");
        assert_eq!(ran.stderr, Vec::<String>::new(), "{language}");
    }
    let queues = node
        .ctl(&["list_queues", "--silent", "name"])
        .await
        .expect("an answer");
    assert!(!queues.contains("client-"), "a snippet left its queue: {queues}");

    // A crew that no queue serves is an error at once.
    for (language, error) in [
        ("python", "UnroutableError"),
        ("javascript", "no worker ever served the crew nobody"),
    ] {
        let other = snippet(language).replace("\"echo\"", "\"nobody\"");
        let ran = run(language, &other, &node).await;
        assert_eq!(ran.code, Some(1), "{language}: {ran:#?}");
        ran.said(&[error]);
    }
}

async fn run(language: &str, snippet: &str, node: &Node) -> Output {
    let mut command = match language {
        "python" => Command::new(environment("test-python/bin/python")),
        _ => Command::new("node"),
    };
    command
        .arg(if language == "python" { "-c" } else { "-e" })
        .arg(snippet)
        .env("NODE_PATH", environment("test-javascript/node_modules"))
        .env("AMQP_URL", node.url());
    Process::spawn(language, &command, b"").output().await
}

/// The one block of this language on the page.
fn snippet(language: &str) -> String {
    let page = fs::read_to_string(checkout().join("producer/PUBLISHERS.md")).expect("the page");
    let opening = format!("```{language}\n");
    let mut blocks = page.split(&opening).skip(1);
    let block = blocks
        .next()
        .and_then(|rest| rest.split_once("```"))
        .expect("a block");
    assert!(blocks.next().is_none(), "there are several blocks of {language}");
    block.0.to_owned()
}

/// A part of what `tests/test-env.sh` makes.
fn environment(part: &str) -> PathBuf {
    let path = checkout().join(".crewfleet").join(part);
    assert!(
        path.exists(),
        "{} is missing: run `tests/test-env.sh`, which makes it",
        path.display()
    );
    path
}
