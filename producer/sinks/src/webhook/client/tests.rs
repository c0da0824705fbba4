#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap as Headers, StatusCode as Code, Uri};
use axum::response::{IntoResponse, Response as Answer};
use futures_util::stream;
use prometheus::IntGauge;
use tokio::net::TcpListener;

use super::super::hosts::HostLimits;
use super::super::resolver::System;
use super::super::resolver::tests::Always;
use super::*;

/// What a receiver got: the path, the headers, the body.
type Got = Arc<Mutex<Vec<(String, Headers, Bytes)>>>;

/// A receiver that answers by its path: a status, or something else that receivers do.
struct Receiver {
    addr: SocketAddr,
    got: Got,
}

impl Receiver {
    async fn start() -> Self {
        let got = Got::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&got));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { addr, got }
    }

    fn url(&self, path: &str) -> WebhookUrl {
        format!("http://{}/{path}", self.addr).parse().unwrap()
    }

    fn paths(&self) -> Vec<String> {
        let got = self.got.lock().unwrap();
        got.iter().map(|(path, ..)| path.clone()).collect()
    }
}

async fn answer(State(got): State<Got>, uri: Uri, headers: Headers, body: Bytes) -> Answer {
    let path = uri.path().trim_start_matches('/').to_owned();
    got.lock().unwrap().push((path.clone(), headers, body));
    match path.as_str() {
        "hang" => std::future::pending().await,
        "redirect" => (Code::FOUND, [("location", "/200")]).into_response(),
        "busy" => (Code::SERVICE_UNAVAILABLE, [("retry-after", "120")]).into_response(),
        "endless" => {
            let zeros = Bytes::from_static(&[b'0'; 16 * 1024]);
            Body::from_stream(stream::repeat_with(move || Ok::<_, Infallible>(zeros.clone()))).into_response()
        }
        code => Code::from_u16(code.parse().unwrap()).unwrap().into_response(),
    }
}

fn client_by(lookup: Arc<dyn Lookup>, allow: &[String]) -> WebhookClient {
    let guard = AddressGuard::new(allow.iter().map(|text| text.parse().unwrap()).collect());
    let limits = HostLimits {
        calls: 4,
        waiting: 4,
        before_sharing: 64,
    };
    let hosts = Hosts::new(limits, IntGauge::new("open", "open").unwrap());
    let limits = CallLimits {
        total: Duration::from_millis(500),
        connect: Duration::from_millis(500),
    };
    WebhookClient::new(guard, lookup, hosts, limits).unwrap()
}

fn client(allow: &[String]) -> WebhookClient {
    client_by(Arc::new(System), allow)
}

async fn called(client: &WebhookClient, url: &WebhookUrl) -> Verdict {
    let call = Call {
        id: "msg_1",
        url,
        is_trusted: false,
        authentication: Some(&Authentication::Bearer { token: "t".into() }),
        content_type: "application/json",
        body: Bytes::from_static(b"{}"),
        signer: &Signer::new(&"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()).unwrap(),
    };
    client.call(&call).await
}

#[tokio::test]
async fn a_receiver_s_status_is_the_verdict() {
    let receiver = Receiver::start().await;
    let client = client(&[receiver.addr.to_string()]);
    let never = |why: &str| Verdict::never(why);
    let again = |why: &str, after: Option<u64>| Verdict::Again {
        why: why.to_owned(),
        after: after.map(Duration::from_secs),
    };
    for (path, expected) in [
        ("200", Verdict::Delivered),
        ("204", Verdict::Delivered),
        ("endless", Verdict::Delivered),
        ("410", Verdict::Gone),
        ("400", never("it answers 400")),
        ("401", never("it answers 401")),
        ("404", never("it answers 404")),
        (
            "redirect",
            never("it answers 302, and redirects are not followed: give the URL that this one leads to"),
        ),
        ("408", again("it answers 408", None)),
        ("425", again("it answers 425", None)),
        ("500", again("it answers 500", None)),
        ("busy", again("it answers 503", Some(120))),
        ("hang", again("no answer within 0.5 s", None)),
    ] {
        assert_eq!(called(&client, &receiver.url(path)).await, expected, "{path}");
    }
    assert_eq!(
        receiver.paths().iter().filter(|path| *path == "200").count(),
        1,
        "the redirect was not followed"
    );
    let got = receiver.got.lock().unwrap();
    let (_, headers, body) = &got[0];
    let header = |name: &str| headers.get(name).unwrap().to_str().unwrap();
    assert_eq!(
        (header("content-type"), &body[..]),
        ("application/json", &b"{}"[..])
    );
    assert_eq!(
        (header("webhook-id"), header("authorization")),
        ("msg_1", "Bearer t")
    );
    assert!(header("webhook-signature").starts_with("v1,") && header("x-signature").starts_with("sha256="));
    assert!(header("user-agent").starts_with("crewfleet/"));
}

#[tokio::test]
async fn what_is_not_for_everybody_is_not_called() {
    let receiver = Receiver::start().await;
    let (client, port) = (client(&[]), receiver.addr.port());
    for host in [
        "127.0.0.1",
        "localhost",
        "127.1",
        "0x7f.1",
        "[::ffff:127.0.0.1]",
        "0",
    ] {
        let url = format!("http://{host}:{port}/200").parse().unwrap();
        match called(&client, &url).await {
            Verdict::Never { why } => assert!(why.contains("not called"), "{host}: {why}"),
            other => panic!("{host}: {other:?}"),
        }
    }
    assert_eq!(receiver.paths(), Vec::<String>::new());
    // A port that is allowed is no way to another.
    let other = Receiver::start().await;
    let client = client_by(Arc::new(System), &[format!("localhost:{}", other.addr.port())]);
    let at = |port: u16| format!("http://localhost:{port}/200").parse().unwrap();
    assert_eq!(called(&client, &at(other.addr.port())).await, Verdict::Delivered);
    assert!(matches!(called(&client, &at(port)).await, Verdict::Never { .. }));
}

#[tokio::test]
async fn a_name_is_called_at_the_address_that_was_looked_at() {
    let receiver = Receiver::start().await;
    let here: IpAddr = receiver.addr.ip();
    let url: WebhookUrl = format!("http://hooks.example:{}/200", receiver.addr.port())
        .parse()
        .unwrap();
    // Nobody but this lookup knows the name.
    let allowed = client_by(Arc::new(Always(vec![here])), &["127.0.0.0/8".to_owned()]);
    assert_eq!(called(&allowed, &url).await, Verdict::Delivered);
    let rebound = client_by(Arc::new(Always(vec![here])), &[]);
    match called(&rebound, &url).await {
        Verdict::Never { why } => assert!(
            why.contains("hooks.example") && why.contains("127.0.0.1"),
            "{why}"
        ),
        other => panic!("{other:?}"),
    }
    assert_eq!(receiver.paths().len(), 1);
}

#[tokio::test]
async fn nobody_there_is_tried_again_and_left_alone_after_a_while() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let client = client(&[addr.to_string()]);
    let url = format!("http://{addr}/200").parse().unwrap();
    for _ in 0..10 {
        match called(&client, &url).await {
            Verdict::Again { why, .. } => assert!(why.starts_with("no connection: "), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(called(&client, &url).await, Verdict::Deferred { after } if after > CROWDED));
}

#[test]
fn pauses_that_a_receiver_asks_for_are_numbers_or_moments() {
    let asked = |value: &str| {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
        retry_after(&headers)
    };
    assert_eq!(asked("7"), Some(Duration::from_secs(7)));
    assert_eq!(asked("99999999999"), Some(LONGEST_PAUSE));
    let soon = (Utc::now() + chrono::TimeDelta::minutes(5))
        .format("%a, %d %b %Y %H:%M:%S GMT")
        .to_string();
    assert!(asked(&soon).is_some_and(|after| after > Duration::from_secs(290)));
    assert_eq!(
        (asked("soon"), asked("-1"), asked("Thu, 01 Jan 1970 00:00:00 GMT")),
        (None, None, None)
    );
}

#[test]
fn the_ports_of_a_host_share_its_places_unless_the_configuration_names_them() {
    let [one, other] =
        ["https://Hooks.example.:1/a", "https://hooks.example:2/b"].map(|url| Url::parse(url).unwrap());
    assert_eq!(
        super::called(&one, false).places,
        super::called(&other, false).places
    );
    assert_ne!(
        super::called(&one, true).places,
        super::called(&other, true).places
    );
    assert_ne!(
        super::called(&one, false).service,
        super::called(&other, false).service
    );
}
