use axum::Router;
use axum::routing::get;
use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio_util::sync::DropGuard;

use super::*;

const LIMITS: Limits = Limits {
    connections: 4,
    idle: Duration::from_secs(60),
    drain: Duration::from_secs(60),
};

/// A server, which ends with the guard, and its address.
async fn server(router: Router, limits: Limits) -> (std::net::SocketAddr, DropGuard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    spawn(listener, router, limits, stop.clone());
    (address, stop.drop_guard())
}

/// Sends a request over a connection, and gives the answer's body, which says how long it is.
async fn ask(stream: &mut TcpStream, path: &str) -> io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    while !answer.contains("\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        answer.push(byte[0].into());
    }
    let length = answer.to_lowercase();
    let length = length.split("content-length: ").nth(1).unwrap();
    let mut body = vec![0; length.lines().next().unwrap().parse().unwrap()];
    stream.read_exact(&mut body).await?;
    Ok(String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn who_is_idle_gives_way_and_who_is_answered_does_not() {
    let go = Arc::new(Notify::new());
    let going = Arc::clone(&go);
    let slow = move || {
        let going = Arc::clone(&going);
        async move {
            going.notified().await;
            "done"
        }
    };
    let router = Router::new()
        .route("/", get(async || "ok"))
        .route("/slow", get(slow));
    let (address, _server) = server(router, LIMITS).await;
    let mut waiting = TcpStream::connect(address).await.unwrap();
    let answer = ask(&mut waiting, "/slow");
    tokio::pin!(answer);
    assert!((&mut answer).now_or_never().is_none());
    let mut idle = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HT").await.unwrap();
        idle.push(stream);
    }
    // One more is served all the same, and the first of those that were idle are cut.
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(&mut stream, "/").await.unwrap(), "ok");
    assert_eq!(idle[0].read(&mut [0]).await.unwrap_or(0), 0);
    go.notify_one();
    assert_eq!(answer.await.unwrap(), "done");
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_its_connection() {
    let limits = Limits {
        idle: Duration::from_millis(50),
        ..LIMITS
    };
    let (address, _server) = server(Router::new().route("/", get(async || "ok")), limits).await;
    for sent in ["", "GET / HTTP/1.1\r\nHo"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    }
    // Nor does one that was used, and is no more.
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert_eq!(ask(&mut stream, "/").await.unwrap(), "ok");
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

#[tokio::test]
async fn a_head_that_is_no_request_is_answered_by_a_status_alone() {
    let (address, _server) = server(Router::new().route("/", get(async || "ok")), LIMITS).await;
    let long = format!("GET / HTTP/1.1\r\nX-Long: {}\r\n\r\n", "x".repeat(2 * HEAD));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X-Many: x\r\n".repeat(HEADERS + 1));
    for (head, status) in [
        ("NONSENSE\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nno header\r\n\r\n", "400"),
        (&long, "431"),
        (&many, "431"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // It may answer before all is sent, and end.
        let _ = stream.write_all(head.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap().to_lowercase();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{answer}");
        assert!(
            head.contains("connection: close") && head.contains("content-length: 0"),
            "{answer}"
        );
        assert_eq!(body, "");
    }
}

#[tokio::test]
async fn at_the_end_what_runs_is_answered_and_no_more_is_taken() {
    let (started, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (says, going) = (Arc::clone(&started), Arc::clone(&go));
    let slow = move || {
        let (says, going) = (Arc::clone(&says), Arc::clone(&going));
        async move {
            says.notify_one();
            going.notified().await;
            "done"
        }
    };
    let (address, server) = server(Router::new().route("/slow", get(slow)), LIMITS).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut idle = TcpStream::connect(address).await.unwrap();
    let asking = tokio::spawn(async move { ask(&mut stream, "/slow").await.unwrap() });
    started.notified().await;
    drop(server);
    let _ = idle.read_to_end(&mut Vec::new()).await;
    go.notify_one();
    assert_eq!(asking.await.unwrap(), "done");
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}
