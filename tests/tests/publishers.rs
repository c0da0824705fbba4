//! The snippets of `producer/PUBLISHERS.md`, run as they stand against a real worker in the default namespace.

use std::fs;
use std::process::Command;

use crewfleet_node::Node;
use crewfleet_tests::broker::{Namespace, alone};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::crews::{builtin_crew_toml, checkout, test_environment};
use crewfleet_tests::process::{Output, Process};
use crewfleet_tests::worker::WorkerProcess;
use serde_json::Value;

#[tokio::test]
async fn the_snippets_for_other_languages_work_as_they_stand() {
    let node = alone().await;
    let _worker = WorkerProcess::builder(&node.url(), &Namespace::named("kickoff"))
        .crew("echo", &builtin_crew_toml("echo", 8))
        .ready()
        .await;

    // As the user that deploy/rabbitmq/ ships for producers, with its rights and no others.
    let user = Shipped::of("producer");
    user.make(&node).await;
    for (language, prints) in [
        ("python", r#"succeeded {"PRODUCT_DESCRIPTION": "a lamp"}"#),
        ("javascript", r#"succeeded {"PRODUCT_DESCRIPTION":"a lamp"}"#),
    ] {
        let ran = run(language, &snippet(language), &user.url(&node)).await;
        assert_eq!(ran.code, Some(0), "{language}: {ran:#?}");
        assert_eq!(ran.stdout, [prints], "{language}: {ran:#?}");
        assert_eq!(ran.stderr, Vec::<String>::new(), "{language}");
    }
    let queues = node
        .ctl(&["list_queues", "--silent", "name"])
        .await
        .expect("an answer");
    assert!(
        !queues.contains("clients.producer"),
        "a snippet left its queue: {queues}"
    );

    // A crew that no queue serves is an error at once.
    for (language, error) in [
        ("python", "UnroutableError"),
        ("javascript", "no worker ever served the crew nobody"),
    ] {
        let other = snippet(language).replace("\"echo\"", "\"nobody\"");
        let ran = run(language, &other, &node.url()).await;
        assert_eq!(ran.code, Some(1), "{language}: {ran:#?}");
        ran.said(&[error]);
    }
}

#[tokio::test]
async fn a_name_that_its_user_may_not_have_is_told_with_the_key_that_sets_it() {
    let node = alone().await;
    let namespace = Namespace::named("kickoff");
    let _worker = WorkerProcess::builder(&node.url(), &namespace)
        .crew("echo", &builtin_crew_toml("echo", 8))
        .ready()
        .await;
    let user = Shipped::of("producer");
    user.make(&node).await;
    let cli = Cli::new(&user.url(&node), &namespace);
    let refused = cli.run(&["kickoff", "echo"]).await.ended_with(3);
    refused.said(&["ACCESS_REFUSED", "client_name", "CREWFLEET__BROKER__CLIENT_NAME"]);
    let other = [("CREWFLEET__BROKER__CLIENT_NAME", "other")];
    let refused = cli.run_with_environment(&["kickoff", "echo"], &other).await;
    refused.ended_with(3).said(&["client_name is \"other\""]);
    let right = [("CREWFLEET__BROKER__CLIENT_NAME", "producer")];
    cli.run_with_environment(&["kickoff", "echo"], &right)
        .await
        .success();
}

/// A user of `deploy/rabbitmq/definitions.json`, with a password instead of its certificate.
struct Shipped {
    name: &'static str,
    definitions: Value,
}

impl Shipped {
    fn of(name: &'static str) -> Self {
        let file = checkout().join("deploy/rabbitmq/definitions.json");
        let text = fs::read_to_string(file).expect("the definitions");
        Self {
            name,
            definitions: serde_json::from_str(&text).expect("JSON"),
        }
    }

    async fn make(&self, node: &Node) {
        // The test before may have made it.
        if node.ctl(&["add_user", self.name, "secret"]).await.is_err() {
            return;
        }
        for (list, command) in [
            ("permissions", "set_permissions"),
            ("topic_permissions", "set_topic_permissions"),
        ] {
            let ours = self.definitions[list].as_array().expect("a list");
            for rights in ours.iter().filter(|rights| rights["user"] == self.name) {
                let of = |key: &str| rights[key].as_str();
                let words = [
                    Some(command),
                    Some(self.name),
                    of("exchange"),
                    of("configure"),
                    of("write"),
                    of("read"),
                ];
                let words: Vec<&str> = words.into_iter().flatten().collect();
                node.ctl(&words).await.unwrap();
            }
        }
    }

    fn url(&self, node: &Node) -> String {
        node.url()
            .replace("guest:guest", &format!("{}:secret", self.name))
    }
}

async fn run(language: &str, snippet: &str, url: &str) -> Output {
    let mut command = match language {
        "python" => Command::new(test_environment("test-python/bin/python")),
        _ => Command::new("node"),
    };
    command
        .arg(if language == "python" { "-c" } else { "-e" })
        .arg(snippet)
        .env("NODE_PATH", test_environment("test-javascript/node_modules"))
        .env("AMQP_URL", url);
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
