//! A crew in a namespace of its own, examined by `crewfleet doctor`.

use std::collections::BTreeMap;
use std::fs;

use crewfleet_node::Node;
use crewfleet_tests::broker::{Namespace, monitored};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::process::Output;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};
use serde_json::Value;

/// The node of these tests.
pub(super) async fn broker() -> &'static Node {
    &monitored().await.node
}

/// Its management API's URL.
pub(super) async fn management() -> &'static str {
    &monitored().await.management
}

/// One crew `echo` in a namespace of its own, and the command that examines it.
pub(super) struct Patient {
    pub(super) namespace: Namespace,
    pub(super) cli: Cli,
}

impl Patient {
    pub(super) async fn new() -> Self {
        Self::of("").await
    }

    /// With more lines for the crew's section.
    pub(super) async fn of(crew: &str) -> Self {
        let namespace = Namespace::new();
        let cli = Cli::new(&broker().await.url(), &namespace);
        let config = format!("[crews.echo]\nrunner = \"builtin\"\ntarget = \"echo\"\n{crew}\n");
        fs::write(cli.dir().join("crewfleet.toml"), config).unwrap();
        Self { namespace, cli }
    }

    pub(super) async fn declared() -> Self {
        let patient = Self::new().await;
        patient.declare().await.success();
        patient
    }

    pub(super) async fn declare(&self) -> Output {
        self.cli.run(&["topology", "declare"]).await
    }

    pub(super) fn name(&self, what: &str) -> String {
        self.namespace.exchange(what)
    }

    /// Examined with what only the management API knows.
    pub(super) async fn managed(&self) -> Examined {
        let url = management().await;
        Examined::by(&self.cli, &["doctor", "--json"], url).await
    }

    /// Examined by AMQP alone.
    pub(super) async fn unmanaged(&self) -> Examined {
        let output = self.cli.run(&["doctor", "--json"]).await;
        Examined::of(output)
    }

    /// Declares a queue of our name as somebody else would.
    pub(super) async fn declare_queue(&self, what: &str, arguments: &[(&str, Value)]) {
        let connection = connect().await;
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            let value = match value {
                Value::String(text) => AMQPValue::LongString(text.as_str().into()),
                number => AMQPValue::LongLongInt(number.as_i64().unwrap()),
            };
            table.insert((*name).into(), value);
        }
        let channel = connection.create_channel().await.unwrap();
        let name = self.name(what);
        let declared = channel.queue_declare(name.as_str().into(), QueueDeclareOptions::durable(), table);
        declared.await.unwrap();
        connection.close(200, "done".into()).await.unwrap();
    }
}

pub(super) async fn connect() -> Connection {
    let url = broker().await.url();
    Connection::connect(&url, ConnectionProperties::default())
        .await
        .unwrap()
}

/// A report, and the exit code that came with it.
#[derive(Debug)]
pub(super) struct Examined {
    pub(super) code: Option<i32>,
    pub(super) state: String,
    pub(super) findings: BTreeMap<String, Value>,
}

impl Examined {
    pub(super) async fn by(cli: &Cli, arguments: &[&str], management: &str) -> Self {
        let flags = [("CREWFLEET__BROKER__MANAGEMENT_URL", management)];
        Self::of(cli.run_with_environment(arguments, &flags).await)
    }

    pub(super) fn of(output: Output) -> Self {
        let report: Value = serde_json::from_str(&output.stdout.join("\n"))
            .unwrap_or_else(|error| panic!("{error}: {output:#?}"));
        let findings = report["findings"].as_array().unwrap().iter();
        Self {
            code: output.code,
            state: report["state"].as_str().unwrap().to_owned(),
            findings: findings
                .map(|finding| (finding["check"].as_str().unwrap().to_owned(), finding.clone()))
                .collect(),
        }
    }

    /// The finding of a check must be in this state, say this, and have a fix unless all is well.
    pub(super) fn finds(&self, check: &str, state: &str, said: &[&str]) -> &Self {
        let finding = self
            .findings
            .get(check)
            .unwrap_or_else(|| panic!("{check}: {self:#?}"));
        assert_eq!(finding["state"], state, "{finding:#}");
        let found = finding["found"].as_str().unwrap();
        for part in said {
            assert!(found.contains(part), "{part:?} is not in {finding:#}");
        }
        assert!(
            state == "ok" || state == "note" || finding["fix"].is_string(),
            "{finding:#}"
        );
        self
    }

    pub(super) fn is_unsafe(&self) -> &Self {
        assert_eq!((self.code, self.state.as_str()), (Some(1), "unsafe"), "{self:#?}");
        self
    }

    pub(super) fn is_safe(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        assert_ne!(self.state, "unsafe", "{self:#?}");
        self
    }

    pub(super) fn in_state(&self, state: &str) -> Vec<&str> {
        let those = self
            .findings
            .iter()
            .filter(|(_, finding)| finding["state"] == state);
        those.map(|(check, _)| check.as_str()).collect()
    }
}

/// Whether the limit of a crew is that of the queue, from RabbitMQ 3.12 on, or that of the node.
pub(super) async fn queues_have_timeouts() -> bool {
    version().await >= (3, 12)
}

/// Whether what is unacked keeps all of a queue's log that came after it.
pub(super) async fn queues_have_logs_held() -> bool {
    version().await < (4, 3)
}

async fn version() -> (u32, u32) {
    let version = broker().await.ctl(&["version"]).await.unwrap();
    let mut parts = version
        .trim()
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap(), parts.next().unwrap())
}
