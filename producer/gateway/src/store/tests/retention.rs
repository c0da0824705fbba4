//! What is let go.

use super::*;

#[tokio::test]
async fn what_is_too_much_or_too_old_goes_oldest_first_and_the_rest_stays() {
    let mut site = Site::new();
    for number in 0..20 {
        let id = format!("k-{number}");
        site.see(event(&id, "kickoff_started", 0)).await;
        site.end(reply(&id, "succeeded", 0)).await;
    }
    let size = serde_json::to_vec(&reply("k-10", "succeeded", 0)).unwrap().len();
    let mut retention = Retention {
        replies: Bounds {
            bytes: 5 * size as i64,
            ..FOR_EVER
        },
        events: Bounds {
            age_ms: -60_000,
            ..FOR_EVER
        },
        ..ALL
    };
    let file = site.dir.path().join("store");
    let mut db = rusqlite::Connection::open(&file).unwrap();
    let now = chrono::Utc::now().timestamp_millis();
    retention.apply(&mut db, now).unwrap();
    let kept = |kind: &str| -> (i64, i64) {
        let db = rusqlite::Connection::open(&file).unwrap();
        let query = "SELECT count, bytes FROM kept WHERE kind = ?";
        db.query_row(query, [kind], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
    };
    assert_eq!(kept("event"), (0, 0));
    let (replies, bytes) = kept("reply");
    assert!(
        (4..=5).contains(&replies) && bytes <= 5 * size as i64,
        "{replies} {bytes}"
    );
    // Another one let it go, so what this one has at hand is of before.
    let site = site.reopened(ALL).await;
    assert!(site.store.queries.reply("k-0").await.unwrap().is_none());
    assert!(site.store.queries.reply("k-19").await.unwrap().is_some());
    // What they came to stays known.
    assert_eq!(site.state("k-0").await, Some(State::Succeeded));
    retention.kickoffs_ms = -60_000;
    retention.apply(&mut db, now).unwrap();
    assert_eq!((kept("kickoff"), kept("reply")), ((0, 0), (0, 0)));
    drop(db);
    let site = site.reopened(ALL).await;
    assert_eq!(site.state("k-19").await, None);
    assert_eq!(site.store.size.kickoffs.load(Ordering::Relaxed), 0);
}
