//! Messages one by one, many at once: what is slow delays no other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crewfleet_amqp::{BrokerError, Consumer, Delivery, Link};
use futures_util::future::BoxFuture;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use super::{Sink, Taker};
use crate::kinds::Each;
use crate::verdict::Verdict;

/// How long what is under way may take when all is to end. What is not settled then comes again.
const GRACE: Duration = Duration::from_secs(12);

/// Hands on what comes, until all is to end.
pub(crate) async fn run(sink: Arc<Sink>, target: Box<dyn Each>) {
    sink.run(&mut OneByOne(target.into())).await;
}

struct OneByOne(Arc<dyn Each>);

impl Taker for OneByOne {
    fn take<'a>(
        &'a mut self,
        sink: &'a Arc<Sink>,
        link: &'a Link,
        consumer: Consumer,
    ) -> BoxFuture<'a, Result<(), BrokerError>> {
        Box::pin(take(sink, &self.0, link, consumer))
    }
}

async fn take(
    sink: &Arc<Sink>,
    target: &Arc<dyn Each>,
    link: &Link,
    mut consumer: Consumer,
) -> Result<(), BrokerError> {
    let tasks = TaskTracker::new();
    let ended = loop {
        match sink.next(link, &mut consumer).await {
            Some(Ok(delivery)) => {
                tasks.spawn(hand_on(Arc::clone(sink), Arc::clone(target), delivery));
            }
            Some(Err(error)) => break Err(error),
            None => break Ok(()),
        }
    };
    tasks.close();
    if sink.ends().is_cancelled() {
        let _ = timeout(GRACE, tasks.wait()).await;
    }
    ended
}

async fn hand_on(sink: Arc<Sink>, target: Arc<dyn Each>, delivery: Delivery) {
    let Some(taken) = sink.take(delivery).await else {
        return;
    };
    loop {
        let began = Instant::now();
        let verdict = target.deliver(&taken.handed).await;
        if !matches!(verdict, Verdict::Deferred { .. }) {
            sink.metrics.took(sink.name.as_str(), began.elapsed());
        }
        let Verdict::Away { why } = verdict else {
            sink.is_back();
            return sink.settle(taken, verdict).await;
        };
        let pause = sink.is_away(&why);
        if !taken.is_live() || sink.ends().run_until_cancelled(sleep(pause)).await.is_none() {
            return;
        }
    }
}
