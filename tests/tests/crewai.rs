//! CrewAI's own example, as users run it.

use std::collections::HashSet;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::crews::marketing_crew_toml;
use crewfleet_tests::many;
use crewfleet_tests::worker::WorkerProcess;
use serde_json::{Value, json};

#[tokio::test]
async fn many_kickoffs_over_two_workers_keep_their_own_inputs() {
    let kickoffs = many(200, 40);
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let crew = marketing_crew_toml(16) + "env = { OFFLINE_LLM_LATENCY_S = \"0.05\" }\n";
    let _first = WorkerProcess::builder(&url, &namespace)
        .worker("id = \"first\"")
        .crews(&crew)
        .ready()
        .await;
    let _second = WorkerProcess::builder(&url, &namespace)
        .worker("id = \"second\"")
        .crews(&crew)
        .ready()
        .await;
    let client = PlainClient::connect(&url, &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    let mark = |what: &str, n: usize| format!("{what}-mark-{n:03}-end");
    for n in 0..kickoffs {
        let inputs =
            json!({"BUSINESS_DETAILS": mark("business", n), "PRODUCT_DESCRIPTION": mark("product", n)});
        client.request("marketing", &format!("row-{n}"), &inputs).await;
    }
    let mut workers = HashSet::new();
    for n in 0..kickoffs {
        let reply = replies.of(&format!("row-{n}")).await.json();
        assert_eq!(reply["status"], "succeeded", "{reply}");
        workers.insert(reply["worker"].as_str().unwrap().to_owned());
        let text = reply["result"].to_string();
        for what in ["business", "product"] {
            assert!(
                text.contains(&mark(what, n)),
                "row {n} lacks its own {what}: {text}"
            );
            let before = format!("{what}-mark-");
            for other in text.split(&before).skip(1).map(|rest| &rest[..3]) {
                assert_eq!(
                    other,
                    format!("{n:03}"),
                    "row {n} has another row's {what}: {text}"
                );
            }
        }
        assert_eq!(reply["result"]["tasks"].as_array().unwrap().len(), 2);
        let told = reply["result"]["tasks"][0]["description"].as_str().unwrap();
        assert!(told.starts_with("Research the market of a product."), "{told}");
        assert_eq!(reply["result"]["kind"], "crew");
        assert_eq!(reply["result"]["usage"]["successful_requests"], 2);
    }
    assert_eq!(workers.len(), 2, "both workers took part: {workers:?}");
}

#[tokio::test]
async fn crewai_s_events_and_the_crew_s_output_carry_the_kickoff() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let crew = marketing_crew_toml(2) + "env = { OFFLINE_LLM_LATENCY_S = \"0.05\" }\n";
    let worker = WorkerProcess::builder(&url, &namespace)
        .crews(&crew)
        .ready()
        .await;
    let client = PlainClient::connect(&url, &namespace).await;
    let mut events = client.subscribe("events", &["told.*"]).await;
    let body = json!({"meta": {"order": 7}, "inputs": {"BUSINESS_DETAILS": "a bakery", "PRODUCT_DESCRIPTION": "bread"}});
    let properties = lapin::BasicProperties::default().with_correlation_id("told".into());
    client.publish("marketing", body.to_string(), properties).await;
    let mut seen: Vec<Value> = Vec::new();
    while seen
        .last()
        .is_none_or(|event| event["type"] != "kickoff_finished")
    {
        let message = events.next().await;
        let event = message.json();
        assert_eq!(
            message.routing_key,
            format!("told.{}", event["type"].as_str().unwrap())
        );
        assert_eq!(message.kind(), "kickoff.event.v1");
        seen.push(event);
    }
    let sequence: Vec<u64> = seen
        .iter()
        .map(|event| event["sequence"].as_u64().unwrap())
        .collect();
    assert_eq!(
        sequence,
        (1..=seen.len() as u64).collect::<Vec<_>>(),
        "in order, without gaps"
    );
    assert!(
        seen.iter()
            .all(|event| event["meta"] == json!({"order": 7}) && event["kickoff_id"] == "told")
    );
    let types: HashSet<&str> = seen.iter().map(|event| event["type"].as_str().unwrap()).collect();
    for expected in [
        "kickoff_started",
        "task_started",
        "task_completed",
        "agent_execution_started",
        "llm_call_completed",
        "kickoff_finished",
    ] {
        assert!(types.contains(expected), "{expected} is missing among {types:?}");
    }
    let call = seen
        .iter()
        .find(|event| event["type"] == "llm_call_completed")
        .unwrap();
    assert!(
        call["data"]["usage"]["total_tokens"].as_u64().unwrap() > 0,
        "{call}"
    );
    assert!(
        seen.iter().all(|event| event.to_string().len() < 4096),
        "events are slim"
    );
    // Every line of the log that is about this kickoff carries its id.
    let ended = worker
        .logged("its end", |line| {
            line["message"] == "kickoff finished" && line["kickoff_id"] == "told"
        })
        .await;
    assert_eq!(ended["crew"], "marketing");
    let tokens = [("crew", "marketing"), ("type", "prompt")];
    assert!(
        worker
            .metric("crewfleet_crew_tokens_total", &tokens)
            .await
            .unwrap()
            > 0.0
    );
}
