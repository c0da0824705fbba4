//! A `crewfleet gateway` process, and a caller of it.

use std::{
    fmt::Display,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use reqwest::{Method, Response, StatusCode, header::HeaderMap};
use serde_json::Value;
use tokio::time::{Instant, timeout, timeout_at};

use crate::{PATIENCE, cli::Cli, http, process::Process};

/// How long a gateway expects the reply of a kickoff that it knows to have ended.
const REPLY_LATE: Duration = Duration::from_secs(20);

/// The folder of a small disk.
const DISK: &str = "disk";

/// Each gateway has a store of its own.
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// A gateway process. It is killed when this is dropped.
#[derive(Debug)]
pub struct GatewayProcess {
    process: Process,
    url: String,
    admin_url: String,
}

impl GatewayProcess {
    /// Starts one where `cli` runs, so with the tokens that are made there, and waits until it is ready.
    pub async fn ready(cli: &Cli) -> Self {
        let gateway = Self::listening(cli).await;
        gateway.is_ready().await;
        gateway
    }

    /// Waits until it is ready.
    pub async fn is_ready(&self) {
        http::becomes_ok(&format!("{}/readyz", self.admin_url)).await;
    }

    /// Waits until it is not ready for this reason.
    pub async fn is_not_ready(&self, reason: &str) {
        let mut last = String::new();
        let not_ready = async {
            loop {
                let (code, said) = http::get(&format!("{}/readyz", self.admin_url)).await;
                if code == 503 && said.contains(reason) {
                    return;
                }
                last = said;
                tokio::time::sleep(http::POLL).await;
            }
        };
        if timeout(PATIENCE, not_ready).await.is_err() {
            panic!(
                "the gateway does not say {reason:?}: {last}\n{}",
                self.process.stderr.tail()
            );
        }
    }

    /// Starts one with an empty store, and waits until it listens.
    pub async fn listening(cli: &Cli) -> Self {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        Self::listening_with(cli, &format!("gateway-{number}.sqlite")).await
    }

    /// Starts one with this store, a file where `cli` runs, and waits until it is ready.
    pub async fn ready_with(cli: &Cli, store: &str) -> Self {
        let gateway = Self::listening_with(cli, store).await;
        gateway.is_ready().await;
        gateway
    }

    async fn listening_with(cli: &Cli, store: &str) -> Self {
        let environment = [("CREWFLEET__GATEWAY__STORE__FILE", store)];
        Self::of(cli.spawn_with_environment(&["gateway"], &environment)).await
    }

    /// Starts one whose store is on a disk of so many MiB, and waits until it listens. Nobody else has this disk: it is
    /// mounted for this process.
    pub async fn on_small_disk(cli: &Cli, mib: usize) -> Self {
        std::fs::create_dir(cli.dir().join(DISK)).expect("a folder");
        let script = format!("mount -t tmpfs -o size={mib}m tmpfs {DISK} && exec \"$@\"");
        let program = [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            &script,
            "sh",
        ];
        let environment = [("CREWFLEET__GATEWAY__STORE__FILE", format!("{DISK}/store"))];
        let environment = environment
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        Self::of(cli.spawn_by(&program, &["gateway"], &environment)).await
    }

    /// The folder of [`Self::on_small_disk`], as this process can reach it.
    pub fn disk(&self, cli: &Cli) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.process.pid()));
        let folder = cli.dir().canonicalize().expect("a folder");
        root.join(folder.strip_prefix("/").expect("an absolute path"))
            .join(DISK)
    }

    async fn of(process: Process) -> Self {
        let listens = |line: &str| {
            let line: Value = serde_json::from_str(line).ok()?;
            let scheme = if line["tls"] == true { "https" } else { "http" };
            let url = |scheme: &str, key: &str| Some(format!("{scheme}://{}", line[key].as_str()?));
            (line["message"] == "the gateway listens")
                .then(|| Some((url(scheme, "addr")?, url("http", "admin_addr")?)))?
        };
        let (url, admin_url) = process.stderr.first("the gateway listens", listens).await;
        Self {
            process,
            url,
            admin_url,
        }
    }

    /// The base URL of its API.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The base URL of `/metrics`, `/healthz` and `/readyz`.
    pub fn admin_url(&self) -> &str {
        &self.admin_url
    }

    /// `HOST:PORT` of its API.
    pub fn addr(&self) -> &str {
        self.url.split_once("://").map_or(&self.url, |(_, addr)| addr)
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Somebody who calls one crew with this token.
    pub fn caller(&self, crew: &str, token: &str) -> Caller {
        self.caller_of(format!("/crews/{crew}"), token)
    }

    /// Somebody who names no crew.
    pub fn at_the_root(&self, token: &str) -> Caller {
        self.caller_of(String::new(), token)
    }

    /// Somebody who calls the native API.
    pub fn native(&self, token: &str) -> Caller {
        self.caller_of("/v1".to_owned(), token)
    }

    fn caller_of(&self, path: String, token: &str) -> Caller {
        Caller {
            client: http::client(),
            base: format!("{}{path}", self.url),
            token: token.trim().to_owned(),
            headers: Vec::new(),
        }
    }
}

/// A stream of server-sent events that is being read.
#[derive(Debug)]
pub struct ServerSentEvents {
    response: Response,
    read: String,
}

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerSentEvent {
    /// Its type.
    pub event: String,
    /// Its id, or nothing.
    pub id: String,
    /// What it says.
    pub data: Value,
}

impl ServerSentEvents {
    /// The next one; `None` when the stream is over.
    pub async fn next(&mut self) -> Option<ServerSentEvent> {
        // A comment, by which a stream lives, is none.
        let late = Instant::now() + PATIENCE;
        loop {
            if let Some((block, rest)) = self.read.split_once("\n\n") {
                let block = block.to_owned();
                self.read = rest.to_owned();
                let field = |name: &str| {
                    let lines = block
                        .lines()
                        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                    lines.map(str::trim_start).collect::<Vec<_>>().join("\n")
                };
                // A comment says that the stream lives.
                if let Ok(data) = serde_json::from_str(&field("data")) {
                    let (event, id) = (field("event"), field("id"));
                    return Some(ServerSentEvent { event, id, data });
                }
                continue;
            }
            let chunk = timeout_at(late, self.response.chunk())
                .await
                .expect("something comes");
            let chunk = chunk.ok().flatten()?;
            self.read.push_str(std::str::from_utf8(&chunk).expect("a text"));
        }
    }

    /// All up to one of this type.
    pub async fn until(&mut self, event: &str) -> Vec<ServerSentEvent> {
        let mut all = Vec::new();
        while let Some(next) = self.next().await {
            let is_last = next.event == event;
            all.push(next);
            if is_last {
                return all;
            }
        }
        panic!("the stream is over before {event}: {all:#?}");
    }
}

/// Somebody who calls one crew, as a client of CrewAI AMP does.
#[derive(Debug, Clone)]
pub struct Caller {
    client: reqwest::Client,
    base: String,
    token: String,
    headers: Vec<(String, String)>,
}

impl Caller {
    /// The same, by another client.
    pub fn by(mut self, client: reqwest::Client) -> Self {
        self.client = client;
        self
    }

    /// The same, with one more header in all that it sends.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The status and the JSON at a path of the crew's base URL.
    pub async fn get(&self, path: impl Display) -> (StatusCode, Value) {
        self.call(Method::GET, path, String::new()).await
    }

    /// The status and the JSON that a body is answered with.
    pub async fn post(&self, path: impl Display, body: impl Display) -> (StatusCode, Value) {
        self.call(Method::POST, path, body.to_string()).await
    }

    /// The same, and a header of the answer, or nothing.
    pub async fn post_for(
        &self,
        path: impl Display,
        body: impl Display,
        header: &str,
    ) -> (StatusCode, Value, String) {
        let (response, url) = self.send(Method::POST, path, body.to_string()).await;
        let value = response.headers().get(header);
        let value = value.map(|value| value.to_str().expect("a text").to_owned());
        let (status, answer) = read(response, &url).await;
        (status, answer, value.unwrap_or_default())
    }

    /// The status, the headers and the JSON of a call.
    pub async fn full(
        &self,
        method: Method,
        path: impl Display,
        body: impl Display,
    ) -> (StatusCode, HeaderMap, Value) {
        let (response, url) = self.send(method, path, body.to_string()).await;
        let headers = response.headers().clone();
        let (status, answer) = read(response, &url).await;
        (status, headers, answer)
    }

    /// Follows a stream of server-sent events.
    pub async fn follow(&self, path: impl Display) -> ServerSentEvents {
        let accepting = Self {
            headers: [
                self.headers.clone(),
                vec![("Accept".to_owned(), "text/event-stream".to_owned())],
            ]
            .concat(),
            ..self.clone()
        };
        let (response, url) = accepting.send(Method::GET, path, String::new()).await;
        assert_eq!(response.status(), 200, "{url}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        ServerSentEvents {
            response,
            read: String::new(),
        }
    }

    /// Kicks off with this body, and returns the id.
    pub async fn kickoff(&self, body: &Value) -> String {
        let (status, answer) = self.post("/kickoff", body).await;
        assert_eq!(status, 200, "{answer}");
        answer["kickoff_id"].as_str().expect("an id").to_owned()
    }

    /// What the status call answers.
    pub async fn status(&self, id: &str) -> Value {
        let (status, answer) = self.get(format!("/status/{id}")).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Polls until the gateway knows of a kickoff, of which it hears by a stream only.
    pub async fn knows(&self, id: &str) {
        let polling = async {
            while self.get(format!("/status/{id}")).await.0 == 404 {
                tokio::time::sleep(http::POLL).await;
            }
        };
        let known = tokio::time::timeout(PATIENCE, polling).await;
        assert!(known.is_ok(), "the gateway does not hear of {id}");
    }

    /// Polls until the kickoff has this state, and returns what is answered then.
    pub async fn becomes(&self, id: &str, state: &str) -> Value {
        self.when(id, state, |status| status["state"] == state).await
    }

    /// Polls until the status is `what` it is to be, and returns what is answered then. It may be so only once the gateway
    /// has given a reply up.
    pub async fn when(&self, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let polling = async {
            loop {
                last = self.status(id).await;
                if holds(&last) {
                    return;
                }
                tokio::time::sleep(http::POLL).await;
            }
        };
        let polled = timeout(REPLY_LATE + PATIENCE, polling).await;
        assert!(polled.is_ok(), "{id} does not become {what}: {last:#}");
        last
    }

    /// Asks until the answer has this status, and returns its JSON.
    pub async fn answers(&self, path: &str, status: u16) -> Value {
        let asking = async {
            loop {
                let (code, answer) = self.get(path).await;
                if code == status {
                    return answer;
                }
                tokio::time::sleep(http::POLL).await;
            }
        };
        let asked = timeout(PATIENCE, asking).await;
        asked.unwrap_or_else(|_| panic!("{path} does not answer {status}"))
    }

    /// Asks until the answer is `what` it is to be, and returns it.
    pub async fn shows(&self, path: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let asking = async {
            loop {
                let (status, answer) = self.get(path).await;
                last = answer;
                if status == 200 && holds(&last) {
                    return;
                }
                tokio::time::sleep(http::POLL).await;
            }
        };
        let asked = timeout(REPLY_LATE + PATIENCE, asking).await;
        assert!(asked.is_ok(), "{path} does not show {what}: {last:#}");
        last
    }

    async fn call(&self, method: Method, path: impl Display, body: String) -> (StatusCode, Value) {
        let (response, url) = self.send(method, path, body).await;
        read(response, &url).await
    }

    async fn send(&self, method: Method, path: impl Display, body: String) -> (Response, String) {
        let url = format!("{}{path}", self.base);
        let mut request = self
            .client
            .request(method, &url)
            .bearer_auth(&self.token)
            .body(body);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let response = request.send().await.unwrap_or_else(|e| panic!("{url}: {e}"));
        (response, url)
    }
}

async fn read(response: Response, url: &str) -> (StatusCode, Value) {
    let status = response.status();
    let text = response.text().await.unwrap_or_else(|e| panic!("{url}: {e}"));
    let answer = serde_json::from_str(&text).unwrap_or(Value::String(text));
    (status, answer)
}
