use std::fs;
use std::path::Path;

use axum::Router;
use axum::routing::get;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;

use super::super::{Door, Limits, spawn};
use super::*;

const CERTIFICATE: &str = "gateway.tls_cert_file";
const KEY: &str = "gateway.tls_key_file";

/// A certificate of its own authority, in two files of the folder.
fn renew(dir: &Path) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    fs::write(dir.join("cert.pem"), certificate.pem()).unwrap();
    fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    certificate.der().clone()
}

fn load(dir: &Path) -> Result<Tls, Problem> {
    let file = |key, name| NamedFile {
        key,
        file: dir.join(name),
    };
    Tls::load(file(CERTIFICATE, "cert.pem"), file(KEY, "key.pem"))
}

/// A client that believes this certificate, with these versions of TLS.
fn client(
    certificate: &CertificateDer<'static>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config).into()
}

struct Server {
    address: std::net::SocketAddr,
    tls: Arc<Tls>,
    _stop: tokio_util::sync::DropGuard,
}

impl Server {
    async fn start(dir: &Path, limits: Limits) -> Self {
        let tls = Arc::new(load(dir).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let router = Router::new().route("/", get(async || "ok"));
        spawn(
            Door::new(listener, Some(Arc::clone(&tls))),
            router,
            limits,
            stop.clone(),
        );
        Self {
            address,
            tls,
            _stop: stop.drop_guard(),
        }
    }

    /// What is answered by TLS; the connection ends with the answer.
    async fn ask(&self, client: &TlsConnector) -> io::Result<String> {
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = client.connect(name, stream).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

const LIMITS: Limits = Limits {
    connections: 4,
    idle: Duration::from_secs(60),
    drain: Duration::from_secs(60),
};

#[tokio::test]
async fn both_versions_are_spoken_and_a_renewed_certificate_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let old = renew(dir.path());
    let server = Server::start(dir.path(), LIMITS).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let answer = server.ask(&client(&old, &[version])).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"),
            "{answer}"
        );
    }
    assert!(!server.tls.reload().unwrap());
    let new = renew(dir.path());
    assert!(server.tls.reload().unwrap());
    assert!(server.ask(&client(&new, rustls::ALL_VERSIONS)).await.is_ok());
    assert!(server.ask(&client(&old, rustls::ALL_VERSIONS)).await.is_err());
    // One that cannot be used is not.
    fs::write(dir.path().join("cert.pem"), "").unwrap();
    assert_eq!(server.tls.reload().unwrap_err().key, CERTIFICATE);
    assert!(server.ask(&client(&new, rustls::ALL_VERSIONS)).await.is_ok());
}

#[tokio::test]
async fn who_comes_without_tls_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    renew(dir.path());
    let server = Server::start(dir.path(), LIMITS).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 400 ") && body.contains("https://"),
        "{answer}"
    );
    assert!(
        head.contains(&format!("content-length: {}", body.len())),
        "{answer}"
    );
}

#[tokio::test]
async fn a_handshake_that_does_not_come_holds_no_place() {
    let dir = tempfile::tempdir().unwrap();
    let certificate = renew(dir.path());
    let server = Server::start(dir.path(), LIMITS).await;
    let mut idle = Vec::new();
    for number in 0..12 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        if number % 2 == 0 {
            // A record that goes on.
            stream
                .write_all(&[HANDSHAKE_RECORD, 3, 1, 2, 0, 1])
                .await
                .unwrap();
        }
        idle.push(stream);
    }
    assert!(
        server
            .ask(&client(&certificate, rustls::ALL_VERSIONS))
            .await
            .is_ok()
    );
    assert_eq!(idle[0].read(&mut [0]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_handshake_has_its_time() {
    let dir = tempfile::tempdir().unwrap();
    renew(dir.path());
    let mut tls = load(dir.path()).unwrap();
    tls.limit = Duration::from_millis(1);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let ended = tls.handshake(stream).await.err().unwrap();
    assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
}

#[test]
fn files_that_cannot_be_used_are_told_by_their_keys() {
    let dir = tempfile::tempdir().unwrap();
    renew(dir.path());
    let other = tempfile::tempdir().unwrap();
    renew(other.path());
    let told = || load(dir.path()).err().unwrap();
    fs::copy(other.path().join("key.pem"), dir.path().join("key.pem")).unwrap();
    let mismatched = told();
    assert_eq!(mismatched.key, CERTIFICATE);
    assert!(
        mismatched.problem.contains("does not go with the key in") && mismatched.problem.contains("key.pem"),
        "{mismatched:?}"
    );
    fs::copy(dir.path().join("cert.pem"), dir.path().join("key.pem")).unwrap();
    let (key, text) = (told(), "holds no private key");
    assert!(key.key == KEY && key.problem.contains(text), "{key:?}");
    fs::remove_file(dir.path().join("cert.pem")).unwrap();
    let missing = told();
    assert_eq!(missing.key, CERTIFICATE);
    assert!(
        missing.value.contains("cert.pem") && missing.problem.contains("cannot be read"),
        "{missing:?}"
    );
}
