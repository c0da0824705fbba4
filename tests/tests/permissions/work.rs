//! What each user is for.

use std::fs;

use crewfleet_tests::crews::builtin_crew_toml;
use crewfleet_tests::gateway::GatewayProcess;
use crewfleet_tests::shipped_rabbitmq::ShippedNode;
use serde_json::{Value, json};

use super::sinks::{Called, nothing_was_refused};

#[tokio::test]
async fn each_user_can_do_its_work_and_a_worker_that_may_not_declare_says_what_is_missing() {
    let shipped = ShippedNode::start().await;
    what_is_missing_is_said(&shipped).await;
    let clients = [
        "set_operator_policy",
        "-p",
        "crewfleet",
        "clients",
        r"^kickoff\.clients\.",
    ];
    let limit = [r#"{"max-length-bytes": 268435456}"#, "--apply-to", "queues"];
    let policy = [clients.as_slice(), limit.as_slice()].concat();
    shipped.node.ctl(&policy).await.unwrap();
    let [producer, gateway, operator] =
        ["producer", "gateway", "operator"].map(|user| shipped.client(user).cli());
    let called = Called::new().await;
    called.configure(&operator);
    operator
        .run(&["topology", "declare", "echo", "sleep", "fail"])
        .await
        .success();
    let schema = tempfile::NamedTempFile::new().unwrap();
    fs::write(&schema, r#"{"title": "Echo"}"#).unwrap();
    let with_schema = format!(
        "{}inputs_schema = {}\n",
        builtin_crew_toml("echo", 2),
        json!(schema.path())
    );
    let worker = shipped
        .client("worker")
        .worker()
        .worker("id = \"worker-1\"")
        .crew("echo", &with_schema)
        .crew("sleep", &builtin_crew_toml("sleep", 2))
        .crew(
            "fail",
            &format!(
                "{}retry.max_attempts = 2\nretry.delay_s = 0.1",
                builtin_crew_toml("fail", 2)
            ),
        )
        .ready()
        .await;

    // A producer: its requests, and their replies.
    let answer = producer
        .run(&["kickoff", "echo", "--input", "TOPIC=lamps"])
        .await
        .success();
    assert!(answer.contains("lamps"), "{answer}");
    let id = producer.run(&["kickoff", "echo", "--detach"]).await.success();
    let rows = producer.dir().join("rows.jsonl");
    fs::write(&rows, "{\"TOPIC\": \"a\"}\n{\"TOPIC\": \"b\"}\n").unwrap();
    let each = [
        "kickoff-for-each",
        "echo",
        "--inputs",
        "rows.jsonl",
        "--output",
        "results.jsonl",
    ];
    producer.run(&each).await.success();
    let results = fs::read_to_string(producer.dir().join("results.jsonl")).unwrap();
    assert_eq!(results.lines().count(), 2, "{results}");
    // What others asked for, and the workers, are not its business.
    for command in [
        &["wait", &id][..],
        &["events", &id],
        &["cancel", &id],
        &["pause", "echo"],
        &["workers"],
    ] {
        let output = producer.run(command).await.ended_with(3);
        output.said(&["ACCESS_REFUSED", "'producer'"]);
    }

    // Sinks: what follows the results of others.
    called.of_their_own_user(&shipped, &producer, &operator).await;

    // A gateway: for anybody, and what comes of it.
    gateway.run(&["wait", &id]).await.success();
    let followed = gateway.run(&["kickoff", "echo", "--follow"]).await.ended_with(0);
    followed.said(&["kickoff_finished"]);
    let id = "0193-long";
    let long = gateway.spawn(&["kickoff", "sleep", "--id", id, "--input", "seconds:=600"]);
    let started = |line: &Value| line["message"] == "kickoff started" && line["kickoff_id"] == id;
    worker.logged("the start of the long kickoff", started).await;
    gateway.run(&["cancel", id]).await.success();
    assert_eq!(long.exit().await.code(), Some(5));
    gateway.run(&["workers"]).await.ended_with(0).said(&[]);
    // It runs sinks, too.
    called.configure(&gateway);
    let gateway = gateway.with_free_gateway_ports();
    let token = gateway
        .run(&["token", "create", "shop", "--all-crews"])
        .await
        .success();
    let process = GatewayProcess::ready(&gateway).await;
    let caller = process.caller("echo", &token);
    let asked = json!({"inputs": {"TOPIC": "lamps"}, "crewWebhookUrl": called.url()});
    let id = caller.kickoff(&asked).await;
    caller.becomes(&id, "SUCCESS").await;
    // It may tell the other gateways of it, and hears that as they do.
    caller
        .when(&id, "known to all gateways", |status| {
            status["events_by_type"]["kickoff_queued"] == 1
        })
        .await;
    caller.answers("/inputs", 200).await;
    called.came_again("/asked").await;
    let sleeper = process.caller("sleep", &token);
    let id = sleeper.kickoff(&json!({"inputs": {"seconds": 600}})).await;
    sleeper.becomes(&id, "STARTED").await;
    let (code, answer) = sleeper.post(format!("/stop/{id}"), "").await;
    assert_eq!(code, 200, "{answer}");
    sleeper.becomes(&id, "FAILED").await;
    nothing_was_refused(process.process());

    // What others' failures left behind it runs again, and throws away.
    let admin = gateway
        .run(&[
            "token",
            "create",
            "ops",
            "--all-crews",
            "--scope",
            "read,operate,admin",
        ])
        .await
        .success();
    let native = process.native(&admin);
    let once = |letters: &Value| letters["items"][0]["redrive"] == 0;
    native
        .shows("/dead-letters?crew=fail", "one that failed", once)
        .await;
    let (code, answer) = native
        .post("/dead-letters/redrive", json!({"crew": "fail"}))
        .await;
    assert_eq!((code.as_u16(), &answer["redriven"]), (200, &json!(1)), "{answer}");
    let again = |letters: &Value| letters["items"][0]["redrive"] == 1;
    native.shows("/dead-letters?crew=fail", "it again", again).await;
    let (code, answer) = native.post("/dead-letters/purge", json!({"crew": "fail"})).await;
    assert_eq!((code.as_u16(), &answer["purged"]), (200, &json!(1)), "{answer}");
    // Those of a sink, too.
    let given_up = |letters: &Value| letters["items"][0]["crew"] == "sinks.crm";
    native
        .shows(
            "/dead-letters?crew=sinks.crm",
            "one that the sink gave up",
            given_up,
        )
        .await;
    let (code, answer) = native
        .post("/dead-letters/redrive", json!({"crew": "sinks.crm"}))
        .await;
    assert_eq!(
        (code.as_u16(), answer["redriven"].as_u64() > Some(0)),
        (200, true),
        "{answer}"
    );
    let (code, answer) = native
        .post(
            "/dead-letters/purge",
            json!({"crew": "sinks.crm", "dry_run": true}),
        )
        .await;
    assert_eq!(code, 200, "{answer}");
    let of_echo = ["token", "create", "one", "--crew", "echo"];
    let of_echo = gateway.run(&of_echo).await.success();
    let (code, answer) = process.native(&of_echo).get("/dead-letters?crew=sinks.crm").await;
    assert_eq!(code, 403, "{answer}");
    let its_own = |crew: &Value| crew["inputs_schema"]["title"] == "Echo";
    native
        .shows("/crews/echo", "the schema of its inputs", its_own)
        .await;
    nothing_was_refused(process.process());

    // An operator: dead letters, commands, and what is wrong. The failure went through a retry tier first.
    let failed = [
        "kickoff",
        "fail",
        "--input",
        "message=as asked",
        "--input",
        "retryable:=true",
    ];
    producer.run(&failed).await.ended_with(1);
    let letters = |more: &[&'static str]| [&["dead-letters"][..], more].concat();
    let list = operator
        .run(&letters(&["list", "--crew", "fail", "--json"]))
        .await
        .success();
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list[0]["count"], 1, "{list:#}");
    operator
        .run(&letters(&["purge", "--all", "--crew", "fail", "--yes"]))
        .await
        .success();
    producer.run(&failed).await.ended_with(1);
    operator
        .run(&letters(&["redrive", "--all", "--yes", "--crew", "fail"]))
        .await
        .success();
    for command in [&["pause", "echo"][..], &["resume", "echo"], &["workers"]] {
        operator.run(command).await.success();
    }
    let of = |report: &str, check: &str| {
        let report: Value = serde_json::from_str(report).unwrap();
        let findings = report["findings"].as_array().unwrap().clone();
        let found = findings.into_iter().find(|finding| finding["check"] == check);
        found.unwrap_or_else(|| panic!("{check} is not examined: {report:#}"))
    };
    let report = operator.run(&["doctor", "--json"]).await.success();
    assert_eq!(of(&report, "permissions")["state"], "ok", "{report}");
    // As the worker, who may not declare.
    let cli = shipped.client("worker").cli();
    let doctor = cli.env("CREWFLEET__WORKER__DECLARE", "false");
    let report = doctor.run(&["doctor", "--json"]).await.success();
    assert_eq!(of(&report, "permissions")["state"], "ok", "{report}");

    operator.run(&["drain", "worker-1"]).await.success();
    assert_eq!(worker.exit().await.code(), Some(0));
    let refused: Vec<String> = worker
        .log()
        .into_iter()
        .filter(|line| line.contains("ACCESS_REFUSED"))
        .collect();
    assert_eq!(refused, [""; 0], "the worker was refused something");
}

/// Before anything is declared, which a worker may not do.
async fn what_is_missing_is_said(shipped: &ShippedNode) {
    let worker = shipped
        .client("worker")
        .worker()
        .crew("echo", &builtin_crew_toml("echo", 1))
        .spawn();
    worker
        .logged("what is missing", |line| {
            let error = line["error"].as_str().unwrap_or_default();
            error.contains("kickoff.requests") && error.contains("crewfleet topology declare")
        })
        .await;
    let operator = shipped.client("operator").cli();
    operator.run(&["topology", "declare", "echo"]).await.success();
    worker.ready().await;
}
