//! What clients of CrewAI AMP send, as they send it: bodies, paths, and what they ask for before.

use std::fs;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::crews::plain_crew_toml;
use crewfleet_tests::gateway::GatewayProcess;
use crewfleet_tests::worker::WorkerProcess;
use serde_json::{Value, json};

/// Its caller must name a topic, and may name a length.
const STORY: &str = r#"
class Story:
    def __init__(self, text):
        self.text = text

    def kickoff(self, inputs):
        return self.text


def story(TOPIC, LENGTH="short"):
    return Story(f"{LENGTH}: {TOPIC}")
"#;

#[tokio::test]
async fn bodies_and_paths_are_taken_as_amp_s_clients_send_them() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let cli = Cli::new(&url, &namespace).with_free_gateway_ports();
    fs::write(cli.dir().join("story.py"), STORY).expect("the crew is written");
    let _worker = WorkerProcess::builder(&url, &namespace)
        .builtin(&["echo"])
        .crews(&plain_crew_toml("story", "story:story", cli.dir(), 2))
        .ready()
        .await;
    let token = cli
        .run(&["token", "create", "shop", "--all-crews"])
        .await
        .success();
    let gateway = GatewayProcess::ready(&cli).await;
    let echo = gateway.caller("echo", &token);

    // Lists, objects and numbers go through as they are; Semantic Kernel for .NET sends what its user's types are.
    let inputs = json!({"LIST": ["a", ["b"], {"c": null}], "DEEP": {"x": {"y": [1, 2.50, true]}}, "N": 7, "YES": true,
                        "NONE": null, "TEXT": "ü\n"});
    let body = json!({"inputs": inputs, "meta": ["any", {"json": 1}]});
    for content_type in [
        "application/json",
        "application/json; charset=utf-8",
        "application/x-www-form-urlencoded",
    ] {
        // The last one is what curl says of any body.
        let caller = echo.clone().with_header("Content-Type", content_type);
        let id = caller.kickoff(&body).await;
        let status = caller.becomes(&id, "SUCCESS").await;
        assert_eq!(status["result_json"], inputs, "{content_type}");
    }
    // What may be sent twice has a key, as everywhere.
    let keyed = echo.clone().with_header("Idempotency-Key", "order-7");
    let first = keyed.kickoff(&body).await;
    assert_eq!(keyed.kickoff(&body).await, first);
    let (code, answer) = keyed.post("/kickoff", json!({"inputs": {"N": 8}})).await;
    assert_eq!(code, 409, "{answer}");
    let (code, answer) = echo.post("/kickoff", json!({"inputs": null})).await;
    assert_eq!(code, 200, "{answer}");
    // AMP takes no forms either. Their senders are told what to send.
    for (content_type, form) in [
        (
            "application/x-www-form-urlencoded",
            "inputs[TOPIC]=lamps&inputs[TOPIC]=doors",
        ),
        (
            "multipart/form-data; boundary=x",
            "--x\r\nContent-Disposition: form-data; name=\"inputs\"\r\n\r\n{}\r\n--x--",
        ),
    ] {
        let caller = echo.clone().with_header("Content-Type", content_type);
        let (code, answer) = caller.post("/kickoff", form).await;
        assert_eq!(code, 422, "{answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains("send JSON"), "{content_type}: {message}");
    }

    // A base URL may end with a slash, and so may a path.
    for path in ["/inputs", "//inputs", "/inputs/", "//inputs//"] {
        let story = gateway.caller("story", &token);
        let answer = story.answers(path, 200).await;
        assert_eq!(answer, json!({"inputs": ["TOPIC"]}), "{path}");
    }
    let slashes = gateway.caller("story/", &token);
    let id = slashes.kickoff(&json!({"inputs": {"TOPIC": "lamps"}})).await;
    let status = slashes.becomes(&id, "SUCCESS").await;
    assert_eq!(status["result"], "short: lamps");
    for path in [
        format!("/status/{id}/"),
        format!("/{id}/status/"),
        format!("//{id}//status"),
    ] {
        let (code, same) = slashes.get(&path).await;
        assert_eq!(
            (code.as_u16(), &same["result"]),
            (200, &status["result"]),
            "{path}"
        );
    }
    assert_eq!(slashes.get(format!("/files/{id}/")).await.0, 200);
    assert_eq!(slashes.get("/healthcheck/").await.0, 200);
    assert_eq!(
        slashes.get("/").await,
        (reqwest::StatusCode::OK, Value::from("Healthy"))
    );
    let (code, _) = slashes.post(format!("/stop/{id}/"), "").await;
    assert_eq!(code, 400);
    let (code, _) = slashes.post("/resume/", json!({"execution_id": id})).await;
    assert_eq!(code, 400);
}
