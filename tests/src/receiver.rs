//! A receiver of webhooks: an HTTP server that answers as a test has it, and keeps what it got.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Router, http::header::LOCATION};
use futures_util::stream;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::PATIENCE;

/// How a receiver answers a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// With a status.
    Status(u16),
    /// With 302, to this URL.
    Redirect(String),
    /// Never.
    Hang,
    /// With 200, and a body without an end.
    Endless,
}

/// A call as it came.
#[derive(Debug, Clone)]
pub struct Call {
    /// The path, as in `/hook`.
    pub path: String,
    /// The headers.
    pub headers: BTreeMap<String, String>,
    /// The body, as it came.
    pub body: Bytes,
}

impl Call {
    /// Its body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a call has JSON")
    }

    /// The id that it is known again by.
    pub fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }
}

type Rule = dyn Fn(&Call, usize) -> Answer + Send + Sync;

struct Shared {
    rule: Box<Rule>,
    calls: Mutex<Vec<Call>>,
    count: watch::Sender<usize>,
}

/// A receiver on the loopback interface.
pub struct Receiver {
    addr: SocketAddr,
    shared: Arc<Shared>,
    _serving: AbortOnDropHandle<()>,
}

impl Receiver {
    /// One that answers as `rule` says of a call and of how many calls with its id came before.
    pub async fn start(rule: impl Fn(&Call, usize) -> Answer + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared {
            rule: Box::new(rule),
            calls: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("it listens");
        let serving = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves");
        });
        Self {
            addr,
            shared,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// One that takes everything.
    pub async fn willing() -> Self {
        Self::start(|_, _| Answer::Status(200)).await
    }

    /// `127.0.0.1:PORT`.
    pub fn addr(&self) -> String {
        self.addr.to_string()
    }

    /// A URL of it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.addr)
    }

    /// All calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.lock().clone()
    }

    /// Waits until the calls so far are as they should be.
    pub async fn when(&self, what: &str, mut holds: impl FnMut(&[Call]) -> bool) -> Vec<Call> {
        let mut count = self.shared.count.subscribe();
        let holding = async {
            loop {
                count.borrow_and_update();
                let calls = self.calls();
                if holds(&calls) {
                    return calls;
                }
                count.changed().await.expect("the receiver lives");
            }
        };
        match timeout(PATIENCE, holding).await {
            Ok(calls) => calls,
            Err(_) => panic!("{what} does not come; there were {} calls", self.calls().len()),
        }
    }

    /// Waits until so many have come.
    pub async fn got(&self, count: usize) -> Vec<Call> {
        self.when(&format!("a number of {count} calls"), |calls| {
            calls.len() >= count
        })
        .await
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let text = |value: &axum::http::HeaderValue| value.to_str().expect("a header is text").to_owned();
    let call = Call {
        path: uri.path().to_owned(),
        headers: headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        body,
    };
    let answer = {
        let mut calls = shared.lock();
        let before = calls
            .iter()
            .filter(|other| other.headers.get("webhook-id") == call.headers.get("webhook-id"))
            .count();
        let answer = (shared.rule)(&call, before);
        calls.push(call);
        answer
    };
    shared.count.send_modify(|count| *count += 1);
    match answer {
        Answer::Status(status) => StatusCode::from_u16(status).expect("a status").into_response(),
        Answer::Redirect(to) => (StatusCode::FOUND, [(LOCATION, to)]).into_response(),
        Answer::Hang => std::future::pending().await,
        Answer::Endless => {
            let zeros = Bytes::from_static(&[b'0'; 64 * 1024]);
            Body::from_stream(stream::repeat_with(move || Ok::<_, Infallible>(zeros.clone()))).into_response()
        }
    }
}
