//! Listening to what is worth nothing later: a queue of each link's own, made anew with the next link.

use std::sync::Arc;

use crewfleet_amqp::ephemeral::Ephemeral;
use crewfleet_amqp::retrying::Retrying;
use crewfleet_amqp::subscription::Receive;
use crewfleet_amqp::{Broker, BrokerError};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

/// Messages on their way to us at once; an answer may have the better part of a megabyte.
const PREFETCH: u16 = 32;

/// Messages that are handed to a receiver, until this is dropped.
pub struct Listening {
    hearing: watch::Receiver<Hearing>,
    stop: DropGuard,
}

/// Whether messages can come.
#[derive(Clone)]
enum Hearing {
    /// Not yet, or not at present.
    NotNow,
    Yes,
    /// The broker has refused it.
    Refused(BrokerError),
}

impl Listening {
    /// Listens until `stop`: to a queue whose name begins with `queue`, with these pairs of exchange and key.
    pub(crate) fn start(
        broker: Broker,
        queue: String,
        bindings: Vec<(String, String)>,
        receiver: Arc<impl Receive>,
        stop: &CancellationToken,
    ) -> Self {
        let (sender, hearing) = watch::channel(Hearing::NotNow);
        let stop = stop.child_token();
        let stopped = stop.clone();
        tokio::spawn(async move {
            let mut retrying = Retrying::default();
            while let Some(link) = stopped.run_until_cancelled(broker.connected()).await {
                let consume = link.consume_ephemeral(&queue, &bindings, PREFETCH);
                match stopped.run_until_cancelled(consume).await {
                    Some(Ok(mut consumer)) => {
                        retrying.works();
                        sender.send_replace(Hearing::Yes);
                        let hear = hear(&mut consumer, receiver.as_ref());
                        let told_to_stop = stopped.run_until_cancelled(hear).await.is_none();
                        sender.send_replace(Hearing::NotNow);
                        if told_to_stop {
                            return consumer.close().await;
                        }
                    }
                    Some(Err(error)) if error.is_refusal() => {
                        retrying.failed(&error);
                        sender.send_replace(Hearing::Refused(error));
                    }
                    Some(Err(error)) => debug!(queue, %error, "nothing is heard; trying again"),
                    None => return,
                }
                let _ = stopped
                    .run_until_cancelled(timeout(retrying.pause(), link.ended()))
                    .await;
            }
        });
        Self {
            hearing,
            stop: stop.drop_guard(),
        }
    }

    /// Waits until messages can come; `false` when they can't by `end`, since the broker is away.
    ///
    /// # Errors
    /// [`BrokerError`]: the broker refuses it.
    pub async fn hears(&self, end: Instant) -> Result<bool, BrokerError> {
        let mut hearing = self.hearing.clone();
        let is_known = |hearing: &Hearing| !matches!(hearing, Hearing::NotNow);
        match timeout_at(end, hearing.wait_for(is_known)).await {
            Ok(Ok(known)) => match &*known {
                Hearing::Refused(error) => Err(error.clone()),
                _ => Ok(true),
            },
            _ => Ok(false),
        }
    }

    /// Stops, and waits until the queue is gone, or the broker does not answer.
    pub(crate) async fn close(self) {
        let Self { mut hearing, stop } = self;
        drop(stop);
        while hearing.changed().await.is_ok() {}
    }
}

async fn hear(consumer: &mut Ephemeral, receiver: &impl Receive) {
    while let Some(Ok(delivery)) = consumer.next().await {
        receiver.receive(&delivery);
        delivery.ack().await;
    }
}
