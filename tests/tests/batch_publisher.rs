//! Publishing with many messages under way on one channel: each publisher is told the end of its own message.

use std::time::Duration;

use crewfleet_amqp::{Broker, BrokerConfig, Message, Properties, PublishError, reply_code};
use crewfleet_protocol::topology::Topology;
use crewfleet_protocol::{CrewName, Names};
use crewfleet_tests::PATIENCE;
use crewfleet_tests::broker::{Namespace, broker};
use futures_util::{StreamExt, stream};

/// How many messages are under way.
const AT_ONCE: usize = 500;

struct Site {
    broker: Broker,
    names: Names,
}

/// A connection, and the queue of a crew `echo` that nobody serves.
async fn site() -> Site {
    let namespace = Namespace::new();
    let config = BrokerConfig {
        url: broker().await.url().into(),
        namespace: namespace.to_string(),
        ..BrokerConfig::default()
    };
    let broker = Broker::connect(&config, "batch_publisher test")
        .await
        .expect("a connection");
    let names = Names::new(&namespace.to_string());
    let crews = [CrewName::parse("echo").unwrap()];
    let topology = Topology::of(&names, &crews, config.results());
    let link = broker.connected().await;
    link.declare(&topology).await.expect("the topology");
    Site { broker, names }
}

impl Site {
    fn message(&self, exchange: String, routing_key: &str, number: usize) -> Message {
        Message {
            exchange,
            routing_key: routing_key.to_owned(),
            properties: Properties::json("test").with_message_id(&number.to_string()),
            body: vec![b'x'; 1 + number % 300],
            mandatory: true,
        }
    }

    async fn publish(&self, message: Message, limit: Duration) -> Result<(), PublishError> {
        self.broker.publisher().publish(message, limit).await
    }

    async fn waiting(&self) -> u32 {
        let link = self.broker.connected().await;
        let crew = CrewName::parse("echo").unwrap();
        let queue = link.queue_state(&self.names.request_queue(&crew)).await;
        queue.expect("an answer").expect("the queue").messages
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_queue_takes_is_told_to_the_one_who_published_it() {
    const COUNT: usize = 20_000;
    let site = &site().await;
    // Runs of either kind, of all lengths: where all are returned, and where few are.
    let routable = |number: usize| !(number / 100 + number % 7).is_multiple_of(3);
    let told = stream::iter(0..COUNT)
        .map(|number| async move {
            let crew = if routable(number) { "echo" } else { "nobody" };
            let message = site.message(site.names.requests(), crew, number);
            (number, site.publish(message, PATIENCE).await)
        })
        .buffer_unordered(AT_ONCE);
    let wrong: Vec<_> = told
        .filter(|(number, told)| {
            let right = match told {
                Ok(()) => routable(*number),
                Err(PublishError::Unroutable { routing_key, .. }) => {
                    routing_key == "nobody" && !routable(*number)
                }
                Err(_) => false,
            };
            std::future::ready(!right)
        })
        .collect()
        .await;
    assert!(wrong.is_empty(), "{} of {COUNT}: {wrong:?}", wrong.len());
    assert_eq!(
        site.waiting().await as usize,
        (0..COUNT).filter(|n| routable(*n)).count()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_message_takes_no_other_along() {
    const COUNT: usize = 2000;
    let site = &site().await;
    let refused = |number: usize| number % 500 == 250;
    let told = stream::iter(0..COUNT)
        .map(|number| async move {
            let exchange = match refused(number) {
                true => "no-such-exchange".to_owned(),
                false => site.names.requests(),
            };
            let message = site.message(exchange, "echo", number);
            (number, site.publish(message, PATIENCE).await)
        })
        .buffer_unordered(AT_ONCE);
    let wrong: Vec<_> = told
        .filter(|(number, told)| {
            let right = match told {
                Ok(()) => !refused(*number),
                Err(PublishError::Broker(error)) => {
                    error.code() == Some(reply_code::NOT_FOUND) && refused(*number)
                }
                Err(_) => false,
            };
            std::future::ready(!right)
        })
        .collect()
        .await;
    assert!(wrong.is_empty(), "{} of {COUNT}: {wrong:?}", wrong.len());
    // Those that fell with a refused one went out again: none is lost, and some may be there twice.
    let expected = (0..COUNT).filter(|n| !refused(*n)).count();
    assert!(site.waiting().await as usize >= expected);
}
