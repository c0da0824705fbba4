//! Three nodes of the shipped configuration are one broker, and outlive one of them.

use crewfleet_tests::cluster::Cluster;
use crewfleet_tests::crews::builtin_crew_toml;
use crewfleet_tests::shipped_rabbitmq::{Certificates, Ports, options};

#[tokio::test]
async fn three_shipped_nodes_are_one_broker_without_one_of_them_too() {
    let certificates = Certificates::new();
    let ports = [Ports::free(), Ports::free(), Ports::free()];
    let mut cluster = Cluster::start_as(3, |index, nodes, of_harness| {
        options(
            of_harness,
            certificates.config(&ports[index], nodes),
            &ports[index],
        )
    })
    .await;
    let client = |user: &str, index: usize| certificates.client(user, ports[index].amqps);
    let operator = client("operator", 0).cli();
    operator.run(&["topology", "declare", "echo"]).await.success();
    let crew = builtin_crew_toml("echo", 1);
    let _worker = client("worker", 1).worker().crew("echo", &crew).ready().await;
    let producer = client("producer", 2).cli();
    producer.run(&["kickoff", "echo"]).await.success();

    let members = "{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"crewfleet\">>, queue, <<\"kickoff.requests.echo\">>)), \
                   length(maps:get(nodes, amqqueue:get_type_state(Q)))";
    assert_eq!(
        cluster.eval(members).await.trim(),
        "3",
        "members of the queue of requests"
    );

    cluster.kill(0).await;
    // Until then a publish is refused.
    cluster.leader_in("crewfleet", "kickoff.requests.echo").await;
    producer.run(&["kickoff", "echo"]).await.success();
}
