//! What the streams tell, as the store shows it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crewfleet_protocol::{Event, Names, Reply};
use serde_json::value::RawValue;

use super::filter::{Cursor, Filter};
use super::news::{Mark, Stream};
use super::state::State;
use super::state::tests::{event, reply};
use super::*;

mod batches;
mod tally;
mod totals;

/// A store in a folder of its own.
struct Site {
    dir: tempfile::TempDir,
    store: Store,
    place: u64,
}

const FOR_EVER: Bounds = Bounds {
    age_ms: 1 << 50,
    bytes: 1 << 50,
};

const ALL: Retention = Retention {
    kickoffs_ms: 1 << 50,
    events: FOR_EVER,
    replies: FOR_EVER,
    requests: FOR_EVER,
};

fn open(dir: &tempfile::TempDir, retention: Retention) -> Store {
    open_with(dir, retention, &["tenant"])
}

fn open_with(dir: &tempfile::TempDir, retention: Retention, meta_keys: &[&str]) -> Store {
    let file = dir.path().join("store");
    let indexes = Indexes {
        meta_keys: meta_keys.iter().map(|key| (*key).to_owned()).collect(),
        full_text: true,
    };
    Store::open(&file, 4 << 20, indexes, retention, &Names::new("kickoff")).unwrap()
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            store: open(&dir, ALL),
            dir,
            place: 0,
        }
    }

    /// The same file, opened by another gateway.
    async fn reopened(self, retention: Retention) -> Self {
        self.reopened_with(retention, &["tenant"]).await
    }

    async fn reopened_with(self, retention: Retention, meta_keys: &[&str]) -> Self {
        let Self { dir, store, place } = self;
        drop(store);
        // The thread that wrote ends by itself.
        let mut lock = std::fs::OpenOptions::new();
        let lock = lock.write(true).open(dir.path().join("store.lock")).unwrap();
        tokio::task::spawn_blocking(move || lock.lock().unwrap())
            .await
            .unwrap();
        let store = open_with(&dir, retention, meta_keys);
        Self { dir, store, place }
    }

    fn mark(&mut self) -> Mark {
        self.place += 1;
        Mark {
            place: self.place,
            hash: self.place,
        }
    }

    async fn see(&mut self, event: Event) {
        self.see_with(event, None).await;
    }

    async fn see_with(&mut self, event: Event, meta: Option<&str>) {
        let (mark, event) = (self.mark(), Arc::new(event));
        let meta = meta.map(|meta| RawValue::from_string(meta.to_owned()).unwrap());
        self.store
            .writer
            .write(News::Event { mark, event, meta })
            .await
            .unwrap();
    }

    async fn end(&mut self, reply: Reply) {
        let (mark, body) = (self.mark(), serde_json::to_vec(&reply).unwrap());
        let (id, reply) = (reply.kickoff_id.clone(), Arc::new(reply));
        self.store
            .writer
            .write(News::Reply {
                mark,
                id,
                reply,
                body,
            })
            .await
            .unwrap();
    }

    async fn tell(&self, news: News) {
        self.store.writer.write(news).await.unwrap();
    }

    async fn take(&self, id: &str) {
        let (id, crew, meta) = (id.to_owned(), "echo".to_owned(), None);
        self.tell(News::Taken {
            id,
            crew,
            meta,
            chain: None,
        })
        .await;
    }

    async fn state(&self, id: &str) -> Option<State> {
        let known = self.store.queries.kickoff(id).await.unwrap();
        // What is at hand is what the file has.
        let of_id = id.to_owned();
        let filed = self.store.queries.ask(move |db| row::Kickoff::find(db, &of_id));
        assert_eq!(known, filed.await.unwrap());
        known.map(|kickoff| kickoff.standing.state)
    }

    async fn ids(&self, filter: Filter) -> Vec<String> {
        let found = self.store.queries.list(filter, None, 100).await.unwrap();
        found.into_iter().map(|kickoff| kickoff.id).collect()
    }
}

#[tokio::test]
async fn what_was_taken_waits_unless_its_events_were_faster() {
    let mut site = Site::new();
    site.take("a").await;
    assert_eq!(site.state("a").await, Some(State::Queued));
    site.see(event("b", "kickoff_started", 0)).await;
    site.take("b").await;
    assert_eq!(site.state("b").await, Some(State::Running));
    assert_eq!(site.state("c").await, None);
}

#[tokio::test]
async fn the_first_reply_of_the_highest_redrive_stays() {
    let mut site = Site::new();
    for (status, redrive) in [
        ("failed", 0),
        ("succeeded", 0),
        ("timed_out", 1),
        ("succeeded", 0),
    ] {
        site.end(reply("a", status, redrive)).await;
    }
    assert_eq!(site.state("a").await, Some(State::TimedOut));
    let kept: Reply = serde_json::from_slice(&site.store.queries.reply("a").await.unwrap().unwrap()).unwrap();
    assert_eq!((kept.status.as_str(), kept.redrive), ("timed_out", 1));
}

#[tokio::test]
async fn what_follows_a_kickoff_is_known_with_the_reply_that_names_it() {
    let mut site = Site::new();
    site.see_with(event("a", "kickoff_started", 0), Some(r#"{"tenant": "shop"}"#))
        .await;
    let named = r#"{"id": "a", "parent": null, "step": 0, "left_out": 0, "problem": null,
        "next": {"kickoff_id": "after-a", "crew": "review", "step": 1}}"#;
    let ended = Reply {
        chain: serde_json::from_str(named).unwrap(),
        ..reply("a", "succeeded", 0)
    };
    site.end(ended).await;
    assert_eq!(site.state("after-a").await, Some(State::Queued));
    let next = site.store.queries.kickoff("after-a").await.unwrap().unwrap();
    let place = next.chain.unwrap().place;
    assert_eq!(
        (next.crew.as_str(), next.meta.as_deref()),
        ("review", Some(r#"{"tenant": "shop"}"#))
    );
    assert_eq!(
        (place.id.as_str(), place.parent.as_deref(), place.step),
        ("a", Some("a"), 1)
    );
    site.end(reply("after-a", "succeeded", 0)).await;
    assert_eq!(site.state("after-a").await, Some(State::Succeeded));
}

#[tokio::test]
async fn it_goes_on_where_it_was_when_it_is_opened_again() {
    let mut site = Site::new();
    site.see_with(event("a", "kickoff_started", 0), Some(r#"{"tenant": "shop"}"#))
        .await;
    site.end(reply("b", "succeeded", 0)).await;
    let mut site = site.reopened(ALL).await;
    assert_eq!(site.state("a").await, Some(State::Running));
    assert_eq!(site.state("b").await, Some(State::Succeeded));
    // The same event once more, as a stream sends what was read last.
    site.place = 0;
    site.see(event("a", "kickoff_started", 0)).await;
    assert_eq!(
        site.store.queries.events_of("a", None, 10).await.unwrap().len(),
        1
    );
    let details = site.store.queries.details("a").await.unwrap().unwrap();
    assert_eq!(details.kickoff.meta.as_deref(), Some(r#"{"tenant": "shop"}"#));
    assert_eq!(details.counts["kickoff_started"], 1);
}

#[tokio::test]
async fn an_end_without_a_reply_counts_once_the_stream_of_replies_was_read_beyond_it() {
    let mut site = Site::new();
    site.see(event("a", "kickoff_finished", 0)).await;
    let now = chrono::Utc::now().timestamp_millis();
    site.tell(News::ReadTo(Stream::Results, now - 60_000)).await;
    // The stream of events says nothing of replies.
    site.tell(News::ReadTo(Stream::History, now + 60_000)).await;
    assert_eq!(site.state("a").await, Some(State::Queued));
    let news = site.store.subscribers.of_kickoff("a");
    site.tell(News::ReadTo(Stream::Results, now + 60_000)).await;
    news.changed().await;
    assert_eq!(site.state("a").await, Some(State::Failed));
}

#[tokio::test]
async fn a_reply_that_was_given_up_counts_when_it_comes_all_the_same() {
    let mut site = Site::new();
    site.see(event("a", "kickoff_finished", 1)).await;
    let later = chrono::Utc::now().timestamp_millis() + 60_000;
    site.tell(News::ReadTo(Stream::Results, later)).await;
    assert_eq!(site.state("a").await, Some(State::Failed));
    // That of an earlier run does not.
    site.end(reply("a", "timed_out", 0)).await;
    assert_eq!(site.store.queries.reply("a").await.unwrap(), None);
    assert_eq!(site.state("a").await, Some(State::Failed));
    let comes = reply("a", "failed", 1);
    let body = serde_json::to_vec(&comes).unwrap();
    site.end(comes).await;
    assert_eq!(site.store.queries.reply("a").await.unwrap(), Some(body.clone()));
    site.end(reply("a", "cancelled", 1)).await;
    assert_eq!(site.store.queries.reply("a").await.unwrap(), Some(body));
    assert_eq!(site.state("a").await, Some(State::Failed));
}

#[tokio::test]
async fn what_was_missed_makes_nothing_run_for_ever() {
    let mut site = Site::new();
    for id in ["waits", "runs", "ended", "ends"] {
        site.see(event(id, "kickoff_started", 0)).await;
    }
    site.take("waits").await;
    site.end(reply("ended", "succeeded", 0)).await;
    assert_eq!(site.store.queries.known_since().await.unwrap(), None);
    site.tell(News::Missed(Stream::History, 1_000)).await;
    for (id, state) in [
        ("waits", State::Unknown),
        ("runs", State::Unknown),
        ("ended", State::Succeeded),
    ] {
        assert_eq!(site.state(id).await, Some(state), "{id}");
    }
    assert_eq!(
        site.store.queries.known_since().await.unwrap(),
        Some(row::moment(1_000))
    );
    // What comes after all tells.
    site.end(reply("ends", "failed", 0)).await;
    site.see(event("runs", "task_started", 0)).await;
    assert_eq!(site.state("ends").await, Some(State::Failed));
    assert_eq!(site.state("runs").await, Some(State::Running));
}

#[tokio::test]
async fn another_stream_of_the_same_name_has_other_places() {
    let mut site = Site::new();
    site.see(event("a", "kickoff_started", 0)).await;
    site.tell(News::Replaced(Stream::History)).await;
    assert_eq!(site.state("a").await, Some(State::Unknown));
    site.place = 0;
    site.see(event("b", "kickoff_started", 0)).await;
    let events = site.store.queries.events_behind(-1, 10).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].event.kickoff_id, "b");
}

#[tokio::test]
async fn a_key_of_meta_that_is_configured_later_finds_what_is_kept_too() {
    let mut site = Site::new();
    let mut begun = 0;
    for keys in [vec!["tenant", "order"], vec!["tenant"], vec!["tenant", "order"]] {
        let id = format!("k-{begun}");
        site.see_with(event(&id, "kickoff_started", 0), Some(r#"{"order": 7}"#))
            .await;
        begun += 1;
        site = site.reopened_with(ALL, &keys).await;
    }
    let order = Filter {
        meta: vec![("order".to_owned(), "7".to_owned())],
        ..Filter::default()
    };
    let found = site.store.queries.list(order, None, 10).await.unwrap();
    assert_eq!(found.len(), begun);
}

#[tokio::test]
async fn they_are_found_by_what_they_are() {
    let mut site = Site::new();
    for number in 0..6 {
        let id = format!("k-{number}");
        let meta = format!(r#"{{"tenant": "t-{}", "order": {number}}}"#, number % 2);
        site.see_with(event(&id, "kickoff_started", 0), Some(&meta)).await;
    }
    for (id, status) in [("k-0", "failed"), ("k-1", "succeeded"), ("k-2", "failed")] {
        let error =
            r#"{"kind": "exception", "message": "item 7 is bad", "retryable": false, "detail": null}"#;
        let error = (status == "failed").then(|| serde_json::from_str(error).unwrap());
        site.end(Reply {
            error,
            worker: format!("w-{id}"),
            ..reply(id, status, 0)
        })
        .await;
    }
    let all = Filter::default;
    let failed = Filter {
        states: vec![State::Failed],
        ..all()
    };
    let meta = |value: &str| vec![("tenant".to_owned(), value.to_owned())];
    let by = [
        (failed.clone(), vec!["k-2", "k-0"]),
        (
            Filter {
                states: vec![State::Failed, State::Succeeded],
                crews: vec!["echo".into(), "other".into()],
                ..all()
            },
            vec!["k-2", "k-1", "k-0"],
        ),
        (
            Filter {
                meta: meta("t-1"),
                ..all()
            },
            vec!["k-5", "k-3", "k-1"],
        ),
        (
            Filter {
                meta: meta("t-0"),
                ..failed.clone()
            },
            vec!["k-2", "k-0"],
        ),
        (
            Filter {
                worker: Some("w-k-2".into()),
                ..all()
            },
            vec!["k-2"],
        ),
        (
            Filter {
                fingerprint: Some(crewfleet_protocol::fingerprint::of("exception: item 8 is bad")),
                ..all()
            },
            vec!["k-2", "k-0"],
        ),
        (
            Filter {
                until: Some(0),
                ..all()
            },
            vec![],
        ),
    ];
    for (filter, expected) in by {
        assert_eq!(site.ids(filter.clone()).await, expected, "{filter:?}");
        let count = site
            .store
            .queries
            .count_behind(filter.clone(), None, 1_000)
            .await
            .unwrap();
        assert_eq!(count as usize, expected.len(), "{filter:?}");
        for number in 0..6 {
            let id = format!("k-{number}");
            let kickoff = site.store.queries.kickoff(&id).await.unwrap().unwrap();
            assert_eq!(
                filter.takes(&kickoff),
                expected.contains(&&*id),
                "{id} {filter:?}"
            );
        }
    }
    let words = async |text: &str| {
        let text = Some(text.to_owned());
        site.ids(Filter { text, ..all() }).await
    };
    assert_eq!(words("BAD item").await, ["k-2", "k-0"]);
    assert_eq!(words("item good").await, Vec::<String>::new());
    assert_eq!(words("NOT \" * ( item").await, Vec::<String>::new());
    // Page by page: all of them, each once.
    let (mut seen, mut behind) = (Vec::new(), None);
    loop {
        let page = site.store.queries.list(all(), behind, 4).await.unwrap();
        seen.extend(page.iter().map(|kickoff| kickoff.id.clone()));
        let Some(last) = page.last() else { break };
        behind = Cursor::behind(last);
    }
    assert_eq!(seen, ["k-5", "k-4", "k-3", "k-2", "k-1", "k-0"]);
}

#[tokio::test]
async fn the_words_of_inputs_are_found_whichever_comes_first_and_go_with_them() {
    let mut site = Site::new();
    for (id, is_first) in [("early", true), ("late", false)] {
        if !is_first {
            site.take(id).await;
        }
        let request = Request {
            id: id.to_owned(),
            crew: "echo".into(),
            time: 0,
            body_hash: "h".into(),
            claim: id.to_owned(),
            body: br#"{"inputs": {"TOPIC": "Rye bread"}}"#.to_vec(),
        };
        let mark = site.mark();
        site.tell(News::Request(mark, request)).await;
        site.take(id).await;
    }
    let bread = || Filter {
        text: Some("rye bread".into()),
        ..Filter::default()
    };
    assert_eq!(site.ids(bread()).await, ["late", "early"]);
    let retention = Retention {
        requests: Bounds {
            age_ms: 0,
            ..FOR_EVER
        },
        ..ALL
    };
    let mut db = rusqlite::Connection::open(site.dir.path().join("store")).unwrap();
    retention
        .apply(&mut db, chrono::Utc::now().timestamp_millis())
        .unwrap();
    assert_eq!(site.ids(bread()).await, Vec::<String>::new());
    assert_eq!(site.state("late").await, Some(State::Queued));
}

mod retention;
