//! The gateway over TLS: its certificate, renewed while it runs, and files that cannot be used.

use std::fs;
use std::path::Path;

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::certificates::{Authority, Identity};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::gateway::GatewayProcess;
use crewfleet_tests::process::TICK;
use crewfleet_tests::worker::WorkerProcess;
use crewfleet_tests::{PATIENCE, http};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const CERTIFICATE: &str = "CREWFLEET__GATEWAY__TLS_CERT_FILE";
const KEY: &str = "CREWFLEET__GATEWAY__TLS_KEY_FILE";

async fn cli(namespace: &Namespace) -> Cli {
    Cli::new(&broker().await.url(), namespace).with_free_gateway_ports()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A client that believes this authority alone.
fn client(authority: &Authority) -> reqwest::Client {
    // It knows whose cryptography then.
    drop(http::client());
    let pem = fs::read(authority.file()).expect("a file");
    let certificate = reqwest::Certificate::from_pem(&pem).expect("a certificate");
    let builder = reqwest::Client::builder().tls_certs_only([certificate]);
    builder.build().expect("a client")
}

fn server(authority: &Authority) -> Identity {
    authority.server("gateway", &["127.0.0.1", "localhost"])
}

#[tokio::test]
async fn callers_come_by_tls_and_a_renewed_certificate_needs_no_restart() {
    let namespace = Namespace::new();
    let _worker = WorkerProcess::builder(&broker().await.url(), &namespace)
        .builtin(&["echo"])
        .ready()
        .await;
    let (old, new) = (Authority::new("the old CA"), Authority::new("the new CA"));
    let shown = server(&old);
    let cli = cli(&namespace)
        .await
        .env(CERTIFICATE, text(&shown.certificate))
        .env(KEY, text(&shown.key));
    let token = cli
        .run(&["token", "create", "shop", "--all-crews"])
        .await
        .success();
    let gateway = GatewayProcess::ready(&cli).await;
    assert!(gateway.url().starts_with("https://"), "{}", gateway.url());
    let before = gateway.caller("echo", &token).by(client(&old));
    let id = before.kickoff(&json!({"inputs": {"word": "bread"}})).await;
    before.becomes(&id, "SUCCESS").await;
    // Whoever forgot the "s" is told so, and holds nobody up.
    let mut plain = TcpStream::connect(gateway.addr()).await.expect("a connection");
    let head = b"GET /crews/echo/inputs HTTP/1.1\r\nHost: x\r\n\r\n";
    plain.write_all(head).await.expect("sent");
    let mut answer = String::new();
    plain.read_to_string(&mut answer).await.expect("an answer");
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"),
        "{answer}"
    );

    let renewed = server(&new);
    fs::copy(&renewed.key, &shown.key).expect("a file");
    fs::copy(&renewed.certificate, &shown.certificate).expect("a file");
    let by_new = client(&new);
    let shown_anew = async {
        while by_new.get(gateway.url()).send().await.is_err() {
            sleep(TICK).await;
        }
    };
    timeout(PATIENCE, shown_anew).await.expect("the new certificate");
    let stranger = client(&old).get(gateway.url()).send().await;
    assert!(stranger.is_err(), "{stranger:?}");
    let after = gateway.caller("echo", &token).by(by_new);
    after.becomes(&id, "SUCCESS").await;
    // A connection that was open stays so.
    before.becomes(&id, "SUCCESS").await;
    assert!(gateway.process().is_running());
}

#[tokio::test]
async fn who_holds_connections_without_a_handshake_holds_nobody_up() {
    let namespace = Namespace::new();
    let authority = Authority::new("the CA of a test");
    let shown = server(&authority);
    let cli = cli(&namespace)
        .await
        .env("CREWFLEET__GATEWAY__MAX_CONNECTIONS", "8")
        .env("CREWFLEET__GATEWAY__IDLE_TIMEOUT_S", "1")
        .env(CERTIFICATE, text(&shown.certificate))
        .env(KEY, text(&shown.key));
    let gateway = GatewayProcess::listening(&cli).await;
    let mut held = Vec::new();
    for number in 0..32 {
        let mut stream = TcpStream::connect(gateway.addr()).await.expect("a connection");
        // The beginning of a handshake, or nothing.
        if number % 2 == 0 {
            stream.write_all(&[0x16, 3, 1, 2, 0]).await.expect("sent");
        }
        held.push(stream);
    }
    let answer = client(&authority)
        .get(gateway.url())
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.text().await.expect("a text"), "Healthy");
    for mut stream in held {
        // Each of them ends, whether or not its place was wanted.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_are_told_at_the_start() {
    let namespace = Namespace::new();
    let (one, other) = (Authority::new("one"), Authority::new("other"));
    let (shown, foreign) = (server(&one), server(&other));
    let missing = one.dir().join("none.pem");
    for (certificate, key, told) in [
        (
            Some(&shown.certificate),
            None,
            vec!["gateway.tls_cert_file", "tls_key_file", text(&shown.certificate)],
        ),
        (
            None,
            Some(&shown.key),
            vec!["gateway.tls_key_file", "tls_cert_file", text(&shown.key)],
        ),
        (
            Some(&missing),
            Some(&shown.key),
            vec!["[gateway] tls_cert_file", text(&missing), "cannot be read"],
        ),
        (
            Some(&shown.certificate),
            Some(&shown.certificate),
            vec!["[gateway] tls_key_file", text(&shown.certificate), "private key"],
        ),
        (
            Some(&shown.certificate),
            Some(&foreign.key),
            vec![
                "[gateway] tls_cert_file",
                text(&shown.certificate),
                "does not go with the key in",
                text(&foreign.key),
            ],
        ),
    ] {
        let mut cli = cli(&namespace).await;
        for (name, file) in [(CERTIFICATE, certificate), (KEY, key)] {
            if let Some(file) = file {
                cli = cli.env(name, text(file));
            }
        }
        cli.run(&["gateway"]).await.ended_with(2).said(&told);
    }
}
