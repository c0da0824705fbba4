//! What follows a result: for the user that does nothing else, and for a gateway.

use std::fs;

use crewfleet_tests::cli::Cli;
use crewfleet_tests::process::Process;
use crewfleet_tests::receiver::{Answer, Receiver};
use crewfleet_tests::shipped_rabbitmq::ShippedNode;
use nix::sys::signal::Signal;
use serde_json::Value;

/// Whom a sink calls: it takes nothing of the crew `fail`, and of others what comes a second time.
pub(super) struct Called {
    receiver: Receiver,
}

impl Called {
    pub(super) async fn new() -> Self {
        let receiver = Receiver::start(|call, before| match (call.json()["crew"] == "fail", before) {
            (true, _) => Answer::Status(400),
            (false, 0) => Answer::Status(503),
            (false, _) => Answer::Status(200),
        });
        Self {
            receiver: receiver.await,
        }
    }

    /// Has a command know the sink.
    pub(super) fn configure(&self, cli: &Cli) {
        let toml = format!(
            "[webhooks]\nallow = [\"127.0.0.0/8\"]\nadmin_addr = \"127.0.0.1:0\"\n\n\
             [sinks.crm]\nkind = \"webhook\"\nurl = \"{}\"\n",
            self.receiver.url("crm")
        );
        fs::write(cli.dir().join("crewfleet.toml"), toml).unwrap();
    }

    /// Where a kickoff may have itself called.
    pub(super) fn url(&self) -> String {
        self.receiver.url("asked")
    }

    /// Waits until something came to this path twice, so by way of a retry tier.
    pub(super) async fn came_again(&self, path: &str) {
        let again = |calls: &[crewfleet_tests::receiver::Call]| {
            let mut ids: Vec<_> = calls.iter().filter(|call| call.path == path).collect();
            ids.sort_by_key(|call| call.id());
            ids.windows(2).any(|pair| pair[0].id() == pair[1].id())
        };
        self.receiver
            .when(&format!("a second call to {path}"), again)
            .await;
    }

    /// `crewfleet sinks` of its own user takes, has come again, and gives up.
    pub(super) async fn of_their_own_user(&self, shipped: &ShippedNode, producer: &Cli, operator: &Cli) {
        let cli = shipped.client("sinks").cli();
        self.configure(&cli);
        let tried = cli.run(&["sinks", "test", "crm"]).await.ended_with(1);
        tried.said(&["503", "would be tried again"]);
        let sinks = cli.spawn(&["sinks"]);
        self.came_again("/crm").await;
        let failed = ["kickoff", "fail", "--input", "message=as asked"];
        producer.run(&failed).await.ended_with(1);
        let of_fail = |call: &crewfleet_tests::receiver::Call| call.json()["crew"] == "fail";
        self.receiver
            .when("the failed one", |calls| calls.iter().any(of_fail))
            .await;
        // What is under way comes to its end.
        sinks.signal(Signal::SIGTERM);
        assert_eq!(sinks.exit().await.code(), Some(0));
        nothing_was_refused(&sinks);
        let listed = operator.run(&["sinks", "list", "--json"]).await.success();
        let listed: Value = serde_json::from_str(&listed).unwrap();
        assert_eq!(
            (&listed[0]["name"], &listed[0]["dead_letters"]),
            (&"crm".into(), &1.into()),
            "{listed:#}"
        );
    }
}

pub(super) fn nothing_was_refused(process: &Process) {
    let log = process.stderr.so_far().join("\n");
    assert!(!log.contains("ACCESS_REFUSED"), "{log}");
}
