//! A caller of the gateway: kicks off its part of the plan as a client of CrewAI's hosted service does, polls what
//! becomes of it, and writes down all that it is told. It may be killed at any moment, and so may the gateway.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use crewfleet_tests::http;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinSet, time::sleep};

use super::{
    calls::{self, Call, CallLine, Told},
    journal::{self, Journal, Nanos, now},
    producers::{CALLER, Part},
    workload::Planned,
};

/// How many kickoffs are waited for at once, at most.
const WINDOW: usize = 64;
/// The pause before something is asked again.
const PAUSE: Duration = Duration::from_millis(500);
/// No answer of a gateway takes longer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(90);

/// What a caller is told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CallerArguments {
    /// The gateway's base URL.
    #[arg(long)]
    pub gateway: String,
    /// The file with the token.
    #[arg(long)]
    pub token_file: PathBuf,
    /// Where those are told that ask for it.
    #[arg(long)]
    pub hook: String,
    /// What it has to do.
    #[command(flatten)]
    pub part: Part,
}

struct Caller {
    client: reqwest::Client,
    gateway: String,
    token: String,
    journal: Journal,
    window: Semaphore,
    epoch: Nanos,
    hook: String,
}

/// An answer: the status and the JSON. `Err` says why there is none, and whether it is sure that nothing was sent.
type Answer = Result<(StatusCode, Value), (String, bool)>;

/// Kicks off what is not accepted yet, and polls until all have ended.
pub(crate) async fn run(arguments: &CallerArguments) -> anyhow::Result<()> {
    let plan: Vec<Planned> = journal::read(&arguments.part.plan)?;
    let by_number: BTreeMap<u64, Planned> = plan.iter().map(|one| (one.number, one.clone())).collect();
    let mut earlier = calls::read(CALLER, &by_number, journal::read(&arguments.part.history)?);
    let caller = Arc::new(Caller {
        client: http::client(),
        gateway: arguments.gateway.clone(),
        token: std::fs::read_to_string(&arguments.token_file)?.trim().to_owned(),
        journal: Journal::open(&arguments.part.history)?,
        window: Semaphore::new(WINDOW),
        epoch: arguments.part.epoch,
        hook: arguments.hook.clone(),
    });
    let mut kickoffs = JoinSet::new();
    for planned in plan {
        let (caller, earlier) = (Arc::clone(&caller), earlier.remove(&planned.number));
        kickoffs.spawn(async move { caller.see_through(planned, earlier).await });
    }
    let mut accepted = Vec::new();
    while let Some(ended) = kickoffs.join_next().await {
        accepted.push(ended?);
    }
    // What was told is told to whoever asks later, also by a gateway that has started since.
    for (planned, id) in accepted {
        caller.poll(&planned, &id).await;
    }
    Ok(())
}

impl Caller {
    /// From the call to the end, as far as an earlier life has not come. Returns the id.
    async fn see_through(&self, planned: Planned, earlier: Option<Call>) -> (Planned, String) {
        let due = self.epoch + planned.at_ms * 1_000_000;
        sleep(Duration::from_nanos(due.saturating_sub(now()))).await;
        let _permit = self.window.acquire().await.expect("the window stays open");
        let known = earlier.as_ref().and_then(|call| call.id().map(str::to_owned));
        let id = match known {
            Some(id) => id,
            None => self.kick_off(&planned).await,
        };
        if earlier.is_some_and(|call| !call.told.is_empty()) {
            return (planned, id);
        }
        if let Some(after) = planned.cancel_after_ms {
            sleep(Duration::from_millis(after)).await;
            self.stop(&planned, &id).await;
        }
        self.poll(&planned, &id).await;
        (planned, id)
    }

    /// Asks until it is accepted.
    async fn kick_off(&self, planned: &Planned) -> String {
        let number = planned.number;
        let mut body = json!({ "inputs": planned.order });
        if planned.follow.webhook {
            body["crewWebhookUrl"] = json!(self.hook);
        }
        loop {
            self.journal.write(&CallLine::Calling { t: now(), number });
            let answer = self.call(Method::POST, planned, "/kickoff", Some(&body)).await;
            let id = |answer: &Value| answer["kickoff_id"].as_str().map(str::to_owned);
            let t = now();
            match answer {
                Ok((StatusCode::OK, answer)) => {
                    let id = id(&answer).expect("an id");
                    self.journal.write(&CallLine::Accepted {
                        t,
                        number,
                        id: id.clone(),
                    });
                    return id;
                }
                Ok((status, answer)) => self.journal.write(&match id(&answer) {
                    // Only where it may be taken, an id is told.
                    Some(id) => CallLine::Unheard {
                        t,
                        number,
                        id: Some(id),
                        why: format!("{status}: {answer}"),
                    },
                    None => CallLine::Refused {
                        t,
                        number,
                        answer: format!("{status}: {answer}"),
                    },
                }),
                Err((answer, true)) => self.journal.write(&CallLine::Refused { t, number, answer }),
                Err((why, false)) => self.journal.write(&CallLine::Unheard {
                    t,
                    number,
                    id: None,
                    why,
                }),
            }
            sleep(PAUSE).await;
        }
    }

    /// Stops it, unless it has ended.
    async fn stop(&self, planned: &Planned, id: &str) {
        let number = planned.number;
        self.journal.write(&CallLine::Stopping { t: now(), number });
        loop {
            match self
                .call(Method::POST, planned, &format!("/stop/{id}"), None)
                .await
            {
                Ok((StatusCode::OK | StatusCode::BAD_REQUEST, _)) => return,
                Ok((StatusCode::NOT_FOUND, answer)) => self.denied(number, &answer),
                _ => {}
            }
            sleep(PAUSE).await;
        }
    }

    /// Asks until it has ended.
    async fn poll(&self, planned: &Planned, id: &str) {
        let number = planned.number;
        loop {
            match self
                .call(Method::GET, planned, &format!("/status/{id}"), None)
                .await
            {
                Ok((StatusCode::OK, answer)) => {
                    let state = answer["state"].as_str().expect("a state").to_owned();
                    if ["SUCCESS", "FAILED"].contains(&state.as_str()) {
                        let nonce = answer["result_json"]["nonce"].as_str().map(str::to_owned);
                        let told = Told { state, nonce };
                        let t = now();
                        return self.journal.write(&CallLine::Told { t, number, told });
                    }
                }
                Ok((StatusCode::NOT_FOUND, answer)) => self.denied(number, &answer),
                _ => {}
            }
            sleep(PAUSE).await;
        }
    }

    fn denied(&self, number: u64, answer: &Value) {
        let (t, answer) = (now(), answer.to_string());
        self.journal.write(&CallLine::Denied { t, number, answer });
    }

    async fn call(&self, method: Method, planned: &Planned, path: &str, body: Option<&Value>) -> Answer {
        let url = format!("{}/crews/{}{path}", self.gateway, planned.crew);
        let mut request = self
            .client
            .request(method, url)
            .bearer_auth(&self.token)
            .timeout(ANSWERED_WITHIN);
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let why = |error: reqwest::Error| (error.to_string(), error.is_connect());
        let response = request.send().await.map_err(why)?;
        let status = response.status();
        let text = response
            .text()
            .await
            .map_err(|error| (error.to_string(), false))?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }
}
