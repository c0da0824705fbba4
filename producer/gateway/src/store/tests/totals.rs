//! What is asked of many kickoffs at once.

use super::*;

/// A store that searches by the batch.
pub(super) fn site() -> Site {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store");
    let indexes = Indexes {
        meta_keys: vec!["tenant".to_owned(), "batch".to_owned()],
        full_text: false,
    };
    let store = Store::open(&file, 4 << 20, indexes, ALL, &Names::new("kickoff")).unwrap();
    Site { dir, store, place: 0 }
}

impl Site {
    pub(super) async fn taken(&self, id: &str, crew: &str, meta: &str) {
        self.tell(News::Taken {
            id: id.to_owned(),
            crew: crew.to_owned(),
            meta: Some(meta.to_owned()),
            chain: None,
        })
        .await;
    }
}

fn of_batch() -> Filter {
    Filter {
        meta: vec![("batch".to_owned(), "b".to_owned())],
        ..Filter::default()
    }
}

#[tokio::test]
async fn the_kickoffs_of_a_batch_are_counted_apart_from_others_that_carry_its_name() {
    let site = site();
    let meta = r#"{"batch": "b", "batch_size": 12}"#;
    for id in ["b-0", "b-1", "b-10", "retry-1", "b", "b.0", "b-1-r1"] {
        site.taken(id, "echo", meta).await;
    }
    site.taken("b-2", "echo", r#"{"batch": "c"}"#).await;
    let totals = site.store.queries.batch(of_batch(), "b").await.unwrap();
    assert_eq!(totals.states, [("queued", 3)].into());
    assert_eq!((totals.others, totals.meta.as_deref()), (4, Some(meta)));
    let none = Filter {
        crews: vec!["other".to_owned()],
        ..of_batch()
    };
    let totals = site.store.queries.batch(none, "b").await.unwrap();
    assert_eq!(totals, Default::default());
}

#[tokio::test]
async fn crews_are_told_and_who_of_each_has_waited_longest() {
    let mut site = site();
    assert!(site.store.queries.crews().await.unwrap().is_empty());
    for crew in ["b", "a", "c"] {
        site.taken(&format!("{crew}-1"), crew, "{}").await;
        site.taken(&format!("{crew}-2"), crew, "{}").await;
    }
    assert_eq!(site.store.queries.crews().await.unwrap(), ["a", "b", "c"]);
    site.end(Reply {
        crew: "a".to_owned(),
        ..reply("a-1", "succeeded", 0)
    })
    .await;
    let created = |id: &'static str| {
        let queries = site.store.queries.clone();
        async move { Some(queries.kickoff(id).await.unwrap().unwrap().created) }
    };
    let crews = ["a", "b", "none"].map(str::to_owned).to_vec();
    let oldest = site.store.queries.oldest_queued(crews).await.unwrap();
    assert_eq!(oldest, [created("a-2").await, created("b-1").await, None]);
}

#[tokio::test]
async fn they_are_counted_behind_a_cursor_and_no_further_than_is_asked() {
    let site = site();
    for number in 0..10 {
        site.taken(&format!("b-{number}"), "echo", r#"{"batch": "b"}"#)
            .await;
    }
    let queries = &site.store.queries;
    let count = async |behind, most| queries.count_behind(of_batch(), behind, most).await.unwrap();
    assert_eq!((count(None, 100).await, count(None, 4).await), (10, 4));
    let fourth = queries.list(of_batch(), None, 4).await.unwrap().pop().unwrap();
    assert_eq!(count(Cursor::behind(&fourth), 100).await, 6);
}
