//! Traces of kickoffs, out of a real OpenTelemetry collector.

mod http;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::collector::{Collector, Span};
use crewfleet_tests::crews::{builtin_crew_toml, checkout, marketing_crew_toml, python_crew_toml};
use crewfleet_tests::worker::{WorkerBuilder, WorkerProcess};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;

/// The span of whoever asks for a kickoff.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const ASKER: &str = "00f067aa0ba902b7";
/// Stands in the inputs, and must stand in no span.
const SECRET: &str = "Xylophone-4711";

fn traceparent() -> String {
    format!("00-{TRACE}-{ASKER}-01")
}

/// A message's properties with the asker's context.
fn properties(id: &str) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in [
        ("traceparent", traceparent()),
        ("tracestate", "vendor=1".to_owned()),
    ] {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    BasicProperties::default()
        .with_correlation_id(id.into())
        .with_headers(headers)
}

fn tool_user_toml() -> String {
    python_crew_toml(
        "finder",
        "tool_user:tool_user",
        &checkout().join("tests/crews"),
        2,
    )
}

fn traced(mut worker: WorkerBuilder, collector: &Collector) -> WorkerBuilder {
    for (name, value) in collector.environment() {
        worker = worker.env(name, value);
    }
    worker
}

/// Whether a span has these attributes.
fn says(span: &Span, attributes: &[(&str, serde_json::Value)]) {
    for (name, value) in attributes {
        assert_eq!(span.attribute(name), value, "{name} of {span:#?}");
    }
}

/// Whether each span is the child of the one before it.
fn is_chain(spans: &[&Span]) {
    for pair in spans.windows(2) {
        assert_eq!(
            pair[1].parent, pair[0].id,
            "{:#?} is below {:#?}",
            pair[1], pair[0]
        );
    }
}

#[tokio::test]
async fn a_chain_is_one_trace_and_each_span_says_where_it_stands() {
    let (namespace, url, collector) = (Namespace::new(), broker().await.url(), Collector::start().await);
    let worker = WorkerProcess::builder(&url, &namespace)
        .builtin(&["echo"])
        .crew("review", &builtin_crew_toml("echo", 2));
    let _worker = traced(worker, &collector).ready().await;
    let client = PlainClient::connect(&url, &namespace).await;
    let body = json!({"inputs": {}, "then": [{"crew": "review", "inputs": {"secret": SECRET}}]});
    client
        .publish("echo", body.to_string(), properties("linked"))
        .await;
    let [first, second] = ["echo", "review"].map(|crew| format!("process {}", namespace.requests_of(crew)));
    let publish = format!("publish {}", namespace.exchange("requests"));
    let trace = collector
        .trace(TRACE, |trace| {
            [&first, &second, &publish]
                .iter()
                .all(|name| !trace.named(name).is_empty())
        })
        .await;
    let (first, second, publish) = (trace.one(&first), trace.one(&second), trace.one(&publish));
    is_chain(&[first, publish, second]);
    let (id, step) = (("crewfleet.chain.id", json!("linked")), "crewfleet.chain.step");
    says(first, &[id.clone(), (step, json!(0))]);
    says(
        second,
        &[id, (step, json!(1)), ("crewfleet.chain.parent", json!("linked"))],
    );
    assert!(!format!("{trace:?}").contains(SECRET), "{trace:#?}");
}

#[tokio::test]
async fn a_kickoff_is_one_trace_from_its_publisher_to_its_reply() {
    let (namespace, url, collector) = (Namespace::new(), broker().await.url(), Collector::start().await);
    let worker = WorkerProcess::builder(&url, &namespace)
        .worker("id = \"tracer\"")
        .crews(&(marketing_crew_toml(2) + "env = { OFFLINE_LLM_LATENCY_S = \"0.05\" }\n"));
    let worker = traced(worker, &collector).ready().await;
    let mut replies = PlainClient::connect(&url, &namespace).await.replies(&["#"]).await;
    let mut cli = Cli::new(&url, &namespace).env("TRACEPARENT", &traceparent());
    for (name, value) in collector.environment() {
        cli = cli.env(name, value);
    }
    let inputs = ["BUSINESS_DETAILS=a bakery of", "PRODUCT_DESCRIPTION=bread by"]
        .map(|input| format!("{input} {SECRET}"));
    let ran = cli
        .run(&[
            "kickoff",
            "marketing",
            "--id",
            "traced",
            "--input",
            &inputs[0],
            "--input",
            &inputs[1],
        ])
        .await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");

    let (requests, queue) = (namespace.exchange("requests"), namespace.requests_of("marketing"));
    let answers = namespace.exchange("replies");
    let (sent, taken) = (format!("publish {requests}"), format!("process {queue}"));
    let (replied, received) = (format!("publish {answers}"), format!("process {answers}"));
    let trace = collector
        .trace(TRACE, |trace| {
            [&sent, &taken, &replied, &received]
                .iter()
                .all(|name| !trace.named(name).is_empty())
        })
        .await;
    let (publish, process) = (trace.one(&sent), trace.one(&taken));
    let (reply, receipt) = (trace.one(&replied), trace.one(&received));
    let crew = trace.one("invoke_workflow marketing");
    assert_eq!(publish.parent, ASKER);
    is_chain(&[publish, process, crew]);
    is_chain(&[process, reply, receipt]);
    for (span, service, kind) in [
        (publish, "crewfleet", SpanKind::Producer),
        (process, "crewfleet-worker", SpanKind::Consumer),
        (crew, "crewfleet-worker", SpanKind::Internal),
        (reply, "crewfleet-worker", SpanKind::Producer),
        (receipt, "crewfleet", SpanKind::Consumer),
    ] {
        assert_eq!((span.service.as_str(), span.kind), (service, kind), "{span:#?}");
        assert!(!span.failed, "{span:#?}");
    }
    let port = json!(broker().await.port());
    for (span, operation, operation_type, destination, key) in [
        (
            publish,
            "publish",
            "send",
            format!("{requests}:marketing"),
            "marketing",
        ),
        (process, "process", "process", queue.clone(), "marketing"),
        (reply, "publish", "send", format!("{answers}:traced"), "traced"),
        (receipt, "process", "process", answers.clone(), "traced"),
    ] {
        says(
            span,
            &[
                ("messaging.system", json!("rabbitmq")),
                ("messaging.operation.name", json!(operation)),
                ("messaging.operation.type", json!(operation_type)),
                ("messaging.destination.name", json!(destination)),
                ("messaging.rabbitmq.destination.routing_key", json!(key)),
                ("messaging.message.id", json!("traced")),
                ("messaging.message.conversation_id", json!("traced")),
                ("server.address", json!("127.0.0.1")),
                ("server.port", port.clone()),
            ],
        );
    }
    says(process, &[("crewfleet.kickoff.status", json!("succeeded"))]);
    says(
        crew,
        &[
            ("gen_ai.operation.name", json!("invoke_workflow")),
            ("gen_ai.agent.name", json!("marketing")),
            ("crewfleet.runner", json!("python")),
            ("crewfleet.kickoff.id", json!("traced")),
            ("crewfleet.kickoff.attempt", json!(1)),
        ],
    );

    // Below the crew: two tasks, each with its agent and its agent's model call, which cost tokens.
    let calls = trace.named("chat offline");
    assert_eq!(calls.len(), 2, "{trace:#?}");
    for (name, call) in ["market_research", "marketing_copy"].into_iter().zip(calls) {
        let task = trace.one(&format!("execute_task {name}"));
        let agent = trace
            .0
            .iter()
            .find(|span| span.id == call.parent)
            .expect("the agent");
        is_chain(&[crew, task, agent, call]);
        assert_eq!(
            (task.kind, agent.kind, call.kind),
            (SpanKind::Internal, SpanKind::Internal, SpanKind::Client)
        );
        says(task, &[("crewfleet.task.name", json!(name))]);
        says(agent, &[("gen_ai.operation.name", json!("invoke_agent"))]);
        assert_eq!(
            agent.name,
            format!(
                "invoke_agent {}",
                agent.attribute("gen_ai.agent.name").as_str().unwrap()
            )
        );
        says(
            call,
            &[
                ("gen_ai.operation.name", json!("chat")),
                ("gen_ai.request.model", json!("offline")),
                ("gen_ai.provider.name", json!("offline")),
            ],
        );
        for tokens in ["gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"] {
            assert!(call.attribute(tokens).as_u64().unwrap() > 0, "{call:#?}");
        }
        assert!(
            call.time.1 - call.time.0 >= 50_000_000,
            "the model's latency: {call:#?}"
        );
        for (inner, outer) in [(call, agent), (agent, task), (task, crew), (crew, process)] {
            assert!(
                outer.time.0 <= inner.time.0 && inner.time.1 <= outer.time.1,
                "{inner:#?} {outer:#?}"
            );
        }
    }
    assert!(!format!("{trace:?}").contains(SECRET), "{trace:#?}");

    // The reply's message and the worker's log name the same spans.
    let header = replies.of("traced").await.headers["traceparent"].clone();
    assert_eq!(header, format!("00-{TRACE}-{}-01", reply.id));
    let line = worker.logged_message("kickoff finished").await;
    assert_eq!(
        (&line["trace_id"], &line["span_id"]),
        (&json!(TRACE), &json!(process.id))
    );
}

#[tokio::test]
async fn failures_say_what_they_are_and_not_what_was_worked_on() {
    let (namespace, url, collector) = (Namespace::new(), broker().await.url(), Collector::start().await);
    let worker = WorkerProcess::builder(&url, &namespace)
        .crews(&(tool_user_toml() + "[crews.finder.retry]\nmax_attempts = 2\ndelay_s = 0\njitter = 0\nretry_on = [\"*LookupError\"]\n"));
    let worker = traced(worker, &collector).ready().await;
    let client = PlainClient::connect(&url, &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    let request = |what: &str| json!({"inputs": {"SECRET": SECRET, "DO": what}}).to_string();
    client
        .publish("finder", request("find"), properties("finds"))
        .await;
    assert_eq!(replies.of("finds").await.json()["status"], "succeeded");
    client
        .publish("finder", request("raise"), properties("fails"))
        .await;
    let reply = replies.of("fails").await;
    assert_eq!(
        (&reply.json()["status"], &reply.json()["attempt"]),
        (&json!("failed"), &json!(2))
    );
    // Ends it, and with it sends its last spans.
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.exit().await.code(), Some(0));

    let process = format!("process {}", namespace.requests_of("finder"));
    let trace = collector
        .trace(TRACE, |trace| trace.named(&process).len() == 3)
        .await;
    let [found, first, second] = trace.named(&process)[..] else {
        panic!("{trace:#?}");
    };
    // One after the other, both below the asker.
    for (span, failed) in [(found, false), (first, true), (second, true)] {
        assert_eq!((span.parent.as_str(), span.failed), (ASKER, failed), "{span:#?}");
    }
    let crews = trace.named("invoke_workflow finder");
    assert_eq!(crews.len(), 3, "{trace:#?}");
    is_chain(&[found, crews[0]]);
    // The names are those in the code, before the inputs were filled in; a task without a name has none.
    let agents = trace.named("invoke_agent {SECRET} researcher");
    is_chain(&[crews[0], trace.named("execute_task task_1")[0], agents[0]]);
    let tool = trace.one("execute_tool look_up");
    is_chain(&[agents[0], tool]);
    says(
        tool,
        &[
            ("gen_ai.operation.name", json!("execute_tool")),
            ("gen_ai.tool.name", json!("look_up")),
        ],
    );
    let calls = trace.named("chat finder");
    says(
        calls[0],
        &[
            ("gen_ai.usage.input_tokens", json!(7)),
            ("gen_ai.usage.output_tokens", json!(3)),
        ],
    );

    for (attempt, process, crew) in [(1, first, crews[1]), (2, second, crews[2])] {
        is_chain(&[process, crew]);
        says(
            crew,
            &[
                ("crewfleet.kickoff.attempt", json!(attempt)),
                ("error.type", json!("exception")),
            ],
        );
        says(process, &[("error.type", json!("exception"))]);
        let below = |span: &&Span| span.parent == crew.id;
        let task = trace.0.iter().find(below).expect("the task");
        assert!(task.failed, "{task:#?}");
    }
    let failed = calls.last().expect("the call that failed");
    assert!(failed.failed, "CrewAI does not tell its end: {failed:#?}");
    assert!(!format!("{trace:?}").contains(SECRET), "{trace:#?}");
    assert!(trace.0.iter().all(|span| span.said.is_empty()));
    let dead = client.dead_letter("finder").await;
    assert_eq!(
        (&dead.headers["traceparent"], &dead.headers["tracestate"]),
        (&json!(traceparent()), &json!("vendor=1"))
    );
}

#[tokio::test]
async fn a_collector_that_is_away_holds_nothing_up() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let worker = WorkerProcess::builder(&url, &namespace)
        .crew("echo", &builtin_crew_toml("echo", 8))
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
        .env("OTEL_BSP_SCHEDULE_DELAY", "10")
        .ready()
        .await;
    let client = PlainClient::connect(&url, &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    let told = "spans are lost: the collector does not take them; kickoffs go on";
    for round in 0..2 {
        for n in 0..50 {
            client.request("echo", &format!("{round}-{n}"), &json!({})).await;
        }
        for n in 0..50 {
            let reply = replies.of(&format!("{round}-{n}")).await;
            assert_eq!(reply.json()["status"], "succeeded");
            assert!(reply.headers["traceparent"].is_string());
        }
        // It is told once a minute at most.
        let line = worker.logged_message(told).await;
        assert!(line["spans"].as_u64().unwrap() > 0, "{line}");
    }
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.exit().await.code(), Some(0));
    let lines = worker.log();
    assert_eq!(
        lines.iter().filter(|line| line.contains(told)).count(),
        1,
        "{lines:#?}"
    );
}

#[tokio::test]
async fn without_a_collector_the_context_is_passed_on_as_it_came() {
    let (namespace, url) = (Namespace::new(), broker().await.url());
    let worker = WorkerProcess::builder(&url, &namespace)
        .crew(
            "fail",
            &(builtin_crew_toml("fail", 8) + "[crews.fail.retry]\ndelay_s = 0\njitter = 0\n"),
        )
        .ready()
        .await;
    let client = PlainClient::connect(&url, &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    let body = json!({"inputs": {"message": "m", "retryable": true, "times": 1}}).to_string();
    client.publish("fail", body, properties("passed-on")).await;
    let reply = replies.of("passed-on").await;
    assert_eq!(
        (&reply.json()["status"], &reply.json()["attempt"]),
        (&json!("succeeded"), &json!(2))
    );
    assert_eq!(
        (&reply.headers["traceparent"], &reply.headers["tracestate"]),
        (&json!(traceparent()), &json!("vendor=1"))
    );
    let line = worker.logged_message("kickoff finished").await;
    assert_eq!((&line["trace_id"], line.get("span_id")), (&json!(TRACE), None));
}
