//! The RabbitMQ node that the tests of one binary share.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use crewfleet_node::{Node, NodeOptions};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::certificates::{Authority, Identity};
use crate::ports::free_port;

/// The node of this test binary, started by the first test that asks. It ends with the process, and its folder with it.
///
/// A test that stops, kills or floods a broker starts a [`Node`] of its own.
pub async fn broker() -> &'static Node {
    static NODE: OnceCell<Node> = OnceCell::const_new();
    NODE.get_or_init(|| async {
        let options = NodeOptions::temporary().expect("a temporary folder");
        // Every few seconds each quorum queue looks after itself, and the tests leave thousands of them behind.
        let options = options.erl_arguments("-rabbit quorum_tick_interval 60000");
        Node::start(options)
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    })
    .await
}

/// A second node, for one test at a time: for what takes hold of all of a broker, as an alarm or the end of all
/// connections, and for the namespace `kickoff`, which is anybody's. Nothing is left of it that the next test would meet.
///
/// A test that stops or kills a broker starts a [`Node`] of its own: the handle of its process is the runtime's.
pub async fn alone() -> MutexGuard<'static, Node> {
    static NODE: OnceCell<Mutex<Node>> = OnceCell::const_new();
    let node = NODE.get_or_init(|| async {
        let options = NodeOptions::temporary().expect("a temporary folder");
        Mutex::new(
            Node::start(options)
                .await
                .unwrap_or_else(|error| panic!("{error}")),
        )
    });
    node.await.lock().await
}

/// A node whose management API and whose metrics tests ask for; each has a namespace of its own there.
#[derive(Debug)]
pub struct Monitored {
    /// The node.
    pub node: Node,
    /// The URL of its management API.
    pub management: String,
    /// The URL of its metrics.
    pub exporter: String,
}

/// The one of this test binary.
pub async fn monitored() -> &'static Monitored {
    static NODE: OnceCell<Monitored> = OnceCell::const_new();
    NODE.get_or_init(|| async {
        let options = NodeOptions::temporary().expect("a temporary folder");
        // What it shows of its queues is seconds old else.
        let options = options.config("collect_statistics_interval = 1000");
        let (options, management) = serving(options, "management");
        let (options, exporter) = serving(options, "prometheus");
        Monitored {
            node: whole(options).await,
            management,
            exporter,
        }
    })
    .await
}

/// A node of its own with a plugin that serves HTTP under this name, as `management`; and its URL.
pub async fn with_http(plugin: &str) -> (Node, String) {
    let options = NodeOptions::temporary().expect("a temporary folder");
    let (options, url) = serving(options, plugin);
    (whole(options).await, url)
}

fn serving(options: NodeOptions, plugin: &str) -> (NodeOptions, String) {
    let port = free_port();
    let options = options
        .plugin(format!("rabbitmq_{plugin}"))
        .config(format!("{plugin}.tcp.ip = 127.0.0.1"))
        .config(format!("{plugin}.tcp.port = {port}"));
    (options, format!("http://127.0.0.1:{port}"))
}

/// A node whose plugins are up, which it answers AMQP before.
pub async fn whole(options: NodeOptions) -> Node {
    let node = Node::start(options)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    node.await_startup()
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    node
}

/// What a user may do to resources of these names: configure, write, read; regular expressions.
pub type Rights<'a> = [&'a str; 3];

/// To everything.
pub const ALL_RIGHTS: Rights<'static> = [".*", ".*", ".*"];

/// Makes users with these passwords and rights.
pub async fn add_users(node: &Node, users: &[(&str, &str, Rights<'_>)]) {
    // Erlang's strings are written as JSON's.
    let binary = |text: &str| format!("<<{}/utf8>>", serde_json::json!(text));
    let made: Vec<String> = users
        .iter()
        .map(|(name, password, rights)| {
            let (name, password) = (binary(name), binary(password));
            let rights: Vec<String> = rights.iter().map(|names| binary(names)).collect();
            let rights = rights.join(", ");
            format!(
                "ok = rabbit_auth_backend_internal:add_user({name}, {password}, <<\"test\">>), \
                 ok = rabbit_auth_backend_internal:set_permissions({name}, <<\"/\">>, {rights}, <<\"test\">>)"
            )
        })
        .collect();
    node.eval(&made.join(", "))
        .await
        .unwrap_or_else(|error| panic!("{error}"));
}

/// How a node takes clients by TLS, too: with this certificate, at this port; of clients' certificates it believes
/// those of the CA.
pub fn tls_options(ca: &Authority, server: &Identity, port: u16) -> NodeOptions {
    NodeOptions::temporary()
        .expect("a temporary folder")
        .plugin("rabbitmq_auth_mechanism_ssl")
        .config(format!("listeners.ssl.1 = 127.0.0.1:{port}"))
        .config(format!("ssl_options.cacertfile = {}", ca.file().display()))
        .config(format!("ssl_options.certfile = {}", server.certificate.display()))
        .config(format!("ssl_options.keyfile = {}", server.key.display()))
        .config("ssl_options.verify = verify_peer")
        .config("ssl_cert_login_from = common_name")
}

/// The names of one test's queues and exchanges, so that tests share a broker and don't meet.
#[derive(Debug, Clone)]
pub struct Namespace(String);

impl Namespace {
    /// One that no other test has.
    #[expect(
        clippy::new_without_default,
        reason = "a default is always the same; this never is"
    )]
    pub fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        Self(format!(
            "test-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        ))
    }

    /// One of a certain name, as in the default `kickoff`: for a test that has a node of its own.
    pub fn named(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The exchange `<namespace>.<what>`, as in `requests` and `replies`.
    pub fn exchange(&self, what: &str) -> String {
        format!("{self}.{what}")
    }

    /// The queue of a crew's requests.
    pub fn requests_of(&self, crew: &str) -> String {
        format!("{self}.requests.{crew}")
    }

    /// The queue of a crew's dead letters.
    pub fn dead_letters_of(&self, crew: &str) -> String {
        format!("{self}.dead-letters.{crew}")
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
