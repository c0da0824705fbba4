//! What can go wrong between us and the broker.

use std::time::Duration;

use super::tls::Refusal;
use super::uri::{Endpoint, InvalidUrl};

/// AMQP's reply codes (AMQP 0-9-1, section 1.3) that mean something to us.
pub mod reply_code {
    /// The message is larger than the broker takes.
    pub const CONTENT_TOO_LARGE: u16 = 311;
    /// The user may not do this.
    pub const ACCESS_REFUSED: u16 = 403;
    /// There is no such queue or exchange.
    pub const NOT_FOUND: u16 = 404;
    /// Somebody else has it for themselves.
    pub const RESOURCE_LOCKED: u16 = 405;
    /// It exists with other arguments, a message is larger than the broker takes, or a delivery was held for longer
    /// than the consumer timeout.
    pub const PRECONDITION_FAILED: u16 = 406;
    /// Policy forbids it; the connection is over.
    pub const NOT_ALLOWED: u16 = 530;
    /// The broker cannot do this; the connection is over.
    pub const NOT_IMPLEMENTED: u16 = 540;
    /// Something went wrong in the broker; the connection is over.
    pub const INTERNAL_ERROR: u16 = 541;
    /// An operator has closed the connection, or the node goes.
    pub const CONNECTION_FORCED: u16 = 320;
}

/// The codes that answer a request.
const REFUSALS: [u16; 7] = [
    reply_code::CONTENT_TOO_LARGE,
    reply_code::ACCESS_REFUSED,
    reply_code::NOT_FOUND,
    reply_code::RESOURCE_LOCKED,
    reply_code::PRECONDITION_FAILED,
    reply_code::NOT_ALLOWED,
    reply_code::NOT_IMPLEMENTED,
];

/// No connection could be made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// The configured URL is not one.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    /// Nothing answered in time.
    #[error(
        "RabbitMQ at {endpoint} did not answer within {timeout:?}; is it running and reachable? ([broker] url, connect_timeout_s)"
    )]
    Timeout {
        /// Where.
        endpoint: Endpoint,
        /// How long we waited.
        timeout: Duration,
    },
    /// TLS did not come about: certificates above all.
    #[error("no TLS with RabbitMQ at {endpoint}: {}; {}", .refusal.cause, .refusal.fix)]
    Tls {
        /// Where.
        endpoint: Endpoint,
        /// Why, and what to do.
        refusal: Refusal,
    },
    /// None of several addresses.
    #[error("{}", in_turn(.0))]
    All(Vec<ConnectError>),
    /// It refused, or the network did.
    #[error("cannot connect to RabbitMQ at {endpoint}: {cause}. {} ([broker] url)", advice(.cause, .user))]
    Refused {
        /// Where.
        endpoint: Endpoint,
        /// As whom.
        user: String,
        /// What the operating system or the broker said.
        cause: String,
    },
}

impl ConnectError {
    /// Whether the broker is there and does not take us as we are configured: the next attempt meets the same answer until
    /// somebody changes the configuration, or RabbitMQ's users. What is away may come.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Url(_) => true,
            Self::Timeout { .. } => false,
            Self::Tls { refusal, .. } => refusal.is_certain,
            // One of them may take us yet.
            Self::All(errors) => errors.iter().all(Self::is_refusal),
            Self::Refused { cause, .. } => Denial::of(cause).is_some(),
        }
    }
}

/// What the broker does not let a user do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Denial {
    Login,
    NoVirtualHost,
    VirtualHost,
}

impl Denial {
    /// By the broker's own words.
    fn of(cause: &str) -> Option<Self> {
        if cause.contains("Login was refused") {
            return Some(Self::Login);
        }
        if !cause.contains("vhost") {
            return None;
        }
        if cause.contains("not found") {
            return Some(Self::NoVirtualHost);
        }
        // Where more follows, that passes: `: vhost '/' is down`, `: connection limit (8) is reached`.
        let (_, user) = cause.split_once("refused for user")?;
        (!user.contains(": ")).then_some(Self::VirtualHost)
    }
}

/// What to do about it.
fn advice(cause: &str, user: &str) -> String {
    match Denial::of(cause) {
        Some(Denial::Login) => {
            format!("RabbitMQ knows no user {user:?} with this password: correct the user or the password")
        }
        Some(Denial::NoVirtualHost) => "Create the virtual host, or correct the path of the URL".to_owned(),
        Some(Denial::VirtualHost) => {
            format!("Give user {user:?} permissions for the virtual host, or correct the path of the URL")
        }
        None => "Is RabbitMQ running there, and does it listen for AMQP on this port?".to_owned(),
    }
}

/// An operation on the broker failed after a connection was there.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    /// The broker, or the network on the way, ended the channel or the connection.
    #[error("{action}: {cause}")]
    Failed {
        /// What we were doing, with the names involved.
        action: String,
        /// What the broker said.
        cause: String,
        /// One of [`reply_code`], or another of AMQP's.
        code: Option<u16>,
    },
    /// No answer in time: the broker hangs, or has blocked the connection (memory or disk alarm).
    #[error(
        "{action}: no answer from RabbitMQ within {timeout:?}; it may be blocked by a memory or disk alarm"
    )]
    Timeout {
        /// What we were doing.
        action: String,
        /// How long we waited.
        timeout: Duration,
    },
    /// There is no connection at present.
    #[error("{action}: not connected to RabbitMQ")]
    Disconnected {
        /// What we were doing.
        action: String,
    },
    /// The broker takes no streams.
    #[error(
        "this RabbitMQ has no streams, and {queue:?} is one: {cause}. Use a broker that has them, or set [broker] streams = false: \
         then no reply is kept, and a command reaches only the workers that run when it is given"
    )]
    NoStreams {
        /// The stream that was to be declared.
        queue: String,
        /// The broker's own words.
        cause: String,
    },
    /// A queue or exchange exists with arguments that change what happens to messages.
    #[error(
        "{object} exists with another {argument}: {cause}. Delete it when it is empty, or use another [broker] namespace"
    )]
    Mismatch {
        /// The queue or exchange.
        object: String,
        /// The argument that differs.
        argument: String,
        /// The broker's own words.
        cause: String,
    },
}

impl BrokerError {
    pub(super) fn from_lapin(action: impl Into<String>, error: &lapin::Error) -> Self {
        let code = match error.kind() {
            lapin::ErrorKind::ProtocolError(e) => Some(e.get_id()),
            _ => None,
        };
        let cause = error.to_string();
        Self::Failed {
            action: action.into(),
            cause,
            code,
        }
    }

    /// AMQP's reply code, where the broker gave one (see [`reply_code`]).
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Failed { code, .. } => *code,
            _ => None,
        }
    }

    /// Whether the broker refused what was asked, so that asking again meets the same answer. The other codes tell why
    /// a connection ended, which says nothing of what was asked on it.
    pub fn is_refusal(&self) -> bool {
        self.code().is_some_and(|code| REFUSALS.contains(&code))
    }

    /// Whether what it is about does not exist.
    pub fn is_missing(&self) -> bool {
        self.code() == Some(reply_code::NOT_FOUND) && !self.is_down()
    }

    /// Whether the queue is there and nobody serves it: its node is away, or, of a stream of one node, it was stopped
    /// while it started, which RabbitMQ does not repair (rabbitmq-server#6179). The code is that of one that does not
    /// exist.
    pub fn is_down(&self) -> bool {
        let words = [
            "down or inaccessible",
            "stopped by supervisor",
            "crashed and failed to restart",
        ];
        match self {
            Self::Failed { cause, code, .. } => {
                *code == Some(reply_code::NOT_FOUND) && words.iter().any(|words| cause.contains(words))
            }
            _ => false,
        }
    }
}

/// Why a message is not known to have been taken by the broker.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// A mandatory message that no queue is bound for.
    #[error("no queue is bound to exchange {exchange:?} for the key {routing_key:?}")]
    Unroutable {
        /// The exchange.
        exchange: String,
        /// The routing key.
        routing_key: String,
    },
    /// The broker refused it: a queue is full (`x-overflow=reject-publish`).
    #[error(
        "RabbitMQ refused the message to exchange {exchange:?}, key {routing_key:?}: a queue behind it is full or failing"
    )]
    Refused {
        /// The exchange.
        exchange: String,
        /// The routing key.
        routing_key: String,
    },
    /// An error that publishing again cannot mend: the exchange is missing, permission, a message too large.
    #[error(transparent)]
    Broker(BrokerError),
    /// It was tried until the time was up, and no confirm came: the broker may have it, or not.
    #[error("not confirmed within {timeout:?}: {last}")]
    InDoubt {
        /// How long it was tried.
        timeout: Duration,
        /// Whether a copy went out at all; if not, the broker cannot have it.
        sent: bool,
        /// What the last attempt met.
        last: BrokerError,
    },
}

impl PublishError {
    /// Which of them it is, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unroutable { .. } => "unroutable",
            Self::Refused { .. } => "refused",
            Self::Broker(_) => "broker",
            Self::InDoubt { .. } => "in_doubt",
        }
    }
}

fn in_turn(errors: &[ConnectError]) -> String {
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    errors.join("; and ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::{ConnectError, advice};
    use crate::config::BrokerConfig;
    use crate::uri;

    #[test]
    fn what_to_do_about_a_refusal_follows_from_the_broker_s_words() {
        let login = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN.";
        let words = [
            (login, "password"),
            ("NOT_ALLOWED - vhost nope not found", "Create the virtual host"),
            (
                "NOT_ALLOWED - access to vhost '/' refused for user 'w'",
                "permissions",
            ),
            ("Connection refused (os error 111)", "running"),
        ];
        for (cause, expected) in words {
            let advice = advice(cause, "w");
            assert!(advice.contains(expected), "{cause}: {advice}");
        }
    }

    #[test]
    fn what_passes_is_no_refusal() {
        let (_, endpoint) = uri::parse(&BrokerConfig::default()).unwrap().remove(0);
        let refused = |cause: &str| ConnectError::Refused {
            endpoint: endpoint.clone(),
            user: "w".into(),
            cause: cause.into(),
        };
        let login = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN";
        let words = [
            (login, true),
            ("NOT_ALLOWED - vhost nope not found", true),
            ("NOT_ALLOWED - access to vhost '/' refused for user 'w'", true),
            (
                "INTERNAL_ERROR - access to vhost '/' refused for user 'w': vhost '/' is down",
                false,
            ),
            (
                "NOT_ALLOWED - access to vhost '/' refused for user 'w': connection limit (8) is reached",
                false,
            ),
            ("Connection refused (os error 111)", false),
            (
                "failed to lookup address information: Name or service not known",
                false,
            ),
        ];
        for (cause, is_refusal) in words {
            assert_eq!(refused(cause).is_refusal(), is_refusal, "{cause}");
        }
        let late = ConnectError::Timeout {
            endpoint: endpoint.clone(),
            timeout: Duration::from_secs(1),
        };
        assert!(!late.is_refusal());
        assert!(!ConnectError::All(vec![refused(login), late]).is_refusal());
        assert!(ConnectError::All(vec![refused(login), refused(login)]).is_refusal());
    }
}
