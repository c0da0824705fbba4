//! Messages together: a file or a table takes a hundred at the cost of one.

use std::sync::Arc;
use std::time::Instant;

use crewfleet_amqp::{BrokerError, Consumer, Delivery, Link};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::sleep;

use super::message::{Rest, Taken};
use super::{Sink, Taker};
use crate::kinds::{Batch, Handed};
use crate::verdict::Verdict;

/// A batch takes no more when it has so many bytes.
const BYTES: usize = 16 << 20;

/// Hands on what comes, until all is to end.
pub(crate) async fn run(sink: Arc<Sink>, mut target: Box<dyn Batch>) {
    // Before anything comes: what this one holds, another that could take it does not get.
    while let Err(why) = target.prepare().await {
        let pause = sink.is_away(&why);
        if sink.ends().run_until_cancelled(sleep(pause)).await.is_none() {
            return;
        }
    }
    sink.is_back();
    sink.run(&mut Together(target)).await;
}

struct Together(Box<dyn Batch>);

impl Taker for Together {
    fn take<'a>(
        &'a mut self,
        sink: &'a Arc<Sink>,
        link: &'a Link,
        consumer: Consumer,
    ) -> BoxFuture<'a, Result<(), BrokerError>> {
        Box::pin(take(sink, self.0.as_mut(), link, consumer))
    }
}

async fn take(
    sink: &Sink,
    target: &mut dyn Batch,
    link: &Link,
    mut consumer: Consumer,
) -> Result<(), BrokerError> {
    while let Some(first) = sink.next(link, &mut consumer).await {
        let mut batch = Vec::from_iter(sink.take(first?).await);
        let bytes = |batch: &[Taken]| batch.iter().map(|taken| taken.handed.body.len()).sum::<usize>();
        while batch.len() < usize::from(sink.prefetch)
            && bytes(&batch) < BYTES
            && let Some(next) = at_hand(&mut consumer)
        {
            batch.extend(sink.take(next?).await);
        }
        hand_on(sink, target, batch).await;
    }
    Ok(())
}

/// A delivery that is here already.
fn at_hand(consumer: &mut Consumer) -> Option<Result<Delivery, BrokerError>> {
    consumer.next().now_or_never().flatten()
}

/// Hands on a batch, however long that takes.
async fn hand_on(sink: &Sink, target: &mut dyn Batch, batch: Vec<Taken>) {
    if batch.is_empty() {
        return;
    }
    let (handed, rests): (Vec<Handed>, Vec<_>) = batch.into_iter().map(Taken::split).unzip();
    let verdicts = loop {
        let began = Instant::now();
        let done = target.deliver(&handed).await;
        sink.metrics.took(sink.name.as_str(), began.elapsed());
        let why = match done {
            Ok(verdicts) => break verdicts,
            Err(why) => why,
        };
        let pause = sink.is_away(&why);
        let is_live = rests.iter().any(Rest::is_live);
        if !is_live || sink.ends().run_until_cancelled(sleep(pause)).await.is_none() {
            return;
        }
    };
    sink.is_back();
    let missing = std::iter::repeat_with(|| Verdict::again("nothing was said of it"));
    for ((handed, rest), verdict) in handed
        .into_iter()
        .zip(rests)
        .zip(verdicts.into_iter().chain(missing))
    {
        sink.settle(rest.with(handed), verdict).await;
    }
}
