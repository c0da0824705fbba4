//! Batches with an end: news of them, told to all gateways, and what was told so far.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use crewfleet_amqp::{Delivery, Message, Properties, PublishError};
use crewfleet_protocol::batch::BatchChange;
use crewfleet_protocol::{BatchNews, Body, CrewName, KickoffId, Reply, Status, message_type};
use serde::Serialize;

use crate::KickoffClient;
use crate::error::ClientError;
use crate::received_reply::id_of;
use crate::stream_reader::{StreamReader, since};

impl KickoffClient {
    /// Tells all gateways what becomes of a batch. Returns when the broker has it.
    ///
    /// # Errors
    /// [`PublishError`]. Gateways declare the exchange and the stream behind it: where none ever ran there is neither.
    pub async fn tell_of_batch(&self, batch: &str, change: BatchChange) -> Result<(), PublishError> {
        let news = BatchNews {
            batch: batch.to_owned(),
            time: Utc::now(),
            change,
        };
        let message = Message {
            exchange: self.names().batches(),
            routing_key: String::new(),
            properties: Properties::json(message_type::BATCH)
                .with_message_id(KickoffId::generate().as_str())
                .with_timestamp_now(),
            body: news.body(),
            mandatory: true,
        };
        let (publisher, timeout) = self.publisher();
        publisher.publish(message, timeout).await
    }
}

/// A batch with an end, as the stream `kickoff.batches` tells of it.
#[derive(Debug, Clone, Serialize)]
pub struct KnownBatch {
    /// Its id. Its items are the kickoffs `<batch_id>-<number>`.
    pub batch_id: String,
    /// The crew of its items.
    pub crew: CrewName,
    /// How many items it has.
    pub items: u64,
    /// When it was begun.
    pub opened_at: DateTime<Utc>,
    /// How many items were refused; `null` while more may come.
    pub refused: Option<u64>,
    /// Why the items that had not ended were cancelled; `null` where they were not.
    pub stopped: Option<String>,
    /// When its last item had ended; `null` before that.
    pub ended_at: Option<DateTime<Utc>>,
    /// The crew of what follows.
    pub then: Option<CrewName>,
    /// The id that what follows has, or will have.
    pub callback_id: Option<KickoffId>,
    /// Why what follows could not be started.
    pub problem: Option<String>,
}

/// How far the items of a batch are, by the replies that are kept.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BatchProgress {
    /// How many ended how.
    pub by_status: BTreeMap<Status, u64>,
    /// What they took in tokens, as far as their replies say.
    pub tokens: u64,
}

impl KickoffClient {
    /// The batches with an end of which there was news in the last week, those that were begun last first.
    ///
    /// # Errors
    /// [`ClientError::Broker`]: there is no stream `kickoff.batches` as long as no gateway has run, the user may not read
    /// it, or the connection was lost.
    pub async fn batches(&self) -> Result<Vec<KnownBatch>, ClientError> {
        let mut batches = HashMap::<String, KnownBatch>::new();
        let each = |delivery: &Delivery| {
            // One of another version is none.
            if let Ok(news) = serde_json::from_slice::<BatchNews>(&delivery.body) {
                apply(&mut batches, news);
            }
        };
        self.read_all(&self.names().batches(), None, each).await?;
        let mut batches: Vec<_> = batches.into_values().collect();
        batches.sort_by_key(|batch| Reverse(batch.opened_at));
        Ok(batches)
    }

    /// How far the items of a batch are.
    ///
    /// # Errors
    /// [`ClientError::Broker`]: there is no stream of results, the user may not read it, or the connection was lost.
    pub async fn batch_progress(&self, batch: &KnownBatch) -> Result<BatchProgress, ClientError> {
        let mut replies = HashMap::<u64, Reply>::new();
        let each = |delivery: &Delivery| {
            let number = id_of(delivery).strip_prefix(&batch.batch_id);
            let number = number.and_then(|rest| rest.strip_prefix('-')?.parse().ok());
            let Some((number, reply)) = number.zip(serde_json::from_slice::<Reply>(&delivery.body).ok())
            else {
                return;
            };
            let known = replies.get(&number);
            if known.is_none_or(|known| known.redrive < reply.redrive) {
                replies.insert(number, reply);
            }
        };
        self.read_all(&self.names().results(), Some(batch.opened_at), each)
            .await?;
        let mut progress = BatchProgress::default();
        for reply in replies.into_values() {
            *progress.by_status.entry(reply.status).or_default() += 1;
            progress.tokens += reply
                .result
                .and_then(|result| result.usage)
                .map_or(0, |usage| usage.total_tokens);
        }
        Ok(progress)
    }

    async fn read_all(
        &self,
        stream: &str,
        from: Option<DateTime<Utc>>,
        each: impl FnMut(&Delivery),
    ) -> Result<(), ClientError> {
        let link = self.broker().connected().await;
        let reading = StreamReader::read_to_end(&link, stream, since(from), each).await?;
        reading.close().await;
        Ok(())
    }
}

/// Of each kind of news the first counts, as for gateways.
fn apply(batches: &mut HashMap<String, KnownBatch>, news: BatchNews) {
    let BatchNews { batch, time, change } = news;
    if let BatchChange::Opened(spec) = change {
        batches.entry(batch.clone()).or_insert_with(|| KnownBatch {
            callback_id: spec.then.as_ref().map(|_| KickoffId::of_batch(&batch)),
            batch_id: batch,
            crew: spec.crew,
            items: spec.items,
            opened_at: time,
            refused: None,
            stopped: None,
            ended_at: None,
            then: spec.then.map(|then| then.crew),
            problem: None,
        });
        return;
    }
    // Its beginning was let go.
    let Some(known) = batches.get_mut(&batch) else {
        return;
    };
    match change {
        BatchChange::Opened(_) => {}
        BatchChange::Closed(closed) => known.refused = known.refused.or(Some(closed.refused)),
        BatchChange::Stopped(stopped) => known.stopped = known.stopped.take().or(Some(stopped.why)),
        BatchChange::Ended(ended) if known.ended_at.is_none() => {
            (known.ended_at, known.problem) = (Some(time), ended.problem);
        }
        BatchChange::Ended(_) => {}
    }
}
