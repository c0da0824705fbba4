//! The native API of the gateway, by a real gateway, worker and broker.

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::gateway::{Caller, GatewayProcess};
use crewfleet_tests::worker::{WorkerBuilder, WorkerProcess};
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};

/// A fleet with a gateway, and callers of it.
struct Site {
    namespace: Namespace,
    cli: Cli,
    token: String,
    gateway: GatewayProcess,
    _worker: WorkerProcess,
}

impl Site {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    /// With these crews besides.
    async fn with(crews: &[(&str, &str)]) -> Self {
        let namespace = Namespace::new();
        let url = broker().await.url();
        let worker = WorkerProcess::builder(&url, &namespace).builtin(&["echo", "fail", "sleep"]);
        let add = |worker: WorkerBuilder, (name, toml): &(&str, &str)| worker.crew(name, toml);
        let worker = crews.iter().fold(worker, add).ready().await;
        let cli = Cli::new(&url, &namespace).with_free_gateway_ports();
        let config = "[gateway.store]\nmeta_keys = [\"order\"]\nfull_text = true\n";
        std::fs::write(cli.dir().join("crewfleet.toml"), config).expect("the file is written");
        let token = cli
            .run(&["token", "create", "shop", "--all-crews"])
            .await
            .success();
        let gateway = GatewayProcess::ready(&cli).await;
        Self {
            namespace,
            cli,
            token,
            gateway,
            _worker: worker,
        }
    }

    fn caller(&self) -> Caller {
        self.gateway.native(&self.token)
    }

    async fn start(&self, body: Value) -> String {
        let (status, answer) = self.caller().post("/kickoffs", &body).await;
        assert_eq!(status, 202, "{answer}");
        answer["kickoff_id"].as_str().expect("an id").to_owned()
    }
}

/// The whole reply, once it is there.
async fn result(caller: &Caller, id: &str) -> Value {
    let (status, reply) = caller.get(format!("/kickoffs/{id}/result?wait=30")).await;
    assert_eq!(status, 200, "{reply}");
    reply
}

fn ids(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().expect("items");
    items
        .iter()
        .map(|item| item["kickoff_id"].as_str().expect("an id"))
        .collect()
}

#[tokio::test]
async fn a_kickoff_is_started_awaited_and_found() {
    let site = Site::new().await;
    let caller = site.caller();
    let body = json!({"crew": "echo", "inputs": {"A": 1.50}, "meta": {"order": 7, "tenant": "acme"}, "timeout_s": 30});
    let naming = site.caller().with_header("X-Request-Id", "order-7-first");
    let (status, headers, answer) = naming.full(Method::POST, "/kickoffs", &body).await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(headers["x-request-id"], "order-7-first");
    let audited = |line: &str| {
        line.contains("\"request_id\":\"order-7-first\"")
            .then(|| line.to_owned())
    };
    let line = site
        .gateway
        .process()
        .stderr
        .first("the call in the log", audited)
        .await;
    assert!(line.contains("\"audit\"") && !line.contains("1.5"), "{line}");
    let id = answer["kickoff_id"].as_str().expect("an id").to_owned();
    assert_eq!(headers["location"], format!("/v1/kickoffs/{id}"));
    let reply = result(&caller, &id).await;
    assert_eq!(
        (&reply["status"], &reply["result"]["json"]),
        (&json!("succeeded"), &json!({"A": 1.50}))
    );
    let (_, kickoff) = caller.get(format!("/kickoffs/{id}")).await;
    assert_eq!(
        (
            &kickoff["status"],
            &kickoff["crew"],
            &kickoff["meta"]["order"],
            &kickoff["attempt"]
        ),
        (&json!("succeeded"), &json!("echo"), &json!(7), &json!(1))
    );
    assert!(
        kickoff["started_at"].is_string() && kickoff["worker"] == reply["worker"],
        "{kickoff:#}"
    );
    // One that came over AMQP is as one that came over HTTP.
    let by_amqp = site
        .cli
        .run(&[
            "kickoff",
            "fail",
            "--id",
            "by-amqp",
            "--input",
            "message=item 7 is bad",
        ])
        .await;
    assert_eq!(by_amqp.code, Some(1));
    let failed = result(&caller, "by-amqp").await;
    assert_eq!(failed["status"], "failed");
    let fingerprint = caller.get("/kickoffs/by-amqp").await.1["error"]["fingerprint"].clone();
    let fingerprint = fingerprint.as_str().expect("a fingerprint");
    for (query, expected) in [
        ("", vec!["by-amqp", &id]),
        ("?crew=echo", vec![&id]),
        ("?crew=echo,fail&status=succeeded,failed", vec!["by-amqp", &id]),
        ("?status=failed", vec!["by-amqp"]),
        ("?status=running", vec![]),
        ("?meta.order=7", vec![&id]),
        ("?meta.tenant=acme&crew=echo", vec![&id]),
        ("?meta.order=8", vec![]),
        (&format!("?error={fingerprint}"), vec!["by-amqp"]),
        // Words of inputs, of a result, and of why there is none.
        ("?q=1.5", vec![&id]),
        ("?q=item+bad&status=failed", vec!["by-amqp"]),
        ("?q=item+good", vec![]),
        ("?until=2026-01-01T00:00:00Z", vec![]),
        ("?since=2026-01-01T00:00:00Z&limit=1", vec!["by-amqp"]),
    ] {
        let (status, page) = caller.get(format!("/kickoffs{query}")).await;
        assert_eq!((status.as_u16(), ids(&page)), (200, expected), "{query} {page:#}");
    }
    let (_, first) = caller.get("/kickoffs?limit=1").await;
    let cursor = first["next_cursor"].as_str().expect("a cursor");
    let (_, second) = caller.get(format!("/kickoffs?limit=1&cursor={cursor}")).await;
    assert_eq!((ids(&second), &second["next_cursor"]), (vec![&*id], &Value::Null));
}

#[tokio::test]
async fn what_is_wrong_is_told_as_a_problem() {
    let site = Site::new().await;
    let caller = site.caller();
    let post = Method::POST;
    let kickoff = |body: Value| (Method::POST, "/kickoffs", body.to_string());
    for ((method, path, body), expected, told) in [
        (kickoff(json!({"inputs": {}})), 422, "missing field `crew`"),
        (
            kickoff(json!({"crew": "echo", "inputs": []})),
            422,
            "not a JSON object",
        ),
        (
            kickoff(json!({"crew": "echo", "inputs": {}, "inptus": {}})),
            422,
            "unknown field `inptus`",
        ),
        (kickoff(json!({"crew": "Echo", "inputs": {}})), 422, "crew name"),
        (
            kickoff(json!({"crew": "echo", "inputs": {}, "timeout_s": -1})),
            422,
            "timeout_s",
        ),
        (
            kickoff(json!({"crew": "echo", "inputs": {}, "kickoff_id": "a.b"})),
            422,
            "kickoff_id",
        ),
        (
            kickoff(json!({"crew": "nobody", "inputs": {}})),
            404,
            "No worker has ever served",
        ),
        (
            (Method::GET, "/kickoffs?stauts=failed", String::new()),
            422,
            "there are crew, status",
        ),
        (
            (Method::GET, "/kickoffs?status=done", String::new()),
            422,
            "queued, running",
        ),
        (
            (Method::GET, "/kickoffs?meta.colour=red", String::new()),
            422,
            "meta.order",
        ),
        (
            (Method::GET, "/kickoffs?limit=201", String::new()),
            422,
            "1 to 200",
        ),
        (
            (Method::GET, "/kickoffs?cursor=x", String::new()),
            422,
            "next_cursor",
        ),
        (
            (
                Method::GET,
                "/kickoffs/0193f5a0-0000-7000-8000-000000000000",
                String::new(),
            ),
            404,
            "There is no kickoff",
        ),
        (
            (Method::GET, "/kickoffs/x/result?wait=31", String::new()),
            422,
            "30 seconds or less",
        ),
        (
            (
                post.clone(),
                "/kickoffs/0193f5a0-0000-7000-8000-000000000000/cancel",
                String::new(),
            ),
            404,
            "There is no kickoff",
        ),
        ((Method::DELETE, "/kickoffs", String::new()), 405, "DELETE"),
        ((Method::GET, "/kickofs", String::new()), 404, "/openapi.json"),
    ] {
        let (status, headers, problem) = caller.full(method, path, body).await;
        assert_eq!(status, expected, "{path} {problem:#}");
        assert_eq!(headers["content-type"], "application/problem+json", "{path}");
        assert_eq!(
            (&problem["type"], &problem["status"]),
            (&json!("about:blank"), &json!(expected)),
            "{path}"
        );
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains(told), "{path}: {detail}");
    }
    let (status, headers, problem) = site
        .gateway
        .native("wrong")
        .full(Method::GET, "/kickoffs", "")
        .await;
    assert_eq!(
        (status.as_u16(), &problem["title"]),
        (401, &json!("Unauthorized"))
    );
    assert_eq!(headers["www-authenticate"], "Bearer");
}

#[tokio::test]
async fn a_key_starts_one_kickoff_on_whichever_gateway_it_is_shown_also_after_a_restart() {
    let site = Site::new().await;
    let second = GatewayProcess::ready(&site.cli).await;
    let body = json!({"crew": "echo", "inputs": {"A": 1}});
    let keyed =
        |gateway: &GatewayProcess, key: &str| gateway.native(&site.token).with_header("Idempotency-Key", key);
    // Many at once, to both.
    let (one, other) = (keyed(&site.gateway, "k-1"), keyed(&second, "k-1"));
    let calls = (0..12).map(|number| {
        let caller = if number % 2 == 0 { &one } else { &other };
        caller.full(Method::POST, "/kickoffs", &body)
    });
    let answers = futures_util::future::join_all(calls).await;
    let id = answers[0].2["kickoff_id"].as_str().expect("an id").to_owned();
    let mut fresh = 0;
    for (status, headers, answer) in &answers {
        assert_eq!(
            (status.as_u16(), &answer["kickoff_id"]),
            (202, &json!(id)),
            "{answer}"
        );
        fresh += usize::from(!headers.contains_key("idempotent-replayed"));
    }
    assert_eq!(fresh, 1);
    let reply = result(&one, &id).await;
    assert_eq!(reply["executions"], 1, "{reply:#}");
    // The same key says nothing for another crew, and another body is refused, at another gateway too.
    let (status, other_crew) = one
        .post("/kickoffs", json!({"crew": "sleep", "inputs": {"seconds": 0}}))
        .await;
    assert_eq!(status, 202);
    assert_ne!(other_crew["kickoff_id"], json!(id));
    let differing = json!({"crew": "echo", "inputs": {"A": 2}});
    let (status, problem) = other.post("/kickoffs", &differing).await;
    assert_eq!(
        (status.as_u16(), &problem["title"]),
        (409, &json!("Conflict")),
        "{problem}"
    );
    second.process().signal(Signal::SIGKILL);
    drop(second);
    // A gateway with nothing but the streams.
    let third = GatewayProcess::ready(&site.cli).await;
    let (status, headers, again) = keyed(&third, "k-1").full(Method::POST, "/kickoffs", &body).await;
    assert_eq!(
        (status.as_u16(), &again["kickoff_id"], &again["status"]),
        (202, &json!(id), &json!("succeeded"))
    );
    assert_eq!(headers["idempotent-replayed"], "true");
    let (status, _) = keyed(&third, "k-1").post("/kickoffs", &differing).await;
    assert_eq!(status, 409);
    // The key of a client that speaks AMQP stands for the same kickoff.
    let key = crewfleet_protocol::KickoffId::of_key(&"echo".parse().expect("a name"), "k-1");
    assert_eq!(key.as_str(), id);
}

#[tokio::test]
async fn a_kickoff_is_cancelled_and_started_once_more() {
    let site = Site::new().await;
    let caller = site.caller();
    let id = site
        .start(json!({"crew": "sleep", "inputs": {"seconds": 300}, "meta": {"order": 9}}))
        .await;
    let (status, problem) = caller.post(format!("/kickoffs/{id}/retry"), "").await;
    assert_eq!(status, 409, "{problem}");
    caller
        .follow(format!("/kickoffs/{id}/events"))
        .await
        .until("kickoff_started")
        .await;
    let (status, _) = caller.post(format!("/kickoffs/{id}/cancel"), "").await;
    assert_eq!(status, 202);
    assert_eq!(result(&caller, &id).await["status"], "cancelled");
    let (status, problem) = caller.post(format!("/kickoffs/{id}/cancel"), "").await;
    assert_eq!(status, 409);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap_or_default()
            .contains("cancelled"),
        "{problem}"
    );
    let (status, again) = caller
        .post(format!("/kickoffs/{id}/retry"), json!({"inputs": {"seconds": 0}}))
        .await;
    assert_eq!(status, 202, "{again}");
    let new = again["kickoff_id"].as_str().expect("an id");
    assert_ne!(new, id);
    let reply = result(&caller, new).await;
    assert_eq!(
        (&reply["status"], &reply["meta"]["order"]),
        (&json!("succeeded"), &json!(9))
    );
    // The same inputs, where nothing else is said.
    let (_, once_more) = caller.post(format!("/kickoffs/{new}/retry"), "").await;
    let reply = result(&caller, once_more["kickoff_id"].as_str().expect("an id")).await;
    assert_eq!(reply["result"]["json"], json!({"seconds": 0}));
    // Of what came over AMQP the inputs are not kept.
    site.cli
        .run(&["kickoff", "echo", "--id", "by-amqp", "--input", "A=1"])
        .await
        .success();
    result(&caller, "by-amqp").await;
    let (status, problem) = caller.post("/kickoffs/by-amqp/retry", "").await;
    assert_eq!(status, 409);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap_or_default()
            .contains("Send them"),
        "{problem}"
    );
    let (status, _) = caller
        .post("/kickoffs/by-amqp/retry", json!({"inputs": {"A": 2}}))
        .await;
    assert_eq!(status, 202);
}

#[tokio::test]
async fn an_answer_that_a_caller_has_already_is_not_sent_again() {
    let site = Site::new().await;
    let id = site
        .start(json!({"crew": "echo", "inputs": {"TEXT": "x".repeat(10_000)}}))
        .await;
    result(&site.caller(), &id).await;
    let path = format!("/kickoffs/{id}");
    let (_, headers, _) = site.caller().full(Method::GET, &path, "").await;
    let tag = headers["etag"].to_str().expect("a text").to_owned();
    let (status, headers, answer) = site
        .caller()
        .with_header("If-None-Match", &tag)
        .full(Method::GET, &path, "")
        .await;
    assert_eq!((status.as_u16(), answer), (304, json!("")));
    assert_eq!(headers["etag"], tag);
    let zipped = site.caller().with_header("Accept-Encoding", "gzip");
    let (_, headers, _) = zipped.full(Method::GET, format!("{path}/result"), "").await;
    assert_eq!(headers["content-encoding"], "gzip");
}

mod callers;
mod following;
mod live;
