//! What each user must not do, tried by a plain AMQP client.

use crewfleet_tests::shipped_rabbitmq::ShippedNode;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ErrorKind, ExchangeKind};

use self::Attempt::{Bind, Consume, Declare, DeclareExchange, Delete, DeleteExchange, Publish, Purge};

const ACCESS_REFUSED: u16 = 403;

#[derive(Debug, Clone, Copy)]
enum Attempt<'a> {
    Consume(&'a str),
    Purge(&'a str),
    Declare(&'a str),
    Delete(&'a str),
    DeclareExchange(&'a str),
    DeleteExchange(&'a str),
    /// To an exchange, with a key.
    Publish(&'a str, &'a str),
    /// A queue to an exchange, by a key.
    Bind(&'a str, &'a str, &'a str),
}

impl Attempt<'_> {
    async fn by(self, connection: &Connection) -> lapin::Result<()> {
        let channel = connection.create_channel().await?;
        let none = FieldTable::default;
        match self {
            Consume(queue) => {
                // A stream wants it.
                channel.basic_qos(1, BasicQosOptions::default()).await?;
                let options = BasicConsumeOptions::default();
                channel
                    .basic_consume(queue.into(), "".into(), options, none())
                    .await
                    .map(drop)?;
            }
            Purge(queue) => channel
                .queue_purge(queue.into(), QueuePurgeOptions::default())
                .await
                .map(drop)?,
            Declare(queue) => channel
                .queue_declare(queue.into(), QueueDeclareOptions::durable(), none())
                .await
                .map(drop)?,
            Delete(queue) => channel
                .queue_delete(queue.into(), QueueDeleteOptions::default())
                .await
                .map(drop)?,
            DeclareExchange(exchange) => {
                let options = ExchangeDeclareOptions::default();
                channel
                    .exchange_declare(exchange.into(), ExchangeKind::Topic, options, none())
                    .await?;
            }
            DeleteExchange(exchange) => {
                channel
                    .exchange_delete(exchange.into(), ExchangeDeleteOptions::default())
                    .await?;
            }
            Publish(exchange, key) => {
                channel.confirm_select(ConfirmSelectOptions::default()).await?;
                let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
                channel
                    .basic_publish(exchange.into(), key.into(), options, b"{}", properties)
                    .await?
                    .await
                    .map(drop)?;
            }
            Bind(queue, exchange, key) => {
                let options = QueueBindOptions::default();
                channel
                    .queue_bind(queue.into(), exchange.into(), key.into(), options, none())
                    .await?;
            }
        }
        channel.close(200, "OK".into()).await
    }
}

async fn succeed(connection: &Connection, user: &str, attempts: &[Attempt<'_>]) {
    for attempt in attempts {
        let done = attempt.by(connection).await;
        assert!(done.is_ok(), "{user} is to be allowed {attempt:?}: {done:?}");
    }
}

async fn are_refused(connection: &Connection, user: &str, attempts: &[Attempt<'_>]) {
    for attempt in attempts {
        let Err(error) = attempt.by(connection).await else {
            panic!("{user} is allowed {attempt:?}");
        };
        match error.kind() {
            ErrorKind::ProtocolError(said) if said.get_id() == ACCESS_REFUSED => {}
            _ => panic!("{user}, {attempt:?}: {error}"),
        }
    }
}

/// A node with everything declared, the queue `kickoff.clients.<user>.own` of each user that may have one, and connections of
/// all.
async fn site() -> (ShippedNode, [Connection; 5]) {
    let shipped = ShippedNode::start().await;
    let operator = shipped.client("operator").cli();
    operator.run(&["topology", "declare", "echo"]).await.success();
    let mut connections = Vec::new();
    for user in ["producer", "worker", "gateway", "sinks", "operator"] {
        let connection = shipped.client(user).connect().await;
        if user != "sinks" {
            let own = format!("kickoff.clients.{user}.own");
            succeed(&connection, user, &[Declare(&own)]).await;
        }
        connections.push(connection);
    }
    let connections = connections.try_into().expect("five connections");
    (shipped, connections)
}

#[tokio::test]
async fn what_a_user_must_not_do_is_refused() {
    let (_shipped, [producer, worker, gateway, sinks, operator]) = site().await;
    tokio::join!(
        a_producer(&producer),
        a_worker(&worker),
        a_gateway(&gateway),
        sinks_alone(&sinks),
        an_operator(&operator)
    );
}

async fn a_producer(connection: &Connection) {
    const OWN: &str = "kickoff.clients.producer.own";
    let own = [
        Bind(OWN, "kickoff.replies", "client.producer.own"),
        Bind(OWN, "kickoff.answers", "client.producer.own"),
        Consume(OWN),
        Publish("kickoff.requests", "echo"),
        Publish("kickoff.queries", ""),
    ];
    succeed(connection, "producer", &own).await;
    let others = [
        Consume("kickoff.requests.echo"),
        Consume("kickoff.dead-letters.echo"),
        Consume("kickoff.dead-letters.unroutable"),
        Consume("kickoff.retry.5s"),
        Consume("kickoff.results"),
        Consume("kickoff.control"),
        Consume("kickoff.sinks.webhooks"),
        Consume("kickoff.dead-letters.sinks.webhooks"),
        Consume("kickoff.clients.gateway.own"),
        Consume("kickoff.clients.worker.own"),
        Purge("kickoff.requests.echo"),
        Purge("kickoff.clients.gateway.own"),
        Delete("kickoff.requests.echo"),
        Delete("kickoff.results"),
        Delete("kickoff.clients.gateway.own"),
        DeleteExchange("kickoff.requests"),
        Declare("kickoff.requests.other"),
        Declare("kickoff.clients.gateway.more"),
        Declare("elsewhere"),
        DeclareExchange("kickoff.other"),
        Publish("kickoff.replies", "0193-someone-s"),
        Publish("kickoff.events", "0193-someone-s.kickoff_finished"),
        Publish("kickoff.control", ""),
        Publish("kickoff.dead-letters", "echo"),
        Publish("kickoff.dead-letters.unroutable", "echo"),
        Publish("kickoff.retry.5s", "echo"),
        Publish("kickoff.due", "echo"),
        // What is called is signed.
        Publish("kickoff.webhooks", "sinks.webhooks"),
        Publish("kickoff.fleet", "worker-1"),
        // The exchange without a name leads to every queue.
        Publish("", "kickoff.requests.echo"),
        Publish("amq.topic", "anything"),
        Bind(OWN, "kickoff.replies", "#"),
        Bind(OWN, "kickoff.replies", "*"),
        Bind(OWN, "kickoff.replies", "client.#"),
        Bind(OWN, "kickoff.replies", "client.*.own"),
        Bind(OWN, "kickoff.replies", "client.gateway.own"),
        Bind(OWN, "kickoff.replies", "0193-someone-s"),
        // Another's answers, and what others ask.
        Bind(OWN, "kickoff.answers", "#"),
        Bind(OWN, "kickoff.answers", "client.*.own"),
        Bind(OWN, "kickoff.answers", "client.gateway.own"),
        Bind(OWN, "kickoff.queries", ""),
        Publish("kickoff.talk", ":workers"),
        Bind(OWN, "kickoff.talk", ":workers"),
        Publish("kickoff.answers", "client.producer.own"),
        Bind(OWN, "kickoff.events", "#"),
        Bind(OWN, "kickoff.fleet", "#"),
        Bind(OWN, "kickoff.control", ""),
        Bind(OWN, "kickoff.requests", "echo"),
        Bind(OWN, "kickoff.due", "echo"),
        Bind(OWN, "kickoff.dead-letters", "echo"),
        Bind(OWN, "kickoff.webhooks", "sinks.webhooks"),
        Bind("kickoff.requests.echo", "kickoff.replies", "client.producer.own"),
    ];
    are_refused(connection, "producer", &others).await;
}

async fn a_worker(connection: &Connection) {
    const OWN: &str = "kickoff.clients.worker.own";
    let own = [
        Consume("kickoff.requests.echo"),
        Consume("kickoff.control"),
        Consume("kickoff.results"),
        Consume(OWN),
        Bind(OWN, "kickoff.replies", "0193-one-kickoff"),
        Bind(OWN, "kickoff.fleet", "worker-2"),
        Bind(OWN, "kickoff.queries", ""),
        Bind(OWN, "kickoff.talk", ":workers"),
        Publish("kickoff.talk", ":workers"),
        Publish("kickoff.answers", "client.producer.own"),
        Publish("kickoff.replies", "0193-one-kickoff"),
        Publish("kickoff.events", "0193-one-kickoff.kickoff_started"),
        Publish("kickoff.fleet", "worker-1"),
        Publish("kickoff.control", ""),
        Publish("kickoff.requests", "echo"),
        Publish("kickoff.retry.1h", "echo"),
        Publish("kickoff.dead-letters", "echo"),
        Publish("kickoff.webhooks", "sinks.webhooks"),
    ];
    succeed(connection, "worker", &own).await;
    let others = [
        Consume("kickoff.dead-letters.echo"),
        Consume("kickoff.dead-letters.unroutable"),
        Consume("kickoff.retry.5s"),
        Consume("kickoff.sinks.webhooks"),
        Consume("kickoff.clients.gateway.own"),
        Consume("kickoff.clients.producer.own"),
        Purge("kickoff.dead-letters.echo"),
        Purge("kickoff.retry.5s"),
        Delete("kickoff.requests.echo"),
        Delete("kickoff.dead-letters.echo"),
        Delete("kickoff.results"),
        Delete("kickoff.clients.producer.own"),
        DeleteExchange("kickoff.replies"),
        Declare("kickoff.requests.other"),
        Declare("elsewhere"),
        DeclareExchange("kickoff.other"),
        Publish("kickoff.due", "echo"),
        Publish("kickoff.dead-letters.unroutable", "echo"),
        Publish("", "kickoff.clients.producer.own"),
        Publish("kickoff.queries", ""),
        Bind(OWN, "kickoff.answers", "client.producer.own"),
        Bind(OWN, "kickoff.answers", "#"),
        Bind(OWN, "kickoff.replies", "#"),
        Bind(OWN, "kickoff.replies", "client.producer.own"),
        Bind(OWN, "kickoff.events", "#"),
        Bind(OWN, "kickoff.requests", "echo"),
        Bind(OWN, "kickoff.dead-letters", "echo"),
        Bind("kickoff.requests.echo", "kickoff.fleet", "#"),
    ];
    are_refused(connection, "worker", &others).await;
}

async fn a_gateway(connection: &Connection) {
    const OWN: &str = "kickoff.clients.gateway.own";
    let own = [
        Bind(OWN, "kickoff.replies", "client.gateway.own"),
        Bind(OWN, "kickoff.replies", "0193-one-kickoff"),
        Bind(OWN, "kickoff.events", "0193-one-kickoff.#"),
        Bind(OWN, "kickoff.fleet", "#"),
        Bind(OWN, "kickoff.answers", "client.gateway.own"),
        Publish("kickoff.queries", ""),
        Consume(OWN),
        Consume("kickoff.results"),
        Publish("kickoff.requests", "echo"),
        Publish("kickoff.control", ""),
        Publish("kickoff.events", "0193-one-kickoff.kickoff_queued"),
        Publish("kickoff.events", "0193-one-kickoff.kickoff_watched"),
        Bind(OWN, "kickoff.queries", ":followers"),
        Declare("kickoff.history"),
        Bind("kickoff.history", "kickoff.events", "#"),
        Consume("kickoff.history"),
        DeclareExchange("kickoff.http-requests"),
        Declare("kickoff.http-requests"),
        Bind("kickoff.http-requests", "kickoff.http-requests", ""),
        Publish("kickoff.http-requests", "echo"),
        Consume("kickoff.http-requests"),
        DeclareExchange("kickoff.batches"),
        Declare("kickoff.batches"),
        Bind("kickoff.batches", "kickoff.batches", ""),
        Publish("kickoff.batches", ""),
        Consume("kickoff.batches"),
        // To look at dead letters, one at a time.
        Consume("kickoff.dead-letters.echo"),
        Consume("kickoff.dead-letters.unroutable"),
        Consume("kickoff.dead-letters.sinks.webhooks"),
        Publish("kickoff.due", "sinks.webhooks"),
        // To run sinks.
        Consume("kickoff.sinks.webhooks"),
        Publish("kickoff.retry.5s", "sinks.webhooks"),
        Publish("kickoff.dead-letters", "sinks.webhooks"),
        Declare("kickoff.clients.looking-at.kickoff.dead-letters.echo"),
    ];
    succeed(connection, "gateway", &own).await;
    let others = [
        Consume("kickoff.requests.echo"),
        Consume("kickoff.control"),
        Consume("kickoff.clients.producer.own"),
        Purge("kickoff.requests.echo"),
        Delete("kickoff.requests.echo"),
        Delete("kickoff.dead-letters.echo"),
        Delete("kickoff.results"),
        DeleteExchange("kickoff.events"),
        Publish("kickoff.dead-letters.unroutable", "echo"),
        Declare("kickoff.requests.other"),
        DeclareExchange("kickoff.other"),
        Publish("kickoff.replies", "0193-one-kickoff"),
        Publish("kickoff.events", "0193-one-kickoff.kickoff_finished"),
        Publish("kickoff.fleet", "worker-1"),
        Publish("kickoff.webhooks", "sinks.webhooks"),
        Consume("kickoff.retry.5s"),
        Declare("kickoff.sinks.other"),
        Delete("kickoff.sinks.webhooks"),
        Bind("kickoff.sinks.webhooks", "kickoff.replies", "#"),
        Publish("", "kickoff.requests.echo"),
        Publish("kickoff.answers", "client.gateway.own"),
        Bind(OWN, "kickoff.answers", "client.producer.own"),
        Bind(OWN, "kickoff.answers", "#"),
        Publish("kickoff.talk", ":workers"),
        Bind(OWN, "kickoff.talk", ":workers"),
        Bind(OWN, "kickoff.replies", "#"),
        Bind(OWN, "kickoff.replies", "client.producer.own"),
        Bind(OWN, "kickoff.requests", "echo"),
        Bind(OWN, "kickoff.control", ""),
        Bind(OWN, "kickoff.dead-letters", "echo"),
    ];
    are_refused(connection, "gateway", &others).await;
}

/// Whoever runs sinks, and does nothing else.
async fn sinks_alone(connection: &Connection) {
    let own = [
        Consume("kickoff.sinks.webhooks"),
        Publish("kickoff.retry.5s", "sinks.webhooks"),
        Publish("kickoff.dead-letters", "sinks.webhooks"),
    ];
    succeed(connection, "sinks", &own).await;
    let others = [
        Consume("kickoff.requests.echo"),
        Consume("kickoff.dead-letters.echo"),
        Consume("kickoff.dead-letters.sinks.webhooks"),
        Consume("kickoff.retry.5s"),
        Consume("kickoff.results"),
        Consume("kickoff.control"),
        Purge("kickoff.requests.echo"),
        Delete("kickoff.sinks.webhooks"),
        Declare("kickoff.sinks.other"),
        Declare("kickoff.clients.sinks.own"),
        DeclareExchange("kickoff.other"),
        Publish("kickoff.requests", "echo"),
        Publish("kickoff.replies", "0193-one-kickoff"),
        Publish("kickoff.events", "0193-one-kickoff.kickoff_queued"),
        Publish("kickoff.control", ""),
        Publish("kickoff.queries", ""),
        Publish("kickoff.due", "sinks.webhooks"),
        Publish("kickoff.webhooks", "sinks.webhooks"),
        Publish("", "kickoff.sinks.webhooks"),
        Bind("kickoff.sinks.webhooks", "kickoff.replies", "#"),
        Bind("kickoff.sinks.webhooks", "kickoff.due", "sinks.other"),
    ];
    are_refused(connection, "sinks", &others).await;
}

/// Everything of the namespace is the operator's; nothing else is.
async fn an_operator(connection: &Connection) {
    succeed(connection, "operator", &[Consume("kickoff.dead-letters.echo")]).await;
    let others = [
        Declare("elsewhere"),
        DeclareExchange("elsewhere"),
        DeleteExchange("amq.topic"),
        Publish("", "kickoff.requests.echo"),
        Publish("amq.topic", "anything"),
        Bind("kickoff.clients.operator.own", "amq.topic", "#"),
    ];
    are_refused(connection, "operator", &others).await;
}
