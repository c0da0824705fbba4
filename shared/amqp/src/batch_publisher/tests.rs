//! The publishing task on channels of a broker that a test scripts.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use futures_util::future::join_all;
use proptest::prelude::*;

use super::edge::Confirmed;
use super::*;
use crate::Properties;
use crate::returns::Identity;

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// `basic.ack`.
    Acked,
    /// `basic.return`, and `basic.ack` then.
    Returned,
    /// `basic.nack`.
    Nacked,
    /// The channel is closed for it, with all that is under way on it.
    Refused,
}

/// Channels, and the messages on them whose confirms have not come.
#[derive(Default)]
struct Broker {
    channels: u64,
    open: Option<u64>,
    /// No channel is to be had.
    full: bool,
    under_way: BTreeMap<String, (u64, oneshot::Sender<Result<Confirmed, BrokerError>>)>,
    /// All that were sent.
    sent: Vec<String>,
    arrived: Arc<tokio::sync::Notify>,
}

#[derive(Clone, Default)]
struct FakeEdge(Arc<Mutex<Broker>>);

#[derive(Clone)]
struct FakeChannel {
    number: u64,
    broker: FakeEdge,
}

fn failed(cause: &str) -> BrokerError {
    BrokerError::Failed {
        action: "publish".into(),
        cause: cause.into(),
        code: None,
    }
}

impl FakeEdge {
    fn lock(&self) -> MutexGuard<'_, Broker> {
        self.0.lock().unwrap()
    }

    /// Waits until so many messages were sent in all.
    async fn has_sent(&self, count: usize) {
        let arrived = Arc::clone(&self.lock().arrived);
        loop {
            let next = arrived.notified();
            if self.lock().sent.len() >= count {
                return;
            }
            next.await;
        }
    }

    fn decide(&self, id: &str, fate: Fate) {
        let mut broker = self.lock();
        let Some((channel, done)) = broker.under_way.remove(id) else {
            return;
        };
        let confirmed = |taken, returned| Ok(Confirmed { taken, returned });
        let _ = match fate {
            Fate::Acked => done.send(confirmed(true, None)),
            Fate::Returned => done.send(confirmed(true, Some(identity(id)))),
            Fate::Nacked => done.send(confirmed(false, None)),
            Fate::Refused => {
                broker.open = broker.open.filter(|open| *open != channel);
                let on_it = broker.under_way.extract_if(.., |_, (on, _)| *on == channel);
                for (_, (_, neighbour)) in on_it {
                    let _ = neighbour.send(Err(failed("NOT_FOUND")));
                }
                done.send(Err(failed("NOT_FOUND")))
            }
        };
    }
}

impl Edge for FakeEdge {
    type Channel = FakeChannel;

    async fn open_channel(&self) -> Result<FakeChannel, BrokerError> {
        let mut broker = self.lock();
        if broker.full {
            return Err(failed("no channel is left"));
        }
        broker.channels += 1;
        let number = broker.channels;
        broker.open = Some(number);
        Ok(FakeChannel {
            number,
            broker: self.clone(),
        })
    }

    fn is_open(channel: &FakeChannel) -> bool {
        channel.broker.lock().open == Some(channel.number)
    }

    async fn publish(channel: &FakeChannel, message: &Message) -> Result<Confirmed, BrokerError> {
        let (done, confirmed) = oneshot::channel();
        {
            let mut broker = channel.broker.lock();
            let id = message.properties.message_id().unwrap().to_owned();
            if broker.open != Some(channel.number) {
                return Err(failed("the channel is closed"));
            }
            broker.sent.push(id.clone());
            broker.under_way.insert(id, (channel.number, done));
            broker.arrived.notify_waiters();
        }
        confirmed.await.unwrap()
    }
}

fn message(id: &str, mandatory: bool) -> Arc<Message> {
    Arc::new(Message {
        exchange: "requests".into(),
        routing_key: "crew".into(),
        properties: Properties::json("test").with_message_id(id),
        body: Vec::new(),
        mandatory,
    })
}

fn identity(id: &str) -> Identity {
    Identity::of(&message(id, true))
}

fn run_test<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(test)
}

#[test]
fn what_is_given_up_before_it_is_sent_is_never_sent() {
    run_test(async {
        let edge = FakeEdge::default();
        let publisher = BatchPublisher::over(edge.clone());
        let (given_up, wanted) = (message("given up", false), message("wanted", false));
        {
            let mut publishing = std::pin::pin!(publisher.publish(&given_up));
            // Handed in, and dropped before the task has had its turn.
            assert!(futures_util::poll!(publishing.as_mut()).is_pending());
        }
        let publishing = publisher.publish(&wanted);
        let deciding = async {
            edge.has_sent(1).await;
            edge.decide("wanted", Fate::Acked);
        };
        let (verdict, ()) = tokio::join!(publishing, deciding);
        assert!(matches!(verdict, Verdict::Taken));
        assert_eq!(edge.lock().sent, ["wanted"]);
    });
}

#[test]
fn without_a_channel_nothing_is_sent_and_the_next_message_tries_again() {
    run_test(async {
        let edge = FakeEdge::default();
        let publisher = BatchPublisher::over(edge.clone());
        edge.lock().full = true;
        let verdict = publisher.publish(&message("a", true)).await;
        assert!(matches!(verdict, Verdict::NotSent(_)), "{verdict:?}");
        edge.lock().full = false;
        let publishing = message("b", true);
        let publishing = publisher.publish(&publishing);
        let deciding = async {
            edge.has_sent(1).await;
            edge.decide("b", Fate::Acked);
        };
        assert!(matches!(tokio::join!(publishing, deciding).0, Verdict::Taken));
    });
}

#[test]
fn one_that_was_alone_on_its_channel_is_told_that_it_was_its_own_fault() {
    run_test(async {
        let edge = FakeEdge::default();
        let publisher = BatchPublisher::over(edge.clone());
        let (one, deciding) = (message("a", false), async {
            edge.has_sent(1).await;
            edge.decide("a", Fate::Refused);
        });
        let (verdict, ()) = tokio::join!(publisher.publish(&one), deciding);
        assert!(matches!(verdict, Verdict::Failed(_)), "{verdict:?}");
    });
}

/// Messages with their fates, and whether they are mandatory; and the order in which the broker decides.
fn worlds() -> impl Strategy<Value = (Vec<(Fate, bool)>, Vec<usize>)> {
    let fate = prop_oneof![
        6 => Just(Fate::Acked),
        2 => Just(Fate::Returned),
        1 => Just(Fate::Nacked),
        1 => Just(Fate::Refused),
    ];
    prop::collection::vec((fate, any::<bool>()), 1..40).prop_flat_map(|messages| {
        let order: Vec<usize> = (0..messages.len()).collect();
        (Just(messages), Just(order).prop_shuffle())
    })
}

proptest! {
    /// Each publisher is told once, of its own message, and never that the broker has what it does not have.
    #[test]
    fn each_is_told_what_became_of_its_own_message((messages, order) in worlds()) {
        run_test(async {
            let edge = FakeEdge::default();
            let publisher = BatchPublisher::over(edge.clone());
            // What cannot be returned is not: the broker drops it, and acks.
            let fates: Vec<_> = messages
                .iter()
                .map(|(fate, mandatory)| match fate {
                    Fate::Returned if !mandatory => (Fate::Acked, *mandatory),
                    fate => (*fate, *mandatory),
                })
                .collect();
            let all: Vec<_> = (0..fates.len()).map(|n| message(&n.to_string(), fates[n].1)).collect();
            let publishing = join_all(all.iter().map(|message| publisher.publish(message)));
            let deciding = async {
                edge.has_sent(all.len()).await;
                for n in &order {
                    edge.decide(&n.to_string(), fates[*n].0);
                    // Sometimes the task reads confirms one by one, and sometimes together.
                    if n % 2 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            };
            let (verdicts, ()) = tokio::join!(publishing, deciding);
            let some_refused = fates.iter().any(|(fate, _)| *fate == Fate::Refused);
            for (n, verdict) in verdicts.iter().enumerate() {
                let known = match verdict {
                    Verdict::Taken => fates[n].0 == Fate::Acked,
                    Verdict::Returned => fates[n].0 == Fate::Returned,
                    Verdict::Refused => fates[n].0 == Fate::Nacked,
                    Verdict::Failed(_) => fates[n].0 == Fate::Refused,
                    Verdict::FailedAmongOthers(_) => some_refused,
                    Verdict::NotSent(_) => false,
                };
                prop_assert!(known, "{n}: {verdict:?} for {:?}", fates[n]);
                prop_assert!(fates[n].0 != Fate::Refused || matches!(verdict, Verdict::Failed(_) | Verdict::FailedAmongOthers(_)));
            }
            prop_assert_eq!(edge.lock().sent.len(), all.len(), "each is sent once");
            Ok(())
        })?;
    }
}
