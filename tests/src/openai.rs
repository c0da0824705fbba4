//! The model server of `tests/openai`: OpenAI's API with answers that repeat, failures on demand and a journal.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    crews::{checkout, venv_python},
    http,
    process::Process,
};

/// A model server, which ends when this is dropped.
#[derive(Debug)]
pub struct ModelServer {
    url: String,
    _process: Process,
}

impl ModelServer {
    /// Starts one whose model answers in texts, and calls no tool unasked.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts one with these arguments of `tests/openai/serve.py`, such as `["--tools", "all"]`.
    pub async fn with(arguments: &[&str]) -> Self {
        let mut command = Command::new(venv_python());
        command
            .arg(checkout().join("tests/openai/serve.py"))
            .args(arguments);
        let process = Process::spawn("the model server", &command, b"");
        let url = process
            .stdout
            .first("its address", |line| {
                line.starts_with("http://").then(|| line.to_owned())
            })
            .await;
        Self {
            url,
            _process: process,
        }
    }

    /// The line of a crew's section by which its models are this server's.
    pub fn env_toml(&self) -> String {
        // JSON's strings are TOML's too.
        format!(
            "env = {{ OPENAI_BASE_URL = {url}, OPENAI_API_BASE = {url}, OPENAI_API_KEY = \"test\" }}\n",
            url = json!(self.url)
        )
    }

    /// Its address, with `/v1`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it was asked so far, as `tests/openai/model_server/journal.py` describes.
    pub async fn requests(&self) -> Vec<Value> {
        let Value::Array(entries) = self.control("requests", None).await else {
            panic!("the journal is a list")
        };
        entries
    }

    /// How many requests an endpoint had: `chat`, `responses`, `embeddings`, `models`; or how many calls are `held`.
    pub async fn count(&self, endpoint: &str) -> u64 {
        self.control("counts", None).await[endpoint].as_u64().unwrap_or(0)
    }

    /// Adds rules, as `tests/openai/model_server/rules.py` describes.
    pub async fn add_rules(&self, rules: &Value) {
        self.control("rules", Some(json!({ "rules": rules }))).await;
    }

    /// Lets go of the calls that are held.
    pub async fn release(&self) {
        self.control("release", Some(json!({}))).await;
    }

    async fn control(&self, path: &str, body: Option<Value>) -> Value {
        let url = format!("{}/control/{path}", self.url.trim_end_matches("/v1"));
        let client = http::client();
        let request = match &body {
            Some(body) => client.post(&url).body(body.to_string()),
            None => client.get(&url),
        };
        let response = request.send().await.expect("the model server answers");
        let status = response.status();
        let text = response.text().await.expect("a text");
        assert!(status.is_success(), "{url}: {status}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{url}: {error}: {text}"))
    }
}
