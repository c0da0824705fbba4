//! Events as they come.

use super::*;

#[tokio::test]
async fn events_come_as_they_happen_and_go_on_where_they_were() {
    let flaky = "runner = \"builtin\"\ntarget = \"fail\"\n[crews.flaky.retry]\nmax_attempts = 2\ndelay_s = 0\njitter = 0\n";
    let site = Site::with(&[("flaky", flaky)]).await;
    let caller = site.caller();
    let mut all = caller.follow("/events?crew=echo").await;
    let id = site
        .start(json!({"crew": "sleep", "inputs": {"seconds": 1.5}}))
        .await;
    let mut live = caller.follow(format!("/kickoffs/{id}/events")).await;
    let events = live.until("end").await;
    let kinds: Vec<_> = events.iter().map(|event| &*event.event).collect();
    for kind in ["kickoff_queued", "kickoff_started", "kickoff_finished"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    let end = events.last().expect("an end");
    assert_eq!((&end.data["status"], &*end.id), (&json!("succeeded"), ""));
    assert_eq!(live.next().await, None);
    // Behind the first one, at another gateway: the places are those of the stream.
    let second = GatewayProcess::ready(&site.cli).await;
    let behind = second
        .native(&site.token)
        .with_header("Last-Event-ID", &events[0].id);
    let rest = behind
        .follow(format!("/kickoffs/{id}/events"))
        .await
        .until("end")
        .await;
    assert_eq!(rest, events[1..]);
    let (_, page) = caller.get(format!("/kickoffs/{id}/events?limit=2")).await;
    let next = page["next_cursor"].as_u64().expect("a cursor");
    let (_, page_2) = caller.get(format!("/kickoffs/{id}/events?after={next}")).await;
    let places = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().expect("items");
        items.iter().map(|item| item["id"].to_string()).collect()
    };
    let told: Vec<_> = events[..events.len() - 1]
        .iter()
        .map(|event| event.id.clone())
        .collect();
    assert_eq!([places(&page), places(&page_2)].concat(), told);
    // A filter's stream has what the filter takes, and nothing else.
    let other = site.start(json!({"crew": "echo", "inputs": {}})).await;
    let seen = all.until("kickoff_finished").await;
    assert!(
        seen.iter().all(|event| event.data["kickoff_id"] == json!(other)),
        "{seen:#?}"
    );
    // Its reply takes another way than its events, and it has succeeded once that is here.
    result(&caller, &other).await;
    let first = &seen[0];
    let again = site.caller().with_header("Last-Event-ID", &first.id);
    let again = again
        .follow("/events?crew=echo&status=succeeded")
        .await
        .until("kickoff_finished")
        .await;
    assert_eq!(again.len(), seen.len() - 1);
    // A further attempt says so.
    let failing = site
        .start(json!({"crew": "flaky", "inputs": {"message": "busy", "retryable": true}}))
        .await;
    let events = caller
        .follow(format!("/kickoffs/{failing}/events"))
        .await
        .until("end")
        .await;
    let retrying = events.iter().filter(|event| event.event == "kickoff_retrying");
    assert_eq!(retrying.count(), 1, "{events:#?}");
    // The end of a gateway ends its streams; its readers go elsewhere.
    let mut last = second.native(&site.token).follow("/events").await;
    second.process().signal(Signal::SIGTERM);
    while last.next().await.is_some() {}
    assert_eq!(second.process().exit().await.code(), Some(0));
}
