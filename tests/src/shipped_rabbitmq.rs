//! Nodes with the configuration that `deploy/rabbitmq/` ships: users by certificate, over TLS.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use crewfleet_amqp::{BrokerConfig, tls};
use crewfleet_node::{Node, NodeOptions};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties};
use rustls::pki_types::ServerName;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::{
    broker::{Namespace, whole},
    certificates::{Authority, Identity},
    cli::Cli,
    crews::checkout,
    ports::free_port,
    worker::{WorkerBuilder, WorkerProcess},
};

/// The virtual host of the shipped definitions.
const VHOST: &str = "crewfleet";

/// What the shipped permissions are made for.
const NAMESPACE: &str = "kickoff";

/// A CA, and the certificates of one node and of the five users.
#[derive(Debug)]
pub struct Certificates {
    ca: Authority,
    server: Identity,
    clients: BTreeMap<&'static str, Identity>,
}

impl Certificates {
    /// New ones.
    pub fn new() -> Self {
        let ca = Authority::new("the CA of a test");
        let users = ["producer", "worker", "gateway", "sinks", "operator"];
        Self {
            server: ca.server("server", &["localhost"]),
            clients: users.map(|user| (user, ca.client(user))).into(),
            ca,
        }
    }

    /// A file of the shipped configuration, line by line, with these addresses, ports and paths instead of its own.
    pub fn config(&self, ports: &Ports, nodes: &[String]) -> Vec<String> {
        let shipped = folder().join("rabbitmq.conf");
        let text =
            fs::read_to_string(&shipped).unwrap_or_else(|error| panic!("{}: {error}", shipped.display()));
        let path = |path: &Path| path.display().to_string();
        let mut replaced: BTreeMap<&str, String> = BTreeMap::from([
            ("ssl_options.cacertfile", path(&self.ca.file())),
            ("ssl_options.certfile", path(&self.server.certificate)),
            ("ssl_options.keyfile", path(&self.server.key)),
            ("listeners.ssl.default", format!("127.0.0.1:{}", ports.amqps)),
            ("management.tcp.port", ports.management.to_string()),
            ("prometheus.tcp.port", ports.prometheus.to_string()),
            ("load_definitions", path(&folder().join("definitions.json"))),
        ]);
        let mut lines = Vec::new();
        for line in text.lines() {
            match line.split_once(" = ").filter(|(key, _)| !key.starts_with('#')) {
                Some((key, _)) if key.starts_with("cluster_formation.classic_config.nodes.") => {}
                Some((key, _)) => match replaced.remove(key) {
                    Some(value) => lines.push(format!("{key} = {value}")),
                    None => lines.push(line.to_owned()),
                },
                None => {}
            }
        }
        assert!(replaced.is_empty(), "{} has no {replaced:?}", shipped.display());
        let node = |(number, name)| format!("cluster_formation.classic_config.nodes.{number} = {name}");
        lines.extend((1..).zip(nodes).map(node));
        lines
    }

    /// A client of this user, at a node.
    pub fn client<'a>(&'a self, user: &str, port: u16) -> Client<'a> {
        Client {
            ca: &self.ca,
            identity: &self.clients[user],
            user: user.to_owned(),
            url: format!("amqps://localhost:{port}/{VHOST}"),
        }
    }
}

impl Default for Certificates {
    fn default() -> Self {
        Self::new()
    }
}

/// The ports of one node.
#[derive(Debug)]
pub struct Ports {
    /// For clients.
    pub amqps: u16,
    /// The management API's.
    pub management: u16,
    /// The metrics'.
    pub prometheus: u16,
}

impl Ports {
    /// Free ones.
    pub fn free() -> Self {
        Self {
            amqps: free_port(),
            management: free_port(),
            prometheus: free_port(),
        }
    }
}

/// Options with the shipped plugins and these lines.
pub fn options(mut options: NodeOptions, lines: Vec<String>, ports: &Ports) -> NodeOptions {
    let plugins = fs::read_to_string(folder().join("enabled_plugins")).expect("the list of plugins");
    for plugin in plugins
        .trim()
        .trim_start_matches('[')
        .trim_end_matches("].")
        .split(',')
    {
        options = options.plugin(plugin);
    }
    for line in lines {
        options = options.config(line);
    }
    options.only_tls(ports.amqps)
}

/// One node of the shipped configuration.
#[derive(Debug)]
pub struct ShippedNode {
    /// The node.
    pub node: Node,
    /// Its ports.
    pub ports: Ports,
    certificates: Certificates,
}

impl ShippedNode {
    /// Starts it, as a cluster of its own.
    pub async fn start() -> Self {
        let (certificates, ports) = (Certificates::new(), Ports::free());
        let lines = certificates.config(&ports, &[]);
        let options = options(
            NodeOptions::temporary().expect("a temporary folder"),
            lines,
            &ports,
        );
        Self {
            node: whole(options).await,
            ports,
            certificates,
        }
    }

    /// A client of this user.
    pub fn client(&self, user: &str) -> Client<'_> {
        self.certificates.client(user, self.ports.amqps)
    }
}

/// What makes a client one user of the shipped definitions.
#[derive(Debug)]
pub struct Client<'a> {
    ca: &'a Authority,
    identity: &'a Identity,
    user: String,
    url: String,
}

impl Client<'_> {
    /// `[broker]`.
    pub fn config(&self) -> BrokerConfig {
        BrokerConfig {
            url: self.url.as_str().into(),
            namespace: NAMESPACE.into(),
            client_name: Some(self.user.clone()),
            ca_file: Some(self.ca.file()),
            client_cert_file: Some(self.identity.certificate.clone()),
            client_key_file: Some(self.identity.key.clone()),
            ..BrokerConfig::default()
        }
    }

    /// The command.
    pub fn cli(&self) -> Cli {
        let cli = Cli::new(&self.url, &Namespace::named(NAMESPACE));
        self.lines().into_iter().fold(cli, |cli, (key, value)| {
            cli.env(&format!("CREWFLEET__BROKER__{}", key.to_uppercase()), &value)
        })
    }

    /// A worker that leaves the declaring to others.
    pub fn worker(&self) -> WorkerBuilder {
        let worker =
            WorkerProcess::builder(&self.url, &Namespace::named(NAMESPACE)).worker("declare = false");
        self.lines().into_iter().fold(worker, |worker, (key, value)| {
            worker.broker(&format!("{key} = {value:?}"))
        })
    }

    /// A connection of a plain AMQP client, by way of a tunnel that does the TLS for it.
    pub async fn connect(&self) -> Connection {
        let mut uri: AMQPUri = format!("{}?auth_mechanism=external", self.url)
            .parse()
            .expect("a URL");
        let config = tls::client_config(&self.config()).expect("certificates");
        let server = (uri.authority.host.clone(), uri.authority.port);
        let tunnel = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        uri.scheme = AMQPScheme::AMQP;
        uri.authority.host = "127.0.0.1".to_owned();
        uri.authority.port = tunnel.local_addr().expect("an address").port();
        tokio::spawn(async move {
            let (mut plain, _) = tunnel.accept().await?;
            let stream = TcpStream::connect(&server).await?;
            let name = ServerName::try_from(server.0).expect("a host name");
            let mut secure = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
            copy_bidirectional(&mut plain, &mut secure).await
        });
        Connection::connect_uri(uri, ConnectionProperties::default())
            .await
            .unwrap_or_else(|error| panic!("{} is not let in: {error}", self.user))
    }

    fn lines(&self) -> [(&'static str, String); 4] {
        let path = |path: &Path| path.display().to_string();
        [
            ("client_name", self.user.clone()),
            ("ca_file", path(&self.ca.file())),
            ("client_cert_file", path(&self.identity.certificate)),
            ("client_key_file", path(&self.identity.key)),
        ]
    }
}

fn folder() -> std::path::PathBuf {
    checkout().join("deploy/rabbitmq")
}
