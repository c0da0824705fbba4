//! Callers of the gateway who do not behave, and those beside them.

use std::fs;
use std::time::{Duration, Instant};

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::crews::{checkout, python_crew_toml};
use crewfleet_tests::gateway::GatewayProcess;
use crewfleet_tests::http;
use crewfleet_tests::worker::WorkerProcess;
use lapin::BasicProperties;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn cli(namespace: &Namespace) -> Cli {
    Cli::new(&broker().await.url(), namespace).with_free_gateway_ports()
}

async fn token(cli: &Cli, name: &str) -> String {
    let made = cli.run(&["token", "create", name, "--all-crews"]).await;
    made.success().trim().to_owned()
}

async fn worker(namespace: &Namespace, crews: &[&str]) -> WorkerProcess {
    let url = broker().await.url();
    WorkerProcess::builder(&url, namespace)
        .worker("cancel_grace_s = 0.5")
        .builtin(crews)
        .ready()
        .await
}

/// A connection over which something was sent.
async fn sent(gateway: &GatewayProcess, bytes: &[u8]) -> TcpStream {
    let address = gateway.url().trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(bytes).await.expect("sent");
    stream
}

/// All that is answered until the connection ends.
async fn answered(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    // One that was cut off may end in an error.
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

#[tokio::test]
async fn connections_that_are_held_and_not_used_hold_nobody_up() {
    let namespace = Namespace::new();
    let _worker = worker(&namespace, &["echo"]).await;
    let cli = cli(&namespace)
        .await
        .env("CREWFLEET__GATEWAY__MAX_CONNECTIONS", "8")
        .env("CREWFLEET__GATEWAY__IDLE_TIMEOUT_S", "1");
    let token = token(&cli, "shop").await;
    let gateway = GatewayProcess::ready(&cli).await;
    let mut held = Vec::new();
    for number in 0..64 {
        let part: &[u8] = match number % 2 {
            0 => b"",
            _ => b"GET /crews/echo/inputs HTTP/1.1\r\nAuthor",
        };
        held.push(sent(&gateway, part).await);
    }
    let caller = gateway.caller("echo", &token);
    let id = caller.kickoff(&json!({"inputs": {}})).await;
    caller.becomes(&id, "SUCCESS").await;
    let (code, _) = http::get(&format!("{}/healthz", gateway.admin_url())).await;
    assert_eq!(code, 200);
    // Each of them ends, whether or not its place was wanted.
    for stream in held {
        answered(stream).await;
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_and_a_method_that_is_none_are_told_in_words() {
    let namespace = Namespace::new();
    let cli = cli(&namespace).await;
    let gateway = GatewayProcess::listening(&cli).await;
    let long = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n",
        "x".repeat(20_000)
    );
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-Many: x\r\n".repeat(150));
    for head in [long, many] {
        let answer = answered(sent(&gateway, head.as_bytes()).await).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let body: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["error"], "Request Header Fields Too Large");
    }
    let head = b"BREW / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = answered(sent(&gateway, head).await).await;
    assert!(
        answer.starts_with("HTTP/1.1 405 ") && answer.contains("BREW"),
        "{answer}"
    );
}

#[tokio::test]
async fn what_is_no_request_is_told_by_a_status_alone() {
    let namespace = Namespace::new();
    let cli = cli(&namespace).await;
    let gateway = GatewayProcess::listening(&cli).await;
    let long = format!("GET / HTTP/1.1\r\nX-Long: {}\r\n\r\n", "x".repeat(70_000));
    for (head, status) in [("NONSENSE\r\n\r\n", 400), (&long, 431)] {
        let address = gateway.url().trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        // It may answer, and close, before all is sent.
        let _ = stream.write_all(head.as_bytes()).await;
        let answer = answered(stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn the_log_says_who_called_and_nothing_of_what_they_said() {
    let namespace = Namespace::new();
    let _worker = worker(&namespace, &["echo"]).await;
    let cli = cli(&namespace).await;
    let token = token(&cli, "shop").await;
    let gateway = GatewayProcess::ready(&cli).await;
    let caller = gateway.caller("echo", &token);
    caller.answers("/inputs", 200).await;
    caller.kickoff(&json!({"inputs": {"a": "an unusual word"}})).await;
    caller.answers("/status/unknown?query=told", 404).await;
    for (method, path, status) in [
        ("POST", "/crews/echo/kickoff", 200),
        ("GET", "/crews/echo/status/unknown", 404),
    ] {
        let call = |line: &str| {
            let line: Value = serde_json::from_str(line).ok()?;
            let same = line["method"] == method && line["path"] == path && line["status_code"] == status;
            same.then_some(line)
        };
        let line = gateway.process().stderr.first("the call", call).await;
        assert_eq!(
            (&line["level"], &line["token"], &line["crew"]),
            (&json!("INFO"), &json!("shop"), &json!("echo")),
            "{line:#}"
        );
        assert!(
            line["peer"].as_str().unwrap().starts_with("127.0.0.1:"),
            "{line:#}"
        );
    }
    let log = gateway.process().stderr.so_far().join("\n");
    for word in ["unusual", "query=told", &token, "/inputs"] {
        assert!(!log.contains(word), "{word} is in the log:\n{log}");
    }
}

#[tokio::test]
async fn a_lame_duck_answers_and_says_that_it_goes() {
    let namespace = Namespace::new();
    let _worker = worker(&namespace, &["echo"]).await;
    let cli = cli(&namespace).await.env("CREWFLEET__GATEWAY__LAME_DUCK_S", "5");
    let token = token(&cli, "shop").await;
    let gateway = GatewayProcess::ready(&cli).await;
    gateway.process().signal(Signal::SIGTERM);
    gateway.is_not_ready("it ends").await;
    let caller = gateway.caller("echo", &token);
    let (code, answer, connection) = caller
        .post_for("/kickoff", json!({"inputs": {}}), "connection")
        .await;
    assert_eq!((code.as_u16(), connection.as_str()), (200, "close"), "{answer}");
    assert_eq!(gateway.process().exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_stop_of_what_is_not_known_any_more_is_sent_and_stops_no_other_crew_s() {
    let namespace = Namespace::new();
    let _worker = worker(&namespace, &["sleep", "echo"]).await;
    let cli = cli(&namespace)
        .await
        .env("CREWFLEET__GATEWAY__HISTORY_MAX_BYTES", "1000000");
    let token = token(&cli, "shop").await;
    let gateway = GatewayProcess::ready(&cli).await;
    let id = gateway
        .caller("sleep", &token)
        .kickoff(&json!({"inputs": {"seconds": 600}}))
        .await;
    gateway.caller("sleep", &token).becomes(&id, "STARTED").await;
    drop(gateway);
    // So many events of others that the stream lets go of its own.
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    for number in 0..45 {
        let event = json!({"kickoff_id": "other", "crew": "echo", "attempt": 1, "sequence": number,
            "time": "2099-01-01T00:00:00Z", "type": "log", "data": {"line": "x".repeat(100_000)}, "meta": null});
        let exchange = namespace.exchange("events");
        client
            .publish_to(
                &exchange,
                "other.log",
                event.to_string(),
                BasicProperties::default(),
            )
            .await;
    }
    let gateway = GatewayProcess::ready(&cli).await;
    let (sleep, echo) = (gateway.caller("sleep", &token), gateway.caller("echo", &token));
    let (code, answer) = sleep.get(format!("/status/{id}")).await;
    assert_eq!(
        (code.as_u16(), &answer["error"]),
        (503, &json!("Execution not known")),
        "{answer}"
    );
    // Nor does anybody know how old an id is that somebody chose.
    let (code, answer) = sleep.get("/status/my-own").await;
    assert_eq!(
        (code.as_u16(), &answer["error"]),
        (503, &json!("Execution not known")),
        "{answer}"
    );
    let (code, answer) = echo.post(format!("/stop/{id}"), "").await;
    assert_eq!(code, 200, "{answer}");
    assert!(
        answer["message"].as_str().unwrap().contains("not known"),
        "{answer}"
    );
    // A later command is obeyed, so that one was read.
    cli.run(&["pause", "echo"]).await.success();
    cli.run(&["wait", &id, "--timeout", "1"]).await.ended_with(8);
    let (code, answer) = sleep.post(format!("/stop/{id}"), "").await;
    assert_eq!(code, 200, "{answer}");
    let reply = cli.run(&["wait", &id, "--json"]).await;
    let reply: Value = serde_json::from_str(&reply.stdout.join("\n")).expect("a reply");
    assert_eq!(reply["status"], "cancelled");
}

const ADDING: &str = r#"
from crewai import Agent, Crew, Task


def _crew(**options):
    agent = Agent(role="Researcher", goal="Know about {TOPIC}", backstory="You read.", llm="openai/gpt-4o-mini")
    task = Task(name="research", description="Research {TOPIC} for {AUDIENCE}", expected_output="Text", agent=agent)
    return Crew(agents=[agent], tasks=[task], **options)


def plain():
    return _crew()


def adding():
    return _crew(before_kickoff_callbacks=[lambda inputs: {**inputs, "AUDIENCE": "all", "TOPIC": "lamps"}])
"#;

#[tokio::test]
async fn only_what_a_caller_must_send_is_demanded_and_told_of() {
    let namespace = Namespace::new();
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("adding.py"), ADDING).expect("a module");
    let json_crew = checkout().join("tests/crews/json_crew/crew.jsonc");
    let json_crew = json_crew.to_str().expect("a path");
    let crews: Vec<_> = [
        ("plain", "adding:plain"),
        ("adding", "adding:adding"),
        ("defaults", json_crew),
    ]
    .map(|(name, target)| python_crew_toml(name, target, folder.path(), 1))
    .into();
    let _worker = WorkerProcess::builder(&broker().await.url(), &namespace)
        .crews(&crews.join("\n"))
        .ready()
        .await;
    let cli = cli(&namespace).await;
    let token = token(&cli, "shop").await;
    // It knows that before it is ready: the first call is judged by it.
    let gateway = GatewayProcess::ready(&cli).await;
    let plain = gateway.caller("plain", &token);
    let (code, answer) = plain.post("/kickoff", json!({"inputs": {"TOPIC": "x"}})).await;
    assert_eq!(code, 422, "{answer}");
    assert_eq!(answer["details"], json!({"missing_inputs": ["AUDIENCE"]}));
    let asked = plain.get("/inputs").await.1;
    assert_eq!(asked, json!({"inputs": ["AUDIENCE", "TOPIC"]}));
    for crew in ["adding", "defaults"] {
        let caller = gateway.caller(crew, &token);
        assert_eq!(caller.get("/inputs").await.1, json!({"inputs": []}), "{crew}");
        caller.kickoff(&json!({"inputs": {}})).await;
    }
}

/// What a process has had of memory at most, in MiB.
pub(crate) fn peak_mib(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.expect("a peak").trim().trim_end_matches(" kB");
    kib.parse::<u64>().expect("a number") / 1024
}

/// One who is well-behaved, call by call; how long each took.
async fn bystander(gateway: &GatewayProcess, token: &str, calls: usize) -> Vec<Duration> {
    let caller = gateway.caller("echo", token);
    let mut took = Vec::new();
    for number in 0..calls {
        let start = Instant::now();
        let id = caller.kickoff(&json!({"inputs": {"number": number}})).await;
        took.push(start.elapsed());
        let start = Instant::now();
        caller.status(&id).await;
        took.push(start.elapsed());
    }
    took.sort_unstable();
    took
}

/// The gateway's memory stays within its limit and 64 MiB, whoever attacks; and the well-behaved are served. How fast, it
/// says on stderr.
#[tokio::test]
async fn attackers_take_neither_its_memory_nor_others_time() {
    const LIMIT_MIB: u64 = 64;
    let namespace = Namespace::new();
    let _worker = worker(&namespace, &["echo"]).await;
    let cli = cli(&namespace)
        .await
        .env("CREWFLEET__GATEWAY__MEMORY_LIMIT", &format!("{LIMIT_MIB}MiB"));
    // A crew without a worker, whose queue takes almost nothing.
    cli.run(&["topology", "declare", "full"]).await.success();
    let queue = namespace.requests_of("full");
    let pattern = format!("^{}$", queue.replace('.', "\\."));
    let node = broker().await;
    let limit = ["set_policy", &queue, &pattern, r#"{"max-length": 1}"#];
    node.ctl(&limit).await.expect("a policy");
    let (greedy, modest) = (token(&cli, "greedy").await, token(&cli, "modest").await);
    let greedy_too = token(&cli, "greedy-too").await;
    let gateway = GatewayProcess::ready(&cli).await;
    let calm = bystander(&gateway, &modest, 100).await;

    let held = crewfleet_service::http::descriptors()
        .saturating_sub(512)
        .min(2_000);
    let mut connections = Vec::new();
    // Heads that never end, and nothing at all.
    let head = format!("GET / HTTP/1.1\r\nX-Long: {}", "x".repeat(15_000));
    for number in 0..held {
        let part = if number % 2 == 0 { head.as_bytes() } else { b"" };
        connections.push(sent(&gateway, part).await);
    }
    // Bodies that come as far as the gateway takes them, and then no more.
    let body = vec![b' '; 4_000_000];
    for number in 0..64 {
        let whose = if number % 2 == 0 { &greedy } else { &greedy_too };
        let head = format!("Host: x\r\nAuthorization: Bearer {whose}\r\nContent-Length: 8000000");
        let post = format!("POST /crews/echo/kickoff HTTP/1.1\r\n{head}\r\n\r\n");
        let mut stream = sent(&gateway, post.as_bytes()).await;
        let body = body.clone();
        connections.push(sent(&gateway, b"").await);
        tokio::spawn(async move {
            let _ = stream.write_all(&body).await;
            answered(stream).await;
        });
    }
    // Kickoffs for the queue that is full, again and again.
    let flood: Vec<_> = (0..16)
        .map(|_| {
            let caller = gateway.caller("full", &greedy);
            let inputs = json!({"inputs": {"text": "x".repeat(500_000)}}).to_string();
            tokio::spawn(async move {
                loop {
                    caller.post("/kickoff", &inputs).await;
                }
            })
        })
        .collect();
    let attacked = bystander(&gateway, &modest, 100).await;
    flood.into_iter().for_each(|caller| caller.abort());
    let peak = peak_mib(gateway.process().pid());
    let of = |took: &[Duration], share: usize| took[took.len() * share / 100];
    eprintln!(
        "a bystander's call: p50 {:?}, p99 {:?} alone; p50 {:?}, p99 {:?} beside the attackers; {peak} MiB at most",
        of(&calm, 50),
        of(&calm, 99),
        of(&attacked, 50),
        of(&attacked, 99)
    );
    node.ctl(&["clear_policy", &queue]).await.expect("no policy");
    assert!(peak < LIMIT_MIB + 64, "{peak} MiB");
}
