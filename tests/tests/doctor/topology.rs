//! What is declared, and what is missing or other than it should be.

use super::*;

#[tokio::test]
async fn other_arguments_are_named_and_judged() {
    let quorum = ("x-queue-type", json!("quorum"));
    let stream = ("x-queue-type", json!("stream"));
    let dead_lettering = |patient: &Patient, to: &str| {
        [
            ("x-dead-letter-exchange", json!(patient.name(to))),
            ("x-dead-letter-strategy", json!("at-least-once")),
            ("x-overflow", json!("reject-publish")),
        ]
    };
    let cases = join_all((0..8).map(|_| Patient::new())).await;
    let [a, b, c, d, e, f, g, h] = &cases[..] else {
        unreachable!()
    };
    let request = |patient: &Patient| dead_lettering(patient, "dead-letters").to_vec();
    let with = |mut arguments: Vec<(&'static str, Value)>, more: &[(&'static str, Value)]| {
        arguments.insert(0, ("x-queue-type", json!("quorum")));
        arguments.extend_from_slice(more);
        arguments
    };
    let timeout = ("x-consumer-timeout", json!(86_400_000));
    let limit = ("x-delivery-limit", json!(1000));
    let without = |patient: &Patient, name: &str| {
        let mut arguments = with(request(patient), &[limit.clone(), timeout.clone()]);
        arguments.retain(|(key, _)| *key != name);
        arguments
    };
    let cases = [
        (a, "requests.echo", vec![], "x-", "unsafe"),
        (
            b,
            "requests.echo",
            without(b, "x-overflow"),
            "x-overflow",
            "unsafe",
        ),
        (
            c,
            "requests.echo",
            with(
                dead_lettering(c, "due").to_vec(),
                &[limit.clone(), timeout.clone()],
            ),
            "x-dead-letter-exchange",
            "unsafe",
        ),
        (
            d,
            "dead-letters.echo",
            vec![quorum.clone(), ("x-delivery-limit", json!(20))],
            "x-delivery-limit",
            "unsafe",
        ),
        (
            e,
            "requests.echo",
            with(
                request(e),
                &[limit.clone(), timeout.clone(), ("x-message-ttl", json!(60_000))],
            ),
            "x-message-ttl",
            "unsafe",
        ),
        (
            f,
            "retry.5s",
            with(
                dead_lettering(f, "due").to_vec(),
                &[("x-message-ttl", json!(6000))],
            ),
            "x-message-ttl",
            "warning",
        ),
        (
            g,
            "control",
            vec![
                stream.clone(),
                ("x-max-age", json!("60s")),
                ("x-stream-max-segment-size-bytes", json!(1_000_000)),
            ],
            "x-max-age",
            "warning",
        ),
        (
            h,
            "requests.echo",
            with(request(h), &[("x-delivery-limit", json!(500)), timeout.clone()]),
            "x-delivery-limit",
            "warning",
        ),
    ];
    join_all(
        cases
            .into_iter()
            .map(async |(patient, queue, arguments, argument, state)| {
                patient.declare_queue(queue, &arguments).await;
                let declared = patient.declare().await;
                if declared.code != Some(0) {
                    // A worker refuses it, too: what comes after it is missing then, which is another finding.
                    declared.ended_with(3).said(&[queue, argument]);
                }
                let check = format!("queue {}", patient.name(queue));
                for examined in [patient.managed().await, patient.unmanaged().await] {
                    examined.finds(&check, state, &[argument]);
                    match state {
                        "unsafe" => examined.is_unsafe(),
                        _ => examined.is_safe(),
                    };
                }
            }),
    )
    .await;
    let check = format!("queue {}", a.name("requests.echo"));
    a.managed().await.finds(
        &check,
        "unsafe",
        &[
            "x-queue-type is ",
            "x-overflow is none",
            "x-dead-letter-exchange is none",
        ],
    );
}

#[tokio::test]
async fn a_broker_without_anything_of_ours_is_no_danger() {
    let patient = Patient::new().await;
    for examined in [patient.managed().await, patient.unmanaged().await] {
        assert!(
            !examined.findings.contains_key("streams"),
            "it has them: {examined:?}"
        );
        examined
            .is_safe()
            .finds("topology", "warning", &["nothing of crewfleet"])
            .finds("workers", "warning", &["none was heard"]);
    }
}

#[tokio::test]
async fn a_crew_that_nobody_named_is_found_by_its_queue() {
    let patient = Patient::declared().await;
    fs::remove_file(patient.cli.dir().join("crewfleet.toml")).unwrap();
    let queue = format!("queue {}", patient.name("requests.echo"));
    patient
        .managed()
        .await
        .is_safe()
        .finds(&queue, "ok", &["as wanted"]);
    assert!(!patient.unmanaged().await.findings.contains_key(&queue));
}

#[tokio::test]
async fn what_is_missing_of_a_declared_topology_is_unsafe() {
    let patient = Patient::declared().await;
    let connection = connect().await;
    let channel = connection.create_channel().await.unwrap();
    let (queue, exchange) = (patient.name("requests.echo"), patient.name("due"));
    let unbound = channel.queue_unbind(
        queue.as_str().into(),
        exchange.as_str().into(),
        "echo".into(),
        FieldTable::default(),
    );
    unbound.await.unwrap();
    patient
        .managed()
        .await
        .is_unsafe()
        .finds("bindings", "unsafe", &[&exchange, &queue]);
    let tier = patient.name("retry.30s");
    let deleted = channel.queue_delete(tier.as_str().into(), QueueDeleteOptions::default());
    deleted.await.unwrap();
    connection.close(200, "done".into()).await.unwrap();
    for examined in [patient.managed().await, patient.unmanaged().await] {
        let check = format!("queue {tier}");
        examined.is_unsafe().finds(&check, "unsafe", &["does not exist"]);
    }
    patient.declare().await.success();
    patient.managed().await.is_safe();
}

#[tokio::test]
async fn a_crew_that_outlasts_the_consumer_timeout_is_unsafe() {
    // The timeout of a queue is 24 hours, that of a node before RabbitMQ 3.12 what the configuration says.
    let patient = Patient::of("timeout_s = 86390").await;
    patient.declare().await.success();
    for examined in [patient.managed().await, patient.unmanaged().await] {
        examined.is_unsafe().finds(
            "time limit of crew echo",
            "unsafe",
            &["86390", "consumer timeout"],
        );
    }
    if !queues_have_timeouts().await {
        let patient = Patient::of("timeout_s = 1750").await;
        patient.declare().await.success();
        let examined = patient.unmanaged().await;
        examined.is_unsafe().finds(
            "time limit of crew echo",
            "unsafe",
            &["1800 s", "consumer_timeout_s"],
        );
    }
}
