//! `deploy/rabbitmq/`: nodes of the shipped configuration, and its users. Each can do its work, and is refused the
//! rest.

mod cluster;
mod refused;
mod sinks;
mod work;

use crewfleet_tests::shipped_rabbitmq::{Ports, ShippedNode};
use lapin::types::FieldTable;

/// Nothing else is open than what the configuration says, and nobody has a password.
#[tokio::test]
async fn the_shipped_node_takes_certificates_only_and_its_http_stays_on_loopback() {
    let mut shipped = ShippedNode::start().await;
    let node = &shipped.node;
    // As the sockets are: what the node's own list says of its HTTP listeners is not their address.
    let expression = "lists:usort([A || P <- erlang:ports(), {ok, State} <- [catch prim_inet:getstatus(P)], \
                      lists:member(listen, State), {ok, A} <- [catch inet:sockname(P)]])";
    let listening = node.eval(expression).await.unwrap();
    let listening: String = listening.chars().filter(|c| !c.is_whitespace()).collect();
    let listening: Vec<&str> = listening.trim_matches(['[', ']']).split("},{{").collect();
    for address in &listening {
        assert!(address.contains("127,0,0,1},"), "not on loopback: {listening:?}");
    }
    let is_open = |port: u16| {
        let end = format!("127,0,0,1}},{port}");
        listening
            .iter()
            .any(|address| address.trim_end_matches('}').ends_with(&end))
    };
    let Ports {
        amqps,
        management,
        prometheus,
    } = shipped.ports;
    assert!(
        [amqps, management, prometheus].into_iter().all(is_open),
        "{listening:?}"
    );
    assert!(!is_open(node.port()), "a listener without TLS: {listening:?}");
    let users = node.ctl(&["list_users", "--no-table-headers"]).await.unwrap();
    let mut names: Vec<&str> = users.lines().filter_map(|line| line.split('\t').next()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["gateway", "operator", "producer", "sinks", "worker"],
        "{users}"
    );
    // As `authenticate_user` asks, for all at once: each start of `rabbitmqctl` costs a second of a core.
    let expression = "[{User, Password, element(1, rabbit_access_control:check_user_pass_login(User, Password))} \
                      || User <- [<<\"gateway\">>, <<\"operator\">>, <<\"producer\">>, <<\"sinks\">>, <<\"worker\">>], \
                      Password <- [<<>>, User, <<\"guest\">>]]";
    let tried = node.eval(expression).await.unwrap();
    assert_eq!(
        tried.matches("refused").count(),
        5 * 3,
        "somebody is let in: {tried}"
    );
    let expression = "[application:get_env(rabbit, Key) || Key <- [consumer_timeout, max_message_size]]";
    let set = node.eval(expression).await.unwrap();
    assert_eq!(set.trim(), "[{ok,86400000},{ok,16777216}]");
    let limits = node.ctl(&["list_vhost_limits", "-p", "crewfleet"]).await.unwrap();
    assert!(
        limits.contains("max-connections") && limits.contains("max-queues"),
        "{limits}"
    );
    // Whoever says no type of queue gets one that survives a node.
    let connection = shipped.client("operator").connect().await;
    let channel = connection.create_channel().await.unwrap();
    let options = lapin::options::QueueDeclareOptions::durable();
    let plain = channel.queue_declare("kickoff.plain".into(), options, FieldTable::default());
    plain.await.unwrap();
    let types = node
        .ctl(&["list_queues", "-p", "crewfleet", "name", "type"])
        .await
        .unwrap();
    assert!(types.contains("kickoff.plain\tquorum"), "{types}");

    let metrics = format!("http://127.0.0.1:{}/metrics", shipped.ports.prometheus);
    let (status, text) = crewfleet_tests::http::get(&metrics).await;
    assert!(status == 200 && text.contains("rabbitmq_build_info"), "{status}");

    // The definitions are read again at each start, and touch nobody else's user.
    for command in [
        &["add_user", "alice", "a secret"][..],
        &["change_password", "operator", "a secret"],
    ] {
        node.ctl(command).await.unwrap();
    }
    let node = &mut shipped.node;
    node.stop().await.unwrap();
    node.start_again().await.unwrap();
    node.await_startup().await.unwrap();
    node.ctl(&["authenticate_user", "alice", "a secret"])
        .await
        .unwrap();
    let tried = node.ctl(&["authenticate_user", "operator", "a secret"]).await;
    assert!(tried.is_err(), "a shipped user keeps a password");
    let operator = shipped.client("operator").cli();
    operator.run(&["healthcheck"]).await.success();
}
