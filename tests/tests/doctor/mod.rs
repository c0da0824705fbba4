//! `crewfleet doctor` against a real broker with its management plugin: what is as it should be, and each way in which
//! it is not.

mod management;
mod patient;
mod topology;

use std::fs;

use crewfleet_tests::PATIENCE;
use crewfleet_tests::broker::add_users;
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::crews::builtin_crew_toml;
use crewfleet_tests::worker::WorkerProcess;
use futures_util::future::join_all;
use lapin::BasicProperties;
use lapin::options::QueueDeleteOptions;
use lapin::types::FieldTable;
use serde_json::{Value, json};
use tokio::time::timeout;

use self::patient::{Examined, Patient, broker, connect, queues_have_logs_held, queues_have_timeouts};

#[tokio::test]
async fn a_healthy_fleet_is_safe_and_nothing_is_changed_by_looking() {
    let patient = Patient::new().await;
    let _worker = WorkerProcess::builder(&broker().await.url(), &patient.namespace)
        .worker("id = \"oven-1\"")
        .crew("echo", &builtin_crew_toml("echo", 4))
        .ready()
        .await;
    patient.cli.run(&["kickoff", "echo"]).await.success();
    let state = async || {
        let node = broker().await;
        let list = async |what: &[&str]| {
            let all = node.ctl(what).await.unwrap();
            let ours = all
                .lines()
                .filter(|line| line.contains(&patient.namespace.to_string()));
            let mut ours: Vec<String> = ours.map(ToOwned::to_owned).collect();
            ours.sort();
            ours
        };
        (
            list(&["list_queues", "name", "arguments"]).await,
            list(&["list_exchanges", "name", "type", "arguments"]).await,
            list(&["list_bindings"]).await,
        )
    };
    let client = PlainClient::connect(&broker().await.url(), &patient.namespace).await;
    // What the probes might let through would come here first.
    let mut published = Vec::new();
    for exchange in [
        "control",
        "replies",
        "events",
        "retry.5s",
        "dead-letters.unroutable",
    ] {
        published.push((exchange, client.subscribe(exchange, &["#"]).await));
    }
    // The broker deletes what was the command's own after that has ended.
    let ended = async {
        loop {
            let state = state().await;
            let is_a_client =
                |queue: &String| queue.contains(".clients.") && !queue.contains(".clients.oven-1.");
            if !state.0.iter().any(is_a_client) {
                return state;
            }
        }
    };
    let before = timeout(PATIENCE, ended).await.expect("the command's queues go");
    assert!(
        before.0.len() > 9 && before.1.len() > 11 && before.2.len() > 9,
        "{before:?}"
    );
    // The management API has the statistics of a new queue, and with them its policies, seconds later.
    let complete = async {
        loop {
            let examined = patient.managed().await;
            if examined.findings["policies"]["state"] != "unknown" {
                return examined;
            }
        }
    };
    let managed = timeout(PATIENCE, complete).await.expect("the statistics come");
    managed.is_safe();
    assert_eq!(managed.in_state("warning"), [""; 0], "{managed:#?}");
    let mut unseen = vec!["drain grace"];
    if !queues_have_timeouts().await {
        unseen.insert(0, "consumer timeout of the broker");
    }
    assert_eq!(managed.in_state("unknown"), unseen, "{managed:#?}");
    managed
        .finds("broker version", "ok", &["RabbitMQ"])
        .finds("worker oven-1", "ok", &["serves echo"])
        .finds("clock of worker oven-1", "ok", &["ours"])
        .finds("broker's clock", "ok", &["ours"])
        .finds(
            &format!("queue {}", patient.name("requests.echo")),
            "ok",
            &["as wanted"],
        )
        .finds("consumers of crew echo", "ok", &["1 consumers"])
        .finds("time limit of crew echo", "ok", &["600 s"])
        .finds("bindings", "ok", &["all"])
        .finds("policies", "ok", &["none"])
        .finds("message size", "ok", &["15794176 bytes are taken"])
        .finds("permissions", "ok", &["configure, write and read"]);

    let unmanaged = patient.unmanaged().await;
    unmanaged.is_safe();
    for check in [
        "management API",
        "bindings",
        "policies",
        "nodes and alarms",
        "feature flags",
        "broker's clock",
        "drain grace",
        "consumer timeout of the broker",
    ] {
        unmanaged.finds(check, "unknown", &[]);
    }
    assert_eq!(state().await, before, "looking changes nothing");
    for (exchange, messages) in &mut published {
        let last = BasicProperties::default().with_correlation_id("last".into());
        client
            .publish_to(&patient.name(exchange), "last", "{}", last)
            .await;
        let first = messages.next().await;
        assert_eq!(
            first.correlation_id(),
            "last",
            "looking publishes nothing: {first:?}"
        );
    }
    patient.cli.run(&["kickoff", "echo"]).await.success();

    let people = patient.cli.run(&["doctor", "--all"]).await.success();
    assert!(
        people.contains("ok       exchange ") && people.contains("\n         fix: "),
        "{people}"
    );
    let wrong = patient.cli.run(&["doctor"]).await.success();
    assert!(!wrong.contains("ok       "), "{wrong}");
    let of_management = wrong.lines().filter(|line| line.contains("management API"));
    assert_eq!(of_management.count(), 1, "{wrong}");
}

#[tokio::test]
async fn messages_that_the_broker_would_refuse_are_found_by_trying() {
    let patient = Patient::new().await;
    patient.declare().await.success();
    let config =
        "[broker]\nmax_reply_bytes = 160000000\n[crews.echo]\nrunner = \"builtin\"\ntarget = \"echo\"\n";
    fs::write(patient.cli.dir().join("crewfleet.toml"), config).unwrap();
    let examined = patient.unmanaged().await;
    examined.is_unsafe().finds("message size", "unsafe", &["max"]);
}

#[tokio::test]
async fn missing_permissions_are_named() {
    let node = broker().await;
    let patient = Patient::declared().await;
    let ours = format!("^{}[.].*", patient.namespace);
    let but_no_control = format!("^{}[.](?!control).*", patient.namespace);
    let users = [
        (
            "idle",
            "^$",
            "^$",
            "^$",
            vec!["requests.echo", "replies", "control"],
        ),
        (
            "mute",
            &ours,
            "^$",
            &ours,
            vec!["control", "replies", "dead-letters"],
        ),
        ("deaf", &ours, &ours, &but_no_control, vec!["control"]),
        (
            "rigid",
            "[.]clients[.]",
            &ours,
            &ours,
            vec!["requests.echo", "control"],
        ),
    ];
    let made: Vec<_> = users
        .iter()
        .map(|&(user, configure, write, read, _)| (user, "secret", [configure, write, read]))
        .collect();
    add_users(node, &made).await;
    join_all(users.into_iter().map(async |(user, .., refused)| {
        let url = node.url().replace("guest:guest", &format!("{user}:secret"));
        let flags = [("CREWFLEET__BROKER__URL", url.as_str())];
        let doctor = patient.cli.run_with_environment(&["doctor", "--json"], &flags);
        let examined = Examined::of(doctor.await);
        let refused = refused.iter().map(|what| format!("'{}'", patient.name(what)));
        let refused: Vec<String> = refused.collect();
        let mut said: Vec<&str> = refused.iter().map(String::as_str).collect();
        said.push(user);
        examined.is_unsafe().finds("permissions", "unsafe", &said);
        let people = patient.cli.run_with_environment(&["doctor"], &flags);
        let people = people.await.ended_with(1).stdout;
        // Its head, the findings, how many are left, and the counts.
        assert!(people.len() <= 1 + 20 + 1 + 1, "{people:#?}");
        assert!(
            people[1].starts_with("unsafe"),
            "the worst comes first: {people:#?}"
        );
        let text = people.join("\n");
        let grant = format!("fix: rabbitmqctl set_permissions -p '/' '{user}' '^");
        assert!(text.contains(&grant), "{text}");
    }))
    .await;
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_no_finding() {
    let patient = Patient::new().await;
    let flags = [("CREWFLEET__BROKER__URL", "amqp://guest:guest@127.0.0.1:1/%2f")];
    let output = patient.cli.run_with_environment(&["doctor"], &flags).await;
    output.ended_with(3).said(&["127.0.0.1:1"]);
}

/// What a leader change may leave behind looks like this to whoever asks: RabbitMQ waits for acks, and no worker holds
/// the deliveries.
#[tokio::test]
async fn what_no_worker_holds_is_told() {
    let patient = Patient::new().await;
    let worker = WorkerProcess::builder(&broker().await.url(), &patient.namespace)
        .crew("echo", &builtin_crew_toml("sleep", 1))
        .ready()
        .await;
    let client = PlainClient::connect(&broker().await.url(), &patient.namespace).await;
    client.request("echo", "long", &json!({"seconds": 3600})).await;
    worker
        .metric_becomes("crewfleet_kickoffs_held", &[("crew", "echo")], 1.0)
        .await;
    let (check, log) = ("unacked requests of crew echo", "queue log of crew echo");
    let logs_are_held = queues_have_logs_held().await;
    let examined = async |found: &str| {
        loop {
            let examined = patient.managed().await;
            if examined
                .findings
                .get(check)
                .is_some_and(|finding| finding["found"] == found)
                // Its statistics come later.
                && (!logs_are_held || examined.findings.contains_key(log))
            {
                return examined;
            }
        }
    };
    let owned = timeout(PATIENCE, examined("1, which the workers hold"));
    let owned = owned.await.expect("the statistics come");
    if logs_are_held {
        owned.finds(log, "ok", &["its oldest kickoff has run for"]);
    }
    // Another client takes what comes next, and never acks it.
    let stranger = connect().await;
    let channel = stranger.create_channel().await.unwrap();
    let queue = patient.namespace.requests_of("echo");
    let (options, none) = (
        lapin::options::BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let consumed = channel.basic_consume(queue.as_str().into(), "stranger".into(), options, none);
    let mut deliveries = consumed.await.unwrap();
    client.request("echo", "taken", &json!({})).await;
    let taken = futures_util::StreamExt::next(&mut deliveries);
    timeout(PATIENCE, taken)
        .await
        .expect("it is delivered")
        .unwrap()
        .unwrap();
    let amiss = timeout(PATIENCE, examined("2, and the workers that were heard hold 1"));
    let amiss = amiss.await.expect("the statistics come");
    amiss.finds(check, "unsafe", &["2, and"]);
    amiss.is_unsafe();
}
