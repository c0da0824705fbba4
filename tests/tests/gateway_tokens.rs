//! The tokens of the gateway's callers: what each is good for, for whom, how often and how long, and what is told of it.

use crewfleet_tests::PATIENCE;
use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::gateway::GatewayProcess;
use crewfleet_tests::process::TICK;
use crewfleet_tests::worker::WorkerProcess;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

async fn cli(namespace: &Namespace) -> Cli {
    Cli::new(&broker().await.url(), namespace).with_free_gateway_ports()
}

async fn worker(namespace: &Namespace) -> WorkerProcess {
    WorkerProcess::builder(&broker().await.url(), namespace)
        .worker("cancel_grace_s = 0.5")
        .builtin(&["echo", "sleep"])
        .ready()
        .await
}

/// A token for all crews that is good for what these flags say.
async fn token(cli: &Cli, name: &str, flags: &[&str]) -> String {
    let arguments = [&["token", "create", name, "--all-crews"], flags].concat();
    cli.run(&arguments).await.success().trim().to_owned()
}

/// A line of the audit log about such an action with this status.
async fn audited(gateway: &GatewayProcess, action: &str, status: u16) -> Value {
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        let same = line["target"] == "audit" && line["action"] == action && line["status_code"] == status;
        same.then_some(line)
    };
    gateway.process().stderr.first("the audit line", line).await
}

#[tokio::test]
async fn a_token_is_good_for_its_scopes_alone() {
    let namespace = Namespace::new();
    let _worker = worker(&namespace).await;
    let cli = cli(&namespace).await;
    let reader = token(&cli, "reader", &["--scope", "read"]).await;
    let starter = token(&cli, "starter", &["--scope", "kickoff"]).await;
    let operator = token(&cli, "operator", &["--scope", "read,operate"]).await;
    let admin = token(&cli, "admin", &["--scope", "admin"]).await;
    let gateway = GatewayProcess::ready(&cli).await;
    let caller = |token: &str| gateway.caller("sleep", token);

    let id = caller(&starter)
        .kickoff(&json!({"inputs": {"seconds": 600}}))
        .await;
    caller(&reader).answers("/inputs", 200).await;
    caller(&reader).becomes(&id, "STARTED").await;
    let (status, files, stop) = (
        format!("/status/{id}"),
        format!("/files/{id}"),
        format!("/stop/{id}"),
    );
    for (token, path, missing) in [
        (&starter, &status, "read"),
        (&starter, &files, "read"),
        (&starter, &"/inputs".to_owned(), "read"),
    ] {
        let (code, answer) = caller(token).get(path).await;
        assert_eq!(
            (code.as_u16(), &answer["details"]["missing_scope"]),
            (403, &json!(missing)),
            "{path}: {answer}"
        );
    }
    for (token, path, missing) in [
        (&reader, "/kickoff", "kickoff"),
        (&operator, "/kickoff", "kickoff"),
        (&reader, &stop, "operate"),
        (&starter, &stop, "operate"),
        (&starter, "/resume", "operate"),
    ] {
        let (code, answer, told) = caller(token)
            .post_for(path, json!({"inputs": {}}), "www-authenticate")
            .await;
        assert_eq!(
            (code.as_u16(), &answer["details"]["missing_scope"]),
            (403, &json!(missing)),
            "{path}: {answer}"
        );
        let flag = format!("--scope {missing}");
        assert!(answer["message"].as_str().unwrap().contains(&flag), "{answer}");
        assert!(told.contains("insufficient_scope"), "{told}");
    }
    let refused = audited(&gateway, "stop", 403).await;
    assert_eq!(
        (&refused["level"], &refused["token"], &refused["kickoff_id"]),
        (&json!("WARN"), &json!("reader"), &json!(id)),
        "{refused:#}"
    );
    assert_eq!(caller(&operator).post(&stop, "").await.0, 200);
    let stopped = audited(&gateway, "stop", 200).await;
    assert_eq!(
        (&stopped["token"], &stopped["kickoff_id"], &stopped["crew"]),
        (&json!("operator"), &json!(id), &json!("sleep")),
        "{stopped:#}"
    );
    caller(&reader).becomes(&id, "FAILED").await;
    let id = caller(&admin).kickoff(&json!({"inputs": {"seconds": 0}})).await;
    caller(&admin).becomes(&id, "SUCCESS").await;
}

#[tokio::test]
async fn what_a_token_of_a_tenant_starts_is_that_tenant_s() {
    let namespace = Namespace::new();
    let _worker = worker(&namespace).await;
    let cli = cli(&namespace).await;
    let token = token(&cli, "shop", &["--tenant", "acme"]).await;
    let gateway = GatewayProcess::ready(&cli).await;
    let caller = gateway.caller("echo", &token);
    for meta in [json!({"tenant": "other"}), json!("acme"), json!(["acme"])] {
        let (code, answer) = caller.post("/kickoff", json!({"inputs": {}, "meta": meta})).await;
        assert_eq!(code, 422, "{answer}");
        assert!(answer["message"].as_str().unwrap().contains("meta"), "{answer}");
    }
    for (meta, expected) in [
        (Value::Null, json!({"tenant": "acme"})),
        (json!({"tenant": "acme"}), json!({"tenant": "acme"})),
        (json!({"order": 7}), json!({"tenant": "acme", "order": 7})),
    ] {
        let inputs = json!({"word": "an unusual word"});
        let id = caller.kickoff(&json!({"inputs": inputs, "meta": meta})).await;
        let reply = cli.run(&["wait", &id, "--json"]).await.success();
        let reply: Value = serde_json::from_str(&reply).expect("a reply");
        assert_eq!(reply["meta"], expected);
    }
    let line = audited(&gateway, "kickoff", 200).await;
    assert_eq!(
        (&line["level"], &line["token"], &line["tenant"], &line["crew"]),
        (&json!("INFO"), &json!("shop"), &json!("acme"), &json!("echo")),
        "{line:#}"
    );
    assert!(
        line["peer"].as_str().unwrap().starts_with("127.0.0.1:"),
        "{line:#}"
    );
    assert!(line["kickoff_id"].is_string(), "{line:#}");
    let log = gateway.process().stderr.so_far();
    let (mut of_call, mut said) = (0, false);
    for logged in &log {
        of_call += usize::from(logged.contains(line["kickoff_id"].as_str().unwrap()));
        said |= logged.contains("unusual");
    }
    assert_eq!((of_call, said), (1, false), "{log:#?}");
}

#[tokio::test]
async fn who_calls_too_often_is_told_when_to_come_again_and_others_are_served() {
    let namespace = Namespace::new();
    let _worker = worker(&namespace).await;
    let cli = cli(&namespace).await;
    let limited = token(&cli, "limited", &["--rate", "0.01", "--burst", "2"]).await;
    let other = token(&cli, "other", &[]).await;
    let gateway = GatewayProcess::ready(&cli).await;
    let caller = gateway.caller("echo", &limited);
    for _ in 0..2 {
        caller.kickoff(&json!({"inputs": {}})).await;
    }
    let (code, answer, after) = caller
        .post_for("/kickoff", json!({"inputs": {}}), "retry-after")
        .await;
    assert_eq!(code, 429, "{answer}");
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .contains("0.01 calls a second"),
        "{answer}"
    );
    let after: u64 = after.parse().expect("seconds");
    assert!((1..=100).contains(&after), "{after}");
    assert_eq!(caller.get("/inputs").await.0, 429);
    gateway
        .caller("echo", &other)
        .kickoff(&json!({"inputs": {}}))
        .await;
}

#[tokio::test]
async fn no_more_calls_of_a_token_are_under_way_than_it_is_good_for() {
    let namespace = Namespace::new();
    let _worker = worker(&namespace).await;
    let cli = cli(&namespace).await;
    let limited = token(&cli, "limited", &["--max-concurrent", "1"]).await;
    let gateway = GatewayProcess::ready(&cli).await;
    let caller = gateway.caller("echo", &limited);
    let body = json!({"inputs": {}}).to_string();
    let head = format!(
        "POST /crews/echo/kickoff HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {limited}\r\nContent-Length: {}\r\n\
         Expect: 100-continue\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut first = TcpStream::connect(gateway.addr()).await.expect("a connection");
    first.write_all(head.as_bytes()).await.expect("sent");
    // It asks for the body: so the call is under way.
    let mut asked = [0; 12];
    first.read_exact(&mut asked).await.expect("an answer");
    assert_eq!(&asked, b"HTTP/1.1 100");
    let (code, answer, after) = caller.post_for("/kickoff", &body, "retry-after").await;
    assert_eq!((code.as_u16(), after.as_str()), (429, "1"), "{answer}");
    assert!(
        answer["message"].as_str().unwrap().contains("1 call under way"),
        "{answer}"
    );
    first.write_all(body.as_bytes()).await.expect("sent");
    let mut rest = String::new();
    first.read_to_string(&mut rest).await.expect("an answer");
    assert!(
        rest.contains("HTTP/1.1 200") && rest.contains("kickoff_id"),
        "{rest}"
    );
    caller.kickoff(&json!({"inputs": {}})).await;
    // Nor does one count that breaks off.
    let mut broken = TcpStream::connect(gateway.addr()).await.expect("a connection");
    broken.write_all(head.as_bytes()).await.expect("sent");
    broken.read_exact(&mut asked).await.expect("an answer");
    drop(broken);
    caller.answers("/inputs", 200).await;
}

#[tokio::test]
async fn a_token_ends_and_says_so_to_who_shows_it() {
    let namespace = Namespace::new();
    let _worker = worker(&namespace).await;
    let cli = cli(&namespace).await;
    for (flags, told) in [
        (["--expires", "0s"], "30d"),
        (["--scope", "write"], "kickoff, read"),
        (["--rate", "0"], "rate_per_s"),
        (["--burst", "3"], "--rate"),
        (["--max-concurrent", "0"], "1 or more"),
        (["--tenant", ""], "name for a tenant"),
    ] {
        let arguments = [&["token", "create", "no", "--all-crews"], &flags[..]].concat();
        cli.run(&arguments).await.ended_with(2).said(&[told]);
    }
    let lasting = token(&cli, "lasting", &["--expires", "30d"]).await;
    let brief = token(&cli, "brief", &["--expires", "1s"]).await;
    let gateway = GatewayProcess::ready(&cli).await;
    let answer = gateway.caller("echo", &brief).answers("/inputs", 401).await;
    let message = answer["message"].as_str().expect("a message");
    assert!(
        message.contains("expired at") && message.contains("token create"),
        "{message}"
    );
    gateway.caller("echo", &lasting).answers("/inputs", 200).await;
    let wrong = gateway.caller("echo", &format!("{brief}0"));
    let (code, answer) = wrong.get("/inputs").await;
    assert_eq!(
        (code.as_u16(), answer["message"].as_str()),
        (401, Some("Invalid or missing bearer token"))
    );
    let list = cli.run(&["token", "list"]).await.success();
    let line = |name: &str| list.lines().find(|line| line.starts_with(name)).expect("a line");
    assert!(line("brief").contains("  expired  "), "{list}");
    assert!(
        !line("lasting").contains("expired") && line("lasting").contains("20"),
        "{list}"
    );
}

#[tokio::test]
async fn the_list_shows_what_each_token_is_good_for_and_when_it_was_used() {
    let namespace = Namespace::new();
    let _worker = worker(&namespace).await;
    let cli = cli(&namespace).await;
    let limits = [
        "--tenant",
        "acme",
        "--rate",
        "5",
        "--max-concurrent",
        "3",
        "--scope",
        "read",
    ];
    let used = token(&cli, "used", &limits).await;
    token(&cli, "unused", &[]).await;
    let gateway = GatewayProcess::ready(&cli).await;
    gateway.caller("echo", &used).answers("/inputs", 200).await;
    let listed = async || {
        let list = cli.run(&["token", "list", "--json"]).await.success();
        let list: Vec<Value> = serde_json::from_str(&list).expect("a list");
        let [first, second] = <[Value; 2]>::try_from(list).expect("two tokens");
        (first, second)
    };
    // It tells of a first use at once, and of others within a minute.
    let told = async {
        while listed().await.0["last_used_at"].is_null() {
            sleep(TICK).await;
        }
    };
    timeout(PATIENCE, told).await.expect("the last use is told");
    let (first, second) = listed().await;
    assert_eq!(
        (
            &first["tenant"],
            &first["rate_per_s"],
            &first["max_concurrent"],
            &first["scopes"]
        ),
        (&json!("acme"), &json!(5.0), &json!(3), &json!(["read"])),
        "{first:#}"
    );
    assert_eq!(second["scopes"], json!(["kickoff", "read", "operate"]));
    assert!(second["last_used_at"].is_null(), "{second:#}");
    let secret = used.trim_start_matches("crewfleet_");
    let file = cli.dir().join("crewfleet-tokens.json.used.json");
    assert!(!std::fs::read_to_string(file).expect("a file").contains(secret));
    // What it has not told yet it tells when it ends.
    let third = token(&cli, "third", &[]).await;
    gateway.caller("echo", &third).answers("/inputs", 200).await;
    gateway.process().signal(Signal::SIGTERM);
    assert_eq!(gateway.process().exit().await.code(), Some(0));
    let list = cli.run(&["token", "list", "--json"]).await.success();
    let list: Vec<Value> = serde_json::from_str(&list).expect("a list");
    assert!(list[2]["last_used_at"].is_string(), "{list:#?}");
}

#[tokio::test]
async fn where_the_last_use_cannot_be_written_calls_are_answered() {
    let namespace = Namespace::new();
    let _worker = worker(&namespace).await;
    let cli = cli(&namespace)
        .await
        .env("CREWFLEET__GATEWAY__TOKENS_USED_FILE", "no/such/folder/used.json");
    let token = token(&cli, "shop", &[]).await;
    let gateway = GatewayProcess::ready(&cli).await;
    gateway.caller("echo", &token).answers("/inputs", 200).await;
    let warned = |line: &str| line.contains("tokens_used_file").then(|| line.to_owned());
    let line = gateway.process().stderr.first("the warning", warned).await;
    assert!(line.contains("WARN") && line.contains("no/such/folder"), "{line}");
    gateway
        .caller("echo", &token)
        .kickoff(&json!({"inputs": {}}))
        .await;
}

#[tokio::test]
async fn without_a_token_it_does_not_listen_beyond_this_machine() {
    let namespace = Namespace::new();
    let cli = cli(&namespace).await.env("CREWFLEET__GATEWAY__ADDR", "0.0.0.0:0");
    cli.run(&["gateway"]).await.ended_with(2).said(&[
        "0.0.0.0:0",
        "crewfleet-tokens.json",
        "token create",
        "allow_no_tokens",
    ]);
    let cli = cli.env("CREWFLEET__GATEWAY__ALLOW_NO_TOKENS", "true");
    let gateway = GatewayProcess::listening(&cli).await;
    let warned = |line: &str| line.contains("in the clear").then(|| line.to_owned());
    let line = gateway.process().stderr.first("the warning", warned).await;
    assert!(line.contains("WARN") && line.contains("tls_cert_file"), "{line}");
    drop(gateway);
    let cli = cli.env("CREWFLEET__GATEWAY__ALLOW_NO_TOKENS", "false");
    token(&cli, "shop", &[]).await;
    GatewayProcess::listening(&cli).await;
}
