//! Of kickoffs by HTTP.

use crewfleet_tests::gateway::GatewayProcess;

use super::*;

#[tokio::test]
async fn a_kickoff_by_http_is_in_the_caller_s_trace() {
    let (namespace, url, collector) = (Namespace::new(), broker().await.url(), Collector::start().await);
    let worker = WorkerProcess::builder(&url, &namespace).crew("echo", &builtin_crew_toml("echo", 2));
    let _worker = traced(worker, &collector).ready().await;
    let mut cli = Cli::new(&url, &namespace).with_free_gateway_ports();
    for (name, value) in collector.environment() {
        cli = cli.env(name, value);
    }
    let token = cli
        .run(&["token", "create", "tracer", "--all-crews"])
        .await
        .success();
    let gateway = GatewayProcess::ready(&cli).await;
    let caller = gateway
        .caller("echo", &token)
        .with_header("traceparent", &traceparent());
    caller.kickoff(&json!({"inputs": {"a": SECRET}})).await;

    let (call, sent) = (
        "POST /crews/{crew}/kickoff",
        format!("publish {}", namespace.exchange("requests")),
    );
    let taken = format!("process {}", namespace.requests_of("echo"));
    let trace = collector
        .trace(TRACE, |trace| {
            [call, &sent, &taken]
                .iter()
                .all(|name| !trace.named(name).is_empty())
        })
        .await;
    let (call, publish, process) = (trace.one(call), trace.one(&sent), trace.one(&taken));
    assert_eq!(call.parent, ASKER);
    is_chain(&[call, publish, process]);
    assert_eq!(
        (call.service.as_str(), call.kind),
        ("crewfleet-gateway", SpanKind::Server)
    );
    says(
        call,
        &[
            ("http.request.method", json!("POST")),
            ("http.route", json!("/crews/{crew}/kickoff")),
            ("http.response.status_code", json!(200)),
        ],
    );
}
