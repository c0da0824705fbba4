//! What ended and what it cost, as it is counted.

use chrono::{TimeDelta, Utc};
use crewfleet_protocol::{Event, Reply};
use serde_json::json;

use super::super::database::Database;
use super::super::row::millis;
use super::super::statistics::{Span, SpendRow};
use super::super::steering::Steered;
use super::super::tally::BOUNDS;
use super::*;

const MINUTE: i64 = 60_000;

fn said(kind: &str, attempt: u32, data: &serde_json::Value) -> Event {
    serde_json::from_value(json!({
        "kickoff_id": "a", "crew": "echo", "attempt": attempt, "sequence": 1, "time": Utc::now(), "type": kind,
        "data": data, "meta": null,
    }))
    .unwrap()
}

fn called(attempt: u32, model: &str, tokens: u64) -> Event {
    let usage = json!({"total_tokens": tokens});
    said(
        "llm_call_completed",
        attempt,
        &json!({"model": model, "usage": usage}),
    )
}

fn answered(id: &str, status: &str, attempt: u32, tokens: Option<u64>) -> Reply {
    let now = Utc::now();
    let result = tokens.map(|tokens| json!({"raw": "", "usage": {"total_tokens": tokens}}));
    serde_json::from_value(json!({
        "kickoff_id": id, "crew": "echo", "status": status, "result": result, "error": null, "attempt": attempt,
        "redrive": 0, "worker": "w", "requested_at": null, "started_at": now - TimeDelta::seconds(2), "finished_at": now,
        "meta": {"tenant": "acme"},
    }))
    .unwrap()
}

fn hour() -> Span {
    Span::until(millis(Utc::now()), MINUTE, 60)
}

impl Site {
    async fn spent(&self) -> Vec<SpendRow> {
        let mut rows = self
            .store
            .queries
            .spend(MINUTE, hour().since, None)
            .await
            .unwrap();
        rows.sort_by(|a, b| a.model.cmp(&b.model));
        rows
    }

    /// Tokens by model.
    async fn by_model(&self) -> Vec<(String, i64)> {
        let mut by_model = std::collections::BTreeMap::<String, i64>::new();
        for row in self.spent().await {
            *by_model.entry(row.model).or_default() += row.tokens;
        }
        by_model.into_iter().filter(|(_, tokens)| *tokens != 0).collect()
    }
}

#[tokio::test]
async fn what_ends_is_counted_by_crew_and_tenant_with_how_long_it_took() {
    let mut site = Site::new();
    for n in 0..9 {
        site.end(answered(&format!("good-{n}"), "succeeded", 1, None))
            .await;
    }
    site.end(answered("bad", "failed", 1, None)).await;
    // A second copy counts nothing.
    site.end(answered("bad", "failed", 1, None)).await;
    for tenant in [None, Some("acme".to_owned())] {
        let tallies = site.store.queries.tallies(hour(), tenant).await.unwrap();
        let echo = &tallies["echo"];
        assert_eq!((echo.states["succeeded"], echo.states["failed"]), (9, 1));
        assert_eq!(
            (echo.ended.iter().sum::<u64>(), echo.failed.iter().sum::<u64>()),
            (10, 1)
        );
        let half = echo.quantile(0.5).unwrap();
        assert!((1_800..=2_400).contains(&half), "{half}");
    }
    let of_others = site.store.queries.tallies(hour(), Some("other".into())).await;
    assert!(of_others.unwrap().is_empty());
}

#[tokio::test]
async fn tokens_are_counted_once_whichever_comes_first() {
    let mut site = Site::new();
    site.see(called(1, "gpt", 100)).await;
    site.end(answered("a", "succeeded", 1, Some(150))).await;
    let told = [("gpt".to_owned(), 100)];
    assert_eq!(
        site.by_model().await,
        [vec![(String::new(), 50)], told.to_vec()].concat()
    );
    // The event of the other call was slower than the reply.
    site.see(called(1, "haiku", 50)).await;
    assert_eq!(
        site.by_model().await,
        [told.to_vec(), vec![("haiku".to_owned(), 50)]].concat()
    );
}

#[tokio::test]
async fn tokens_of_attempts_that_failed_and_were_cancelled_are_wasted() {
    let mut site = Site::new();
    site.see(called(1, "gpt", 100)).await;
    site.see(said("kickoff_retrying", 1, &json!({"attempt": 2})))
        .await;
    site.see(called(2, "gpt", 30)).await;
    site.end(answered("a", "cancelled", 2, None)).await;
    // What comes late is wasted, too.
    site.see(called(2, "gpt", 3)).await;
    let rows = site.spent().await;
    let sum = |of: fn(&SpendRow) -> i64| rows.iter().map(of).sum::<i64>();
    assert_eq!((sum(|row| row.tokens), sum(|row| row.calls)), (133, 3));
    assert_eq!(
        (
            sum(|row| row.retried),
            sum(|row| row.cancelled),
            sum(|row| row.failed)
        ),
        (100, 33, 0)
    );
}

#[tokio::test]
async fn states_are_counted_under_a_filter() {
    let mut site = Site::new();
    site.take("waits").await;
    site.end(answered("good", "succeeded", 1, None)).await;
    site.end(answered("bad", "failed", 1, None)).await;
    let count = async |filter| site.store.queries.by_state(filter).await.unwrap();
    let (all, more) = count(Filter::default()).await;
    assert_eq!(
        (all["queued"], all["succeeded"], all["failed"], more),
        (1, 1, 1, false)
    );
    let of_tenant = Filter {
        meta: vec![("tenant".into(), "acme".into())],
        ..Filter::default()
    };
    let (found, _) = count(of_tenant).await;
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), ["failed", "succeeded"]);
}

#[tokio::test]
async fn who_did_something_last_is_kept() {
    let site = Site::new();
    for (action, token) in [("pause", "alice"), ("resume", "bob")] {
        let steered = Steered {
            kind: "crew".into(),
            name: "echo".into(),
            action: action.into(),
            token: token.into(),
            time: 7,
        };
        site.tell(News::Steered(steered)).await;
    }
    let found = site.store.queries.steering().await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((&*found[0].action, &*found[0].token), ("resume", "bob"));
}

#[tokio::test]
async fn the_file_counts_what_ended_before_there_was_a_count() {
    let mut site = Site::new();
    site.end(answered("good", "succeeded", 1, Some(70))).await;
    let before = site.store.queries.tallies(hour(), None).await.unwrap();
    let file = site.dir.path().join("store");
    {
        let db = rusqlite::Connection::open(&file).unwrap();
        db.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
        db.execute_batch("DELETE FROM tally; DELETE FROM spend").unwrap();
        db.execute_batch(include_str!("../tally_fill.sql")).unwrap();
    }
    let after = site.store.queries.tallies(hour(), None).await.unwrap();
    assert_eq!(after["echo"].states, before["echo"].states);
    assert_eq!(after["echo"].quantile(0.5), before["echo"].quantile(0.5));
    assert_eq!(site.by_model().await, [(String::new(), 70)]);
    let of_tenant = site
        .store
        .queries
        .tallies(hour(), Some("acme".into()))
        .await
        .unwrap();
    assert_eq!(of_tenant["echo"].states, after["echo"].states);
}

#[test]
fn the_bounds_are_those_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(&dir.path().join("store"), 1 << 20, false).unwrap();
    let mut find = database
        .writing
        .prepare("SELECT ms FROM tally_bound ORDER BY bucket")
        .unwrap();
    let bounds = find.query_map([], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(bounds.collect::<Result<Vec<_>, _>>().unwrap(), *BOUNDS);
}

#[tokio::test]
async fn what_is_too_old_is_counted_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = Database::open(&dir.path().join("store"), 1 << 20, false).unwrap();
    let now = millis(Utc::now());
    for (step, time) in [
        (10_000, now - 21 * MINUTE),
        (10_000, now),
        (MINUTE, now - 21 * MINUTE),
    ] {
        for tenant in ["", "acme", "other"] {
            let tally = "INSERT INTO tally VALUES (?, ?, ?, 'echo', 2, 0, 1)";
            database
                .writing
                .execute(tally, rusqlite::params![step, tenant, time])
                .unwrap();
        }
    }
    ALL.apply(&mut database.writing, now).unwrap();
    let count = "SELECT count(*) FROM tally";
    let left: i64 = database.writing.query_row(count, [], |row| row.get(0)).unwrap();
    assert_eq!(left, 6);
}
