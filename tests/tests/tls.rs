//! `amqps://`: a private CA, users by password and by certificate, and each way in which TLS does not come about, told
//! so that it can be mended.

use std::fs;

use crewfleet_node::Node;
use crewfleet_tests::broker::{ALL_RIGHTS, Namespace, add_users, broker, tls_options};
use crewfleet_tests::certificates::{Authority, Identity};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::crews::builtin_crew_toml;
use crewfleet_tests::ports::free_port;
use crewfleet_tests::worker::{WorkerBuilder, WorkerProcess};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// Names in the certificate of the tests' nodes. Not the address 127.0.0.1.
const NAMES: [&str; 2] = ["localhost", "rabbit-1.example"];

/// A node that takes clients by TLS, and the CA that it and its clients believe.
struct Site {
    ca: Authority,
    server: Identity,
    node: Node,
    port: u16,
    management_port: u16,
}

impl Site {
    async fn start(lines: &[&str]) -> Self {
        let ca = Authority::new("the CA of a test");
        let server = ca.server("server", &NAMES);
        let (port, management_port) = (free_port(), free_port());
        let mut options = tls_options(&ca, &server, port)
            .plugin("rabbitmq_management")
            .config("management.ssl.ip = 127.0.0.1")
            .config(format!("management.ssl.port = {management_port}"))
            .config(format!(
                "management.ssl.certfile = {}",
                server.certificate.display()
            ))
            .config(format!("management.ssl.keyfile = {}", server.key.display()));
        for line in lines {
            options = options.config(*line);
        }
        let node = Node::start(options)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        node.await_startup().await.unwrap();
        Self {
            ca,
            server,
            node,
            port,
            management_port,
        }
    }

    /// The URL, with `user` as in `guest:guest@`, or nothing.
    fn url(&self, user: &str) -> String {
        format!("amqps://{user}localhost:{}/%2f", self.port)
    }

    /// A user that has no password, and the certificate that makes a client this user.
    async fn user(&self, name: &str) -> Identity {
        add_users(&self.node, &[(name, "to be cleared", ALL_RIGHTS)]).await;
        let clear = format!("rabbit_auth_backend_internal:clear_password(<<\"{name}\">>, <<\"test\">>)");
        self.node.eval(&clear).await.unwrap();
        self.ca.client(name)
    }

    /// The command, which believes the site's CA.
    fn cli(&self, user: &str) -> Cli {
        cli(&self.url(user)).env("CREWFLEET__BROKER__CA_FILE", &text(&self.ca.file()))
    }
}

/// A node that takes users by password and by certificate, for the tests of this file.
async fn site() -> &'static Site {
    static SITE: OnceCell<Site> = OnceCell::const_new();
    SITE.get_or_init(|| {
        Site::start(&[
            "auth_mechanisms.1 = PLAIN",
            "auth_mechanisms.2 = EXTERNAL",
            // The default differs between versions of Erlang.
            "ssl_options.fail_if_no_peer_cert = false",
        ])
    })
    .await
}

fn cli(url: &str) -> Cli {
    Cli::new(url, &Namespace::new())
}

fn text(path: &std::path::Path) -> String {
    path.display().to_string()
}

trait WithIdentity {
    fn with_identity(self, identity: &Identity) -> Self;
}

impl WithIdentity for Cli {
    fn with_identity(self, identity: &Identity) -> Self {
        self.env(
            "CREWFLEET__BROKER__CLIENT_CERT_FILE",
            &text(&identity.certificate),
        )
        .env("CREWFLEET__BROKER__CLIENT_KEY_FILE", &text(&identity.key))
    }
}

impl WithIdentity for WorkerBuilder {
    fn with_identity(self, identity: &Identity) -> Self {
        self.broker(&format!("client_cert_file = {}", json!(identity.certificate)))
            .broker(&format!("client_key_file = {}", json!(identity.key)))
    }
}

/// No connection comes about: exit code 3, the place and what is said, and never a password.
async fn refused(cli: &Cli, expected: &[&str]) {
    let output = cli.run(&["healthcheck"]).await.ended_with(3);
    let said = output.said(expected);
    assert!(!said.contains("guest:guest"), "{said}");
}

#[tokio::test]
async fn kickoffs_go_by_tls_with_users_by_password_and_by_certificate() {
    let site = site().await;
    let namespace = Namespace::new();
    let identity = site.user("a-worker").await;
    let _worker = WorkerProcess::builder(&site.url(""), &namespace)
        .broker(&format!("ca_file = {}", json!(site.ca.file())))
        .with_identity(&identity)
        .crew("echo", &builtin_crew_toml("echo", 2))
        .ready()
        .await;
    let cli = Cli::new(&site.url("guest:guest@"), &namespace)
        .env("CREWFLEET__BROKER__CA_FILE", &text(&site.ca.file()));
    let answer = cli
        .run(&["kickoff", "echo", "--input", "TOPIC=lamps"])
        .await
        .success();
    assert!(answer.contains("lamps"), "{answer}");
    // A user by password may have a certificate besides, as a node may demand it.
    let both = site.cli("guest:guest@").with_identity(&site.ca.client("nobody"));
    both.run(&["healthcheck"]).await.success();

    let connections = site
        .node
        .ctl(&["list_connections", "user", "ssl", "auth_mechanism"])
        .await
        .unwrap();
    let of_worker: Vec<&str> = connections
        .lines()
        .filter(|line| line.starts_with("a-worker\t"))
        .collect();
    assert_eq!(of_worker, ["a-worker\ttrue\tEXTERNAL"; 2], "{connections}");
}

#[tokio::test]
async fn doctor_asks_a_management_api_by_https_with_the_same_ca() {
    let site = site().await;
    let url = format!("https://guest:guest@localhost:{}", site.management_port);
    let found = async |cli: Cli| {
        let cli = cli.env("CREWFLEET__BROKER__MANAGEMENT_URL", &url);
        let output = cli.run(&["doctor", "--json"]).await;
        let report: Value = serde_json::from_str(&output.stdout.join("\n")).unwrap();
        let findings = report["findings"].as_array().unwrap();
        let of_management = |finding: &&Value| finding["check"] == "management API";
        findings.iter().find(of_management).unwrap().clone()
    };
    let answers = found(site.cli("guest:guest@")).await;
    assert_eq!(answers["state"], "ok", "{answers:#}");

    let (plain, other) = (site.node.url(), Authority::new("another CA"));
    let stranger = cli(&plain).env("CREWFLEET__BROKER__CA_FILE", &text(&other.file()));
    let refused = found(stranger).await;
    assert_eq!(refused["state"], "warning", "{refused:#}");
    let said = refused["found"].as_str().unwrap();
    for part in [
        "https://localhost",
        "no CA that is trusted here issued its certificate",
        "ca_file",
    ] {
        assert!(said.contains(part), "{part:?} is not said in {refused:#}");
    }
    assert!(!said.contains("guest"), "{refused:#}");
}

#[tokio::test]
async fn a_broker_that_is_not_to_be_trusted_is_refused_with_what_would_help() {
    let site = site().await;
    let place = format!("amqps://localhost:{} (virtual host \"/\")", site.port);
    let other = Authority::new("another CA");
    let stranger = cli(&site.url("guest:guest@")).env("CREWFLEET__BROKER__CA_FILE", &text(&other.file()));
    refused(
        &stranger,
        &[
            &place,
            "no CA that is trusted here issued its certificate",
            "[broker] ca_file",
        ],
    )
    .await;
    // The system's CAs did not issue it; there may be none.
    refused(&cli(&site.url("guest:guest@")), &[&place, "ca_file"]).await;

    let by_address = format!("amqps://guest:guest@127.0.0.1:{}/%2f", site.port);
    let wrong_name = cli(&by_address).env("CREWFLEET__BROKER__CA_FILE", &text(&site.ca.file()));
    refused(
        &wrong_name,
        &[
            "its certificate is for localhost, rabbit-1.example, not for 127.0.0.1",
            "[broker] url",
        ],
    )
    .await;

    let not_tls = format!("amqps://guest:guest@localhost:{}/%2f", site.node.port());
    let not_tls = cli(&not_tls).env("CREWFLEET__BROKER__CA_FILE", &text(&site.ca.file()));
    refused(&not_tls, &["does not speak TLS", "5671"]).await;
    let tls = format!("amqp://guest:guest@localhost:{}/%2f", site.port);
    refused(&cli(&tls), &["speaks TLS", "amqps://"]).await;
}

#[tokio::test]
async fn a_node_that_demands_certificates_and_one_whose_own_has_expired() {
    let site = Site::start(&[
        "ssl_options.fail_if_no_peer_cert = true",
        "auth_mechanisms.1 = EXTERNAL",
    ])
    .await;
    let known = site.user("a-producer").await;
    // The alert that names it can be lost with the connection; then it is told as what may be.
    refused(
        &site.cli(""),
        &["client certificate", "[broker] client_cert_file"],
    )
    .await;
    let another = Authority::new("another CA");
    let stranger = site.cli("").with_identity(&another.client("a-producer"));
    refused(&stranger, &["client_cert_file"]).await;
    let nobody = site.cli("").with_identity(&site.ca.client("nobody"));
    refused(&nobody, &["EXTERNAL", "user"]).await;
    let cli = site.cli("").with_identity(&known);
    cli.run(&["healthcheck"]).await.success();

    // The node reads its files anew once it is told to forget them.
    let forget = "ssl:clear_pem_cache()";
    let good = fs::read(&site.server.certificate).unwrap();
    let good_key = fs::read(&site.server.key).unwrap();
    let expired = site.ca.expired_server("expired", &NAMES);
    fs::copy(&expired.certificate, &site.server.certificate).unwrap();
    fs::copy(&expired.key, &site.server.key).unwrap();
    site.node.eval(forget).await.unwrap();
    refused(&cli, &["has expired: 2020-01-02T00:00:00Z", "renew it"]).await;
    fs::write(&site.server.certificate, good).unwrap();
    fs::write(&site.server.key, good_key).unwrap();
    site.node.eval(forget).await.unwrap();
    cli.run(&["healthcheck"]).await.success();
}

#[tokio::test]
async fn a_worker_tells_what_is_wrong_and_reads_mended_files_without_a_restart() {
    let site = site().await;
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    fs::copy(Authority::new("another CA").file(), &ca).unwrap();
    let worker = WorkerProcess::builder(&site.url("guest:guest@"), &Namespace::new())
        .broker(&format!("ca_file = {}", json!(ca)))
        .crew("echo", &builtin_crew_toml("echo", 1))
        .spawn();
    let line = worker.logged_message("no connection to RabbitMQ").await;
    let error = line["error"].as_str().unwrap();
    assert!(
        error.contains("no CA that is trusted here") && error.contains("ca_file"),
        "{error}"
    );
    assert!(!error.contains("guest"), "{error}");
    fs::copy(site.ca.file(), &ca).unwrap();
    worker.ready().await;
}

#[tokio::test]
async fn files_that_cannot_be_used_are_refused_at_start() {
    let ca = Authority::new("the CA of a test");
    let (one, other) = (ca.client("one"), ca.client("other"));
    let empty = ca.dir().join("empty.pem");
    fs::write(&empty, "no PEM\n").unwrap();
    let (missing, empty) = (text(&ca.dir().join("missing.pem")), text(&empty));
    let (file, certificate) = (text(&ca.file()), text(&one.certificate));
    let (key, other_key) = (text(&one.key), text(&other.key));
    let (tls, plain) = ("amqps://localhost:1/%2f", "amqp://localhost:1/%2f");
    // The URL, variables of `[broker]`, and what is said of them.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);
    let flat = ca.dir().join("flat.pem");
    fs::write(
        &flat,
        fs::read_to_string(&key).unwrap().trim().replace('\n', "\\n"),
    )
    .unwrap();
    let flat = text(&flat);
    let cases: [Case; 9] = [
        (
            tls,
            &[("CA_FILE", &flat)],
            &["broker.ca_file", "is no PEM file", "line breaks"],
        ),
        (
            tls,
            &[("CA_FILE", &missing)],
            &["broker.ca_file", &missing, "cannot be read"],
        ),
        (
            tls,
            &[("CA_FILE", &empty)],
            &["broker.ca_file", "holds no certificate"],
        ),
        (
            tls,
            &[("CA_FILE", &key)],
            &["broker.ca_file", "holds no certificate"],
        ),
        (
            tls,
            &[("CLIENT_CERT_FILE", &certificate)],
            &["broker.client_cert_file", "client_key_file"],
        ),
        (
            tls,
            &[("CLIENT_KEY_FILE", &key)],
            &["broker.client_key_file", "client_cert_file"],
        ),
        (
            tls,
            &[
                ("CA_FILE", &file),
                ("CLIENT_CERT_FILE", &certificate),
                ("CLIENT_KEY_FILE", &empty),
            ],
            &["broker.client_key_file", &empty, "holds no private key"],
        ),
        (
            tls,
            &[
                ("CA_FILE", &file),
                ("CLIENT_CERT_FILE", &certificate),
                ("CLIENT_KEY_FILE", &other_key),
            ],
            &["broker.client_cert_file", "does not go with the key", &other_key],
        ),
        (
            plain,
            &[("CA_FILE", &file)],
            &["broker.ca_file", "nothing would use it", "amqps://"],
        ),
    ];
    for (url, variables, expected) in cases {
        let cli = variables.iter().fold(cli(url), |cli, (name, value)| {
            cli.env(&format!("CREWFLEET__BROKER__{name}"), value)
        });
        let output = cli.run(&["healthcheck"]).await.ended_with(2);
        let said = output.said(expected);
        assert!(
            said.contains("environment variable CREWFLEET__BROKER__"),
            "{said}"
        );
        // Nor its bytes, as numbers: 45 is "-".
        assert!(
            !said.contains("PRIVATE KEY") && !said.contains("45, 45"),
            "{said}"
        );
    }
    // Without them nothing of this is looked at.
    Cli::new(&broker().await.url(), &Namespace::new())
        .run(&["healthcheck"])
        .await
        .success();
}
