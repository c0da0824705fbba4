//! TLS on the way in: a certificate that is read again when its files change.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crewfleet_amqp::Problem;
use crewfleet_amqp::pem::{certificates, private_key};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long a client may take until there is a session.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often the files are read.
const INTERVAL: Duration = Duration::from_secs(1);
/// What each record of a handshake begins with. No method of HTTP does.
const HANDSHAKE_RECORD: u8 = 0x16;
/// Of a request without TLS that is read before it is answered.
const PLAIN_HEAD: usize = 16 * 1024;
const PLAIN_ANSWER: &str = concat!(
    "HTTP/1.1 400 Bad Request\r\n",
    "content-type: application/json\r\n",
    "content-length: 79\r\n",
    "connection: close\r\n\r\n",
    r#"{"error":"Bad Request","message":"This address takes TLS alone: call https://"}"#
);

/// A file, and the key of the configuration that names it.
#[derive(Debug, Clone)]
pub struct NamedFile {
    /// The key, `section.name`.
    pub key: &'static str,
    /// The file.
    pub file: PathBuf,
}

/// A certificate and its private key, which callers are shown.
#[derive(Debug)]
pub struct Tls {
    certificate: NamedFile,
    key: NamedFile,
    provider: Arc<CryptoProvider>,
    current: Arc<Current>,
    config: Arc<ServerConfig>,
    /// How long a handshake may take.
    limit: Duration,
}

/// The one that is shown now.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl Current {
    fn get(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// A [`Problem`] with one of them.
    pub fn load(certificate: NamedFile, key: NamedFile) -> Result<Self, Problem> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let first = read(&certificate, &key, &provider)?;
        let current = Arc::new(Current(RwLock::new(Arc::new(first))));
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| {
                let problem = format!("TLS cannot be used: {e}");
                Problem::new(certificate.key, certificate.file.display(), problem)
            })?;
        let mut config = builder
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as _);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            certificate,
            key,
            provider,
            current,
            config: Arc::new(config),
            limit: HANDSHAKE,
        })
    }

    /// Reads the files again and again until `stop`: certificates are renewed. Connections that are open stay so.
    pub fn watch(self: &Arc<Self>, stop: CancellationToken) {
        let tls = Arc::clone(self);
        tokio::spawn(async move {
            let mut before = None;
            while stop.run_until_cancelled(sleep(INTERVAL)).await.is_some() {
                let reading = Arc::clone(&tls);
                let Ok(read) = tokio::task::spawn_blocking(move || reading.reload()).await else {
                    continue;
                };
                let file = tls.certificate.file.display();
                match read {
                    Ok(true) => info!(%file, "the certificate has changed"),
                    // Whoever replaces two files does so one after the other: what is wrong twice is wrong.
                    Err(Problem { key, value, problem }) => {
                        let now = format!("{key} = {value}: {problem}");
                        before = match before.take() {
                            Some((told, count @ 0)) if told == now => {
                                warn!(
                                    error = now,
                                    "the certificate cannot be read again; the last one stays"
                                );
                                Some((told, count + 1))
                            }
                            Some((told, count)) if told == now => Some((told, count)),
                            _ => Some((now, 0)),
                        };
                        continue;
                    }
                    Ok(false) => {}
                }
                before = None;
            }
        });
    }

    /// Whether there is another certificate now.
    fn reload(&self) -> Result<bool, Problem> {
        let read = read(&self.certificate, &self.key, &self.provider)?;
        let has_changed = read.cert != self.current.get().cert;
        if has_changed {
            let mut current = self.current.0.write().unwrap_or_else(PoisonError::into_inner);
            *current = Arc::new(read);
        }
        Ok(has_changed)
    }

    /// A session with whoever connected.
    pub(super) async fn handshake(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let shaking = async {
            let mut first = [0];
            match stream.peek(&mut first).await? {
                1 if first[0] != HANDSHAKE_RECORD => Err(refuse_plain(stream).await),
                _ => TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await,
            }
        };
        let late = |_| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no TLS handshake in time",
            ))
        };
        timeout(self.limit, shaking).await.unwrap_or_else(late)
    }
}

/// Whoever came without TLS is told so, in their own words.
async fn refuse_plain(mut stream: TcpStream) -> io::Error {
    // What is not read would have the answer thrown away when this closes.
    let _ = stream.try_read(&mut vec![0; PLAIN_HEAD]);
    let _ = stream.write_all(PLAIN_ANSWER.as_bytes()).await;
    let _ = stream.shutdown().await;
    io::Error::new(io::ErrorKind::InvalidData, "a request without TLS")
}

fn read(
    certificate: &NamedFile,
    key: &NamedFile,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Problem> {
    let chain = certificates(certificate.key, &certificate.file)?;
    let private = private_key(key.key, &key.file)?;
    CertifiedKey::from_der(chain, private, provider).map_err(|e| {
        let problem = format!(
            "it does not go with the key in {} ({e}); name a certificate (first in its file) and its own key",
            key.file.display()
        );
        Problem::new(certificate.key, certificate.file.display(), problem)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
