//! Where the broker is. The address that is shown never has the password in it.

use std::fmt;

use lapin::uri::{AMQPScheme, AMQPUri, SASLMechanism};
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::config::BrokerConfig;

/// The largest frame we agree to. Without a limit of its own a broker that offers `frame_max=0` makes the
/// client allocate until it aborts (measured).
const FRAME_MAX: u32 = 131_072;

/// The configured URL is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("[broker] url is not an AMQP URL; it looks like amqp://USER:PASSWORD@HOST:5672/%2f")]
pub struct InvalidUrl;

/// The broker's address as it may be shown: scheme, host, port and virtual host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    text: String,
    host: String,
    port: u16,
}

impl Endpoint {
    /// Several as one: the first, but all of them to be shown.
    pub(super) fn of_all(all: &[(AMQPUri, Self)]) -> Option<Self> {
        let texts: Vec<&str> = all.iter().map(|(_, endpoint)| endpoint.text.as_str()).collect();
        let (_, first) = all.first()?;
        Some(Self {
            text: texts.join(", "),
            ..first.clone()
        })
    }

    /// Its host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Who we are at the broker, and where.
#[derive(Debug, Clone)]
pub struct Login {
    /// User and password; `None` where a client certificate says who we are.
    pub user: Option<(String, SecretString)>,
    /// The virtual host.
    pub vhost: String,
}

impl Login {
    /// As the configured URL says.
    ///
    /// # Errors
    /// [`InvalidUrl`].
    pub fn of(config: &BrokerConfig) -> Result<Self, InvalidUrl> {
        let (uri, _) = parse(config)?.into_iter().next().ok_or(InvalidUrl)?;
        let user = uri.authority.userinfo;
        Ok(Self {
            user: match uri.query.auth_mechanism {
                Some(SASLMechanism::External) => None,
                _ => Some((user.username, user.password.into())),
            },
            vhost: uri.vhost,
        })
    }
}

/// Parses the configured URL, or URLs, and sets what must hold on every connection: heartbeat and frame size. One or
/// more.
///
/// # Errors
/// [`InvalidUrl`], which says what is wrong without repeating the URL.
pub(crate) fn parse(config: &BrokerConfig) -> Result<Vec<(AMQPUri, Endpoint)>, InvalidUrl> {
    let urls = config.url.expose_secret();
    let all: Result<Vec<_>, _> = each(urls).map(|url| parse_one(url, config)).collect();
    all.and_then(|all| match all.is_empty() {
        true => Err(InvalidUrl),
        false => Ok(all),
    })
}

/// Several URLs stand behind each other, with commas or white space between them. A comma may be part of a password,
/// too.
fn each(urls: &str) -> impl Iterator<Item = &str> {
    let schemes = ["amqp://", "amqps://"];
    let separates = |rest: &str| schemes.iter().any(|scheme| rest.trim_start().starts_with(scheme));
    let ends = urls.match_indices([',', ' ', '\n', '\t']);
    let ends = ends.filter_map(|(end, _)| separates(&urls[end + 1..]).then_some(end));
    let ends: Vec<usize> = ends.chain([urls.len()]).collect();
    let mut start = 0;
    let parts = ends.into_iter().map(move |end| {
        let part = urls[start..end].trim();
        start = (end + 1).min(urls.len());
        part
    });
    parts.filter(|part| !part.is_empty())
}

fn parse_one(url: &str, config: &BrokerConfig) -> Result<(AMQPUri, Endpoint), InvalidUrl> {
    // The parser's own words may repeat the whole URL, password included.
    let mut uri: AMQPUri = url.parse().map_err(|_| InvalidUrl)?;
    let parsed = Url::parse(url).map_err(|_| InvalidUrl)?;
    // Several hosts in one URL, as other systems have them, are none here.
    if uri.authority.host.contains(',') {
        return Err(InvalidUrl);
    }
    // The parser knows no IPv6 address, and takes `localhost` for it: user and password would go there.
    let mut shown = uri.authority.host.clone();
    if let Some(Host::Ipv6(address)) = parsed.host() {
        uri.authority.host = address.to_string();
        shown = format!("[{address}]");
    }
    // As other clients and RabbitMQ's cluster operator mean it: a virtual host without a name is none that anybody has.
    if uri.vhost.is_empty() {
        "/".clone_into(&mut uri.vhost);
    }
    uri.query.heartbeat = Some(config.heartbeat_s);
    uri.query.frame_max.get_or_insert(FRAME_MAX);
    if is_tls(&uri) && config.client_cert_file.is_some() && !names_user(url) {
        uri.query.auth_mechanism.get_or_insert(SASLMechanism::External);
    }
    let endpoint = Endpoint {
        text: format!(
            "{}://{shown}:{} (virtual host {:?})",
            uri.scheme, uri.authority.port, uri.vhost
        ),
        host: uri.authority.host.clone(),
        port: uri.authority.port,
    };
    Ok((uri, endpoint))
}

/// Whether it is an address for TLS.
pub(super) fn is_tls(uri: &AMQPUri) -> bool {
    uri.scheme == AMQPScheme::AMQPS
}

/// The parser takes `guest` for granted where the URL has no user.
fn names_user(url: &str) -> bool {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = after_scheme.split(['/', '?']).next().unwrap_or_default();
    authority.contains('@')
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn mechanism(url: &str, client_cert_file: Option<&str>) -> Option<SASLMechanism> {
        let config = BrokerConfig {
            url: SecretString::from(url),
            client_cert_file: client_cert_file.map(PathBuf::from),
            ..BrokerConfig::default()
        };
        let login = Login::of(&config).unwrap();
        let (uri, _) = parse(&config).unwrap().swap_remove(0);
        assert_eq!(
            login.user.is_none(),
            uri.query.auth_mechanism == Some(SASLMechanism::External)
        );
        uri.query.auth_mechanism
    }

    #[test]
    fn addresses_and_virtual_hosts_are_those_of_the_url() {
        for (url, shown, host) in [
            (
                "amqp://u:p@[2001:db8::1]:5673/v",
                "amqp://[2001:db8::1]:5673 (virtual host \"v\")",
                "2001:db8::1",
            ),
            ("amqps://[::1]", "amqps://[::1]:5671 (virtual host \"/\")", "::1"),
            (
                "amqp://u:p@10.0.0.1:5672/",
                "amqp://10.0.0.1:5672 (virtual host \"/\")",
                "10.0.0.1",
            ),
            ("amqp://host/%2f", "amqp://host:5672 (virtual host \"/\")", "host"),
        ] {
            let config = BrokerConfig {
                url: SecretString::from(url),
                ..BrokerConfig::default()
            };
            let (uri, endpoint) = parse(&config).unwrap().swap_remove(0);
            assert_eq!((endpoint.to_string().as_str(), endpoint.host()), (shown, host));
            assert_eq!(uri.authority.host, host);
        }
    }

    #[test]
    fn several_addresses_are_taken_apart_and_a_password_is_not() {
        for (url, hosts) in [
            ("amqp://u:p,q@a/v", vec!["a"]),
            ("amqp://u:p,q@a/v,amqps://u:p@b", vec!["a", "b"]),
            ("amqp://a,\n amqp://b amqp://[::1]:1/\n", vec!["a", "b", "::1"]),
        ] {
            let config = BrokerConfig {
                url: SecretString::from(url),
                ..BrokerConfig::default()
            };
            let all = parse(&config).unwrap();
            let found: Vec<&str> = all.iter().map(|(_, endpoint)| endpoint.host()).collect();
            assert_eq!(found, hosts, "{url}");
        }
        for url in ["", "amqp://a,b", "amqp://a,,", "amqp://a http://b"] {
            let config = BrokerConfig {
                url: SecretString::from(url),
                ..BrokerConfig::default()
            };
            assert!(matches!(parse(&config), Err(InvalidUrl)), "{url:?}");
        }
        let both = BrokerConfig {
            url: SecretString::from("amqp://u:p@a,amqp://u:p@b:1/v"),
            ..BrokerConfig::default()
        };
        let shown = Endpoint::of_all(&parse(&both).unwrap()).unwrap();
        assert_eq!(
            shown.to_string(),
            "amqp://a:5672 (virtual host \"/\"), amqp://b:1 (virtual host \"v\")"
        );
    }

    #[test]
    fn a_certificate_logs_in_where_the_url_names_no_user() {
        let external = Some(SASLMechanism::External);
        assert_eq!(mechanism("amqps://host:5671/%2f", Some("c.pem")), external);
        assert_eq!(mechanism("amqps://host/a@b", Some("c.pem")), external);
        assert_eq!(mechanism("amqps://host/%2f", None), None);
        assert_eq!(mechanism("amqps://user:word@host/%2f", Some("c.pem")), None);
        assert_eq!(mechanism("amqps://host/?auth_mechanism=external", None), external);
    }
}
