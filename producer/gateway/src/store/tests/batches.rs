//! Batches that have an end, as the store shows them.

use crewfleet_protocol::batch::{
    BatchChange, BatchClosed, BatchEnded, BatchNews, BatchSpec, BatchStopped, OnItemFailure,
};

use super::totals::site;
use super::*;
use crate::store::batches::Batch;

impl Site {
    async fn told(&mut self, change: BatchChange) {
        let news = BatchNews {
            batch: "b".to_owned(),
            time: chrono::Utc::now(),
            change,
        };
        let mark = self.mark();
        self.tell(News::Batch(mark, news)).await;
    }

    async fn batch(&self) -> Batch {
        let known = self.store.queries.ending_batch("b").await.unwrap();
        known.unwrap()
    }
}

fn spec(items: u64, meta: &str) -> BatchSpec {
    BatchSpec {
        crew: "echo".parse().unwrap(),
        items,
        then: None,
        on_item_failure: OnItemFailure::Continue,
        reply_to: None,
        meta: Some(RawValue::from_string(meta.to_owned()).unwrap()),
    }
}

#[tokio::test]
async fn of_each_kind_of_news_the_first_counts() {
    let mut site = site();
    site.told(BatchChange::Opened(spec(2, "{}"))).await;
    site.store.subscribers.batches_changed().await;
    assert!(site.store.subscribers.changed_batches().contains("b"));
    site.told(BatchChange::Opened(spec(3, "{}"))).await;
    assert_eq!(site.batch().await.spec.items, 2);
    assert_eq!(site.store.queries.open_batches().await.unwrap(), ["b"]);
    for (refused, by) in [(1, "one"), (2, "two")] {
        site.told(BatchChange::Closed(BatchClosed { refused })).await;
        let (by, why) = (by.to_owned(), String::new());
        site.told(BatchChange::Stopped(BatchStopped { by, why })).await;
        let kickoff_id = Some(format!("after-{refused}"));
        site.told(BatchChange::Ended(BatchEnded {
            kickoff_id,
            problem: None,
        }))
        .await;
    }
    let batch = site.batch().await;
    assert!(batch.is_closed && batch.refused == 2, "{batch:?}");
    assert_eq!(batch.stopped.unwrap().by, "one");
    assert_eq!(batch.ended.unwrap().kickoff_id.as_deref(), Some("after-1"));
    assert!(site.store.queries.open_batches().await.unwrap().is_empty());
}

#[tokio::test]
async fn its_items_are_those_of_its_crew_and_tenant_with_a_number() {
    let mut site = site();
    site.told(BatchChange::Opened(spec(4, r#"{"tenant": "acme"}"#)))
        .await;
    let meta = r#"{"batch": "b", "tenant": "acme"}"#;
    for id in ["b-0", "b-2", "b-10", "b-1-r1", "b-", "b-x", "b-02", "c-1"] {
        site.taken(id, "echo", meta).await;
    }
    site.taken("b-3", "other", meta).await;
    site.taken("b-4", "echo", r#"{"batch": "b", "tenant": "other"}"#)
        .await;
    site.taken("b-5", "echo", r#"{"batch": "c", "tenant": "acme"}"#)
        .await;
    site.end(reply("b-10", "succeeded", 0)).await;
    site.end(reply("b-2", "timed_out", 0)).await;
    assert!(site.store.subscribers.changed_batches().contains("b"));
    let batch = site.batch().await;
    let queries = &site.store.queries;
    let count = queries.count_items(&batch).await.unwrap();
    let states = [("queued", 1), ("succeeded", 1), ("timed_out", 1)];
    assert_eq!(
        (count.states, count.taken, count.open, count.failed),
        (states.into(), 3, 1, 1)
    );
    assert_eq!(queries.open_items(&batch).await.unwrap(), [("b-0".to_owned(), 0)]);
    let items = queries.items(&batch, 1 << 20).await.unwrap();
    let seen: Vec<_> = items
        .iter()
        .map(|item| (item.index, item.has_reply, item.reply.is_some()))
        .collect();
    assert_eq!(seen, [(0, false, false), (2, true, true), (10, true, true)]);
    // Replies that weigh too much together are not read.
    let items = queries.items(&batch, 10).await.unwrap();
    assert!(items.iter().all(|item| item.reply.is_none()) && items[1].has_reply);
}
