//! TLS with the broker: whom we trust, who we are, and in plain words why it did not come about.
//!
//! The files are read at each attempt to connect, so that a renewed certificate needs no restart; those of the system
//! when they have changed.

use std::error::Error as StdError;
use std::io;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat};
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, ClientConfig, InvalidMessage, RootCertStore};

use super::config::BrokerConfig;
use super::pem::{certificates, private_key};
use super::problem::Problem;
use super::system_roots::system_roots;

const CA: &str = "broker.ca_file";
const CERTIFICATE: &str = "broker.client_cert_file";
const KEY: &str = "broker.client_key_file";

const NAME_CLIENT_CERTIFICATE: &str = "name one in [broker] client_cert_file, with its client_key_file";

/// Why there is no TLS, and what would help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was found.
    pub cause: String,
    /// What to do.
    pub fix: String,
    /// Whether TLS itself says so; else the broker hung up, as one does that is about to start or to end.
    pub is_certain: bool,
}

/// TLS as `[broker]` has it, with the files as they are now.
///
/// # Errors
/// A file that cannot be read or does not hold what it should, as a [`Problem`] with its key.
pub fn client_config(config: &BrokerConfig) -> Result<ClientConfig, Problem> {
    let identity = match (&config.client_cert_file, &config.client_key_file) {
        (None, None) => None,
        (Some(file), Some(key)) => Some((file, key)),
        (Some(file), None) => {
            let problem = "a certificate is of no use without its private key; set client_key_file, too";
            return Err(Problem::new(CERTIFICATE, file.display(), problem));
        }
        (None, Some(key)) => {
            let problem = "a key is of no use without its certificate; set client_cert_file, too";
            return Err(Problem::new(KEY, key.display(), problem));
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Problem::new("broker.url", "amqps://…", format!("TLS cannot be used: {e}")))?
        .with_root_certificates(trusted(config.ca_file.as_deref())?);
    let Some((file, key)) = identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(CERTIFICATE, file)?;
    let private = private_key(KEY, key)?;
    builder.with_client_auth_cert(chain, private).map_err(|e| {
        let problem = format!(
            "it does not go with the key in {} ({e}); name a certificate (first in its file) and its own key",
            key.display()
        );
        Problem::new(CERTIFICATE, file.display(), problem)
    })
}

/// The CAs of the file alone, else the system's: a private CA is named so that no other is believed.
fn trusted(file: Option<&Path>) -> Result<Arc<RootCertStore>, Problem> {
    let Some(file) = file else {
        let roots = system_roots();
        if roots.is_empty() {
            let problem = "this system has no CA certificates; install them (on Debian: ca-certificates), or name \
                           the PEM file of the broker's CA";
            return Err(Problem::new(CA, "not set", problem));
        }
        return Ok(roots);
    };
    roots_in(CA, file).map(Arc::new)
}

/// The CAs that a PEM file holds, which `key` of the configuration names.
///
/// # Errors
/// A file that cannot be read or does not hold what it should, as a [`Problem`] with its key.
pub fn roots_in(key: &str, file: &Path) -> Result<RootCertStore, Problem> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(key, file)? {
        roots.add(certificate).map_err(|e| {
            let problem =
                format!("it holds what is no CA certificate ({e}); name a PEM file of CA certificates");
            Problem::new(key, file.display(), problem)
        })?;
    }
    Ok(roots)
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        let Problem { key, value, problem } = problem;
        let name = key.trim_start_matches("broker.");
        Self {
            cause: format!("[broker] {name} = {value}"),
            fix: problem,
            is_certain: true,
        }
    }
}

/// What TLS has against it, if that is what an error is about.
pub fn refusal(error: &(dyn StdError + 'static)) -> Option<Refusal> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(explain(error));
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            // An I/O error does not count what it holds among its sources.
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// What a broker that just hangs up may have meant: the alert that says so can be lost with the connection.
pub(super) fn closed_by_broker(error: &io::Error, has_client_certificate: bool) -> Option<Refusal> {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let is_over = [BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof].contains(&error.kind());
    is_over.then(|| Refusal {
        cause: format!("it hung up after the handshake ({error})"),
        fix: match has_client_certificate {
            true => "its log says why; it may not accept the certificate of [broker] client_cert_file".into(),
            false => {
                format!("its log says why; if it demands a client certificate, {NAME_CLIENT_CERTIFICATE}")
            }
        },
        is_certain: false,
    })
}

fn explain(error: &rustls::Error) -> Refusal {
    let (cause, fix) = match error {
        rustls::Error::InvalidCertificate(error) => not_trusted(error),
        rustls::Error::AlertReceived(alert) => alerted(*alert),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => (
            "what answers there does not speak TLS".to_owned(),
            "use the port of its TLS listener (5671 by default), or amqp:// in [broker] url",
        ),
        error => (error.to_string(), "see its log, and [broker] url"),
    };
    Refusal {
        cause,
        fix: fix.to_owned(),
        is_certain: true,
    }
}

fn not_trusted(error: &CertificateError) -> (String, &'static str) {
    const NAME_CA: &str = "name the PEM file of the CA that issued it in [broker] ca_file";
    const RENEW: &str = "renew it, or set this machine's clock";
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            "no CA that is trusted here issued its certificate".to_owned(),
            NAME_CA,
        ),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            let names = match names.as_slice() {
                [] => "no name at all (subjectAltName)".to_owned(),
                names => names.join(", "),
            };
            (
                format!("its certificate is for {names}, not for {}", expected.to_str()),
                "write a name that it has in [broker] url, or issue one for this name",
            )
        }
        CertificateError::ExpiredContext { not_after, .. } => (
            format!(
                "its certificate, or that of a CA, has expired: {}",
                moment(*not_after)
            ),
            RENEW,
        ),
        CertificateError::NotValidYetContext { not_before, .. } => (
            format!("its certificate is not valid before {}", moment(*not_before)),
            RENEW,
        ),
        CertificateError::InvalidPurposeContext { .. } => (
            format!("its certificate is not one for servers: {error}"),
            "issue one with the extended key usage serverAuth",
        ),
        error => (format!("its certificate is not accepted: {error}"), NAME_CA),
    }
}

/// `DnsName("rabbit-1")` is how the verifier writes a name.
fn bare(name: &str) -> &str {
    let inner = name
        .split_once('(')
        .map_or(name, |(_, rest)| rest.trim_end_matches(')'));
    inner.trim_matches('"')
}

fn moment(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    DateTime::from_timestamp(seconds, 0).map_or_else(
        || format!("{seconds} s after 1970"),
        |time| time.to_rfc3339_opts(SecondsFormat::Secs, true),
    )
}

fn alerted(alert: AlertDescription) -> (String, &'static str) {
    use AlertDescription::{
        BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked, CertificateUnknown,
        HandshakeFailure, ProtocolVersion, UnknownCA, UnsupportedCertificate,
    };
    match alert {
        CertificateRequired => (
            "it demands a client certificate".to_owned(),
            NAME_CLIENT_CERTIFICATE,
        ),
        // In TLS 1.2 a missing client certificate has no alert of its own.
        HandshakeFailure => (
            "it refused the handshake: there is no cipher in common, or it demands a client certificate"
                .to_owned(),
            NAME_CLIENT_CERTIFICATE,
        ),
        UnknownCA
        | BadCertificate
        | CertificateExpired
        | CertificateRevoked
        | CertificateUnknown
        | UnsupportedCertificate => (
            format!("it does not accept our client certificate ({})", named(alert)),
            "name one in [broker] client_cert_file that is valid now, for clients, and of a CA that the broker trusts",
        ),
        ProtocolVersion => (
            "it speaks no TLS that we do (1.2 or 1.3)".to_owned(),
            "enable TLS 1.2 on it",
        ),
        alert => (
            format!("it refused the handshake ({})", named(alert)),
            "see its log",
        ),
    }
}

/// As TLS's documents (RFC 8446, 6.2) name what concerns a certificate; another one by its number.
fn named(alert: AlertDescription) -> String {
    let name = match alert {
        AlertDescription::UnknownCA => "unknown_ca",
        AlertDescription::BadCertificate => "bad_certificate",
        AlertDescription::CertificateExpired => "certificate_expired",
        AlertDescription::CertificateRevoked => "certificate_revoked",
        AlertDescription::CertificateUnknown => "certificate_unknown",
        AlertDescription::UnsupportedCertificate => "unsupported_certificate",
        other => return format!("TLS alert {}", u8::from(other)),
    };
    format!("TLS alert {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_without_the_verifier_s_wrapping() {
        assert_eq!(bare("DnsName(\"rabbit-1.example\")"), "rabbit-1.example");
        assert_eq!(bare("IpAddress(127.0.0.1)"), "127.0.0.1");
        assert_eq!(bare("plain"), "plain");
    }

    #[test]
    fn a_tls_error_is_found_wherever_it_is_wrapped() {
        let tls = || rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        let inner = io::Error::new(io::ErrorKind::InvalidData, tls());
        let outer = io::Error::other(io::Error::other(lapin::Error::from(inner)));
        assert_eq!(refusal(&outer), Some(explain(&tls())));
        assert_eq!(refusal(&io::Error::other("something else")), None);
    }

    #[test]
    fn an_alert_is_told_by_its_name_or_number() {
        let told = |alert| explain(&rustls::Error::AlertReceived(alert)).cause;
        assert!(told(AlertDescription::UnknownCA).ends_with("(TLS alert unknown_ca)"));
        assert!(told(AlertDescription::InternalError).ends_with("(TLS alert 80)"));
    }

    #[test]
    fn the_end_of_a_certificate_is_a_date() {
        let expired = CertificateError::ExpiredContext {
            time: UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_800_000_000)),
            not_after: UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_700_000_000)),
        };
        let refusal = explain(&rustls::Error::InvalidCertificate(expired));
        assert!(refusal.cause.contains("2023-11-14T22:13:20Z"), "{refusal:?}");
    }
}
