//! Chains by those who start them: the command, the gateway, the client library.

use crewfleet::{BrokerConfig, KickoffClient, Step};
use crewfleet_tests::gateway::GatewayProcess;

use super::*;

async fn fleet() -> (Place, WorkerProcess) {
    let place = Place::new().await;
    let worker = place
        .worker()
        .builtin(&["echo", "fail", "sleep"])
        .crew("review", &builtin_crew_toml("echo", 2))
        .ready()
        .await;
    (place, worker)
}

#[tokio::test]
async fn the_command_waits_for_the_end_of_the_chain_and_prints_it() {
    let (place, _worker) = fleet().await;
    let cli = place.cli();
    let done = cli
        .run(&[
            "kickoff",
            "echo",
            "--id",
            "a",
            "--input",
            "text=hello",
            "--then",
            "review:draft=$.result.json.text,tone=kind",
            "--then",
            "echo:last=$.result.json.draft",
            "-o",
            "json",
        ])
        .await
        .ended_with(0);
    let (step, last) = (follows("a", 1), follows(&follows("a", 1), 2));
    done.said(&[
        &format!("kickoff a of the crew echo succeeded; step 1, kickoff {step} of the crew review, follows"),
        &format!(
            "kickoff {step} of the crew review succeeded; step 2, kickoff {last} of the crew echo, follows"
        ),
    ]);
    let reply: Value = serde_json::from_str(&done.stdout.join("\n")).unwrap();
    assert_eq!(
        (&reply["kickoff_id"], &reply["result"]["json"]),
        (&json!(last), &json!({"last": "hello"}))
    );
    let status = cli.run(&["status", &step]).await.success();
    assert!(status.contains("it is step 1 of chain a"), "{status}");
    let chain = cli
        .run(&["status", &step, "--chain", "-o", "json"])
        .await
        .success();
    let chain: Value = serde_json::from_str(&chain).unwrap();
    let ids: Vec<_> = chain
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["kickoff_id"])
        .collect();
    assert_eq!(ids, [&json!("a"), &json!(step), &json!(last)]);

    // The exit code is that of the last.
    let failed = cli
        .run(&["kickoff", "echo", "--then", "fail:message=no", "--then", "review"])
        .await
        .ended_with(1);
    failed.said(&["the chain ends after kickoff", "1 step left out"]);
    let refused = cli
        .run(&["kickoff", "echo", "--then", "review:draft=$.["])
        .await
        .ended_with(2);
    refused.said(&["then.inputs.draft is \"$.[\""]);
}

#[tokio::test]
async fn the_client_library_awaits_the_last_reply() {
    let (place, _worker) = fleet().await;
    let config = BrokerConfig {
        url: place.url.as_str().into(),
        namespace: place.namespace.to_string(),
        ..BrokerConfig::default()
    };
    let client = KickoffClient::connect(&config, "chains").await.unwrap();
    let mut review = Step::new("review".parse().unwrap());
    review.inputs.insert("draft".into(), "$.result.json.text".into());
    let mut handle = client
        .kickoff("echo", &json!({"text": "hello"}))
        .then(review)
        .await
        .unwrap();
    let last = handle.chain_reply().await.unwrap();
    assert_eq!(last.crew, "review");
    assert_eq!(last.result.unwrap().json.unwrap().get(), r#"{"draft":"hello"}"#);
    // One that has ended long ago is followed as well.
    let mut again = client.attach(handle.id()).await.unwrap();
    assert_eq!(again.chain_reply().await.unwrap().kickoff_id, last.kickoff_id);
    client.close().await;
}

#[tokio::test]
async fn the_gateway_takes_shows_and_cancels_chains() {
    let (place, _worker) = fleet().await;
    let cli = place.cli().with_free_gateway_ports();
    let token = cli
        .run(&["token", "create", "shop", "--all-crews"])
        .await
        .success();
    let narrow = cli
        .run(&["token", "create", "narrow", "--crew", "echo"])
        .await
        .success();
    let gateway = GatewayProcess::ready(&cli).await;
    let caller = gateway.native(&token);
    let body = json!({"crew": "echo", "inputs": {"text": "hello"}, "kickoff_id": "g",
        "then": [{"crew": "review", "inputs": {"draft": "$.result.json.text"}},
                 {"crew": "sleep", "inputs": {"seconds": 3600}}]});
    let (status, taken) = caller.post("/kickoffs", &body).await;
    assert_eq!(status, 202, "{taken}");
    assert_eq!(
        (&taken["chain"]["id"], &taken["chain"]["step"]),
        (&json!("g"), &json!(0)),
        "{taken}"
    );
    let (status, again) = caller.post("/kickoffs", &body).await;
    assert_eq!(
        (status.as_u16(), &again["kickoff_id"]),
        (202, &json!("g")),
        "{again}"
    );

    let (review, sleep) = (follows("g", 1), follows(&follows("g", 1), 2));
    let first = caller
        .shows("/kickoffs/g", "what follows", |view| {
            view["chain"]["next"]["kickoff_id"] == json!(review)
        })
        .await;
    assert_eq!(first["status"], "succeeded");
    caller
        .shows(&format!("/kickoffs/{sleep}"), "that it runs", |view| {
            view["status"] == "running"
        })
        .await;
    let (_, page) = caller.get("/kickoffs?chain=g").await;
    let items: Vec<_> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["kickoff_id"].clone(), item["chain"]["step"].clone()))
        .collect();
    assert_eq!(
        items,
        [
            (json!(sleep), json!(2)),
            (json!(review), json!(1)),
            (json!("g"), json!(0))
        ]
    );

    // The first has ended, and its chain goes on.
    let (status, answer) = caller.post("/kickoffs/g/cancel", "").await;
    assert_eq!(status, 202, "{answer}");
    caller
        .shows(&format!("/kickoffs/{sleep}"), "that it is cancelled", |view| {
            view["status"] == "cancelled"
        })
        .await;
    let (status, answer) = caller.post("/kickoffs/g/cancel", "").await;
    assert_eq!(status, 409, "{answer}");

    let bad = json!({"crew": "echo", "inputs": {}, "then": [{"crew": "review", "inputs": {"a": "$.["}}]});
    let (status, answer) = caller.post("/kickoffs", &bad).await;
    assert_eq!(status, 422, "{answer}");
    assert!(answer.to_string().contains("then[0].inputs.a"), "{answer}");
    // Whoever may not kick off a crew may not have it kicked off, either.
    let reaching = json!({"crew": "echo", "inputs": {}, "then": [{"crew": "review"}]});
    let (status, answer) = gateway.native(&narrow).post("/kickoffs", &reaching).await;
    assert_eq!(status, 403, "{answer}");
}
